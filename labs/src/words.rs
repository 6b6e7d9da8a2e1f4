//! Splits a command line into words as a shell would, without a shell: quotes and backslashes only.
//!
//! containerlab runs `exec` and `cmd` lines without a shell, so no variable, glob or pipe has a meaning here.

/// Splits `line` at blanks outside quotes; `None` when a quote is left open or the line ends in a backslash.
pub(crate) fn split(line: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            '\'' | '"' => quoted(c, &mut chars, word.get_or_insert_default())?,
            '\\' => word.get_or_insert_default().push(chars.next()?),
            c if c.is_whitespace() => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Some(words)
}

fn quoted(quote: char, chars: &mut std::str::Chars<'_>, word: &mut String) -> Option<()> {
    loop {
        match chars.next()? {
            c if c == quote => return Some(()),
            '\\' if quote == '"' => match chars.next()? {
                c @ ('"' | '\\') => word.push(c),
                c => word.extend(['\\', c]),
            },
            c => word.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::split;

    fn check(line: &str, expected: Option<&[&str]>) {
        let words = split(line);
        let words: Option<Vec<&str>> = words
            .as_ref()
            .map(|w| w.iter().map(String::as_str).collect());
        assert_eq!(words.as_deref(), expected, "{line:?}");
    }

    #[test]
    fn splits_like_a_shell() {
        check("", Some(&[]));
        check("  ip  addr\tadd ", Some(&["ip", "addr", "add"]));
        check("sh -c 'a \"b\" $c'", Some(&["sh", "-c", "a \"b\" $c"]));
        check(r#"a"b c"d"#, Some(&["ab cd"]));
        check(r#""a\"b\n""#, Some(&[r#"a"b\n"#]));
        check(r"a\ b", Some(&["a b"]));
        check("''", Some(&[""]));
        check("'open", None);
        check(r"end\", None);
    }
}

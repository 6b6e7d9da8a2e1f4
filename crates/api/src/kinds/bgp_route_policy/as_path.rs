//! Patterns over AS paths: reading them, and which AS numbers one step of them matches.

use super::PatternError;

/// Most steps of a pattern, repetitions written out: what one machine word pair of the matcher holds.
pub const MAX_STEPS: usize = 128;
/// Longest pattern, octets.
pub(super) const MAX_LEN: usize = 1024;
/// Deepest nesting of parentheses.
const MAX_DEPTH: usize = 16;
/// Highest bound of a repetition.
const MAX_REPEAT: u8 = 64;
/// Digits of the largest AS number.
const MAX_DIGITS: u8 = 10;
/// Most digits and classes of one number.
const MAX_RUNS: usize = 16;
const ALL_DIGITS: u16 = 0x3ff;

/// A pattern over AS paths: a regular expression whose letters are AS numbers.
///
/// ```text
/// pattern     = alternative *( "|" alternative )
/// alternative = [ "^" ] sequence [ "$" ]          ; without ^ or $ the path may go on at that end
/// sequence    = *( item / separator )
/// separator   = " " / "_"                         ; tells numbers apart, matches nothing itself
/// item        = atom [ "*" / "+" / "?" / "{m}" / "{m,}" / "{m,n}" ]
/// atom        = "."                               ; any one AS
///             / number                            ; 65101
///             / number "-" number                 ; 64512-65534, both included
///             / digits                            ; 65[0-9]+: an AS number of which the decimal digits match
///             / "(" sequence *( "|" sequence ) ")"
/// digits      = 1*( digit / "[" class "]" [ quantifier ] )
/// ```
///
/// An AS number is matched as a whole: `65` never matches 65101, so that `_65_` and `65` say the same. `^$` is the
/// empty path. An AS_SET is one step of the path; an atom matches it when it matches one of its members. A quantifier
/// after a plain number is refused, since a text regex would repeat its last digit: write `(65101)+`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AsPathPattern {
    /// The pattern matches when one of these does.
    pub alternatives: Vec<AsPathAlternative>,
}

/// One alternative of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AsPathAlternative {
    /// Begins at the start of the path (`^`).
    pub from_start: bool,
    /// Ends at the end of the path (`$`).
    pub to_end: bool,
    /// What lies between.
    pub node: AsPathNode,
}

/// A part of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AsPathNode {
    /// One AS.
    As(AsTerm),
    /// One after the other; empty matches no step.
    Sequence(Vec<AsPathNode>),
    /// One of them.
    Either(Vec<AsPathNode>),
    /// `min` to `max` times; no `max`: any number of times.
    Repeat {
        /// What is repeated.
        node: Box<AsPathNode>,
        /// How often at least.
        min: u8,
        /// How often at most, at least 1.
        max: Option<u8>,
    },
}

/// Which AS numbers one step matches.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum AsTerm {
    /// Every one.
    Any,
    /// From the first to the last, both included.
    Range(u32, u32),
    /// Those of which the decimal digits, without leading zeros, are these runs.
    Digits(Vec<DigitRun>),
}

/// `min` to `max` digits of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DigitRun {
    /// Bit n: the digit n.
    digits: u16,
    min: u8,
    max: u8,
}

impl AsTerm {
    /// Whether an AS number is one of them.
    pub fn matches(&self, asn: u32) -> bool {
        match self {
            AsTerm::Any => true,
            AsTerm::Range(low, high) => (*low..=*high).contains(&asn),
            AsTerm::Digits(runs) => digits_match(runs, asn),
        }
    }
}

/// Keeps the set of offsets (bit n: n digits are used up) that the runs so far can end at.
fn digits_match(runs: &[DigitRun], asn: u32) -> bool {
    let mut digits = [0u8; MAX_DIGITS as usize];
    let mut len = 0;
    let mut rest = asn;
    loop {
        digits[len] = (rest % 10) as u8;
        len += 1;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    digits[..len].reverse();
    let digits = &digits[..len];
    let mut ends: u16 = 1;
    for run in runs {
        let mut next = 0;
        for start in (0..=len).filter(|start| ends & (1 << start) != 0) {
            let most = digits[start..]
                .iter()
                .take_while(|digit| run.digits & (1 << **digit) != 0)
                .take(usize::from(run.max))
                .count();
            for taken in usize::from(run.min)..=most {
                next |= 1 << (start + taken);
            }
        }
        ends = next;
    }
    ends & (1 << len) != 0
}

impl AsPathNode {
    /// How many steps it has with its repetitions written out.
    fn steps(&self) -> usize {
        match self {
            AsPathNode::As(_) => 1,
            AsPathNode::Sequence(nodes) | AsPathNode::Either(nodes) => nodes
                .iter()
                .fold(0, |sum, node| node.steps().saturating_add(sum)),
            AsPathNode::Repeat { node, min, max } => {
                let times = max.unwrap_or(*min).max(1);
                node.steps().saturating_mul(usize::from(times))
            }
        }
    }
}

impl std::str::FromStr for AsPathPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        if text.len() > MAX_LEN {
            return Err(PatternError(format!("is longer than {MAX_LEN} octets")));
        }
        let mut parser = Parser {
            text: text.as_bytes(),
            at: 0,
        };
        let mut alternatives = Vec::new();
        loop {
            let from_start = parser.eat(b'^');
            let node = parser.sequence(0)?;
            let to_end = parser.eat(b'$');
            if node == AsPathNode::Sequence(Vec::new()) && !(from_start && to_end) {
                return Err(parser.error("an alternative is empty and would match every path: write ^$ for the empty path, .* for any"));
            }
            alternatives.push(AsPathAlternative {
                from_start,
                to_end,
                node,
            });
            if parser.at == parser.text.len() {
                break;
            }
            if !parser.eat(b'|') {
                return Err(parser.unexpected());
            }
        }
        let steps = alternatives
            .iter()
            .fold(0, |sum, a| a.node.steps().saturating_add(sum));
        if steps > MAX_STEPS {
            return Err(PatternError(format!(
                "has {steps} steps with its repetitions written out: a pattern has at most {MAX_STEPS}"
            )));
        }
        Ok(Self { alternatives })
    }
}

struct Parser<'a> {
    text: &'a [u8],
    at: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn eat(&mut self, octet: u8) -> bool {
        let found = self.peek() == Some(octet);
        self.at += usize::from(found);
        found
    }

    fn error(&self, message: &str) -> PatternError {
        PatternError(format!("at character {}: {message}", self.at + 1))
    }

    fn unexpected(&self) -> PatternError {
        self.error(match self.peek() {
            None => "the pattern ends too early",
            Some(b'^') => {
                "^ stands only at the start of the pattern or of an outermost alternative"
            }
            Some(b'$') => "$ stands only at the end of the pattern or of an outermost alternative",
            Some(b')') => ") without its (",
            Some(b'*' | b'+' | b'?' | b'{') => "there is nothing to repeat here",
            Some(b',' | b'}') => {
                "an AS_SET has no syntax of its own: a number matches a set that contains it"
            }
            _ => "expected an AS number, a digit class, '.', '(', ' ' or '_'",
        })
    }

    /// Items until an end, `|`, `)` or `$`.
    fn sequence(&mut self, depth: usize) -> Result<AsPathNode, PatternError> {
        let mut nodes = Vec::new();
        while let Some(octet) = self.peek() {
            let node = match octet {
                b' ' | b'_' => {
                    self.at += 1;
                    continue;
                }
                b'|' | b')' | b'$' => break,
                b'.' => {
                    self.at += 1;
                    if matches!(self.peek(), Some(b'0'..=b'9' | b'[')) {
                        return Err(self.touching());
                    }
                    AsPathNode::As(AsTerm::Any)
                }
                b'(' => {
                    self.at += 1;
                    self.group(depth)?
                }
                b'0'..=b'9' | b'[' => AsPathNode::As(self.number()?),
                _ => return Err(self.unexpected()),
            };
            nodes.push(match self.quantifier(MAX_REPEAT)? {
                Some((min, max)) => AsPathNode::Repeat {
                    node: Box::new(node),
                    min,
                    max,
                },
                None => node,
            });
        }
        Ok(match nodes.len() {
            1 => nodes.remove(0),
            _ => AsPathNode::Sequence(nodes),
        })
    }

    fn group(&mut self, depth: usize) -> Result<AsPathNode, PatternError> {
        if depth == MAX_DEPTH {
            return Err(self.error(&format!("is nested deeper than {MAX_DEPTH} parentheses")));
        }
        let mut nodes = Vec::new();
        loop {
            nodes.push(self.sequence(depth + 1)?);
            if self.eat(b')') {
                break;
            }
            if !self.eat(b'|') {
                return Err(match self.peek() {
                    None => self.error("a ( is not closed"),
                    _ => self.unexpected(),
                });
            }
        }
        Ok(match nodes.len() {
            1 => nodes.remove(0),
            _ => AsPathNode::Either(nodes),
        })
    }

    fn touching(&self) -> PatternError {
        self.error(
            "'.' is one whole AS: put a space between it and a number, or write [0-9] for a digit",
        )
    }

    fn number(&mut self) -> Result<AsTerm, PatternError> {
        let start = self.at;
        let mut runs = Vec::new();
        let mut plain = true;
        let mut repeatable = true;
        loop {
            match self.peek() {
                Some(digit @ b'0'..=b'9') => {
                    self.at += 1;
                    repeatable = false;
                    runs.push(DigitRun {
                        digits: 1 << (digit - b'0'),
                        min: 1,
                        max: 1,
                    });
                }
                Some(b'[') => {
                    self.at += 1;
                    plain = false;
                    repeatable = true;
                    let digits = self.class()?;
                    let (min, max) = self.quantifier(MAX_DIGITS)?.unwrap_or((1, Some(1)));
                    let max = max.unwrap_or(MAX_DIGITS);
                    runs.push(DigitRun { digits, min, max });
                }
                _ => break,
            }
            if runs.len() > MAX_RUNS {
                return Err(self.error("no AS number has that many digits"));
            }
        }
        match self.peek() {
            Some(b'*' | b'+' | b'?' | b'{') if !repeatable => {
                return Err(self.error("a repetition after a plain number is ambiguous: write (65101)+ to repeat the AS, 6510[1]+ to repeat the digit"));
            }
            Some(b'.') => return Err(self.touching()),
            _ => {}
        }
        if !plain {
            let any = matches!(
                runs[..],
                [DigitRun {
                    digits: ALL_DIGITS,
                    min: 0 | 1,
                    max: MAX_DIGITS
                }]
            );
            return Ok(match any {
                true => AsTerm::Any,
                false => AsTerm::Digits(runs),
            });
        }
        let low = self.as_number(start)?;
        if !self.eat(b'-') {
            return Ok(AsTerm::Range(low, low));
        }
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        let high = self.as_number(start)?;
        if matches!(
            self.peek(),
            Some(b'*' | b'+' | b'?' | b'{' | b'[' | b'.' | b'-')
        ) {
            return Err(
                self.error("put a range into parentheses to repeat it, a space after it to go on")
            );
        }
        if high < low {
            return Err(self.error(&format!(
                "the range {low}-{high} is empty: write the lower number first"
            )));
        }
        Ok(AsTerm::Range(low, high))
    }

    /// The number from `start` to here.
    fn as_number(&self, start: usize) -> Result<u32, PatternError> {
        let text = std::str::from_utf8(&self.text[start..self.at]).unwrap_or_default();
        let number = text.parse().ok().filter(|_| !text.starts_with('0'));
        number.ok_or_else(|| {
            PatternError(format!(
                "at character {}: \"{text}\" is not an AS number: use 1 to 4294967295",
                start + 1
            ))
        })
    }

    /// The inside of `[...]`, its end included.
    fn class(&mut self) -> Result<u16, PatternError> {
        let inverted = self.eat(b'^');
        let mut digits = 0u16;
        let digit = |octet: Option<u8>| octet.filter(u8::is_ascii_digit).map(|d| d - b'0');
        while !self.eat(b']') {
            let Some(low) = digit(self.peek()) else {
                return Err(
                    self.error("a class holds digits and ranges of digits, as in [0-9] or [135]")
                );
            };
            self.at += 1;
            let mut high = low;
            if self.eat(b'-') {
                match digit(self.peek()).filter(|high| *high >= low) {
                    Some(found) => high = found,
                    None => {
                        return Err(self.error(
                            "a range of digits goes from the lower to the higher, as in [0-4]",
                        ));
                    }
                }
                self.at += 1;
            }
            (low..=high).for_each(|d| digits |= 1 << d);
        }
        if inverted {
            digits = !digits & ALL_DIGITS;
        }
        match digits {
            0 => Err(self.error("the class contains no digit")),
            digits => Ok(digits),
        }
    }

    /// How often: at least, at most.
    fn quantifier(&mut self, limit: u8) -> Result<Option<(u8, Option<u8>)>, PatternError> {
        let found = match self.peek() {
            Some(b'*') => (0, None),
            Some(b'+') => (1, None),
            Some(b'?') => (0, Some(1)),
            Some(b'{') => {
                self.at += 1;
                let min = self.bound(limit)?;
                let max = match self.eat(b',') {
                    true if self.peek() == Some(b'}') => None,
                    true => Some(self.bound(limit)?),
                    false => Some(min),
                };
                if self.peek() != Some(b'}') {
                    return Err(self.error("a repetition is written {2}, {2,} or {2,5}"));
                }
                if max.is_some_and(|max| max < min || max == 0) {
                    return Err(self.error(
                        "the upper bound of a repetition is at least 1 and not below the lower one",
                    ));
                }
                (min, max)
            }
            _ => return Ok(None),
        };
        self.at += 1;
        match self.peek() {
            Some(b'*' | b'+' | b'?' | b'{') => {
                Err(self.error("two repetitions in a row: put the first into parentheses"))
            }
            _ => Ok(Some(found)),
        }
    }

    fn bound(&mut self, limit: u8) -> Result<u8, PatternError> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        let text = std::str::from_utf8(&self.text[start..self.at]).unwrap_or_default();
        text.parse()
            .ok()
            .filter(|bound| *bound <= limit)
            .ok_or_else(|| self.error(&format!("the bounds of a repetition are 0 to {limit}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_meant_is_refused_where_it_stands() {
        let check = |text: &str, expected: &str| {
            let error = text.parse::<AsPathPattern>().unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        };
        check("", "an alternative is empty");
        check("65101|", "an alternative is empty");
        check("^", "an alternative is empty");
        check(
            "65101+",
            "at character 6: a repetition after a plain number is ambiguous",
        );
        check("65101.", "'.' is one whole AS");
        check("65101.*", "'.' is one whole AS");
        check(".65101", "'.' is one whole AS");
        check("65101 ^65102", "at character 7: ^ stands only at the start");
        check("(65101$)", "$ stands only at the end");
        check("65101$ 65102", "expected an AS number");
        check("(65101", "a ( is not closed");
        check("65101)", ") without its (");
        check("*", "nothing to repeat");
        check("(65101)*+", "two repetitions");
        check("65[a]", "a class holds digits");
        check("65[5-1]", "a range of digits");
        check("65[]", "contains no digit");
        check("65[^0-9]", "contains no digit");
        check("65[0-9]{11}", "0 to 10");
        check("(1){3,2}", "upper bound");
        check("(1){0}", "upper bound");
        check("(1){65}", "0 to 64");
        check("(1){2", "{2}, {2,} or {2,5}");
        check("4294967296", "not an AS number");
        check("0", "not an AS number");
        check("065", "not an AS number");
        check("65534-64512", "is empty");
        check("1-", "not an AS number");
        check("1-2+", "put a range into parentheses");
        check("{65101}", "nothing to repeat");
        check("65101,65102", "an AS_SET has no syntax");
        check("((1){64}){3}", "has 192 steps");
        check(&"(".repeat(40), "nested deeper");
        check(&"1 ".repeat(600), "longer than");
        check("AS65101", "expected an AS number");
        check("é", "expected an AS number");
    }

    #[test]
    fn digits_of_a_number() {
        let check = |text: &str, yes: &[u32], no: &[u32]| {
            let pattern: AsPathPattern = text.parse().unwrap();
            let AsPathNode::As(term) = &pattern.alternatives[0].node else {
                panic!("{text} is {pattern:?}");
            };
            yes.iter()
                .for_each(|n| assert!(term.matches(*n), "{text} {n}"));
            no.iter()
                .for_each(|n| assert!(!term.matches(*n), "{text} {n}"));
        };
        check("65101", &[65101], &[65, 651011, 6510]);
        check("64512-65534", &[64512, 65000, 65534], &[64511, 65535]);
        check(
            "65[0-9]+",
            &[650, 65101, 659_999_999],
            &[65, 66000, 4_265_000],
        );
        check("65[0-9]*", &[65, 65101], &[6]);
        check("65[0-9]{3}", &[65000, 65999], &[6500, 650_000]);
        check("[0-9]+", &[1, u32::MAX], &[]);
        check("[12]?5", &[5, 15, 25], &[35, 115]);
        check("[^0-4]{2,}0", &[550, 9990], &[50, 540]);
        check(
            "[0-9]*[5][0-9]*",
            &[5, 15, 51, 4_294_967_295],
            &[1, 4_004_004_004],
        );
    }

    proptest::proptest! {
        #[test]
        fn parsing_never_panics(text in "[0-9\\[\\]^$.*+?{},|()_ -]{0,40}") {
            let _ = text.parse::<AsPathPattern>();
        }
    }
}

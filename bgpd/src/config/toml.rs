//! From TOML to a tree that knows its places.

use std::ops::Range;

use roadbed_api::document::{Data, Entry, Node, Place};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The tree of a text.
///
/// # Errors
/// Everything that makes it no TOML, and where. Messages quote nothing of the text.
pub(super) fn parse(text: &str) -> Result<Node, Vec<(Place, String)>> {
    let lines = Lines::new(text);
    let (table, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        let span = table.span();
        return Ok(lines.node(span, lines.table(table.get_ref())));
    }
    let mut errors: Vec<_> = errors
        .iter()
        .map(|error| {
            let at = error.span().map_or(0, |span| span.start);
            (lines.place(at), format!("is no TOML: {}", error.message()))
        })
        .collect();
    // One slip may confuse the rest of its line.
    errors.dedup_by_key(|(place, _)| place.line);
    Err(errors)
}

/// Where lines start, in bytes.
struct Lines<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    fn new(text: &'a str) -> Self {
        let after = text.match_indices('\n').map(|(at, _)| at + 1);
        Self {
            text,
            starts: std::iter::once(0).chain(after).collect(),
        }
    }

    fn place(&self, at: usize) -> Place {
        let line = self.starts.partition_point(|start| *start <= at);
        let start = self.starts.get(line.wrapping_sub(1)).copied().unwrap_or(0);
        let before = self.text.get(start..at).unwrap_or("");
        Place {
            line,
            column: before.chars().count() + 1,
        }
    }

    fn node(&self, span: Range<usize>, data: Data) -> Node {
        Node {
            place: self.place(span.start),
            data,
        }
    }

    fn value(&self, value: &Spanned<DeValue<'_>>) -> Node {
        let data = match value.get_ref() {
            DeValue::String(text) => Data::Text(text.to_string()),
            DeValue::Integer(number) => {
                let (digits, radix) = (number.as_str(), number.radix());
                match i64::from_str_radix(digits, radix) {
                    Ok(number) => Data::Signed(number),
                    // Beyond what any field takes.
                    Err(_) => u64::from_str_radix(digits, radix)
                        .map_or(Data::Float(f64::INFINITY), Data::Unsigned),
                }
            }
            DeValue::Float(number) => Data::Float(number.as_str().parse().unwrap_or(f64::NAN)),
            DeValue::Boolean(value) => Data::Bool(*value),
            DeValue::Datetime(_) => Data::Date,
            DeValue::Array(items) => Data::Seq(items.iter().map(|item| self.value(item)).collect()),
            DeValue::Table(table) => self.table(table),
        };
        self.node(value.span(), data)
    }

    fn table(&self, table: &DeTable<'_>) -> Data {
        let entries = table.iter().map(|(key, value)| {
            Entry::new(
                key.get_ref().to_string(),
                self.place(key.span().start),
                self.value(value),
            )
        });
        Data::Map(entries.collect())
    }
}

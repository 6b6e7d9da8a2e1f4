//! A document as a tree that knows where each value was written, and a serde deserializer over it whose errors
//! carry the path of the field.
//!
//! Owns: the tree, the wording of what serde finds wrong. Never does: know a format, a kind or a rule.

use std::fmt;

use serde::de::{
    self, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor,
};

/// Longest piece of a document that a message repeats, characters.
const SHOWN: usize = 80;

/// Line and column in a document, both from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Line.
    pub line: usize,
    /// Column, in characters.
    pub column: usize,
}

/// A value and where it was written.
#[derive(Clone, Debug)]
pub struct Node {
    /// Where it starts.
    pub place: Place,
    /// What it is.
    pub data: Data,
}

/// A value, as the formats type it: YAML's core schema and what TOML has beside it.
#[derive(Clone, Debug)]
pub enum Data {
    /// Nothing.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Signed(i64),
    /// A whole number that may be beyond `i64`.
    Unsigned(u64),
    /// Any other number.
    Float(f64),
    /// Text.
    Text(String),
    /// A date or a time, which no field takes.
    Date,
    /// Text, a number or the like under a key that names a secret: read as its type says, never shown.
    Secret(Box<Data>),
    /// A list.
    Seq(Vec<Node>),
    /// A mapping (YAML) or table (TOML).
    Map(Vec<Entry>),
}

/// One key of a mapping and its value.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key stands.
    pub place: Place,
    /// The value.
    pub value: Node,
}

impl Entry {
    /// A key and its value. The value of a key that names a password is kept out of messages.
    pub fn new(key: String, place: Place, mut value: Node) -> Self {
        if key.to_ascii_lowercase().contains("password") {
            value.hide();
        }
        Self { key, place, value }
    }
}

/// One step of a path into a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Key(String),
    Index(usize),
}

/// The path as written in a message: `spec.nodePrefixes[1]`.
pub(super) fn path_text(steps: &[Step]) -> String {
    let mut text = String::new();
    for step in steps {
        match step {
            Step::Key(key) => {
                if !text.is_empty() {
                    text.push('.');
                }
                text.push_str(&shown(key));
            }
            Step::Index(index) => text.push_str(&format!("[{index}]")),
        }
    }
    text
}

/// A piece of a document, safe for a terminal and bounded.
pub fn shown(text: &str) -> String {
    let mut out: String = text
        .chars()
        .take(SHOWN)
        .flat_map(char::escape_debug)
        .collect();
    if text.chars().nth(SHOWN).is_some() {
        out.push('…');
    }
    out
}

impl Node {
    /// The entries, when it is a mapping.
    pub fn entries(&self) -> Option<&[Entry]> {
        match &self.data {
            Data::Map(entries) => Some(entries),
            _ => None,
        }
    }

    /// The value of `key`, when it is a mapping that has it.
    pub fn get(&self, key: &str) -> Option<&Node> {
        let entry = self.entries()?.iter().find(|e| e.key == key)?;
        Some(&entry.value)
    }

    /// Where the value at a written path stands, or the nearest value above it.
    pub fn place_of(&self, path: &str) -> Place {
        let mut node = self;
        let mut rest = path;
        while let Some((next, after)) = node.step(rest) {
            node = next;
            rest = after;
        }
        node.place
    }

    /// The value that the first step of a written path leads to, and the path from there. Keys may have dots.
    fn step<'p>(&self, path: &'p str) -> Option<(&Node, &'p str)> {
        match &self.data {
            Data::Seq(items) => {
                let (index, rest) = path.strip_prefix('[')?.split_once(']')?;
                let item = items.get(index.parse::<usize>().ok()?)?;
                Some((item, rest.strip_prefix('.').unwrap_or(rest)))
            }
            Data::Map(entries) => entries
                .iter()
                .filter_map(|entry| match path.strip_prefix(entry.key.as_str())? {
                    "" => Some((entry, "")),
                    rest if rest.starts_with('[') => Some((entry, rest)),
                    rest => Some((entry, rest.strip_prefix('.')?)),
                })
                .max_by_key(|(entry, _)| entry.key.len())
                .map(|(entry, rest)| (&entry.value, rest)),
            _ => None,
        }
    }

    fn hide(&mut self) {
        match &mut self.data {
            Data::Seq(items) => items.iter_mut().for_each(Node::hide),
            Data::Map(entries) => entries.iter_mut().for_each(|entry| entry.value.hide()),
            Data::Null | Data::Date | Data::Secret(_) => {}
            data => {
                let secret = std::mem::replace(data, Data::Null);
                *data = Data::Secret(Box::new(secret));
            }
        }
    }

    /// Takes out the mapping entry that a path ends in or passes last; false when there is none.
    pub(super) fn remove(&mut self, steps: &[Step]) -> bool {
        let Some(last) = steps.iter().rposition(|s| matches!(s, Step::Key(_))) else {
            return false;
        };
        let mut node = self;
        for step in &steps[..last] {
            let next = match (&mut node.data, step) {
                (Data::Map(entries), Step::Key(key)) => entries
                    .iter_mut()
                    .find(|e| e.key == *key)
                    .map(|e| &mut e.value),
                (Data::Seq(items), Step::Index(index)) => items.get_mut(*index),
                _ => None,
            };
            match next {
                Some(next) => node = next,
                None => return false,
            }
        }
        match (&mut node.data, &steps[last]) {
            (Data::Map(entries), Step::Key(key)) => {
                let before = entries.len();
                entries.retain(|e| e.key != *key);
                entries.len() < before
            }
            _ => false,
        }
    }

    /// What it is, for a message that wants something else.
    pub fn described(&self) -> String {
        match &self.data {
            Data::Null => "empty".to_owned(),
            Data::Bool(value) => value.to_string(),
            Data::Signed(value) => format!("the number {value}"),
            Data::Unsigned(value) => format!("the number {value}"),
            Data::Float(value) => format!("the number {value}"),
            Data::Text(value) => format!("the text \"{}\"", shown(value)),
            Data::Date => "a date or a time".to_owned(),
            Data::Secret(secret) => match **secret {
                Data::Text(_) => "a text".to_owned(),
                Data::Bool(_) => "true or false".to_owned(),
                _ => "a number".to_owned(),
            },
            Data::Seq(_) => "a list".to_owned(),
            Data::Map(_) => "a mapping".to_owned(),
        }
    }
}

/// What serde finds wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// A field that is not there.
    Missing,
    /// A key that no field has.
    UnknownField,
    /// A value of the wrong type or form; the message names the value.
    Value,
    /// The same, and the message does not name the value yet.
    Nameless,
}

/// What serde finds wrong, where, and what would be right.
#[derive(Debug)]
pub struct TreeError {
    /// From the field outwards: reversed.
    steps: Vec<Step>,
    pub(super) fault: Fault,
    pub(super) place: Option<Place>,
    pub(super) message: String,
}

impl TreeError {
    fn new(fault: Fault, message: String) -> Self {
        Self {
            steps: Vec::new(),
            fault,
            place: None,
            message,
        }
    }

    fn within(mut self, step: Step, place: Place) -> Self {
        self.steps.push(step);
        self.place.get_or_insert(place);
        self
    }

    /// A value that its type's own parser refused: says which value that was.
    fn of(mut self, node: &Node) -> Self {
        if self.fault == Fault::Nameless {
            self.message = format!("is {}: {}", node.described(), self.message);
            self.fault = Fault::Value;
        }
        self.place.get_or_insert(node.place);
        self
    }

    /// From the root to the field.
    pub(super) fn path(&self) -> Vec<Step> {
        self.steps.iter().rev().cloned().collect()
    }
}

impl fmt::Display for TreeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for TreeError {}

impl de::Error for TreeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(Fault::Nameless, shown(&message.to_string()))
    }

    fn invalid_type(_: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::custom(format!("expected {}", expectation(expected)))
    }

    fn invalid_value(_: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::custom(format!("expected {}", expectation(expected)))
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self::new(
            Fault::Value,
            format!(
                "\"{}\" is not known: use {}",
                shown(variant),
                expected.join(" or ")
            ),
        )
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self::new(Fault::UnknownField, unknown_field(field, expected))
    }

    fn missing_field(field: &'static str) -> Self {
        Self {
            steps: vec![Step::Key(field.to_owned())],
            ..Self::new(Fault::Missing, "is missing".to_owned())
        }
    }
}

/// How alike an unknown key and a field must be (Jaro–Winkler) for a typing error.
const ALIKE: f64 = 0.85;

/// The message for a key that no field has.
pub fn unknown_field(field: &str, known: &[&str]) -> String {
    let bare = |s: &str| s.replace(['_', '-'], "").to_ascii_lowercase();
    let field = bare(&shown(field));
    let alike = |known: &str| match strsim::osa_distance(&bare(known), &field) {
        0 | 1 => 1.0,
        _ => strsim::jaro_winkler(&bare(known), &field),
    };
    let nearest = known.iter().max_by(|a, b| alike(a).total_cmp(&alike(b)));
    match nearest.filter(|near| alike(near) >= ALIKE) {
        Some(near) => format!("unknown field: did you mean {near}?"),
        None => format!("unknown field: known are {}", known.join(", ")),
    }
}

/// serde's names of types, in words that someone who writes documents uses.
fn expectation(expected: &dyn de::Expected) -> String {
    let text = expected.to_string();
    let whole = |max: u64| format!("a whole number from 0 to {max}");
    match text.as_str() {
        "u8" => whole(u64::from(u8::MAX)),
        "u16" => whole(u64::from(u16::MAX)),
        "u32" => whole(u64::from(u32::MAX)),
        "a boolean" => "true or false".to_owned(),
        "a string" => "a text (quote it)".to_owned(),
        "a sequence" => "a list".to_owned(),
        "a map" => "a mapping".to_owned(),
        other if other.starts_with("struct ") => "a mapping".to_owned(),
        other => other.to_owned(),
    }
}

impl<'de> Deserializer<'de> for &'de Node {
    type Error = TreeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TreeError> {
        let data = match &self.data {
            Data::Secret(secret) => secret,
            data => data,
        };
        match data {
            Data::Date | Data::Secret(_) => Err(de::Error::custom(format!(
                "expected {}",
                expectation(&visitor)
            ))),
            Data::Null => visitor.visit_unit(),
            Data::Bool(value) => visitor.visit_bool(*value),
            Data::Signed(value) => visitor.visit_i64(*value),
            Data::Unsigned(value) => visitor.visit_u64(*value),
            Data::Float(value) => visitor.visit_f64(*value),
            Data::Text(value) => visitor.visit_borrowed_str(value),
            Data::Seq(items) => visitor.visit_seq(Items {
                items: items.iter().enumerate(),
            }),
            Data::Map(entries) => visitor.visit_map(Entries {
                entries: entries.iter(),
                value: None,
            }),
        }
        .map_err(|e| e.of(self))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TreeError> {
        match self.data {
            Data::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    /// A struct is a mapping and nothing else: serde would take a list of its fields too.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, TreeError> {
        match self.data {
            Data::Map(_) => self.deserialize_any(visitor),
            _ => {
                let error: TreeError = de::Error::custom("expected a mapping");
                Err(error.of(self))
            }
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, TreeError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, TreeError> {
        match &self.data {
            Data::Text(value) => visitor.visit_enum(value.as_str().into_deserializer()),
            _ => Err(de::Error::custom(format!(
                "expected {}",
                variants.join(" or ")
            ))),
        }
        .map_err(|e: TreeError| e.of(self))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        seq tuple tuple_struct map identifier ignored_any
    }
}

struct Items<'de> {
    items: std::iter::Enumerate<std::slice::Iter<'de, Node>>,
}

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = TreeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, TreeError> {
        let Some((index, node)) = self.items.next() else {
            return Ok(None);
        };
        seed.deserialize(node)
            .map(Some)
            .map_err(|e| e.of(node).within(Step::Index(index), node.place))
    }
}

struct Entries<'de> {
    entries: std::slice::Iter<'de, Entry>,
    value: Option<&'de Entry>,
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = TreeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, TreeError> {
        self.value = self.entries.next();
        let Some(entry) = self.value else {
            return Ok(None);
        };
        seed.deserialize(entry.key.as_str().into_deserializer())
            .map(Some)
            .map_err(|e: TreeError| e.within(Step::Key(entry.key.clone()), entry.place))
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, TreeError> {
        let Some(entry) = self.value.take() else {
            return Err(de::Error::custom("a value without a key"));
        };
        seed.deserialize(&entry.value).map_err(|e| {
            e.of(&entry.value)
                .within(Step::Key(entry.key.clone()), entry.value.place)
        })
    }
}

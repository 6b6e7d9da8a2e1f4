//! What the API server refuses beyond types and ranges, in CEL, with the words of our own validation.
//!
//! What is not here is left to the agents and `roadbedctl`, which judge every object again. The API server's bound on
//! the cost of rules, which counts 1000 rules of 10,000 prefixes each, or the lack of a word for it leaves out:
//!
//! - `BGPRoutePolicy`: host bits, `ge` and `le` of `match.prefixes`, prefixes outside `match.families`, host bits of
//!   `match.nextHops`; the grammar of `match.asPath`; ranges inside of communities, of which patterns say the form
//!   only; a rule that is never asked, a name that is given twice
//! - `BGPConfig`: aggregates that are the same in another spelling; those of one spelling are two of one key
//! - `IPPool`: overlap with another pool; `IPBlock`: that its name is its range's, and `pool`, which its owner's agent
//!   may change
//!
//! IPv4 in IPv6 (`::ffff:192.0.2.1`) is no address for CEL, but one for us.

mod blocks;
mod config;
mod peer;
mod policy;

use roadbed_api::Kind;
use serde_json::{Value, json};

const IS_CIDR: &str = "isCIDR(self)";

/// One rule.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The field that `self` is: `spec.cidr`, `spec.rules[].name`, `spec.bmp{}.port`. Empty: the object.
    pub place: &'static str,
    /// The field below it that is at fault, as the JSON path from there: `.blockSize`. Empty: `place` itself.
    pub field: &'static str,
    /// The expression that holds for what is accepted.
    pub rule: String,
    /// What is said of the others.
    pub words: Words,
}

/// What a rule says of what it refuses.
#[derive(Clone, Debug)]
pub enum Words {
    /// Always the same.
    Fixed(String),
    /// A text with a `%s` for each of these expressions. By `format`, the one way to put a number or an address into
    /// a text of which the API server does not take the cost for boundless.
    Told(String, Vec<String>),
}

impl Rule {
    fn new(place: &'static str, rule: impl Into<String>, words: Words) -> Self {
        Self {
            place,
            field: "",
            rule: rule.into(),
            words,
        }
    }

    /// The same, with the blame on a field below.
    fn field(self, field: &'static str) -> Self {
        Self { field, ..self }
    }

    /// Whether it judges the form of a text, in place of the schema's `format`.
    pub(crate) fn is_format(&self) -> bool {
        self.rule == IS_CIDR
    }

    /// The entry of `x-kubernetes-validations`.
    pub(crate) fn to_value(&self) -> Value {
        let mut value = json!({ "rule": self.rule });
        match &self.words {
            Words::Fixed(text) => value["message"] = json!(text),
            Words::Told(text, values) => {
                let expression = format!("{text:?}.format([{}])", values.join(", "));
                value["messageExpression"] = json!(expression);
            }
        }
        if !self.field.is_empty() {
            value["fieldPath"] = json!(self.field);
        }
        value
    }
}

/// A rule with the same words always.
fn fixed(place: &'static str, rule: impl Into<String>, words: impl Into<String>) -> Rule {
    Rule::new(place, rule, Words::Fixed(words.into()))
}

/// A rule with words that tell values: a `%s` for each of the expressions.
fn told(
    place: &'static str,
    rule: impl Into<String>,
    words: impl Into<String>,
    values: &[&str],
) -> Rule {
    let values = values.iter().map(|value| (*value).to_owned());
    Rule::new(place, rule, Words::Told(words.into(), values.collect()))
}

/// The rules of a kind, in the order of its fields.
pub fn rules(kind: Kind) -> Vec<Rule> {
    match kind {
        Kind::IPPool => blocks::pool(),
        Kind::IPBlock => blocks::block(),
        Kind::BGPPeer => peer::rules(),
        Kind::BGPConfig => config::rules(),
        Kind::BGPRoutePolicy => policy::rules(),
    }
}

/// What no session can have as its AS.
fn as_number(place: &'static str) -> [Rule; 3] {
    [
        fixed(
            place,
            "self != 0",
            "AS 0 is reserved (RFC 7607): use 1 to 4294967294",
        ),
        fixed(
            place,
            "self != 23456",
            "AS 23456 is AS_TRANS (RFC 6793): use the real AS number",
        ),
        fixed(
            place,
            "self != 4294967295",
            "AS 4294967295 is reserved (RFC 7300): use 1 to 4294967294",
        ),
    ]
}

/// The text is a CIDR, and without host bits.
fn cidr(place: &'static str) -> [Rule; 2] {
    [
        fixed(place, IS_CIDR, "invalid IP address syntax"),
        told(
            place,
            "!isCIDR(self) || cidr(self) == cidr(self).masked()",
            "%s has host bits set: write %s",
            &["string(cidr(self))", "string(cidr(self).masked())"],
        ),
    ]
}

/// The text is an address, and one of those that the words do not fit.
fn unicast(place: &'static str, words: &str) -> [Rule; 2] {
    [
        fixed(place, "isIP(self)", "invalid IP address syntax"),
        told(
            place,
            "!isIP(self) || !(ip(self).isUnspecified() || cidr('224.0.0.0/4').containsIP(self) || cidr('ff00::/8').containsIP(self))",
            format!("%s {words}"),
            &["string(ip(self))"],
        ),
    ]
}

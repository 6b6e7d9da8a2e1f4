//! A secret in a resource: kept as written, never shown by accident.

use std::fmt;

use serde::Serialize;
use serde::de::{self, Deserialize, Deserializer, Visitor};

use crate::problem::Problems;

/// The key of TCP-MD5 signatures (RFC 2385). `Debug` hides it, and so do the errors of its deserialization.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Password(String);

impl Password {
    /// Longest TCP-MD5 key that Linux takes, bytes.
    pub const LONGEST: usize = 80;

    /// As given; [`Password::validate`] judges it.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The key's octets, for the kernel.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// Reports what the kernel would not take.
    pub fn validate(&self, path: &str, problems: &mut Problems) {
        match self.0.len() {
            1..=Self::LONGEST => {}
            0 => problems.add(
                path,
                "is empty: leave it out for a session without signatures",
            ),
            length => problems.add(
                path,
                format!("has {length} bytes: TCP-MD5 takes 1 to {}", Self::LONGEST),
            ),
        }
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(hidden)")
    }
}

impl<'de> Deserialize<'de> for Password {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        /// What serde would say about another type quotes the value.
        fn refused<E: de::Error>() -> Result<Password, E> {
            Err(E::custom("a password is a text: put it in quotes"))
        }

        impl Visitor<'_> for Text {
            type Value = Password;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text in quotes")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Password, E> {
                Ok(Password::new(text))
            }

            fn visit_bool<E: de::Error>(self, _: bool) -> Result<Password, E> {
                refused()
            }

            fn visit_i64<E: de::Error>(self, _: i64) -> Result<Password, E> {
                refused()
            }

            fn visit_u64<E: de::Error>(self, _: u64) -> Result<Password, E> {
                refused()
            }

            fn visit_f64<E: de::Error>(self, _: f64) -> Result<Password, E> {
                refused()
            }
        }

        // Any: asked for a text, formats report another type before the visitor can keep it to itself.
        deserializer.deserialize_any(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str, expected: Result<&str, &str>) {
        let found = serde_json::from_str::<Password>(json);
        match expected {
            Ok(text) => assert_eq!(found.unwrap(), Password::new(text)),
            Err(message) => {
                let error = found.unwrap_err().to_string();
                assert!(error.contains(message), "{json}: {error}");
                assert!(!error.contains("4711"), "{json}: {error}");
            }
        }
    }

    #[test]
    fn only_text_and_never_quoted() {
        check("\"s3cret\"", Ok("s3cret"));
        for wrong in ["4711", "-4711", "4711.5", "true"] {
            check(wrong, Err("a password is a text"));
        }
        check("[4711]", Err("expected a text in quotes"));
    }

    #[test]
    fn debug_hides_it_and_serialization_keeps_it() {
        let password = Password::new("s3cret");
        assert!(!format!("{password:?}").contains("s3cret"));
        assert_eq!(serde_json::to_string(&password).unwrap(), "\"s3cret\"");
    }

    #[test]
    fn lengths() {
        for (length, valid) in [(0, false), (1, true), (80, true), (81, false)] {
            let mut problems = Problems::new();
            Password::new("x".repeat(length)).validate("spec.password", &mut problems);
            assert_eq!(problems.is_empty(), valid, "{length}: {problems}");
        }
    }
}

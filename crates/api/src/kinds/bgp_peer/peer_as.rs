//! Which AS a peer may be in.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, Serializer};

/// A number, or a kind of session: `external` is any AS but ours, `internal` is ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerAs {
    /// This one.
    Number(u32),
    /// Any but ours: eBGP.
    External,
    /// Ours: iBGP.
    Internal,
}

impl PeerAs {
    /// Whether the peer is in another AS than ours.
    pub fn is_ebgp(self, local_as: u32) -> bool {
        match self {
            PeerAs::Number(asn) => asn != local_as,
            PeerAs::External => true,
            PeerAs::Internal => false,
        }
    }
}

impl From<u32> for PeerAs {
    fn from(asn: u32) -> Self {
        PeerAs::Number(asn)
    }
}

impl fmt::Display for PeerAs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PeerAs::Number(asn) => asn.fmt(f),
            PeerAs::External => f.write_str("external"),
            PeerAs::Internal => f.write_str("internal"),
        }
    }
}

impl Serialize for PeerAs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            PeerAs::Number(asn) => serializer.serialize_u32(*asn),
            word => serializer.collect_str(word),
        }
    }
}

impl<'de> Deserialize<'de> for PeerAs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NumberOrWord)
    }
}

struct NumberOrWord;

impl Visitor<'_> for NumberOrWord {
    type Value = PeerAs;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an AS number, external (any AS but ours) or internal (ours)")
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<PeerAs, E> {
        u32::try_from(number)
            .map(PeerAs::Number)
            .map_err(|_| E::invalid_value(de::Unexpected::Unsigned(number), &self))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<PeerAs, E> {
        u32::try_from(number)
            .map(PeerAs::Number)
            .map_err(|_| E::invalid_value(de::Unexpected::Signed(number), &self))
    }

    fn visit_str<E: de::Error>(self, word: &str) -> Result<PeerAs, E> {
        match word {
            "external" => Ok(PeerAs::External),
            "internal" => Ok(PeerAs::Internal),
            other => Err(E::invalid_value(de::Unexpected::Str(other), &self)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(json: &str, expected: Result<PeerAs, &str>) {
        let found = serde_json::from_str::<PeerAs>(json);
        match expected {
            Ok(peer_as) => {
                assert_eq!(found.unwrap(), peer_as);
                assert_eq!(serde_json::to_string(&peer_as).unwrap(), json);
            }
            Err(message) => {
                let error = found.unwrap_err().to_string();
                assert!(error.contains(message), "{json}: {error}");
            }
        }
    }

    #[test]
    fn numbers_and_words() {
        check("65001", Ok(PeerAs::Number(65001)));
        check("4294967295", Ok(PeerAs::Number(u32::MAX)));
        check("\"external\"", Ok(PeerAs::External));
        check("\"internal\"", Ok(PeerAs::Internal));
        for wrong in ["-1", "4294967296", "\"extern\"", "\"65001\"", "[1]", "1.5"] {
            check(wrong, Err("an AS number, external"));
        }
    }

    #[test]
    fn the_kind_of_session() {
        for (peer_as, ours, ebgp) in [
            (PeerAs::Number(1), 1, false),
            (PeerAs::Number(2), 1, true),
            (PeerAs::External, 1, true),
            (PeerAs::Internal, 1, false),
        ] {
            assert_eq!(peer_as.is_ebgp(ours), ebgp, "{peer_as} {ours}");
        }
    }
}

//! `[listenRanges.NAME]`: the keys of a peer, but for those that only a peer with an address has.

use std::collections::BTreeSet;
use std::fmt;

use bgp_core::fsm::RemoteAs;
use ipnet::IpNet;
use roadbed_api::kinds::BgpPeerSpec;
use roadbed_api::{Problems, Spec};
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeSeed, Error, IntoDeserializer, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::{FileConfig, Router, peer_config};
use crate::range::RangeConfig;

/// Sessions that a range may have when the file does not say.
const MAX_SESSIONS: u32 = 100;

/// Keys of a peer that say nothing about one that only ever connects to us.
const FOR_DIALLED_PEERS: [&str; 6] = [
    "address",
    "port",
    "sourceAddress",
    "passive",
    "connectRetrySeconds",
    "nodeSelector",
];

/// A range of addresses that peers may connect from.
#[derive(Clone, Debug)]
pub struct ListenRange {
    prefix: IpNet,
    max_sessions: u32,
    remote: Remote,
    /// The rest. Its address and AS stand for any that the range admits.
    peer: BgpPeerSpec,
}

/// The AS of the peers.
#[derive(Clone, Copy, Debug)]
enum Remote {
    Number,
    External,
    Internal,
}

impl ListenRange {
    /// The file is valid.
    pub(super) fn resolve(&self, name: &str, router: &Router<'_>) -> RangeConfig {
        let local_as = self.peer.local_as_number.unwrap_or(router.local_as);
        let mut spec = self.peer.clone();
        let remote = match self.remote {
            Remote::Number => RemoteAs::Asn(spec.as_number),
            Remote::External => RemoteAs::External,
            Remote::Internal => RemoteAs::Internal,
        };
        spec.as_number = match remote {
            RemoteAs::Asn(asn) => asn,
            RemoteAs::External => any_other_than(local_as),
            RemoteAs::Internal => local_as,
        };
        let mut template = peer_config(name, &spec, router);
        template.settings.set_remote(remote);
        template.settings.passive = true;
        RangeConfig {
            name: name.into(),
            prefix: self.prefix,
            max_sessions: usize::try_from(self.max_sessions).unwrap_or(usize::MAX),
            template,
        }
    }
}

fn any_other_than(asn: u32) -> u32 {
    if asn == 1 { 2 } else { 1 }
}

/// Judges all ranges of a file, alone and against each other and the peers.
pub(super) fn validate(file: &FileConfig, problems: &mut Problems) {
    let mut prefixes = BTreeSet::new();
    for (name, range) in &file.listen_ranges {
        let path = format!("listenRanges.{name}");
        range.peer.validate(&path, problems);
        let prefix = range.prefix;
        if prefix != prefix.trunc() {
            problems.add(
                format!("{path}.prefix"),
                format!("{prefix} has host bits set: write {}", prefix.trunc()),
            );
        }
        if !prefixes.insert(prefix) {
            problems.add(
                format!("{path}.prefix"),
                format!("{prefix} is the prefix of another listen range too"),
            );
        }
        if range.max_sessions == 0 {
            problems.add(
                format!("{path}.maxSessions"),
                "0 admits nobody: use at least 1, or remove the range",
            );
        }
    }
    for (name, peer) in &file.peers {
        let around = file.listen_ranges.iter().find(|(_, range)| {
            range.prefix.contains(&peer.address) && range.peer.password.is_some()
        });
        // The kernel would ask the peer for the key of the range.
        if let (None, Some((range, _))) = (&peer.password, around) {
            problems.add(
                format!("peers.{name}.password"),
                format!(
                    "is missing: the address is inside listen range \"{range}\", which has one"
                ),
            );
        }
    }
}

impl<'de> Deserialize<'de> for ListenRange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Table)
    }
}

struct Table;

impl<'de> Visitor<'de> for Table {
    type Value = ListenRange;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ListenRange, A::Error> {
        let mut own = Own::default();
        let rest = Rest {
            map,
            own: &mut own,
            place: Place::Map,
        };
        let peer = BgpPeerSpec::deserialize(MapAccessDeserializer::new(rest))?;
        Ok(ListenRange {
            prefix: own.prefix.ok_or_else(|| Error::missing_field("prefix"))?,
            max_sessions: own.max_sessions.unwrap_or(MAX_SESSIONS),
            remote: own.remote.ok_or_else(|| Error::missing_field("asNumber"))?,
            peer,
        })
    }
}

/// Keys that are the range's own, or mean something else in it.
#[derive(Default)]
struct Own {
    prefix: Option<IpNet>,
    max_sessions: Option<u32>,
    remote: Option<Remote>,
    number: Option<u32>,
}

/// The map without the range's own keys, and with the two that a peer must have.
struct Rest<'a, A> {
    map: A,
    own: &'a mut Own,
    place: Place,
}

/// Where the next value comes from.
#[derive(Clone, Copy)]
enum Place {
    Map,
    Address,
    AsNumber,
}

/// An AS number, `"external"` or `"internal"`.
#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "an AS number, \"external\" (any but ours) or \"internal\" (ours)"
)]
enum AsNumber {
    Number(u32),
    Word(Word),
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Word {
    External,
    Internal,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Rest<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        let key = match self.place {
            Place::Map => match self.next_peer_key()? {
                Some(key) => return seed.deserialize(key.into_deserializer()).map(Some),
                None => {
                    self.place = Place::Address;
                    "address"
                }
            },
            Place::Address => {
                self.place = Place::AsNumber;
                "asNumber"
            }
            Place::AsNumber => return Ok(None),
        };
        seed.deserialize(key.into_deserializer()).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        match self.place {
            Place::Map => self.map.next_value_seed(seed),
            Place::Address => {
                let address = match self.own.prefix {
                    Some(IpNet::V6(_)) => "2001:db8::1",
                    Some(IpNet::V4(_)) | None => "192.0.2.1",
                };
                seed.deserialize(address.into_deserializer())
            }
            Place::AsNumber => seed.deserialize(self.own.number.unwrap_or(1).into_deserializer()),
        }
    }
}

impl<'de, A: MapAccess<'de>> Rest<'_, A> {
    /// Takes the range's own keys out of the way.
    fn next_peer_key(&mut self) -> Result<Option<String>, A::Error> {
        while let Some(key) = self.map.next_key::<String>()? {
            match key.as_str() {
                "prefix" => self.own.prefix = Some(self.map.next_value()?),
                "maxSessions" => self.own.max_sessions = Some(self.map.next_value()?),
                "asNumber" => {
                    let (remote, number) = match self.map.next_value()? {
                        AsNumber::Number(number) => (Remote::Number, number),
                        AsNumber::Word(Word::External) => (Remote::External, 1),
                        AsNumber::Word(Word::Internal) => (Remote::Internal, 1),
                    };
                    self.own.remote = Some(remote);
                    self.own.number = Some(number);
                }
                name if FOR_DIALLED_PEERS.contains(&name) => {
                    return Err(Error::custom(format_args!(
                        "`{name}` is not for listen ranges, whose peers connect to us"
                    )));
                }
                _ => return Ok(Some(key)),
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use bgp_core::fsm::RemoteAs;

    use super::*;
    use crate::config::parse;
    use bgp_core::policy::PolicySet;

    const FILE: &str = r#"
        [bgp]
        asNumber = 65001
        routerId = "10.255.0.1"

        [listenRanges.rack]
        prefix = "10.0.0.0/24"
        asNumber = "external"
        password = "s3cret"
        maxSessions = 8
    "#;

    fn resolved(from: &str, to: &str) -> RangeConfig {
        let file = parse(&FILE.replace(from, to), "bgpd.toml").unwrap();
        file.config.ranges["rack"].clone()
    }

    fn check(from: &str, to: &str, expected: &str) {
        assert!(FILE.contains(from), "{from} is not in the file");
        let error = parse(&FILE.replace(from, to), "bgpd.toml").unwrap_err();
        let error = error.to_string();
        assert!(error.contains(expected), "{error}\nlacks {expected}");
    }

    #[test]
    fn a_range_is_a_template() {
        let range = resolved("", "");
        assert_eq!(range.max_sessions, 8);
        assert_eq!(range.template.settings.remote, RemoteAs::External);
        assert!(range.template.settings.passive && range.template.settings.is_ebgp());
        assert!(range.template.transport.password.is_some());

        let range = resolved("\"external\"", "\"internal\"");
        assert_eq!(range.template.settings.remote, RemoteAs::Internal);
        let ibgp = crate::config::chain(&[], false, &PolicySet::default());
        assert_eq!(range.template.import, ibgp);

        let range = resolved("\"external\"", "65077\nholdTimeSeconds = 6");
        assert_eq!(range.template.settings.remote, RemoteAs::Asn(65077));
        assert_eq!(range.template.settings.hold_time, 6);
        let range = resolved("maxSessions = 8", "");
        assert_eq!(range.max_sessions, 100);
    }

    #[test]
    fn wrong_ranges_name_the_field() {
        check("prefix = \"10.0.0.0/24\"", "", "missing field `prefix`");
        check("asNumber = \"external\"", "", "missing field `asNumber`");
        check("\"external\"", "\"extern\"", "an AS number, \"external\"");
        check(
            "\"external\"",
            "0",
            "listenRanges.rack.asNumber: AS 0 is reserved",
        );
        check(
            "maxSessions = 8",
            "passive = true",
            "`passive` is not for listen ranges",
        );
        check(
            "maxSessions = 8",
            "sessions = 8",
            "unknown field `sessions`",
        );
        check(
            "maxSessions = 8",
            "maxSessions = 0",
            "listenRanges.rack.maxSessions: 0 admits nobody",
        );
        check(
            "10.0.0.0/24",
            "10.0.0.1/24",
            "listenRanges.rack.prefix: 10.0.0.1/24 has host bits set",
        );
        check(
            "maxSessions = 8",
            "[listenRanges.b]\nprefix = \"10.0.0.0/24\"\nasNumber = 1",
            "listenRanges.rack.prefix: 10.0.0.0/24 is the prefix of another",
        );
        check(
            "maxSessions = 8",
            "[peers.x]\naddress = \"10.0.0.7\"\nasNumber = 1",
            "peers.x.password: is missing: the address is inside listen range \"rack\"",
        );
    }
}

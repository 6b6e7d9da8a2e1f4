//! Schemas of what this crate does not own or reads by hand.
//!
//! Owns: the types that `schemars(with = …)` names in the kinds, one for each form of text or number. Never does: the
//! rewriting for Kubernetes and its rules across fields, which `deploy/crds` has.

use std::borrow::Cow;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::json;

use crate::kinds::{CommunityPattern, ListChange, NextHopChange, Password, PeerAs, SendPaths};
use crate::resource::Timestamp;

/// An `IpNet`: a CIDR as text.
pub(crate) struct Cidr;

/// An `IpAddr`: an address as text.
pub(crate) struct Address;

/// An AS number that a session can have.
pub(crate) struct AsNumber;

/// A map with a key for each [`AddressFamily`](crate::kinds::AddressFamily).
pub(crate) struct ByFamily<T>(PhantomData<T>);

/// A community of some sort, or with `*` many of them.
pub(crate) struct Any<C>(PhantomData<C>);

/// The changes of a list of communities of some sort.
pub(crate) struct Changes<C>(PhantomData<C>);

/// A sort of communities: the form of one, as a pattern. The parts' ranges are left to the parser.
pub(crate) trait Sort {
    /// The pattern, of which `part` is a number, or also `*`.
    fn pattern(part: &str) -> String;
}

/// RFC 1997.
pub(crate) struct Community;

/// RFC 8092.
pub(crate) struct LargeCommunity;

/// RFC 4360.
pub(crate) struct ExtCommunity;

impl Sort for Community {
    fn pattern(part: &str) -> String {
        let names: Vec<&str> = CommunityPattern::well_known().collect();
        format!("^({part}:{part}|{})$", names.join("|"))
    }
}

impl Sort for LargeCommunity {
    fn pattern(part: &str) -> String {
        format!("^{part}:{part}:{part}$")
    }
}

impl Sort for ExtCommunity {
    fn pattern(part: &str) -> String {
        format!("^(0x[0-9a-fA-F]{{16}}|(rt|soo):[0-9.]+:{part})$")
    }
}

const NUMBER: &str = "[0-9]+";
const NUMBER_OR_ANY: &str = "([0-9]+|[*])";

/// Implements `JsonSchema` by a schema that stands where it is used.
macro_rules! schema {
    ($type:ty $([$parameter:ident: $bound:path])?, $name:literal, $generator:ident => $schema:expr) => {
        impl $(<$parameter: $bound>)? JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }

            fn json_schema($generator: &mut SchemaGenerator) -> Schema {
                $schema
            }
        }
    };
}

// Longest: six groups and a dotted address, and /128 behind them.
schema!(Cidr, "Cidr", _generator => json_schema!({"type": "string", "format": "cidr", "maxLength": 49}));
schema!(Address, "Address", _generator => json_schema!({"type": "string", "maxLength": 45}));
schema!(AsNumber, "AsNumber", _generator => json_schema!({
    "type": "integer", "format": "int64", "minimum": 1, "maximum": 4_294_967_294_u32,
}));
schema!(PeerAs, "PeerAs", _generator => json_schema!({
    "x-kubernetes-int-or-string": true,
    "minimum": 1, "maximum": 4_294_967_294_u32,
    "pattern": "^(external|internal)$", "maxLength": 8,
}));
schema!(SendPaths, "SendPaths", _generator => json_schema!({
    "type": "string", "pattern": "^(none|all|best-([1-9]|1[0-6]))$", "maxLength": 7,
}));
schema!(NextHopChange, "NextHopChange", _generator => json_schema!({"type": "string", "maxLength": 45}));
schema!(Timestamp, "Timestamp", _generator => json_schema!({"type": "string", "format": "date-time"}));
schema!(Password, "Password", _generator => json_schema!({"type": "string", "maxLength": Password::LONGEST}));
schema!(ByFamily<T> [T: JsonSchema], "ByFamily", generator => json_schema!({
    "type": "object",
    "properties": {
        "ipv4-unicast": generator.subschema_for::<T>(),
        "ipv6-unicast": generator.subschema_for::<T>(),
    },
}));
schema!(Any<C> [C: Sort], "Any", _generator => one_of::<C>(NUMBER_OR_ANY));
schema!(Changes<C> [C: Sort], "Changes", generator => {
    let mut schema = ListChange::json_schema(generator);
    for (field, part) in [("add", NUMBER), ("set", NUMBER), ("remove", NUMBER_OR_ANY)] {
        let list = schema.pointer_mut(&format!("/properties/{field}"));
        if let Some(list) = list.and_then(|list| list.as_object_mut()) {
            list.insert("items".to_owned(), json!(one_of::<C>(part)));
        }
    }
    schema
});

fn one_of<C: Sort>(part: &str) -> Schema {
    json_schema!({"type": "string", "pattern": C::pattern(part), "maxLength": 64})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::{BgpPeerSpec, BgpRoutePolicySpec};

    #[track_caller]
    fn check<T: JsonSchema>(pointer: &str, expected: serde_json::Value) {
        let mut settings = schemars::generate::SchemaSettings::default();
        settings.inline_subschemas = true;
        let schema = settings.into_generator().into_root_schema_for::<T>();
        let found = schema.pointer(pointer).unwrap_or_else(|| {
            panic!(
                "no {pointer} in {}",
                serde_json::to_string_pretty(&schema).unwrap()
            )
        });
        assert_eq!(*found, expected);
    }

    #[test]
    fn written_by_hand() {
        check::<BgpPeerSpec>("/properties/asNumber/maximum", json!(4_294_967_294_u32));
        check::<BgpPeerSpec>(
            "/properties/maxPrefixes/properties/ipv4-unicast/properties/limit/minimum",
            json!(1),
        );
        check::<BgpRoutePolicySpec>(
            "/properties/rules/items/properties/set/properties/communities/properties/remove/items/pattern",
            json!(Community::pattern(NUMBER_OR_ANY)),
        );
        check::<BgpRoutePolicySpec>(
            "/properties/rules/items/properties/match/properties/nextHops/maxItems",
            json!(1000),
        );
    }
}

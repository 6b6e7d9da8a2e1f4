//! Route policies: what is let in from a peer and what a peer is sent.
//!
//! Pure: a decision per route from its prefix, its attributes and where it comes from. The language is that of the
//! resource `BGPRoutePolicy` (`roadbed-api`); here it is compiled and evaluated. Never does: keep routes, know peers.
//!
//! ```text
//! [Resource<BgpRoutePolicySpec>] ── compile() ──> PolicySet ── chain(names) ──> Chain
//! AttributeView ── Chain::attribute_part() ──> ChainVerdict        remembered per attribute set
//!        prefix ── Chain::finish() ──────────> Finished            per prefix: a few trie look-ups
//!       Changes ── Chain::apply() ───────────> Changed             remembered per attribute set and changes
//! ```

mod as_path;
mod chain;
mod compile;
mod edit;
mod eval;
mod memo;
mod sets;

use std::fmt;

use ipnet::IpNet;
use roadbed_api::kinds::PolicySource;

/// What a route to evaluate is made of, for those who evaluate without a RIB.
pub use bgp_wire::{AttributeEditor, Family, LargeCommunity, NextHop, Origin, PathAttributes};

pub use as_path::AsPathMatcher;
pub use chain::{Chain, ChainVerdict, Changes, DecidedBy, Direction, Finished, Step};
pub use compile::{CompiledPolicy, PolicySet, UnknownPolicy, compile};
pub use edit::{Changed, attributes_of};
pub use eval::{AttributeVerdict, AttributeView, Decision, Outcome, RouteView, Ruling};
pub use memo::Memo;

/// Where a route comes from, as an export policy sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RouteSource {
    /// A block of this node.
    OwnBlock,
    /// An address of this node.
    Node,
    /// Declared in the configuration.
    Static,
    /// Received from a peer.
    Learned,
}

/// A built-in policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Builtin {
    /// In: inside a pool or a declared node prefix; 0/0 only when asked for. Out: own routes.
    Default,
    /// Everything.
    AcceptAll,
    /// Nothing.
    RejectAll,
}

/// Why a route is not let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RejectReason {
    /// Not inside a pool or a declared node prefix.
    OutsidePools,
    /// A default route that nobody asked for.
    DefaultRoute,
    /// Not a route of this node.
    NotOwn,
    /// `reject-all`, or no policy of the chain decides (RFC 8212).
    Denied,
}

impl fmt::Display for RejectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RejectReason::OutsidePools => "outside every pool and node prefix",
            RejectReason::DefaultRoute => "a default route, and acceptDefaultRoute is off",
            RejectReason::NotOwn => "not a route of this node",
            RejectReason::Denied => "denied",
        })
    }
}

/// What `default` measures received prefixes against.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImportContext {
    /// CIDRs of all pools.
    pub pools: Vec<IpNet>,
    /// Declared node prefixes.
    pub node_prefixes: Vec<IpNet>,
    /// Let `0.0.0.0/0` and `::/0` in.
    pub accept_default_route: bool,
}

impl Builtin {
    /// Every built-in policy.
    pub const ALL: [Builtin; 3] = [Builtin::Default, Builtin::AcceptAll, Builtin::RejectAll];

    /// The name as written in `importPolicies` and `exportPolicies`.
    pub fn as_str(self) -> &'static str {
        match self {
            Builtin::Default => "default",
            Builtin::AcceptAll => "accept-all",
            Builtin::RejectAll => "reject-all",
        }
    }

    /// The built-in policy of a name.
    pub fn named(name: &str) -> Option<Builtin> {
        Builtin::ALL
            .into_iter()
            .find(|builtin| builtin.as_str() == name)
    }

    fn import(self, context: &ImportContext, prefix: &IpNet) -> Result<(), RejectReason> {
        match self {
            Builtin::AcceptAll => Ok(()),
            Builtin::RejectAll => Err(RejectReason::Denied),
            Builtin::Default if prefix.prefix_len() == 0 => {
                if context.accept_default_route {
                    Ok(())
                } else {
                    Err(RejectReason::DefaultRoute)
                }
            }
            Builtin::Default => {
                let mut ranges = context.pools.iter().chain(&context.node_prefixes);
                if ranges.any(|range| range.contains(prefix)) {
                    Ok(())
                } else {
                    Err(RejectReason::OutsidePools)
                }
            }
        }
    }

    fn export(self, source: PolicySource) -> Result<(), RejectReason> {
        match self {
            Builtin::AcceptAll => Ok(()),
            Builtin::RejectAll => Err(RejectReason::Denied),
            Builtin::Default if source == PolicySource::Learned => Err(RejectReason::NotOwn),
            Builtin::Default => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_import_lets_in_pools_and_node_prefixes() {
        let mut context = ImportContext {
            pools: vec![
                "10.244.0.0/16".parse().unwrap(),
                "fd00:244::/48".parse().unwrap(),
            ],
            node_prefixes: vec!["10.255.0.0/24".parse().unwrap()],
            accept_default_route: false,
        };
        let check = |context: &ImportContext, prefix: &str, expected: Result<(), RejectReason>| {
            let chain = Chain::new(&[Builtin::Default]);
            assert_eq!(
                chain.import(context, &prefix.parse().unwrap()),
                expected,
                "{prefix}"
            );
        };
        check(&context, "10.244.1.0/26", Ok(()));
        check(&context, "10.244.0.0/16", Ok(()));
        check(&context, "fd00:244::40/122", Ok(()));
        check(&context, "10.255.0.11/32", Ok(()));
        check(&context, "10.0.0.0/8", Err(RejectReason::OutsidePools));
        check(&context, "192.0.2.0/24", Err(RejectReason::OutsidePools));
        check(&context, "0.0.0.0/0", Err(RejectReason::DefaultRoute));
        check(&context, "::/0", Err(RejectReason::DefaultRoute));
        context.accept_default_route = true;
        check(&context, "0.0.0.0/0", Ok(()));
    }

    #[test]
    fn default_export_sends_own_routes_and_an_empty_chain_nothing() {
        for source in [
            RouteSource::OwnBlock,
            RouteSource::Node,
            RouteSource::Static,
        ] {
            assert_eq!(Chain::new(&[Builtin::Default]).export(source), Ok(()));
            assert_eq!(Chain::new(&[]).export(source), Err(RejectReason::Denied));
        }
        assert_eq!(
            Chain::new(&[Builtin::Default]).export(RouteSource::Learned),
            Err(RejectReason::NotOwn)
        );
        assert_eq!(
            Chain::new(&[Builtin::AcceptAll]).export(RouteSource::Learned),
            Ok(())
        );
    }
}

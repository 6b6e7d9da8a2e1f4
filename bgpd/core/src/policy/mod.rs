//! Route policies: what is let in from a peer and what a peer is sent.
//!
//! Pure: a decision per route from its prefix and where it comes from. Today the built-in policies of
//! `BGPPeer`; a chain decides by its first policy that does.

use std::fmt;
use std::sync::Arc;

use ipnet::IpNet;

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

/// A chain of policies; the first one decides, since each built-in decides every route.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Chain(Arc<[Builtin]>);

impl Chain {
    /// A chain of these, in this order. An empty one denies (RFC 8212).
    pub fn new(policies: &[Builtin]) -> Self {
        Self(policies.into())
    }

    /// Whether a received prefix is let in.
    ///
    /// # Errors
    /// Why not.
    pub fn import(&self, context: &ImportContext, prefix: &IpNet) -> Result<(), RejectReason> {
        match self.0.first() {
            Some(Builtin::AcceptAll) => Ok(()),
            Some(Builtin::RejectAll) | None => Err(RejectReason::Denied),
            Some(Builtin::Default) if prefix.prefix_len() == 0 => {
                if context.accept_default_route {
                    Ok(())
                } else {
                    Err(RejectReason::DefaultRoute)
                }
            }
            Some(Builtin::Default) => {
                let mut ranges = context.pools.iter().chain(&context.node_prefixes);
                if ranges.any(|range| range.contains(prefix)) {
                    Ok(())
                } else {
                    Err(RejectReason::OutsidePools)
                }
            }
        }
    }

    /// Whether a route is sent.
    ///
    /// # Errors
    /// Why not.
    pub fn export(&self, source: RouteSource) -> Result<(), RejectReason> {
        match self.0.first() {
            Some(Builtin::AcceptAll) => Ok(()),
            Some(Builtin::RejectAll) | None => Err(RejectReason::Denied),
            Some(Builtin::Default) if source == RouteSource::Learned => Err(RejectReason::NotOwn),
            Some(Builtin::Default) => Ok(()),
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

//! BGP roles (RFC 9234 §4): what two neighbours are to each other, and whether they agree on it.

use bgp_wire::{Capability, Open};

use super::OpenError;
use crate::fsm::PeerSettings;

/// What a speaker is to its peer in another AS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Sells transit to the peer.
    Provider,
    /// Connects the peer to others without being in the path.
    RouteServer,
    /// The peer is its route server.
    RouteServerClient,
    /// Buys transit from the peer.
    Customer,
    /// Exchanges its own and its customers' routes with the peer, neither side paying.
    Peer,
}

impl Role {
    /// All roles, in the order of their codes.
    pub const ALL: [Role; 5] = [
        Role::Provider,
        Role::RouteServer,
        Role::RouteServerClient,
        Role::Customer,
        Role::Peer,
    ];

    /// The value in the capability.
    pub fn code(self) -> u8 {
        match self {
            Role::Provider => 0,
            Role::RouteServer => 1,
            Role::RouteServerClient => 2,
            Role::Customer => 3,
            Role::Peer => 4,
        }
    }

    /// The role of a value; `None` for values that no RFC defines.
    pub fn from_code(code: u8) -> Option<Role> {
        Role::ALL.into_iter().find(|role| role.code() == code)
    }

    /// The only role that the other end may have (RFC 9234 §4.2, table 2).
    pub fn counterpart(self) -> Role {
        match self {
            Role::Provider => Role::Customer,
            Role::RouteServer => Role::RouteServerClient,
            Role::RouteServerClient => Role::RouteServer,
            Role::Customer => Role::Provider,
            Role::Peer => Role::Peer,
        }
    }

    /// The name that configuration and logs use.
    pub fn name(self) -> &'static str {
        match self {
            Role::Provider => "provider",
            Role::RouteServer => "route-server",
            Role::RouteServerClient => "route-server-client",
            Role::Customer => "customer",
            Role::Peer => "peer",
        }
    }
}

/// The role that our OPEN names: within one AS there are none.
pub(crate) fn role_offer(settings: &PeerSettings) -> Option<Role> {
    settings.role.filter(|_| settings.is_ebgp())
}

/// What the peer is to us. A peer that names no role is taken for what our configuration implies, unless that is
/// strict (RFC 9234 §4.2).
pub(super) fn negotiate_role(
    settings: &PeerSettings,
    received: &Open,
) -> Result<Option<Role>, OpenError> {
    let mut theirs: Vec<u8> = received
        .capabilities
        .iter()
        .filter_map(|capability| match capability {
            Capability::Role(code) => Some(*code),
            _ => None,
        })
        .collect();
    theirs.sort_unstable();
    theirs.dedup();
    let got = match *theirs.as_slice() {
        [] => None,
        [code] => Some(code),
        _ => return Err(OpenError::SeveralRoles(theirs)),
    };
    let Some(expected) = role_offer(settings).map(Role::counterpart) else {
        return Ok(None);
    };
    match got {
        Some(got) if got != expected.code() => Err(OpenError::RoleMismatch { expected, got }),
        None if settings.role_strict => Err(OpenError::RoleMissing),
        _ => Ok(Some(expected)),
    }
}

/// Words for the value of a capability.
pub(super) fn name_of(code: u8) -> String {
    Role::from_code(code).map_or_else(|| format!("role {code}"), |role| role.name().to_owned())
}

/// Words for several of them.
pub(super) fn names_of(codes: &[u8]) -> String {
    let names: Vec<String> = codes.iter().map(|code| name_of(*code)).collect();
    names.join(", ")
}

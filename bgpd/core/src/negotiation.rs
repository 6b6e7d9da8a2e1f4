//! What two OPENs agree on (RFC 4271 §4.2, RFC 5492), as pure functions of the settings and the peer's OPEN.
//!
//! Owns the checks of RFC 4271 §6.2 that need configuration; what no peer may say at all is refused by the codec
//! already. Never keeps state.

mod role;

use std::net::Ipv4Addr;
use std::time::Duration;

use bgp_wire::{
    Capability, DecodeContext, EncodeContext, Family, MAX_EXTENDED_MESSAGE_LEN, MAX_MESSAGE_LEN,
    Notification, Open, capability_code, code, open_error,
};
use thiserror::Error;

use crate::fsm::{AddPath, PeerSettings, RemoteAs};

pub use role::Role;
use role::negotiate_role;
pub(crate) use role::role_offer;

/// The peer takes several paths per prefix (RFC 7911 §4).
const ADD_PATH_RECEIVE: u8 = 1;
/// The peer announces several paths per prefix.
const ADD_PATH_SEND: u8 = 2;

/// IPv6 next hops for IPv4 unicast, as RFC 8950 §4 writes it: NLRI AFI, NLRI SAFI, next hop AFI.
const IPV4_OVER_IPV6: (u16, u16, u16) = (1, 1, 2);

/// What both sides of a session agreed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Negotiated {
    /// Our AS number on this session.
    pub local_as: u32,
    /// The peer's AS number, four octets.
    pub peer_as: u32,
    /// The peer's BGP Identifier.
    pub peer_id: Ipv4Addr,
    /// True when the peer is in another AS.
    pub ebgp: bool,
    /// Families that both sides want, in our order; never empty.
    pub families: Vec<Family>,
    /// The smaller of both Hold Times; zero means that neither side sends KEEPALIVEs or watches for silence.
    pub hold_time: Duration,
    /// Pause between our KEEPALIVEs before jitter; at most a third of `hold_time`, zero exactly when that is zero.
    pub keepalive: Duration,
    /// AS numbers in AS_PATH and AGGREGATOR have four octets (RFC 6793).
    pub four_octet_as: bool,
    /// The peer answers ROUTE-REFRESH (RFC 2918), and so do we.
    pub route_refresh: bool,
    /// Refreshes are framed by BoRR and EoRR (RFC 7313).
    pub enhanced_route_refresh: bool,
    /// Longest message that we may send, in octets (RFC 8654).
    pub max_send: usize,
    /// Longest message that the peer may send, in octets. Rests on our own offer alone: having announced that we can
    /// read long messages, we read them.
    pub max_receive: usize,
    /// In the order of [`Family::ALL`]: our UPDATEs carry path identifiers (RFC 7911).
    pub add_path_send: [bool; 2],
    /// In the order of [`Family::ALL`]: the peer's UPDATEs carry path identifiers.
    pub add_path_receive: [bool; 2],
    /// IPv4 routes may go to the peer with an IPv6 next hop (RFC 8950): both sides offered it.
    pub extended_next_hop: bool,
    /// IPv4 routes may come with an IPv6 next hop. Rests on our own offer alone, on the strength of which the peer may
    /// send them (RFC 8950 §4).
    pub extended_next_hop_receive: bool,
    /// What the peer is to us (RFC 9234), which is what the rules of [`crate::otc`] go by. `None` when no role is set
    /// here, whatever the peer says.
    pub peer_role: Option<Role>,
    /// The peer's capabilities as received, for display.
    pub peer_capabilities: Vec<Capability>,
}

impl Negotiated {
    /// How the peer's UPDATEs are to be read.
    pub fn decode_context(&self) -> DecodeContext {
        DecodeContext {
            four_octet_as: self.four_octet_as,
            ebgp: self.ebgp,
            add_path: self.add_path_receive,
            families: Family::ALL.map(|family| self.families.contains(&family)),
            extended_next_hop: self.extended_next_hop_receive,
        }
    }

    /// How UPDATEs to the peer are to be written.
    pub fn encode_context(&self) -> EncodeContext {
        EncodeContext {
            four_octet_as: self.four_octet_as,
            add_path: self.add_path_send,
            max_len: self.max_send,
            extended_next_hop: self.extended_next_hop,
        }
    }
}

/// Why the peer's OPEN is not acceptable. Each has its NOTIFICATION.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum OpenError {
    /// Subcode 2.
    #[error(
        "the peer says it is AS {got}, but asNumber {expected} is configured: correct one of the two"
    )]
    BadPeerAs {
        /// The configured AS.
        expected: RemoteAs,
        /// The AS number of the OPEN.
        got: u32,
    },
    /// Subcode 3 (RFC 6286 §2.2).
    #[error(
        "the peer's BGP identifier {0} is not usable: it must not be 0.0.0.0, nor ours within one AS"
    )]
    BadBgpIdentifier(Ipv4Addr),
    /// Subcode 6.
    #[error("the peer proposes a hold time of {0} s; it must be 0 or at least 3")]
    UnacceptableHoldTime(u16),
    /// Subcode 7 (RFC 5492 §5).
    #[error("the peer and we have no address family in common (ours: {ours:?})")]
    NoCommonFamily {
        /// Our families.
        ours: Vec<Family>,
    },
    /// Subcode 11 (RFC 9234 §4.2).
    #[error(
        "the peer says that it is our {}, but it is configured as our {}",
        role::name_of(*.got),
        .expected.name()
    )]
    RoleMismatch {
        /// What the peer should be to us.
        expected: Role,
        /// The role that it names; may be one that no RFC defines.
        got: u8,
    },
    /// Subcode 11 (RFC 9234 §4.2).
    #[error("the peer names several roles: {}", role::names_of(.0))]
    SeveralRoles(Vec<u8>),
    /// Subcode 11; `role_strict` asks for it.
    #[error("the peer names no role, and strict roles are configured")]
    RoleMissing,
}

impl OpenError {
    /// The message that tells the peer.
    pub fn notification(&self) -> Notification {
        match self {
            OpenError::BadPeerAs { .. } => Notification::open(open_error::BAD_PEER_AS),
            OpenError::BadBgpIdentifier(_) => Notification::open(open_error::BAD_BGP_IDENTIFIER),
            OpenError::UnacceptableHoldTime(_) => {
                Notification::open(open_error::UNACCEPTABLE_HOLD_TIME)
            }
            OpenError::NoCommonFamily { ours } => Notification::with_data(
                code::OPEN_MESSAGE,
                open_error::UNSUPPORTED_CAPABILITY,
                ours.iter()
                    .flat_map(|family| multiprotocol_bytes(*family))
                    .collect(),
            ),
            OpenError::RoleMismatch { .. }
            | OpenError::SeveralRoles(_)
            | OpenError::RoleMissing => Notification::open(open_error::ROLE_MISMATCH),
        }
    }
}

/// The capability as it stands in an OPEN, which is what subcode 7 wants as data.
fn multiprotocol_bytes(family: Family) -> [u8; 6] {
    let [high, low] = family.afi().to_be_bytes();
    [
        capability_code::MULTI_PROTOCOL,
        4,
        high,
        low,
        0,
        family.safi(),
    ]
}

/// The OPEN that these settings make us send.
pub fn local_open(settings: &PeerSettings) -> Open {
    let mut capabilities: Vec<Capability> = settings
        .families
        .iter()
        .map(|family| Capability::MultiProtocol {
            afi: family.afi(),
            safi: family.safi(),
        })
        .collect();
    capabilities.push(Capability::FourOctetAs(settings.local_as));
    // Without a family: we keep nothing through a restart of our own, but the peer is to say End-of-RIB (RFC 4724 §3).
    capabilities.push(Capability::GracefulRestart {
        flags: 0,
        restart_time: 0,
        families: Vec::new(),
    });
    let refresh = settings.route_refresh;
    let switched = [
        (refresh, Capability::RouteRefresh),
        (
            refresh && settings.enhanced_route_refresh,
            Capability::EnhancedRouteRefresh,
        ),
        (settings.extended_message, Capability::ExtendedMessage),
    ];
    capabilities.extend(
        switched
            .into_iter()
            .filter_map(|(on, capability)| on.then_some(capability)),
    );
    if offers_extended_next_hop(settings) {
        capabilities.push(Capability::ExtendedNextHop(vec![IPV4_OVER_IPV6]));
    }
    let add_path = add_path_offer(settings);
    if !add_path.is_empty() {
        // All families in one: of several, a reader may count only one (RFC 7911 §4).
        capabilities.push(Capability::AddPath(add_path));
    }
    if let Some(role) = role_offer(settings) {
        capabilities.push(Capability::Role(role.code()));
    }
    Open {
        my_as: settings.local_as,
        my_as_2octet: Open::two_octet(settings.local_as),
        hold_time: settings.hold_time,
        bgp_id: settings.local_id,
        capabilities,
    }
}

/// The value of our ADD-PATH capability, in the order of [`Family::ALL`]; empty when there is nothing to offer.
pub(crate) fn add_path_offer(settings: &PeerSettings) -> Vec<(u16, u8, u8)> {
    Family::ALL
        .into_iter()
        .filter(|family| settings.families.contains(family))
        .filter_map(|family| {
            let AddPath { send, receive } = family.pick(settings.add_path);
            let receive = if receive { ADD_PATH_RECEIVE } else { 0 };
            let send = if send { ADD_PATH_SEND } else { 0 };
            let directions = send | receive;
            (directions != 0).then_some((family.afi(), family.safi(), directions))
        })
        .collect()
}

/// Whether we offer IPv6 next hops for IPv4 routes.
pub(crate) fn offers_extended_next_hop(settings: &PeerSettings) -> bool {
    settings.extended_next_hop && settings.families.contains(&Family::Ipv4Unicast)
}

/// Judges the peer's OPEN against what [`local_open`] of the same settings says.
pub fn negotiate(settings: &PeerSettings, received: &Open) -> Result<Negotiated, OpenError> {
    let offers = |capability: &Capability| received.capabilities.contains(capability);
    let peer_four_octet_as = received
        .capabilities
        .iter()
        .find_map(|capability| match capability {
            Capability::FourOctetAs(asn) => Some(*asn),
            _ => None,
        });
    // AS_TRANS as a peer's real number exists only on paper (RFC 6793 §9): it is what a four-octet speaker's number
    // looks like when it did not send the capability, and nobody is admitted with it.
    let peer_as = peer_four_octet_as.unwrap_or(u32::from(received.my_as_2octet));
    if !settings.remote.admits(settings.local_as, peer_as) {
        return Err(OpenError::BadPeerAs {
            expected: settings.remote,
            got: peer_as,
        });
    }
    let ebgp = settings.is_ebgp();
    if received.bgp_id.is_unspecified() || (!ebgp && received.bgp_id == settings.local_id) {
        return Err(OpenError::BadBgpIdentifier(received.bgp_id));
    }
    if matches!(received.hold_time, 1 | 2) {
        return Err(OpenError::UnacceptableHoldTime(received.hold_time));
    }
    let families = common_families(settings, received);
    if families.is_empty() {
        return Err(OpenError::NoCommonFamily {
            ours: settings.families.clone(),
        });
    }
    let peer_role = negotiate_role(settings, received)?;
    let [add_path_send, add_path_receive] = negotiate_add_path(settings, received, &families);
    let ipv4 = families.contains(&Family::Ipv4Unicast);
    let extended_next_hop_receive = ipv4 && offers_extended_next_hop(settings);
    let hold_time = Duration::from_secs(settings.hold_time.min(received.hold_time).into());
    let route_refresh = settings.route_refresh && offers(&Capability::RouteRefresh);
    let extended = |yes| {
        if yes {
            MAX_EXTENDED_MESSAGE_LEN
        } else {
            MAX_MESSAGE_LEN
        }
    };
    Ok(Negotiated {
        local_as: settings.local_as,
        peer_as,
        peer_id: received.bgp_id,
        ebgp,
        families,
        hold_time,
        keepalive: keepalive_interval(settings, hold_time),
        four_octet_as: peer_four_octet_as.is_some(),
        route_refresh,
        enhanced_route_refresh: route_refresh
            && settings.enhanced_route_refresh
            && offers(&Capability::EnhancedRouteRefresh),
        max_send: extended(settings.extended_message && offers(&Capability::ExtendedMessage)),
        max_receive: extended(settings.extended_message),
        add_path_send,
        add_path_receive,
        extended_next_hop: extended_next_hop_receive && takes_ipv6_next_hops(received),
        extended_next_hop_receive,
        peer_role,
        peer_capabilities: received.capabilities.clone(),
    })
}

/// Pause between KEEPALIVEs for a negotiated Hold Time; zero when that is zero.
pub(crate) fn keepalive_interval(settings: &PeerSettings, hold_time: Duration) -> Duration {
    let third = hold_time / 3;
    match settings.keepalive {
        // At most one per second, and a pause of zero would be a busy loop (RFC 4271 §4.4).
        Some(seconds) => Duration::from_secs(seconds.max(1).into()).min(third),
        None => third,
    }
}

/// Whether path identifiers are on the wire: [ours to the peer, the peer's to us], each in the order of [`Family::ALL`].
///
/// A capability with directions that RFC 7911 §4 does not define counts as not understood, whole. Of several entries
/// for one family the last counts, as RFC 4724 §3 has it for its capability; RFC 7911 allows no such thing.
fn negotiate_add_path(
    settings: &PeerSettings,
    received: &Open,
    families: &[Family],
) -> [[bool; 2]; 2] {
    let mut theirs = [0; 2];
    for capability in &received.capabilities {
        let Capability::AddPath(entries) = capability else {
            continue;
        };
        let defined = ADD_PATH_RECEIVE..=(ADD_PATH_RECEIVE | ADD_PATH_SEND);
        if !entries.iter().all(|(.., d)| defined.contains(d)) {
            continue;
        }
        for (afi, safi, directions) in entries {
            if let Some(family) = Family::from_afi_safi(*afi, *safi) {
                theirs[family.index()] = *directions;
            }
        }
    }
    let both = |ours: fn(AddPath) -> bool, needed: u8| {
        Family::ALL.map(|family| {
            families.contains(&family)
                && ours(family.pick(settings.add_path))
                && family.pick(theirs) & needed != 0
        })
    };
    [
        both(|ours| ours.send, ADD_PATH_RECEIVE),
        both(|ours| ours.receive, ADD_PATH_SEND),
    ]
}

fn takes_ipv6_next_hops(received: &Open) -> bool {
    received
        .capabilities
        .iter()
        .any(|capability| match capability {
            Capability::ExtendedNextHop(entries) => entries.contains(&IPV4_OVER_IPV6),
            _ => false,
        })
}

/// RFC 4760 §8; a peer without any multiprotocol capability speaks IPv4 unicast and nothing else.
fn common_families(settings: &PeerSettings, received: &Open) -> Vec<Family> {
    let mut theirs = received
        .capabilities
        .iter()
        .filter_map(|capability| match capability {
            Capability::MultiProtocol { afi, safi } => Some(Family::from_afi_safi(*afi, *safi)),
            _ => None,
        })
        .peekable();
    let theirs: Vec<Family> = if theirs.peek().is_none() {
        vec![Family::Ipv4Unicast]
    } else {
        theirs.flatten().collect()
    };
    let mut common = Vec::with_capacity(settings.families.len());
    for family in &settings.families {
        if theirs.contains(family) && !common.contains(family) {
            common.push(*family);
        }
    }
    common
}

#[cfg(test)]
mod tests;

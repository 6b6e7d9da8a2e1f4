//! What is configured for one peer, and what a change of it means for a running session.
//!
//! Addresses, TTL and passwords are not here: they belong to the socket, hence to the driver.

use std::fmt;
use std::net::Ipv4Addr;
use std::time::Duration;

use bgp_wire::{AS_TRANS, Family};
use thiserror::Error;

use crate::negotiation::{Role, add_path_offer, offers_extended_next_hop, role_offer};

/// Which AS the peer may be in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RemoteAs {
    /// This one; 1..=4294967295 except 23456 (AS_TRANS).
    Asn(u32),
    /// Any but ours: dynamic peers, and fabrics in which every rack has its AS.
    External,
    /// Ours.
    Internal,
}

impl RemoteAs {
    /// Whether a peer may be in AS `asn` when we are in AS `local_as`. AS 0 and AS_TRANS are nobody's (RFC 7607,
    /// RFC 6793).
    pub fn admits(self, local_as: u32, asn: u32) -> bool {
        !is_reserved(asn)
            && match self {
                RemoteAs::Asn(expected) => asn == expected,
                RemoteAs::External => asn != local_as,
                RemoteAs::Internal => asn == local_as,
            }
    }

    /// The number, where one is configured.
    pub fn asn(self) -> Option<u32> {
        match self {
            RemoteAs::Asn(asn) => Some(asn),
            RemoteAs::External | RemoteAs::Internal => None,
        }
    }
}

impl From<u32> for RemoteAs {
    fn from(asn: u32) -> RemoteAs {
        RemoteAs::Asn(asn)
    }
}

/// As in configuration.
impl fmt::Display for RemoteAs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RemoteAs::Asn(asn) => write!(f, "{asn}"),
            RemoteAs::External => f.write_str("external"),
            RemoteAs::Internal => f.write_str("internal"),
        }
    }
}

/// Directions of ADD-PATH (RFC 7911) that are wanted for one family. Each is in force only if the peer wants the other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct AddPath {
    /// Announce several paths per prefix.
    pub send: bool,
    /// Take several paths per prefix.
    pub receive: bool,
}

/// Settings of one peer, as far as the FSM and the OPEN message need them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerSettings {
    /// Our AS number on this session, the one that the OPEN carries; 1..=4294967295 except 23456 (AS_TRANS). With
    /// `local-as` (RFC 7705) it differs from the node's. What then stands in AS_PATH (`no-prepend`, `replace-as`) is
    /// the RIB's matter.
    pub local_as: u32,
    /// Our number for a peer that says Bad Peer AS to the other one (`dual-as`). The two then change places, so
    /// `local_as` is always the number of the next OPEN.
    pub other_local_as: Option<u32>,
    /// The AS that the peer's OPEN may name.
    pub remote: RemoteAs,
    /// Our BGP Identifier; not 0.0.0.0, unique within the AS (RFC 6286).
    pub local_id: Ipv4Addr,
    /// Hold Time that we propose, in seconds: 0 (no keepalives at all) or 3..=65535.
    pub hold_time: u16,
    /// Seconds between our KEEPALIVEs. Never more than a third of the negotiated Hold Time, whatever is set here;
    /// `None` is that third.
    pub keepalive: Option<u16>,
    /// Pause between attempts to connect, before jitter. RFC 4271 suggests 120 s, which suits routers that a human
    /// reloads; in a data centre the next attempt should come while somebody still watches.
    pub connect_retry: Duration,
    /// First pause after a failed or lost session, before jitter. Doubled with each failure in a row.
    pub idle_hold_min: Duration,
    /// Longest pause after a failure.
    pub idle_hold_max: Duration,
    /// Only wait for the peer to connect.
    pub passive: bool,
    /// Wait this long for the peer's OPEN before sending ours (RFC 4271 §8.1.1, DelayOpen).
    pub delay_open: Option<Duration>,
    /// SendHoldTime (RFC 9687). `None` is the larger of eight minutes and twice the negotiated Hold Time. A value at
    /// or below the Hold Time is raised to it, since the peer's own hold timer has to come first.
    pub send_hold_time: Option<Duration>,
    /// Families to negotiate, most wanted first; at least one.
    pub families: Vec<Family>,
    /// Offer route refresh (RFC 2918).
    pub route_refresh: bool,
    /// Offer enhanced route refresh (RFC 7313); without effect when `route_refresh` is off.
    pub enhanced_route_refresh: bool,
    /// Offer messages of up to 65535 octets (RFC 8654).
    pub extended_message: bool,
    /// Offer ADD-PATH (RFC 7911), in the order of [`Family::ALL`]; without effect for families that are not enabled.
    pub add_path: [AddPath; 2],
    /// Offer IPv6 next hops for IPv4 routes (RFC 8950); without effect when IPv4 unicast is not enabled.
    pub extended_next_hop: bool,
    /// Our role towards the peer (RFC 9234): [`Role::Customer`] where the peer is our provider. For eBGP only.
    pub role: Option<Role>,
    /// Refuse a peer that names no role; without effect when `role` is not set.
    pub role_strict: bool,
}

/// Why settings cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SettingsProblem {
    /// RFC 7607, RFC 6793.
    #[error("local AS {0} is reserved: use 1..=4294967295 other than 23456")]
    LocalAs(u32),
    /// RFC 7607, RFC 6793.
    #[error("peer AS {0} is reserved: use 1..=4294967295 other than 23456")]
    RemoteAs(u32),
    /// RFC 6286.
    #[error("BGP identifier 0.0.0.0 is not allowed: set a router id")]
    LocalId,
    /// RFC 4271 §4.2.
    #[error("hold time {0} s is not allowed: use 0 (off) or at least 3")]
    HoldTime(u16),
    /// A session without families carries nothing.
    #[error("no address family is enabled")]
    Families,
    /// RFC 9234 §4: roles describe two autonomous systems.
    #[error("a role needs a peer in another AS")]
    InternalRole,
    /// There is nothing to insist on.
    #[error("strict roles need a role of our own")]
    StrictWithoutRole,
}

impl PeerSettings {
    /// Settings with this project's defaults: hold time 90 s, connect retry 5 s, pauses of 1 s to 60 s after
    /// failures; refreshes and long messages are offered, ADD-PATH, extended next hops and roles are not.
    pub fn new(
        local_as: u32,
        remote: impl Into<RemoteAs>,
        local_id: Ipv4Addr,
        families: Vec<Family>,
    ) -> PeerSettings {
        PeerSettings {
            local_as,
            other_local_as: None,
            remote: remote.into(),
            local_id,
            hold_time: 90,
            keepalive: None,
            connect_retry: Duration::from_secs(5),
            idle_hold_min: Duration::from_secs(1),
            idle_hold_max: Duration::from_secs(60),
            passive: false,
            delay_open: None,
            send_hold_time: None,
            families,
            route_refresh: true,
            enhanced_route_refresh: true,
            extended_message: true,
            add_path: [AddPath::default(); 2],
            extended_next_hop: false,
            role: None,
            role_strict: false,
        }
    }

    /// Goes on with our other AS number, if there is one.
    pub(super) fn swap_local_as(&mut self) {
        if let Some(other) = &mut self.other_local_as {
            std::mem::swap(&mut self.local_as, other);
        }
    }

    /// Whether these two differ in which of our AS numbers comes first.
    pub(super) fn is_swapped(&self, other: &PeerSettings) -> bool {
        self.local_as != other.local_as
            && self.other_local_as == Some(other.local_as)
            && other.other_local_as == Some(self.local_as)
    }

    /// Changes the AS that the peer may be in.
    pub fn set_remote(&mut self, remote: impl Into<RemoteAs>) {
        self.remote = remote.into();
    }

    /// Everything that is wrong with these settings. The FSM stays total with wrong settings; it just will not get a
    /// session up with them.
    pub fn problems(&self) -> Vec<SettingsProblem> {
        let remote = self.remote.asn();
        [
            (
                is_reserved(self.local_as),
                SettingsProblem::LocalAs(self.local_as),
            ),
            (
                self.other_local_as.is_some_and(is_reserved),
                SettingsProblem::LocalAs(self.other_local_as.unwrap_or(0)),
            ),
            (
                remote.is_some_and(is_reserved),
                SettingsProblem::RemoteAs(remote.unwrap_or(0)),
            ),
            (self.local_id.is_unspecified(), SettingsProblem::LocalId),
            (
                matches!(self.hold_time, 1 | 2),
                SettingsProblem::HoldTime(self.hold_time),
            ),
            (self.families.is_empty(), SettingsProblem::Families),
            (
                self.role.is_some() && !self.is_ebgp(),
                SettingsProblem::InternalRole,
            ),
            (
                self.role_strict && self.role.is_none(),
                SettingsProblem::StrictWithoutRole,
            ),
        ]
        .into_iter()
        .filter_map(|(wrong, problem)| wrong.then_some(problem))
        .collect()
    }

    /// True when the peer is in another AS.
    pub fn is_ebgp(&self) -> bool {
        match self.remote {
            RemoteAs::Asn(asn) => asn != self.local_as,
            RemoteAs::External => true,
            RemoteAs::Internal => false,
        }
    }
}

/// Numbers that are no autonomous system's (RFC 7607, RFC 6793 §9).
fn is_reserved(asn: u32) -> bool {
    asn == 0 || asn == u32::from(AS_TRANS)
}

/// What a change of settings asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The settings are the same.
    None,
    /// Takes effect in the running session.
    Live,
    /// A running session has to exchange new OPENs. Names the settings that ask for it.
    Reset(Vec<&'static str>),
}

/// Says what moving a session from `old` to `new` takes. Only what the OPEN messages say, or what they are checked
/// against, resets; the order of `families` is not on the wire in a way that matters, so it does not.
pub fn settings_change(old: &PeerSettings, new: &PeerSettings) -> Change {
    if old == new {
        return Change::None;
    }
    let same_families = old
        .families
        .iter()
        .all(|family| new.families.contains(family))
        && new
            .families
            .iter()
            .all(|family| old.families.contains(family));
    let enhanced =
        |settings: &PeerSettings| settings.route_refresh && settings.enhanced_route_refresh;
    let insists = |settings: &PeerSettings| settings.role_strict && role_offer(settings).is_some();
    let resetting: Vec<&'static str> = [
        (old.local_as != new.local_as, "local_as"),
        (old.remote != new.remote, "remote_as"),
        (old.local_id != new.local_id, "local_id"),
        (old.hold_time != new.hold_time, "hold_time"),
        (!same_families, "families"),
        (old.route_refresh != new.route_refresh, "route_refresh"),
        (enhanced(old) != enhanced(new), "enhanced_route_refresh"),
        (
            old.extended_message != new.extended_message,
            "extended_message",
        ),
        (add_path_offer(old) != add_path_offer(new), "add_path"),
        (
            offers_extended_next_hop(old) != offers_extended_next_hop(new),
            "extended_next_hop",
        ),
        (role_offer(old) != role_offer(new), "role"),
        // A session that passed the check is none the worse for its end.
        (insists(new) && !insists(old), "role_strict"),
    ]
    .into_iter()
    .filter_map(|(changed, name)| changed.then_some(name))
    .collect();
    if resetting.is_empty() {
        Change::Live
    } else {
        Change::Reset(resetting)
    }
}

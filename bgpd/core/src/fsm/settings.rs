//! What is configured for one peer, and what a change of it means for a running session.
//!
//! Addresses, TTL and passwords are not here: they belong to the socket, hence to the driver.

use std::net::Ipv4Addr;
use std::time::Duration;

use bgp_wire::{AS_TRANS, Family};
use thiserror::Error;

/// Settings of one peer, as far as the FSM and the OPEN message need them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerSettings {
    /// Our AS number on this session; 1..=4294967295 except 23456 (AS_TRANS).
    pub local_as: u32,
    /// The AS number that the peer's OPEN must carry.
    pub remote_as: u32,
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
}

impl PeerSettings {
    /// Settings with this project's defaults: hold time 90 s, connect retry 5 s, pauses of 1 s to 60 s after
    /// failures, all capabilities offered.
    pub fn new(
        local_as: u32,
        remote_as: u32,
        local_id: Ipv4Addr,
        families: Vec<Family>,
    ) -> PeerSettings {
        PeerSettings {
            local_as,
            remote_as,
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
        }
    }

    /// Everything that is wrong with these settings. The FSM stays total with wrong settings; it just will not get a
    /// session up with them.
    pub fn problems(&self) -> Vec<SettingsProblem> {
        let reserved = |asn| asn == 0 || asn == u32::from(AS_TRANS);
        [
            (
                reserved(self.local_as),
                SettingsProblem::LocalAs(self.local_as),
            ),
            (
                reserved(self.remote_as),
                SettingsProblem::RemoteAs(self.remote_as),
            ),
            (self.local_id.is_unspecified(), SettingsProblem::LocalId),
            (
                matches!(self.hold_time, 1 | 2),
                SettingsProblem::HoldTime(self.hold_time),
            ),
            (self.families.is_empty(), SettingsProblem::Families),
        ]
        .into_iter()
        .filter_map(|(wrong, problem)| wrong.then_some(problem))
        .collect()
    }

    /// True when the peer is in another AS.
    pub fn is_ebgp(&self) -> bool {
        self.local_as != self.remote_as
    }
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
    let resetting: Vec<&'static str> = [
        (old.local_as != new.local_as, "local_as"),
        (old.remote_as != new.remote_as, "remote_as"),
        (old.local_id != new.local_id, "local_id"),
        (old.hold_time != new.hold_time, "hold_time"),
        (!same_families, "families"),
        (old.route_refresh != new.route_refresh, "route_refresh"),
        (enhanced(old) != enhanced(new), "enhanced_route_refresh"),
        (
            old.extended_message != new.extended_message,
            "extended_message",
        ),
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

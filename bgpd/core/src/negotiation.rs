//! What two OPENs agree on (RFC 4271 §4.2, RFC 5492), as pure functions of the settings and the peer's OPEN.
//!
//! Owns the checks of RFC 4271 §6.2 that need configuration; what no peer may say at all is refused by the codec
//! already. Never keeps state.

use std::net::Ipv4Addr;
use std::time::Duration;

use bgp_wire::{
    AS_TRANS, Capability, DecodeContext, EncodeContext, Family, MAX_EXTENDED_MESSAGE_LEN,
    MAX_MESSAGE_LEN, Notification, Open, capability_code, code, open_error,
};
use thiserror::Error;

use crate::fsm::PeerSettings;

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
    /// The peer's capabilities as received, for display.
    pub peer_capabilities: Vec<Capability>,
}

impl Negotiated {
    /// How the peer's UPDATEs are to be read.
    pub fn decode_context(&self) -> DecodeContext {
        DecodeContext {
            four_octet_as: self.four_octet_as,
            ebgp: self.ebgp,
            add_path: [false; 2],
            families: Family::ALL.map(|family| self.families.contains(&family)),
            extended_next_hop: false,
        }
    }

    /// How UPDATEs to the peer are to be written.
    pub fn encode_context(&self) -> EncodeContext {
        EncodeContext {
            four_octet_as: self.four_octet_as,
            add_path: [false; 2],
            max_len: self.max_send,
            extended_next_hop: false,
        }
    }
}

/// Why the peer's OPEN is not acceptable. Each has its NOTIFICATION.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum OpenError {
    /// Subcode 2.
    #[error("the peer says it is AS {got}, but asNumber {expected} is configured: correct one of the two")]
    BadPeerAs {
        /// The configured AS number.
        expected: u32,
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
    Open {
        my_as: settings.local_as,
        my_as_2octet: Open::two_octet(settings.local_as),
        hold_time: settings.hold_time,
        bgp_id: settings.local_id,
        capabilities,
    }
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
    // looks like when it did not send the capability, and never equals a configured one.
    let peer_as = peer_four_octet_as.unwrap_or(u32::from(received.my_as_2octet));
    if peer_as != settings.remote_as || peer_as == 0 || peer_as == u32::from(AS_TRANS) {
        return Err(OpenError::BadPeerAs {
            expected: settings.remote_as,
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
mod tests {
    use super::*;

    fn settings(local_as: u32, remote_as: u32, id: u8) -> PeerSettings {
        let families = vec![Family::Ipv4Unicast, Family::Ipv6Unicast];
        PeerSettings::new(local_as, remote_as, Ipv4Addr::new(10, 0, 0, id), families)
    }

    /// Negotiates as AS 65001 with router id 10.0.0.1 against the OPEN of AS 65002, router id 10.0.0.2, after `ours`
    /// and `theirs` changed both sides.
    fn check(
        ours: impl FnOnce(&mut PeerSettings),
        theirs: impl FnOnce(&mut Open),
    ) -> Result<Negotiated, OpenError> {
        let mut local = settings(65001, 65002, 1);
        ours(&mut local);
        let mut open = local_open(&settings(65002, 65001, 2));
        theirs(&mut open);
        negotiate(&local, &open)
    }

    fn refused(result: Result<Negotiated, OpenError>) -> (u8, u8, Vec<u8>) {
        let notification = result.expect_err("the OPEN is refused").notification();
        (notification.code, notification.subcode, notification.data)
    }

    #[test]
    fn two_default_speakers_agree_on_everything() {
        let agreed = check(|_| {}, |_| {}).expect("agreed");
        assert_eq!(agreed.families, [Family::Ipv4Unicast, Family::Ipv6Unicast]);
        assert_eq!(
            (agreed.peer_as, agreed.ebgp, agreed.four_octet_as),
            (65002, true, true)
        );
        assert_eq!(
            (agreed.hold_time.as_secs(), agreed.keepalive.as_secs()),
            (90, 30)
        );
        assert!(agreed.route_refresh && agreed.enhanced_route_refresh);
        assert_eq!((agreed.max_send, agreed.max_receive), (65535, 65535));
        assert_eq!(agreed.decode_context().families, [true, true]);
        assert_eq!(agreed.encode_context().max_len, 65535);
    }

    #[test]
    fn what_we_send_reads_back() {
        for asn in [65001, 4_200_000_001] {
            let open = local_open(&settings(asn, 65002, 1));
            let mut bytes = Vec::new();
            open.encode(&mut bytes);
            assert_eq!(
                Open::decode(&bytes[bgp_wire::HEADER_LEN..]).expect("valid"),
                open
            );
        }
    }

    #[test]
    fn a_peer_without_capabilities_speaks_ipv4_and_two_octets() {
        let agreed = check(|_| {}, |open| open.capabilities.clear()).expect("agreed");
        assert_eq!(agreed.families, [Family::Ipv4Unicast]);
        assert!(!agreed.four_octet_as && !agreed.route_refresh && !agreed.enhanced_route_refresh);
        assert_eq!((agreed.max_send, agreed.max_receive), (4096, 65535));
    }

    #[test]
    fn no_common_family_names_what_we_need() {
        let ipv6_only = |ours: &mut PeerSettings| ours.families = vec![Family::Ipv6Unicast];
        let result = check(ipv6_only, |open| open.capabilities.clear());
        assert_eq!(refused(result), (2, 7, vec![1, 4, 0, 2, 0, 1]));
        let evpn = |open: &mut Open| {
            open.capabilities = vec![Capability::MultiProtocol { afi: 25, safi: 70 }];
        };
        let result = check(|_| {}, evpn);
        assert_eq!(
            refused(result).1,
            7,
            "a family we do not know still counts as a multiprotocol capability"
        );
    }

    #[test]
    fn as_numbers() {
        let result = check(|ours| ours.remote_as = 65009, |_| {});
        let words = result.clone().expect_err("wrong AS").to_string();
        assert_eq!(
            words,
            "the peer says it is AS 65002, but asNumber 65009 is configured: correct one of the two"
        );
        assert_eq!(refused(result), (2, 2, vec![]));

        let big = 4_200_000_001;
        let four_octets = |open: &mut Open| *open = local_open(&settings(big, 65001, 2));
        let agreed = check(|ours| ours.remote_as = big, four_octets).expect("agreed");
        assert_eq!(agreed.peer_as, big);

        // AS_TRANS and no capability: nobody's real number.
        let trans = |open: &mut Open| {
            open.my_as_2octet = AS_TRANS;
            open.my_as = AS_TRANS.into();
            open.capabilities.clear();
        };
        assert_eq!(refused(check(|ours| ours.remote_as = big, trans)).1, 2);
        assert_eq!(
            refused(check(|ours| ours.remote_as = AS_TRANS.into(), trans)).1,
            2
        );

        let zero = |open: &mut Open| {
            open.capabilities = vec![Capability::FourOctetAs(0)];
        };
        assert_eq!(refused(check(|ours| ours.remote_as = 0, zero)).1, 2);
    }

    #[test]
    fn identifiers() {
        let same = |open: &mut Open| open.bgp_id = Ipv4Addr::new(10, 0, 0, 1);
        assert!(
            check(|_| {}, same).is_ok(),
            "another AS may use our identifier (RFC 6286)"
        );
        let internal = |ours: &mut PeerSettings| ours.local_as = 65002;
        assert_eq!(refused(check(internal, same)).1, 3);
        assert!(check(internal, |_| {}).is_ok_and(|agreed| !agreed.ebgp));
        assert_eq!(
            refused(check(|_| {}, |open| open.bgp_id = Ipv4Addr::UNSPECIFIED)).1,
            3
        );
    }

    #[test]
    fn hold_time_and_keepalive() {
        let times = |hold: u16, keepalive: Option<u16>, theirs: u16| {
            let ours = |ours: &mut PeerSettings| {
                ours.hold_time = hold;
                ours.keepalive = keepalive;
            };
            let agreed = check(ours, |open| open.hold_time = theirs).expect("agreed");
            (agreed.hold_time.as_millis(), agreed.keepalive.as_millis())
        };
        assert_eq!(times(90, None, 9), (9_000, 3_000));
        assert_eq!(times(4, None, 90), (4_000, 1_333));
        assert_eq!(times(90, Some(10), 90), (90_000, 10_000));
        assert_eq!(
            times(90, Some(60), 90),
            (90_000, 30_000),
            "never above a third"
        );
        assert_eq!(times(90, Some(0), 90), (90_000, 1_000), "never a busy loop");
        assert_eq!(times(0, Some(10), 90), (0, 0));
        assert_eq!(times(90, None, 0), (0, 0));
        for bad in [1, 2] {
            assert_eq!(
                refused(check(|_| {}, |open| open.hold_time = bad)),
                (2, 6, vec![])
            );
        }
    }

    #[test]
    fn switches_must_be_on_at_both_ends() {
        let off = |ours: &mut PeerSettings| {
            ours.route_refresh = false;
            ours.extended_message = false;
        };
        let agreed = check(off, |_| {}).expect("agreed");
        assert!(!agreed.route_refresh && !agreed.enhanced_route_refresh);
        assert_eq!((agreed.max_send, agreed.max_receive), (4096, 4096));
        let sent = local_open(&{
            let mut ours = settings(65001, 65002, 1);
            off(&mut ours);
            ours
        });
        let codes: Vec<u8> = sent.capabilities.iter().map(Capability::code).collect();
        assert_eq!(codes, [1, 1, 65]);
    }
}

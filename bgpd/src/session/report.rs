//! What is known of a peer, at length.

use std::collections::BTreeMap;

use bgp_core::negotiation::Negotiated;
use bgp_wire::{Capability, Family, MAX_MESSAGE_LEN};
use roadbed_api::agent::{BgpPeer, BgpSession, ConnectionCounts, MessageCounts};

use super::Session;

impl Session {
    /// What an operator should not forget, in words.
    pub(super) fn warnings(&self) -> Vec<String> {
        let config = &self.config;
        let shutdown = config.shutdown.as_ref();
        let shutdown = shutdown.map(|words| format!("shut down by configuration: {words:?}"));
        let draining = config.relation.graceful_shutdown;
        let draining = draining.then(|| "gracefulShutdown: its routes are the last resort".into());
        let mut warnings: Vec<String> = shutdown.into_iter().chain(draining).collect();
        warnings.extend(self.counting.warnings());
        warnings
    }

    /// Without its prefix counts, which the RIB knows.
    pub(super) fn peer(&self) -> BgpPeer {
        let counters = self.fsm.counters();
        let messages = [
            ("OPEN", counters.opens_in, counters.opens_out),
            ("UPDATE", counters.updates_in, self.updates_sent),
            (
                "NOTIFICATION",
                counters.notifications_in,
                counters.notifications_out,
            ),
            ("KEEPALIVE", counters.keepalives_in, counters.keepalives_out),
            ("ROUTE-REFRESH", counters.refreshes_in, 0),
        ];
        let messages: BTreeMap<String, MessageCounts> = messages
            .into_iter()
            .map(|(name, received, sent)| (name.to_owned(), MessageCounts { received, sent }))
            .collect();
        BgpPeer {
            report: self.report(),
            session: self
                .fsm
                .session()
                .map(|(_, negotiated)| session(negotiated)),
            messages,
            connections: ConnectionCounts {
                dialled: counters.dialled,
                accepted: counters.accepted,
                refused: counters.refused,
                failed: counters.failed,
                collisions: counters.collisions,
                dropped: counters.dropped,
            },
            last_error_seconds: self.fsm.last_error().map(|e| e.at.elapsed().as_secs()),
        }
    }
}

fn session(negotiated: &Negotiated) -> BgpSession {
    BgpSession {
        keepalive_seconds: negotiated.keepalive.as_secs(),
        max_send: negotiated.max_send as u64,
        max_receive: negotiated.max_receive as u64,
        capabilities: in_force(negotiated),
        peer_capabilities: negotiated.peer_capabilities.iter().map(words).collect(),
    }
}

fn in_force(negotiated: &Negotiated) -> Vec<String> {
    let mut words: Vec<String> = negotiated
        .families
        .iter()
        .map(ToString::to_string)
        .collect();
    let mut add = |on: bool, what: &str| {
        if on {
            words.push(what.to_owned());
        }
    };
    add(negotiated.four_octet_as, "four-octet AS");
    add(negotiated.route_refresh, "route refresh");
    add(negotiated.enhanced_route_refresh, "enhanced route refresh");
    add(negotiated.max_send > MAX_MESSAGE_LEN, "extended messages");
    add(negotiated.extended_next_hop, "extended next hop");
    for (i, family) in Family::ALL.iter().enumerate() {
        add(
            negotiated.add_path_send[i],
            &format!("ADD-PATH send {family}"),
        );
        add(
            negotiated.add_path_receive[i],
            &format!("ADD-PATH receive {family}"),
        );
    }
    if let Some(role) = negotiated.peer_role {
        words.push(format!("role: the peer is our {}", role.name()));
    }
    words
}

fn words(capability: &Capability) -> String {
    let family = |afi: u16, safi: u8| match (afi, safi) {
        (1, 1) => Family::Ipv4Unicast.to_string(),
        (2, 1) => Family::Ipv6Unicast.to_string(),
        _ => format!("AFI {afi} SAFI {safi}"),
    };
    match capability {
        Capability::MultiProtocol { afi, safi } => format!("multiprotocol {}", family(*afi, *safi)),
        Capability::RouteRefresh => "route refresh".to_owned(),
        Capability::EnhancedRouteRefresh => "enhanced route refresh".to_owned(),
        Capability::ExtendedMessage => "extended messages".to_owned(),
        Capability::FourOctetAs(asn) => format!("four-octet AS {asn}"),
        Capability::ExtendedNextHop(_) => "extended next hop".to_owned(),
        Capability::GracefulRestart {
            restart_time,
            families,
            ..
        } => {
            let families: Vec<String> = families
                .iter()
                .map(|(afi, safi, _)| family(*afi, *safi))
                .collect();
            format!("graceful restart {restart_time} s {}", families.join(", "))
        }
        Capability::AddPath(families) => {
            let modes = families.iter().map(|(afi, safi, mode)| {
                let mode = match mode {
                    1 => "receive",
                    2 => "send",
                    3 => "both",
                    _ => "?",
                };
                format!("{} {mode}", family(*afi, *safi))
            });
            format!("ADD-PATH {}", modes.collect::<Vec<_>>().join(", "))
        }
        Capability::Role(role) => format!("role {role}"),
        Capability::Fqdn { host, domain } => match domain.is_empty() {
            true => format!("host name {host}"),
            false => format!("host name {host}.{domain}"),
        },
        Capability::Unknown { code, value } => {
            format!("capability {code} ({} octets)", value.len())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_have_words() {
        let check =
            |capability: Capability, expected: &str| assert_eq!(words(&capability), expected);
        check(
            Capability::MultiProtocol { afi: 2, safi: 1 },
            "multiprotocol ipv6-unicast",
        );
        check(
            Capability::MultiProtocol { afi: 25, safi: 70 },
            "multiprotocol AFI 25 SAFI 70",
        );
        check(
            Capability::AddPath(vec![(1, 1, 3), (2, 1, 1)]),
            "ADD-PATH ipv4-unicast both, ipv6-unicast receive",
        );
        check(
            Capability::Fqdn {
                host: "tor1".into(),
                domain: String::new(),
            },
            "host name tor1",
        );
        check(
            Capability::Unknown {
                code: 73,
                value: vec![0; 5],
            },
            "capability 73 (5 octets)",
        );
    }
}

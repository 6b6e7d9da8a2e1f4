//! Sessions and routes as the speaker knows them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use ipnet::IpNet;
use roadbed_api::agent::{
    BgpPeer, BgpRoute, BmpStationReport, NextHopReport, RouteAttributes, RouteOrigin,
};
use roadbed_api::kinds::AddressFamily;

use super::agent::{ESTABLISHED, origin};
use super::span;
use super::table::{Columns, clean, list, or_dash};

/// Which routes are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteSide {
    /// All of the RIB.
    All,
    /// Those of a peer, as received.
    Received,
    /// Those towards a peer, as sent.
    Advertised,
}

/// Sessions, one row each.
pub fn bgp_peers(peers: &[BgpPeer], wide: bool) -> String {
    let mut header = vec![
        "NAME",
        "ADDRESS",
        "AS",
        "STATE",
        "SINCE",
        "MSG IN/OUT",
        "IPV4 IN/OUT",
        "IPV6 IN/OUT",
    ];
    if wide {
        header.extend([
            "LOCAL AS",
            "ROUTER ID",
            "HOLD",
            "UPS",
            "ACCEPTED",
            "IN FORCE",
            "FAULTS",
            "LAST ERROR",
        ]);
    }
    let mut table = Columns::new(&header);
    for peer in peers {
        let report = &peer.report;
        let counts = |family: AddressFamily| {
            let counts = report.families.get(&family);
            or_dash(counts.map(|c| format!("{}/{}", c.received, c.advertised)))
        };
        let (received, sent) = peer
            .messages
            .values()
            .fold((0, 0), |(r, s), m| (r + m.received, s + m.sent));
        let mut row = vec![
            report.name.clone(),
            report.address.clone(),
            report.as_number.to_string(),
            report.state.clone(),
            span(report.state_seconds),
            format!("{received}/{sent}"),
            counts(AddressFamily::Ipv4Unicast),
            counts(AddressFamily::Ipv6Unicast),
        ];
        if wide {
            row.extend([
                report.local_as_number.to_string(),
                or_dash(report.peer_router_id),
                or_dash(report.hold_time_seconds.map(|s| format!("{s}s"))),
                report.established_count.to_string(),
                list(report.families.values().map(|c| c.accepted)),
                list(peer.session.iter().flat_map(|s| &s.capabilities)),
                report.update_faults.values().sum::<u64>().to_string(),
                or_dash(report.last_error.as_ref()),
            ]);
        }
        table.row(row);
    }
    table.text("No peers: this node speaks BGP with nobody (no BGPPeer selects it).")
}

/// BMP stations, one row each.
pub fn bmp_stations(stations: &[BmpStationReport], wide: bool) -> String {
    let mut header = vec![
        "NAME",
        "COLLECTOR",
        "MONITORS",
        "STATE",
        "SINCE",
        "MESSAGES",
    ];
    if wide {
        header.extend(["CONNECTIONS", "OCTETS", "LAST ERROR"]);
    }
    let mut table = Columns::new(&header);
    for station in stations {
        let mut row = vec![
            station.name.clone(),
            station.collector.clone(),
            station.route_monitoring.name().to_owned(),
            station.state.clone(),
            span(station.state_seconds),
            station.messages.to_string(),
        ];
        if wide {
            row.extend([
                station.connected_count.to_string(),
                station.octets.to_string(),
                or_dash(station.last_error.as_ref()),
            ]);
        }
        table.row(row);
    }
    table.text("No BMP stations: BGPConfig has none under bmp.")
}

/// One session, all of it.
pub fn bgp_peer(peer: &BgpPeer) -> String {
    let report = &peer.report;
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<16} {}", clean(&value));
    };
    line("Peer", report.name.clone());
    line("Address", report.address.clone());
    line(
        "AS",
        format!("{} (ours {})", report.as_number, report.local_as_number),
    );
    let since = span(report.state_seconds);
    line(
        "State",
        match report.state == ESTABLISHED {
            true => format!("{}, up {since}", report.state),
            false => format!("{}, for {since}", report.state),
        },
    );
    line("Established", format!("{} times", report.established_count));
    if let Some(error) = &report.last_error {
        let ago = peer
            .last_error_seconds
            .map(|s| format!(" ({} ago)", span(s)));
        line("Last error", format!("{error}{}", ago.unwrap_or_default()));
    }
    if let Some(id) = report.peer_router_id {
        line("Router ID", id.to_string());
    }
    if let Some(session) = &peer.session {
        let hold = or_dash(report.hold_time_seconds.map(|s| format!("{s}s")));
        let keepalive = session.keepalive_seconds;
        line("Timers", format!("hold {hold}, keepalive {keepalive}s"));
        let (receive, send) = (session.max_receive, session.max_send);
        line("Longest message", format!("{receive} in, {send} out"));
        line("In force", session.capabilities.join(", "));
        line("Peer offers", session.peer_capabilities.join(", "));
    }
    for (family, counts) in &report.families {
        let end_of_rib = match counts.end_of_rib {
            true => "End-of-RIB received",
            false => "no End-of-RIB yet",
        };
        line(
            &family.to_string(),
            format!(
                "{} received, {} accepted, {} advertised; {end_of_rib}",
                counts.received, counts.accepted, counts.advertised
            ),
        );
    }
    for warning in &report.warnings {
        line("Warning", warning.clone());
    }
    let c = &peer.connections;
    line(
        "Connections",
        format!(
            "{} dialled, {} accepted, {} refused, {} failed, {} in collision, {} sessions dropped",
            c.dialled, c.accepted, c.refused, c.failed, c.collisions, c.dropped
        ),
    );
    text.push('\n');
    let mut table = Columns::new(&["MESSAGES", "IN", "OUT"]);
    for (kind, counts) in &peer.messages {
        table.row([
            kind.clone(),
            counts.received.to_string(),
            counts.sent.to_string(),
        ]);
    }
    text.push_str(&table.text("No messages."));
    text.push('\n');
    text.push_str(&faults(&report.update_faults));
    text
}

/// By verdict of RFC 7606.
fn faults(faults: &BTreeMap<String, u64>) -> String {
    let mut table = Columns::new(&["UPDATE FAULTS", "COUNT", "WHAT"]);
    for (label, count) in faults {
        let (verdict, what) = label.split_once(": ").unwrap_or((label, ""));
        table.row([verdict.to_owned(), count.to_string(), what.to_owned()]);
    }
    table.text("No UPDATE faults (RFC 7606).")
}

/// Routes with why; `wide` adds the rest of what is known.
pub fn bgp_routes(routes: &[BgpRoute], side: RouteSide, wide: bool) -> String {
    let mut header = vec![
        "PREFIX",
        "FROM",
        "NEXT HOP",
        "AS PATH",
        "PREF",
        "MED",
        match side {
            RouteSide::All => "BEST",
            RouteSide::Received => "ACCEPTED",
            RouteSide::Advertised => "SENT",
        },
    ];
    let path_ids = routes.iter().any(|route| path_id(route, side) != 0);
    if path_ids {
        header.insert(2, "PATH ID");
    }
    if wide {
        header.extend(["ORIGIN", "COMMUNITIES", "NEXT HOP STATE", "AGE", "STALE"]);
    }
    header.push("WHY");
    let mut table = Columns::new(&header);
    let mut before: Option<IpNet> = None;
    for route in routes {
        // Further paths of a prefix stand below its best one.
        let prefix = match before == Some(route.prefix) {
            true => " ".to_owned(),
            false => route.prefix.to_string(),
        };
        before = Some(route.prefix);
        let shown = Shown::of(route, side);
        let attributes = shown.attributes;
        let path = &attributes.as_path;
        let mut row = vec![
            prefix,
            from(route),
            shown.next_hop,
            or_dash((!path.is_empty()).then_some(path)),
            or_dash(attributes.local_pref),
            or_dash(attributes.med),
            shown.answer.to_owned(),
        ];
        if path_ids {
            let id = path_id(route, side);
            row.insert(2, or_dash((id != 0).then_some(id)));
        }
        if wide {
            let communities = [
                &attributes.communities,
                &attributes.large_communities,
                &attributes.ext_communities,
            ];
            row.extend([
                attributes.origin.clone(),
                list(communities.into_iter().flatten()),
                next_hop_state(route.next_hop_state),
                span(route.age_seconds),
                if route.stale { "stale" } else { "-" }.to_owned(),
            ]);
        }
        row.push(shown.why);
        table.row(row);
    }
    table.text("No routes.")
}

/// As sent, where that is asked for, else as received; 0 without ADD-PATH.
fn path_id(route: &BgpRoute, side: RouteSide) -> u32 {
    match (side, &route.advertised) {
        (RouteSide::Advertised, Some(advertised)) => advertised.path_id,
        _ => route.path_id,
    }
}

/// What a row says, which depends on the side.
struct Shown<'a> {
    attributes: &'a RouteAttributes,
    next_hop: String,
    answer: &'static str,
    why: String,
}

fn yes_or_no(yes: bool) -> &'static str {
    if yes { "yes" } else { "no" }
}

impl<'a> Shown<'a> {
    fn of(route: &'a BgpRoute, side: RouteSide) -> Self {
        let own = || or_dash(route.next_hop.as_ref());
        match (side, &route.advertised) {
            (RouteSide::Advertised, Some(advertised)) => Shown {
                attributes: advertised.attributes.as_ref().unwrap_or(&route.attributes),
                next_hop: match (&advertised.attributes, &advertised.next_hop) {
                    (Some(_), None) => "self".to_owned(),
                    (Some(_), Some(next_hop)) => next_hop.clone(),
                    (None, _) => own(),
                },
                answer: yes_or_no(advertised.attributes.is_some()),
                why: advertised
                    .why_not
                    .clone()
                    .unwrap_or_else(|| route.why.clone()),
            },
            (RouteSide::Received, _) => Shown {
                attributes: match &route.received {
                    Some(received) => &received.attributes,
                    None => &route.attributes,
                },
                next_hop: match &route.received {
                    Some(received) => or_dash(received.next_hop.as_ref()),
                    None => own(),
                },
                answer: yes_or_no(route.rejected.is_none()),
                why: why(route),
            },
            _ => Shown {
                attributes: &route.attributes,
                next_hop: own(),
                answer: match route.multipath {
                    true => "ecmp",
                    false => yes_or_no(route.best),
                },
                why: why(route),
            },
        }
    }
}

fn why(route: &BgpRoute) -> String {
    match &route.rejected {
        Some(rejected) => format!("{} ({rejected})", route.why),
        None => route.why.clone(),
    }
}

/// The peer, or what kind of route of this node it is.
fn from(route: &BgpRoute) -> String {
    match (&route.peer, route.origin) {
        (Some(peer), RouteOrigin::Bgp) => peer.clone(),
        (_, kind) => format!("({})", origin(kind)),
    }
}

fn next_hop_state(state: NextHopReport) -> String {
    match state {
        NextHopReport::Own => "own".to_owned(),
        NextHopReport::Resolved { igp_cost } => format!("resolved, cost {igp_cost}"),
        NextHopReport::Unresolved => "UNRESOLVED".to_owned(),
        NextHopReport::Pending => "pending".to_owned(),
    }
}

#[cfg(test)]
mod tests;

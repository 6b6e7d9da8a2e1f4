//! One pod's interfaces, a block of lines each.

use std::fmt::Write as _;

use roadbed_api::agent::{AttachmentDetail, LinkReport, NeighbourReport, TrafficCounters};

use super::table::{clean, list, or_dash};

/// What the agent and the kernel say of these attachments.
pub fn pod(details: &[AttachmentDetail]) -> String {
    let blocks: Vec<String> = details.iter().map(block).collect();
    blocks.join("\n")
}

fn block(detail: &AttachmentDetail) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<11} {}", clean(&value));
    };
    let attachment = &detail.attachment;
    let key = &attachment.key;
    let name = attachment
        .pod
        .as_ref()
        .map(|pod| format!("{}/{}", pod.namespace, pod.name));
    line("Pod", or_dash(name));
    line(
        "Attachment",
        format!("{}/{}/{}", key.network, key.container_id, key.ifname),
    );
    line("Addresses", list(&attachment.addresses));
    line("Host end", end(detail.host.as_ref()));
    line("Pod end", end(detail.peer.as_ref()));
    line("Routes", list(&detail.routes));
    many(
        &mut line,
        "Neighbours",
        detail.neighbours.iter().map(neighbour),
    );
    line("From pod", traffic(detail.from_pod));
    line("To pod", traffic(detail.to_pod));
    many(&mut line, "Problems", detail.problems.iter().cloned());
    text
}

fn many(line: &mut impl FnMut(&str, String), name: &str, values: impl Iterator<Item = String>) {
    let mut values = values.peekable();
    if values.peek().is_none() {
        return line(name, "-".to_owned());
    }
    for (i, value) in values.enumerate() {
        line(if i == 0 { name } else { "" }, value);
    }
}

fn end(link: Option<&LinkReport>) -> String {
    let Some(link) = link else {
        return "MISSING".to_owned();
    };
    let state = match (link.up, link.running) {
        (true, true) => "up",
        (true, false) => "up, NO CARRIER",
        (false, _) => "DOWN",
    };
    format!(
        "{} (index {}), {}, MTU {}, {state}",
        link.name,
        link.ifindex,
        or_dash(link.mac.as_ref()),
        link.mtu
    )
}

fn neighbour(neighbour: &NeighbourReport) -> String {
    let kind = if neighbour.permanent {
        "permanent"
    } else {
        "learned"
    };
    format!(
        "{} at {}, {kind}",
        neighbour.address,
        or_dash(neighbour.mac.as_ref())
    )
}

fn traffic(counters: TrafficCounters) -> String {
    format!(
        "{} packets, {} octets, {} dropped, {} errors",
        counters.packets, counters.octets, counters.dropped, counters.errors
    )
}

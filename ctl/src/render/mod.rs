//! Reports and resources as text. Pure: what is shown and the time come in, a string goes out.

mod agent;
mod bgp;
mod pod;
mod resources;
mod table;

#[cfg(test)]
mod tests;

use serde::Serialize;

pub use agent::{IpamView, attachments, ipam, routes, status};
pub use bgp::{RouteSide, bgp_peer, bgp_peers, bgp_routes, bmp_stations};
pub use pod::pod;
pub use resources::{names, resources, resources_json, resources_yaml};

/// Pretty JSON with a newline at the end.
pub fn json<T: Serialize>(value: &T) -> String {
    match serde_json::to_string_pretty(value) {
        Ok(text) => text + "\n",
        Err(error) => format!("{{\"error\": {:?}}}\n", error.to_string()),
    }
}

/// YAML, in the order of the fields.
pub fn yaml<T: Serialize>(value: &T) -> String {
    // JSON is YAML too, for whatever the emitter might refuse.
    serde_saphyr::to_string(value).unwrap_or_else(|_| json(value))
}

/// A span of time with its two largest units: `9s`, `3m12s`, `5h04m`, `12d3h`.
pub fn span(seconds: u64) -> String {
    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    match seconds {
        0..MINUTE => format!("{seconds}s"),
        MINUTE..HOUR => format!("{}m{:02}s", seconds / MINUTE, seconds % MINUTE),
        HOUR..DAY => format!("{}h{:02}m", seconds / HOUR, seconds % HOUR / MINUTE),
        _ => format!("{}d{}h", seconds / DAY, seconds % DAY / HOUR),
    }
}

/// A number of blocks: powers of two beyond a billion as such, since nobody reads 23 digits.
fn slots(count: u128) -> String {
    match count {
        1_000_000_000.. if count.is_power_of_two() => format!("2^{}", count.ilog2()),
        _ => count.to_string(),
    }
}

//! The way of a packet: every hop of a traceroute, named.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::{owner, pod_named};
use crate::pod::Pod;
use crate::site::Site;

/// What a packet from rack 1 to rack 2 passes.
const ACROSS: [&str; 6] = ["n1", "tor1", "spine", "tor2", "n3", "n3-a"];

/// The trace from a pod of rack 1 to a pod of rack 2, both families.
///
/// # Errors
/// When a hop is missing or another one than the topology has.
pub fn across_racks(site: &Site, pods: &[Pod]) -> Result<String> {
    let from = pod_named(pods, "n1-a")?;
    let to = pod_named(pods, "n3-a")?;
    for v6 in [false, true] {
        let target = to.address(v6)?;
        // The kernel limits the rate of ICMP errors, so one may be missing.
        site.until(
            Duration::from_secs(10),
            "a whole trace across racks",
            || {
                let hops = trace(site, from, target)?;
                let names: Vec<String> = hops.iter().map(|hop| hop_name(*hop, pods)).collect();
                ensure!(
                    names == ACROSS,
                    "the way from {} to {target} is {}, expected {}",
                    from.name,
                    names.join(" → "),
                    ACROSS.join(" → ")
                );
                Ok(())
            },
        )?;
    }
    Ok(format!(
        "{} → {}, IPv4 and IPv6",
        from.name,
        ACROSS.join(" → ")
    ))
}

fn hop_name(hop: Option<IpAddr>, pods: &[Pod]) -> String {
    match hop {
        None => "*".to_owned(),
        Some(address) => owner(address, pods).unwrap_or_else(|| address.to_string()),
    }
}

/// Who answers on the way from a pod to an address; `None` for silence.
///
/// # Errors
/// When traceroute fails.
pub fn trace(site: &Site, from: &Pod, to: IpAddr) -> Result<Vec<Option<IpAddr>>> {
    let to = to.to_string();
    let text = from.exec(
        site,
        &["traceroute", "-n", "-q", "1", "-w", "2", "-m", "8", &to],
    )?;
    Ok(hops(&text))
}

fn hops(text: &str) -> Vec<Option<IpAddr>> {
    // The first line repeats the question; then ` 1  10.0.0.1  0.1 ms` or ` 2  *`.
    let words = |line: &str| line.split_whitespace().nth(1).map(|word| word.parse().ok());
    text.lines().skip(1).filter_map(words).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hops_of_a_trace() {
        let text = "traceroute to 10.0.0.9 (10.0.0.9), 8 hops max, 60 byte packets\n 1  10.0.0.1  0.034 ms\n 2  *\n 3  10.0.0.9  0.1 ms\n";
        let expected = [Some("10.0.0.1"), None, Some("10.0.0.9")];
        let expected: Vec<Option<IpAddr>> =
            expected.map(|a| a.map(|a| a.parse().unwrap())).to_vec();
        assert_eq!(hops(text), expected);
    }

    #[test]
    fn addresses_have_owners() {
        let owner_of = |address: &str| owner(address.parse().unwrap(), &[]);
        assert_eq!(owner_of("172.31.0.4").as_deref(), Some("tor1"));
        assert_eq!(owner_of("fd00:31:0:1::2").as_deref(), Some("tor2"));
        assert_eq!(owner_of("192.0.2.1"), None);
    }
}

//! What the OPENs and the ends of a connection make of what is configured.

use std::net::IpAddr;

use bgp_core::negotiation::Negotiated;
use bgp_core::rib::Relation;
use bgp_wire::NextHop;
use ipnet::IpNet;
use roadbed_fib::LocalLink;

/// Our own address as a next hop, per family: the session's own end, and the other family's address on its link. Who
/// shares our subnet gets the link-local address beside an IPv6 one (RFC 2545 §3). With `extended`, an IPv6 session carries IPv4 routes by way of its own end (RFC 8950).
pub(super) fn own_next_hops(
    (local, remote): (IpAddr, IpAddr),
    link: Option<&LocalLink>,
    extended: bool,
) -> [Option<NextHop>; 2] {
    let v4 = match local {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => link.and_then(|l| l.v4),
    };
    let v6 = match local {
        IpAddr::V6(address) if !address.is_unicast_link_local() => Some(address),
        _ => link.and_then(|l| l.v6_global),
    };
    // Of use to who is on the link, and only there.
    let link_local = link
        .filter(|link| {
            let subnet = IpNet::new(local, link.prefix_len);
            subnet.is_ok_and(|subnet| subnet.contains(&remote))
        })
        .and_then(|link| link.v6_link_local);
    let v6 = v6.map(|global| NextHop::V6 { global, link_local });
    let v4 = v4.map(NextHop::V4);
    [if extended && local.is_ipv6() { v6 } else { v4 }, v6]
}

/// What is configured of a peer, with what its OPEN says.
pub(super) fn with_negotiated(relation: Relation, negotiated: &Negotiated) -> Relation {
    Relation {
        role: negotiated.peer_role,
        enhanced_refresh: negotiated.enhanced_route_refresh,
        // A peer that knows our real AS has no part in it (`dualAs`).
        migration: relation
            .migration
            .filter(|migration| migration.real_as != negotiated.local_as),
        ..relation
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_next_hops() {
        let link = LocalLink {
            ifindex: 2,
            name: "eth0".into(),
            v4: Some([192, 0, 2, 1].into()),
            v6_global: Some("2001:db8::1".parse().unwrap()),
            v6_link_local: Some("fe80::1".parse().unwrap()),
            prefix_len: 64,
        };
        let bare = LocalLink {
            v4: None,
            v6_global: None,
            ..link.clone()
        };
        let check = |local: &str, link: &LocalLink, extended, expected: [Option<&str>; 2]| {
            let far = "2001:db8:9::2".parse().unwrap();
            let own = own_next_hops((local.parse().unwrap(), far), Some(link), extended);
            let own = own.map(|next_hop| next_hop.map(|next_hop| next_hop.to_string()));
            assert_eq!(own, expected.map(|e| e.map(str::to_owned)), "{local}");
        };
        let (v4, v6) = (Some("192.0.2.1"), Some("2001:db8::1"));
        check("192.0.2.1", &link, false, [v4, v6]);
        check("192.0.2.1", &link, true, [v4, v6]);
        check("192.0.2.1", &bare, true, [v4, None]);
        check("2001:db8::1", &link, false, [v4, v6]);
        check("2001:db8::1", &link, true, [v6, v6]);
        check("2001:db8::1", &bare, false, [None, v6]);
        check("2001:db8::1", &bare, true, [v6, v6]);
        check("fe80::1", &link, true, [v6, v6]);
    }

    #[test]
    fn who_is_told_the_link_local_address() {
        let check = |local: &str, remote: &str, prefix_len, expected| {
            let link = LocalLink {
                ifindex: 2,
                name: "eth0".into(),
                v4: Some([192, 0, 2, 1].into()),
                v6_global: Some("2001:db8::1".parse().unwrap()),
                v6_link_local: Some("fe80::1".parse().unwrap()),
                prefix_len,
            };
            let ends = (local.parse().unwrap(), remote.parse().unwrap());
            let [_, v6] = own_next_hops(ends, Some(&link), false);
            let lengths = v6.map(|next_hop| next_hop.octets().1);
            assert_eq!(lengths, Some(expected), "{local} {remote}/{prefix_len}");
        };
        check("2001:db8::1", "2001:db8::2", 64, 32);
        check("2001:db8::1", "2001:db8:0:1::2", 64, 16);
        check("2001:db8::1", "2001:db8::2", 128, 16);
        check("192.0.2.1", "192.0.2.2", 24, 32);
        check("192.0.2.1", "198.51.100.2", 24, 16);
    }
}

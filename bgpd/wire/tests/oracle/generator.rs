//! Valid messages, the same for the same seed.

use std::net::{Ipv4Addr, Ipv6Addr};

use bgp_wire::{
    AttributeEditor, Capability, DecodeContext, EncodeContext, EncodedUpdate, Family,
    LargeCommunity, NextHop, Nlri, Open, Origin, PathAttributes, encode_reach, encode_unreach,
};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// A small generator, so that a failure names a seed that reproduces it.
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub fn chance(&mut self) -> bool {
        self.below(2) == 0
    }

    pub fn word(&mut self) -> u32 {
        self.next() as u32
    }

    pub fn asn(&mut self) -> u32 {
        match self.below(3) {
            0 => 1 + self.below(65535) as u32,
            1 => 4_200_000_000 + self.below(1000) as u32,
            _ => self.word().max(1),
        }
    }

    pub fn some<T>(&mut self, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.chance().then(|| make(self))
    }

    pub fn many<T>(&mut self, most: u64, mut make: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.below(most + 1)).map(|_| make(self)).collect()
    }

    pub fn nlri(&mut self, family: Family, add_path: bool) -> Nlri {
        let prefix = match family {
            Family::Ipv4Unicast => {
                let len = self.below(33) as u8;
                IpNet::V4(Ipv4Net::new(Ipv4Addr::from(self.word()), len).unwrap())
            }
            Family::Ipv6Unicast => {
                let len = self.below(129) as u8;
                let bits = (u128::from(self.next()) << 64) | u128::from(self.next());
                IpNet::V6(Ipv6Net::new(Ipv6Addr::from(bits), len).unwrap())
            }
        };
        let path_id = if add_path { self.word() } else { 0 };
        Nlri::with_path_id(path_id, prefix)
    }

    pub fn attributes(&mut self) -> PathAttributes {
        let origins = [Origin::Igp, Origin::Egp, Origin::Incomplete];
        let mut editor = AttributeEditor::new(origins[self.below(3) as usize]);
        let most = if self.below(20) == 0 { 300 } else { 8 };
        editor
            .set_as_path_sequence(&self.many(most, Rng::asn))
            .set_med(self.some(Rng::word))
            .set_local_pref(self.some(Rng::word))
            .set_communities(&self.many(70, Rng::word))
            .set_originator_id(self.some(|r| Ipv4Addr::from(r.word())))
            .set_only_to_customer(self.some(Rng::asn));
        for id in self.many(3, Rng::word) {
            editor.prepend_cluster_id(id.into());
        }
        editor.build()
    }
}

/// One UPDATE's worth of routes of one family, announced or withdrawn, and the session that it is for.
pub fn updates(rng: &mut Rng) -> (DecodeContext, Vec<EncodedUpdate>) {
    let (wide, add_path) = (rng.chance(), rng.chance());
    let family = Family::ALL[rng.below(2) as usize];
    let mut editor = rng.attributes().edit();
    editor.set_aggregator(rng.some(|r| (r.asn(), Ipv4Addr::from(r.word()))));
    editor.set_atomic_aggregate(rng.chance());
    editor.set_ext_communities(&rng.many(5, |r| (0x0002_u64 << 48 | r.next() >> 16).to_be_bytes()));
    editor.set_large_communities(&rng.many(5, |r| LargeCommunity {
        global: r.word(),
        local1: r.word(),
        local2: r.word(),
    }));
    let nlri = rng.many(40, |r| r.nlri(family, add_path));
    let v6 = NextHop::V6 {
        global: Ipv6Addr::from(0x2001_0db8_u128 << 96 | u128::from(rng.next())),
        link_local: rng.some(|r| Ipv6Addr::from(0xfe80_u128 << 112 | u128::from(r.next()))),
    };
    let extended_next_hop = rng.chance();
    let next_hop = match family {
        Family::Ipv4Unicast if !extended_next_hop => {
            NextHop::V4(Ipv4Addr::from(0x0a00_0000 | rng.word() >> 8))
        }
        _ => v6,
    };
    let ctx = EncodeContext {
        four_octet_as: wide,
        add_path: [add_path; 2],
        max_len: 4096,
        extended_next_hop,
    };
    let mut messages = Vec::new();
    if rng.chance() {
        encode_reach(
            family,
            &editor.build(),
            &next_hop,
            &nlri,
            &ctx,
            &mut messages,
        )
        .unwrap();
    } else {
        encode_unreach(family, &nlri, &ctx, &mut messages);
    }
    let reader = DecodeContext {
        four_octet_as: wide,
        ebgp: false,
        add_path: [add_path; 2],
        families: [true; 2],
        extended_next_hop,
    };
    (reader, messages)
}

/// An OPEN with capabilities known and unknown.
pub fn open(rng: &mut Rng) -> Open {
    let my_as = rng.asn();
    // Now and then too much for one octet of length.
    let most = if rng.below(8) == 0 { 250 } else { 6 };
    let all = [
        Capability::MultiProtocol { afi: 1, safi: 1 },
        Capability::MultiProtocol { afi: 2, safi: 1 },
        Capability::RouteRefresh,
        Capability::EnhancedRouteRefresh,
        Capability::ExtendedMessage,
        Capability::ExtendedNextHop(vec![(1, 1, 2)]),
        Capability::AddPath(vec![(1, 1, 1 + rng.below(3) as u8), (2, 1, 3)]),
        Capability::GracefulRestart {
            flags: (rng.below(2) as u8) << 3,
            restart_time: rng.below(4096) as u16,
            families: vec![(1, 1, (rng.below(2) as u8) << 7), (2, 1, 0)],
        },
        Capability::Role(rng.below(5) as u8),
        Capability::Fqdn {
            host: "tor-1".into(),
            domain: "example.net".into(),
        },
        Capability::Unknown {
            code: 128 + rng.below(100) as u8,
            value: rng.many(most, |r| r.next() as u8),
        },
    ];
    let mut capabilities = vec![Capability::FourOctetAs(my_as)];
    capabilities.extend(all.into_iter().filter(|_| rng.chance()));
    Open {
        my_as,
        my_as_2octet: Open::two_octet(my_as),
        hold_time: 3 + rng.below(1000) as u16,
        bgp_id: Ipv4Addr::from(rng.word().max(1)),
        capabilities,
    }
}

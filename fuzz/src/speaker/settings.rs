//! Settings of a peer from a few octets.

use std::net::Ipv4Addr;

use bgp_core::fsm::{AddPath, PeerSettings, RemoteAs};
use bgp_core::negotiation::Role;
use bgp_wire::Family;

use crate::wire::Octets;

/// AS numbers that the settings and the recipes for OPENs are about.
pub(super) const ASNS: [u32; 3] = [65002, 65001, 4_200_000_001];

const HOLD_TIMES: [u16; 6] = [0, 3, 9, 90, 180, 65535];

/// Three octets. First: bits 0 and 1 the families, bit 2 their order, 3 refresh, 4 enhanced refresh, 5 extended
/// messages, 6 extended next hop, 7 a role. Second: bits 0 to 3 directions of ADD-PATH, 4 to 6 the role, 7 strict.
/// Third: Hold Time, then which AS the peer may be in, then ours.
pub(super) fn settings(u: &mut Octets<'_>) -> PeerSettings {
    let (first, second, third) = (u.octet(), u.octet(), u.octet());
    let bit = |octet: u8, n: u8| octet & (1 << n) != 0;
    let mut families = match first & 3 {
        2 => vec![Family::Ipv6Unicast],
        3 => vec![Family::Ipv4Unicast, Family::Ipv6Unicast],
        _ => vec![Family::Ipv4Unicast],
    };
    if bit(first, 2) {
        families.reverse();
    }
    let local_as = ASNS[usize::from(third / 18) % 3];
    let remote = match third / 6 % 3 {
        0 => RemoteAs::Asn(ASNS[usize::from(third / 54) % 3]),
        1 => RemoteAs::External,
        _ => RemoteAs::Internal,
    };
    let id = Ipv4Addr::new(10, 0, 0, 1);
    let mut settings = PeerSettings::new(local_as, remote, id, families);
    settings.hold_time = HOLD_TIMES[usize::from(third) % 6];
    settings.route_refresh = bit(first, 3);
    settings.enhanced_route_refresh = bit(first, 4);
    settings.extended_message = bit(first, 5);
    settings.extended_next_hop = bit(first, 6);
    settings.add_path = [0, 2].map(|n| AddPath {
        send: bit(second, n),
        receive: bit(second, n + 1),
    });
    settings.role = bit(first, 7).then(|| Role::ALL[usize::from(second >> 4 & 7) % 5]);
    settings.role_strict = bit(second, 7);
    settings
}

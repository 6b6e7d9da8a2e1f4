//! What a peer's spec says of several paths per prefix (RFC 7911).

use bgp_core::fsm::{AddPath, PeerSettings};
use bgp_core::rib::PathSelection;
use roadbed_api::kinds::{AddressFamily, BgpPeerSpec, SendPaths};

/// In the order of [`bgp_wire::Family::ALL`].
const FAMILIES: [AddressFamily; 2] = [AddressFamily::Ipv4Unicast, AddressFamily::Ipv6Unicast];

/// Puts it into what the OPEN says.
pub(super) fn offer(spec: &BgpPeerSpec, settings: &mut PeerSettings) {
    settings.add_path = FAMILIES.map(|family| {
        let wanted = spec.add_path.get(&family).copied().unwrap_or_default();
        AddPath {
            send: wanted.send != SendPaths::None,
            receive: wanted.receive,
        }
    });
}

/// Which paths the peer is sent, should it take several.
pub(super) fn selection(spec: &BgpPeerSpec) -> [PathSelection; 2] {
    FAMILIES.map(|family| match spec.add_path.get(&family).map(|a| a.send) {
        Some(SendPaths::Best(count)) => PathSelection::Best(count),
        Some(SendPaths::All | SendPaths::None) | None => PathSelection::All,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    const FILE: &str = r#"
        [bgp]
        asNumber = 65001
        routerId = "10.255.0.1"

        [peers.tor]
        address = "192.0.2.1"
        asNumber = 65101
    "#;

    fn settings(add_path: &str) -> ([AddPath; 2], [PathSelection; 2]) {
        let resolved = parse(&format!("{FILE}{add_path}"), "f").unwrap();
        let peer = &resolved.config.peers["tor"];
        (peer.settings.add_path, peer.relation.add_path)
    }

    #[test]
    fn each_family_and_direction_by_itself() {
        let off = AddPath::default();
        assert_eq!(settings("").0, [off; 2]);
        let (offer, selection) = settings(
            "addPath.ipv6-unicast = { receive = true }\naddPath.ipv4-unicast = { send = \"best-3\" }",
        );
        let (send, receive) = (true, true);
        assert_eq!(offer, [AddPath { send, ..off }, AddPath { receive, ..off }]);
        assert_eq!(selection[0], PathSelection::Best(3));
        let (offer, selection) =
            settings("addPath.ipv4-unicast = { receive = true, send = \"all\" }");
        assert_eq!(offer, [AddPath { send, receive }, off]);
        assert_eq!(selection[0], PathSelection::All);
    }

    #[test]
    fn wrong_files_name_the_field() {
        let check = |more: &str, expected: &str| {
            let error = parse(&format!("{FILE}{more}"), "f")
                .unwrap_err()
                .to_string();
            assert!(error.contains(expected), "{error}\nlacks {expected}");
        };
        check("addPath.ipv4-unicast = { send = \"best\" }", "best-N");
        check("addPath.ipv4-unicast = { tx = true }", "tx");
        check(
            "families = [\"ipv4-unicast\"]\naddPath.ipv6-unicast = { receive = true }",
            "peers.tor.addPath.ipv6-unicast: ipv6-unicast is not one of this peer's families",
        );
    }
}

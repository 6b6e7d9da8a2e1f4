//! A speaker's output to one peer, made for this peer alone: a RIB that is told what the speaker was told, with no other
//! peer to share a group with, no earlier event and no slow reader.

use super::speaker::{Speaker, hear, remember};
use super::*;

/// What the speaker has to send to a peer, as that one decodes it; their session must be up.
pub(super) fn output(speaker: &Speaker, to: usize, decode: &DecodeContext) -> Routes {
    let mut rib = Rib::new(RibConfig {
        assume_next_hops: true,
        ..speaker.rib.config.clone()
    });
    let mut out = Vec::new();
    let sessions = speaker
        .peers
        .iter()
        .filter_map(|(p, peer)| Some((p, peer.up.as_ref()?)));
    for (peer, up) in sessions.clone() {
        let mut told = up.told.clone();
        if *peer != to {
            told.next_hop_self = [None; 2];
        }
        rib.handle(0, Event::PeerUp(Box::new(told)), &mut out);
    }
    for (_, up) in sessions {
        for (&(prefix, path_id), route) in &up.heard {
            let update = FamilyUpdate {
                family: Family::of(&prefix),
                withdrawn: vec![],
                announced: vec![Nlri { path_id, prefix }],
                attributes: Some(route.clone()),
            };
            rib.handle(0, Event::Update(up.told.session, vec![update]), &mut out);
        }
    }
    let own = speaker.origins.iter();
    let own = own.map(|prefix| (*prefix, Some(RouteSource::Static.into())));
    rib.handle(0, Event::Local(T, own.collect()), &mut out);
    let session = speaker.up(to).expect("a session").told.session;
    rib.settle(0, Event::Permit(session, u32::MAX), &mut out);
    let mut routes = Routes::new();
    for output in out {
        if let Output::Send(_, message) = output {
            remember(&mut routes, &hear(&speaker.on_the_wire(&message), decode));
        }
    }
    routes
}

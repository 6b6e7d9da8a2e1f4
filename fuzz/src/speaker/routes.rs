//! What an UPDATE tells the RIB, and what a peer has been told: both as plain maps.

use std::collections::BTreeMap;

use bgp_core::rib::FamilyUpdate;
use bgp_wire::{
    DecodeContext, Family, NextHop, Nlri, PathAttributes, Update, Verdict, decode_update, frame,
};

/// Routes of one direction of a session.
pub(super) type Routes = BTreeMap<Nlri, (PathAttributes, NextHop)>;

/// The families of an UPDATE whose verdict lets the session live. The daemon's own translation also keeps out routes via
/// itself.
pub(super) fn translate(update: &Update<'_>) -> Vec<FamilyUpdate> {
    let usable = update.verdict != Verdict::TreatAsWithdraw;
    let mut families = Vec::new();
    let mut add =
        |family, withdrawn: Vec<Nlri>, announced: Vec<Nlri>, next_hop: Option<NextHop>| {
            let attributes = update.attributes.clone().filter(|_| usable).zip(next_hop);
            let mut out = FamilyUpdate {
                family,
                withdrawn,
                announced,
                attributes,
            };
            if out.attributes.is_none() || out.announced.is_empty() {
                out.withdrawn.append(&mut out.announced);
                out.attributes = None;
            }
            if !out.withdrawn.is_empty() || !out.announced.is_empty() {
                families.push(out);
            }
        };
    if let Some(unreach) = &update.mp_unreach {
        add(unreach.family(), unreach.iter().collect(), Vec::new(), None);
    }
    if let Some(reach) = &update.mp_reach {
        add(
            reach.family,
            Vec::new(),
            reach.nlri.iter().collect(),
            Some(reach.next_hop),
        );
    }
    add(
        Family::Ipv4Unicast,
        update.withdrawn.iter().collect(),
        update.announced.iter().collect(),
        update.next_hop.map(NextHop::V4),
    );
    families
}

/// Applies a message that we sent, as its receiver would.
pub(super) fn receive(routes: &mut Routes, message: &[u8], max_len: usize, ctx: &DecodeContext) {
    let found = frame(message, max_len)
        .expect("a valid header")
        .expect("a whole message");
    assert_eq!(found.len, message.len());
    let update = decode_update(found.body, ctx);
    assert_eq!(
        (&update.verdict, update.faults.len()),
        (&Verdict::Ok, 0),
        "{:?}",
        update.faults
    );
    for family in translate(&update) {
        for nlri in family.withdrawn {
            routes.remove(&nlri);
        }
        for nlri in family.announced {
            let attributes = family
                .attributes
                .clone()
                .expect("announced routes have attributes");
            routes.insert(nlri, attributes);
        }
    }
}

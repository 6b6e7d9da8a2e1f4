//! Next hops and whether they resolve (RFC 4271 §9.1.2.1). The tracker outside answers; an unresolved next hop
//! makes its paths ineligible, a resolved one brings the IGP cost of the tie-break.

use bgp_wire::NextHop;
use hashbrown::HashMap;

use super::ids::NextHopId;

/// What the tracker knows of a next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextHopState {
    /// Asked for, no answer yet. Ineligible, as Unresolved.
    Pending,
    /// A foreign route leads there.
    Resolved {
        /// Cost of that route; 0 when directly connected.
        igp_cost: u32,
    },
    /// No foreign route leads there.
    Unresolved,
}

struct Slot {
    next_hop: NextHop,
    state: NextHopState,
    refs: u32,
    /// The round of its last change of state.
    moved: u32,
    /// False: a policy named it for others to use; whether it resolves here does not matter.
    tracked: bool,
}

#[derive(Default)]
pub(crate) struct NextHopTable {
    slots: Vec<Option<Slot>>,
    free: Vec<NextHopId>,
    /// By next hop and whether it is tracked.
    index: HashMap<(NextHop, bool), NextHopId>,
    /// Changes of state since the last look at all paths belong to this round.
    round: u32,
}

impl NextHopTable {
    /// Takes id 0, [`NextHopId::SELF`], before any other is given out.
    pub(crate) fn reserve_self(&mut self) {
        debug_assert!(self.slots.is_empty(), "id 0 is reserved first");
        self.slots.push(Some(Slot {
            next_hop: NextHop::V4(std::net::Ipv4Addr::UNSPECIFIED),
            state: NextHopState::Resolved { igp_cost: 0 },
            refs: 1,
            moved: 0,
            tracked: false,
        }));
    }

    /// The id of this next hop with one reference added; the bool tells whether it is new and wants tracking.
    pub(crate) fn intern(&mut self, next_hop: NextHop, initial: NextHopState) -> (NextHopId, bool) {
        self.intern_as(next_hop, initial, true)
    }

    /// The id of a next hop that is only told to others, with one reference added.
    pub(crate) fn intern_untracked(&mut self, next_hop: NextHop) -> NextHopId {
        self.intern_as(next_hop, NextHopState::Resolved { igp_cost: 0 }, false)
            .0
    }

    fn intern_as(
        &mut self,
        next_hop: NextHop,
        initial: NextHopState,
        tracked: bool,
    ) -> (NextHopId, bool) {
        if let Some(&id) = self.index.get(&(next_hop, tracked)) {
            self.retain(id);
            return (id, false);
        }
        let slot = Slot {
            next_hop,
            state: initial,
            refs: 1,
            moved: 0,
            tracked,
        };
        let id = match self.free.pop() {
            Some(id) => {
                self.slots[id.index()] = Some(slot);
                id
            }
            None => {
                self.slots.push(Some(slot));
                NextHopId((self.slots.len() - 1) as u32)
            }
        };
        self.index.insert((next_hop, tracked), id);
        (id, true)
    }

    pub(crate) fn retain(&mut self, id: NextHopId) {
        if let Some(Some(slot)) = self.slots.get_mut(id.index()) {
            slot.refs += 1;
        }
    }

    /// Drops one reference; the next hop when that was the last and it is tracked, so that its tracking ends.
    #[must_use]
    pub(crate) fn release(&mut self, id: NextHopId) -> Option<NextHop> {
        let slot = self.slots.get_mut(id.index())?;
        let inner = slot.as_mut()?;
        inner.refs -= 1;
        if inner.refs > 0 {
            return None;
        }
        let (next_hop, tracked) = (inner.next_hop, inner.tracked);
        *slot = None;
        self.index.remove(&(next_hop, tracked));
        self.free.push(id);
        tracked.then_some(next_hop)
    }

    pub(crate) fn next_hop(&self, id: NextHopId) -> NextHop {
        self.slot(id).next_hop
    }

    pub(crate) fn state(&self, id: NextHopId) -> NextHopState {
        self.slot(id).state
    }

    /// Records the tracker's answer; whether it changed anything.
    pub(crate) fn set_state(&mut self, next_hop: &NextHop, state: NextHopState) -> bool {
        let Some(id) = self.index.get(&(*next_hop, true)) else {
            return false;
        };
        let Some(Some(slot)) = self.slots.get_mut(id.index()) else {
            return false;
        };
        let changed = slot.state != state;
        slot.state = state;
        if changed {
            slot.moved = self.round;
        }
        changed
    }

    /// A look at all paths begins.
    pub(crate) fn begin_round(&mut self) {
        self.round += 1;
    }

    /// Whether the state changed after the look before the one that is under way.
    pub(crate) fn has_moved(&self, id: NextHopId) -> bool {
        self.slot(id).moved + 1 >= self.round
    }

    fn slot(&self, id: NextHopId) -> &Slot {
        self.slots
            .get(id.index())
            .and_then(Option::as_ref)
            .expect("a NextHopId that is held has a slot")
    }

    #[cfg(test)]
    pub(crate) fn references(&self) -> std::collections::BTreeMap<NextHopId, u32> {
        (0u32..)
            .zip(&self.slots)
            .filter_map(|(i, slot)| Some((NextHopId(i), slot.as_ref()?.refs)))
            .collect()
    }
}

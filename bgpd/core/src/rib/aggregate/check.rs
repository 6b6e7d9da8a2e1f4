//! Aggregates, worked out again from scratch, for `Rib::check`.

use super::*;
use crate::rib::TableState;

impl Rib {
    /// Panics when sums, or what is announced, differ from what a scan of the table says.
    pub(in crate::rib) fn check_aggregates(&self, state: &TableState) {
        let aggregates = &state.aggregates;
        if aggregates.counting {
            return;
        }
        for slot in &aggregates.slots {
            let inside = state
                .table
                .iter()
                .filter(|entry| slot.prefix.contains(&entry.prefix) && slot.prefix != entry.prefix);
            let contributing: Vec<_> = inside.filter_map(Entry::best_path).collect();
            let sum: u32 = slot.sums.0.iter().sum();
            assert_eq!(sum as usize, contributing.len(), "of {}", slot.prefix);
            let own = state.table.iter().find(|e| e.prefix == slot.prefix);
            let own = own.and_then(|entry| {
                let mut paths = entry.paths.iter();
                paths.find(|p| p.peer == PeerId::LOCAL && p.path_id == path_id::AGGREGATE)
            });
            if !aggregates.stale.is_empty() {
                continue;
            }
            assert_eq!(own.is_some(), !contributing.is_empty(), "{}", slot.prefix);
            let Some(own) = own else { continue };
            let own = &self.attrs.get(own.attrs).attributes;
            let all = contributing
                .iter()
                .map(|p| &self.attrs.get(p.attrs).attributes);
            let origin = all.clone().map(|a| a.hot().origin as u8).max();
            assert_eq!(Some(own.hot().origin as u8), origin, "{}", slot.prefix);
            let dropped = |a: &bgp_wire::PathAttributes| {
                a.as_path().asns().next().is_some() || a.atomic_aggregate()
            };
            assert_eq!(own.atomic_aggregate(), all.clone().any(dropped));
            assert_eq!(
                own.aggregator(),
                Some((self.config.local_as, self.config.router_id))
            );
        }
    }
}

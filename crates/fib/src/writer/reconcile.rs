//! Carrying out plans: next-hop objects first, then routes, then what is not needed any more; every answer is read.

use std::collections::{BTreeMap, BTreeSet};

use super::Writer;
use crate::groups::NextHopOp;
use crate::netlink::{Answer, EEXIST, ENOENT, ESRCH, Refusal};
use crate::plan::{Believed, Conditions, Op, Plan};
use crate::route::RouteKey;

impl Writer {
    fn plan(&mut self, keys: &BTreeSet<RouteKey>, at_leisure: bool) -> Plan {
        let tracker = &self.tracker;
        let dead = |index| tracker.link(index).is_some_and(|link| !link.alive());
        let conditions = Conditions {
            dead: &dead,
            at_leisure,
        };
        self.ledger.plan(keys, conditions)
    }

    /// Brings keys to their desired state; returns how many routes the kernel wrote or deleted.
    pub(super) async fn reconcile(&mut self, keys: &BTreeSet<RouteKey>, at_leisure: bool) -> usize {
        let plan = self.plan(keys, at_leisure);
        let refused = self.write_next_hops(plan.next_hops).await;
        let mut ops = plan.routes;
        // Replacing would hit whichever route holds the key, so a foreign holder is looked for first.
        // The kernel has no conditional replace: one that took the key microseconds ago, unheard of yet, would be hit.
        ops.retain(|op| {
            let holder = match op {
                Op::Replace(_) => self.tracker.holder(&op.key()),
                Op::Add(_) | Op::Delete(_) => None,
            };
            let group = op.group().and_then(|id| refused.get(&id));
            let reason = match (holder, group) {
                (Some(protocol), _) => foreign_holder(Some(protocol)),
                (None, Some(reason)) => reason.clone(),
                (None, None) => return true,
            };
            self.ledger.done(op.clone(), Err(reason));
            false
        });
        let answers = self.netlink.write(&ops).await;
        let mut written = 0;
        let mut lost = false;
        let mut ours_after_all = BTreeSet::new();
        for (op, answer) in ops.into_iter().zip(answers) {
            lost |= answer.is_none();
            let (result, held_by_us) = self.judge(&op, answer).await;
            if held_by_us {
                self.ledger.believe(op.key(), Believed::Odd);
                ours_after_all.insert(op.key());
                continue;
            }
            written += usize::from(result.is_ok());
            // Retries repeat a refusal; only news is worth a line.
            if let Err(reason) = &result
                && self.ledger.failure(&op.key()) != Some(reason)
            {
                let key = op.key();
                tracing::warn!(prefix = %key.prefix, metric = key.metric, reason, "kernel refused a route");
            }
            self.ledger.done(op, result);
        }
        if lost {
            self.schedule_audit();
        }
        if !ours_after_all.is_empty() {
            written += self.second_attempt(&ours_after_all).await;
        }
        self.drop_next_hops().await;
        written
    }

    /// Replaces routes of ours that the shadow did not know of. What fails now waits for the audit.
    async fn second_attempt(&mut self, keys: &BTreeSet<RouteKey>) -> usize {
        let plan = self.plan(keys, false);
        self.write_next_hops(plan.next_hops).await;
        let answers = self.netlink.write(&plan.routes).await;
        let mut written = 0;
        for (op, answer) in plan.routes.into_iter().zip(answers) {
            let result = answer
                .unwrap_or_else(|| Err(no_answer()))
                .map_err(|refusal| refusal.reason);
            written += usize::from(result.is_ok());
            self.ledger.done(op, result);
        }
        written
    }

    /// Creates and changes next-hop objects; returns why ids cannot be used.
    async fn write_next_hops(&mut self, ops: Vec<NextHopOp>) -> BTreeMap<u32, String> {
        let mut refused = BTreeMap::new();
        let answers = self.netlink.write_next_hops(&ops).await;
        for (op, answer) in ops.into_iter().zip(answers) {
            let Err(refusal) = answer.unwrap_or_else(|| Err(no_answer())) else {
                continue;
            };
            // A group fails with its members, and they know why.
            let cause = op.needs().iter().find_map(|(id, _)| refused.get(id));
            let reason = cause.unwrap_or(&refusal.reason).clone();
            tracing::warn!(id = op.id(), reason, "kernel refused a next hop");
            self.ledger
                .next_hop_refused(&op, refusal.errno == EEXIST, &reason);
            refused.insert(op.id(), reason);
        }
        if !refused.is_empty() {
            self.schedule_audit();
        }
        refused
    }

    /// Deletes next-hop objects that nothing uses any more.
    async fn drop_next_hops(&mut self) {
        if self.resync {
            // Somebody's route may have come to use them; the audit that is due will know.
            return;
        }
        let tracker = &self.tracker;
        let ops = self
            .ledger
            .collect_next_hops(|id| tracker.uses_next_hop(id));
        let answers = self.netlink.write_next_hops(&ops).await;
        let gone = |answer: Answer| match answer {
            Some(Ok(())) => true,
            Some(Err(refusal)) => refusal.errno == ENOENT,
            None => false,
        };
        if !answers.into_iter().all(gone) {
            self.schedule_audit();
        }
    }

    /// Links lost or found their carrier: shares packets out over those that live.
    pub(super) async fn shift(&mut self) {
        for index in std::mem::take(&mut self.shifted) {
            if !self.tracker.link(index).is_some_and(|link| link.alive()) {
                self.ledger.link_lost(index);
            }
            let keys = self.ledger.shared_over(index);
            self.reconcile(&keys, false).await;
        }
    }

    /// The meaning of an answer, and whether the key turned out to be held by an unknown route of ours.
    async fn judge(&self, op: &Op, answer: Answer) -> (Result<(), String>, bool) {
        match answer {
            None => (Err(no_answer().reason), false),
            Some(Ok(())) => (Ok(()), false),
            Some(Err(refusal)) => match op {
                Op::Delete(_) if refusal.errno == ESRCH => (Ok(()), false),
                Op::Add(route) if refusal.errno == EEXIST => {
                    let key = route.key;
                    let holder = self.holder(&key).await;
                    (
                        Err(foreign_holder(holder)),
                        holder == Some(self.options.protocol),
                    )
                }
                _ => (Err(refusal.reason), false),
            },
        }
    }

    async fn holder(&self, key: &RouteKey) -> Option<u8> {
        if let Some(protocol) = self.tracker.holder(key) {
            return Some(protocol);
        }
        let found = self
            .netlink
            .lookup(key.prefix.network())
            .await
            .ok()
            .flatten()?;
        (found.key() == *key && found.table == self.options.table).then_some(found.protocol)
    }
}

fn no_answer() -> Refusal {
    Refusal {
        errno: 0,
        reason: "the kernel's answer was lost; the next audit will tell".into(),
    }
}

fn foreign_holder(protocol: Option<u8>) -> String {
    let name = match protocol {
        Some(2) => " (kernel)",
        Some(3) => " (boot)",
        Some(4) => " (static)",
        Some(9) => " (ra)",
        Some(11) => " (zebra)",
        Some(12) => " (bird)",
        Some(16) => " (dhcp)",
        Some(186) => " (bgp)",
        _ => "",
    };
    match protocol {
        Some(protocol) => format!(
            "a route of protocol {protocol}{name} holds this prefix and metric; it is not ours to replace"
        ),
        None => "a route without our mark holds this prefix and metric; it is not ours to replace"
            .into(),
    }
}

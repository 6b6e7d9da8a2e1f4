//! A container runtime with bad luck: it calls for one pod at a time in order, for many pods at once, and knows of each what
//! a runtime can know.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use roadbed_tests::pod::{Pod, addresses};
use roadbed_tests::site::Site;
use serde_json::{Value, json};

use crate::call::{Called, call};
use crate::{Dice, N1};

const PODS: usize = 64;
/// How long ADD waits for an agent that is away.
const WAIT_SECONDS: u64 = 20;
/// A killed plugin lives at most so long; one that is left alone takes about as long.
const LIFE_MICROS: u64 = 20_000;

/// What the runtime knows of a pod.
#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    /// DEL has succeeded, or nothing was ever tried.
    Absent,
    /// ADD has succeeded.
    Wired,
    /// A call was killed, or has failed, or the namespace was taken away.
    Unknown,
}

struct Slot {
    pod: Pod,
    state: State,
    has_netns: bool,
}

#[derive(Clone, Copy)]
enum Counted {
    Added,
    Deleted,
    Failed,
    Killed,
    Repeated,
    NamespaceGone,
}

pub(crate) struct Runtime<'a> {
    site: &'a Site,
    slots: Vec<Mutex<Slot>>,
    left: AtomicU64,
    /// Who was told that an address is theirs.
    held: Mutex<HashMap<IpAddr, String>>,
    counts: [AtomicU64; 6],
}

impl<'a> Runtime<'a> {
    /// A runtime that makes so many calls.
    pub(crate) fn new(site: &'a Site, calls: u64) -> Self {
        // The first namespace makes the directory of their names a mount; two at once would hide each other.
        let first = Pod::new(N1, "first");
        first.make(site).unwrap();
        first.unmake(site).unwrap();
        let slot = |i| {
            Mutex::new(Slot {
                pod: Pod::new(N1, &format!("c{i}")),
                state: State::Absent,
                has_netns: false,
            })
        };
        Self {
            site,
            slots: (0..PODS).map(slot).collect(),
            left: AtomicU64::new(calls),
            held: Mutex::default(),
            counts: Default::default(),
        }
    }

    /// Calls until there are no more calls to make.
    pub(crate) fn work(&self, mut dice: Dice) {
        let one = |left: u64| left.checked_sub(1);
        while self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one)
            .is_ok()
        {
            let mut slot = self.some_slot(&mut dice);
            match slot.state {
                State::Absent => self.add(&mut slot, &mut dice),
                State::Wired if dice.happens(10) => self.add_again(&mut slot),
                State::Wired if dice.happens(10) => self.lose_netns(&mut slot),
                State::Wired => self.del(&mut slot, &mut dice),
                State::Unknown if dice.happens(50) => self.add(&mut slot, &mut dice),
                State::Unknown => self.del(&mut slot, &mut dice),
            }
        }
    }

    /// A pod that nobody else is busy with.
    fn some_slot(&self, dice: &mut Dice) -> MutexGuard<'_, Slot> {
        loop {
            let at = dice.roll(PODS as u64) as usize;
            if let Ok(slot) = self.slots[at].try_lock() {
                return slot;
            }
        }
    }

    fn add(&self, slot: &mut Slot, dice: &mut Dice) {
        if !slot.has_netns {
            slot.pod.make(self.site).unwrap();
            slot.has_netns = true;
        }
        slot.state = State::Unknown;
        if let Some(result) = self.call(slot, "ADD", life(dice)) {
            slot.pod.addresses = addresses(&result).unwrap();
            self.hold(&slot.pod);
            slot.state = State::Wired;
            self.count(Counted::Added);
        }
    }

    /// A repeated ADD is answered as the first one was.
    fn add_again(&self, slot: &mut Slot) {
        match self.call(slot, "ADD", None) {
            Some(result) => {
                let again = addresses(&result).unwrap();
                assert_eq!(again, slot.pod.addresses, "{}", slot.pod.name);
                self.count(Counted::Repeated);
            }
            // The agent may have died over it.
            None => {
                self.let_go(&slot.pod);
                slot.state = State::Unknown;
            }
        }
    }

    fn del(&self, slot: &mut Slot, dice: &mut Dice) {
        // From now on somebody else may have them.
        self.let_go(&slot.pod);
        slot.state = State::Unknown;
        if self.call_del(slot, life(dice)) {
            slot.state = State::Absent;
            if slot.has_netns && dice.happens(50) {
                slot.pod.unmake(self.site).unwrap();
                slot.has_netns = false;
            }
        }
    }

    fn lose_netns(&self, slot: &mut Slot) {
        self.let_go(&slot.pod);
        slot.pod.unmake(self.site).unwrap();
        slot.has_netns = false;
        slot.state = State::Unknown;
        self.count(Counted::NamespaceGone);
    }

    fn call_del(&self, slot: &Slot, life: Option<Duration>) -> bool {
        let deleted = self.call(slot, "DEL", life).is_some();
        if deleted {
            self.count(Counted::Deleted);
        }
        deleted
    }

    /// The result, when it succeeds; `null` of a DEL.
    fn call(&self, slot: &Slot, command: &'static str, life: Option<Duration>) -> Option<Value> {
        let mut what = slot.pod.call(command);
        let mut network = roadbed_tests::pod::network();
        network["waitSeconds"] = json!(WAIT_SECONDS);
        what.stdin = network.to_string().into_bytes();
        if !slot.has_netns {
            what.netns = String::new();
        }
        match call(self.site, &what, life) {
            Called::Killed => {
                self.count(Counted::Killed);
                None
            }
            Called::Ended(run) if run.ok => Some(match command {
                "DEL" => Value::Null,
                _ => run.json().unwrap(),
            }),
            Called::Ended(run) => {
                // Whatever happens, an answer is one.
                let (code, message) = run.error().unwrap();
                println!("{command} of {}: error {code}: {message}", slot.pod.name);
                self.count(Counted::Failed);
                None
            }
        }
    }

    fn hold(&self, pod: &Pod) {
        let mut held = self.held.lock().unwrap();
        for address in &pod.addresses {
            let former = held.insert(*address, pod.name.clone());
            assert!(
                former.is_none(),
                "{address} was given to {}, and {former:?} has it",
                pod.name
            );
        }
    }

    fn let_go(&self, pod: &Pod) {
        let mut held = self.held.lock().unwrap();
        for address in &pod.addresses {
            if held.get(address) == Some(&pod.name) {
                held.remove(address);
            }
        }
    }

    /// Ends what is uncertain, with DEL; the pods that are wired.
    pub(crate) fn settle(&self) -> Vec<Pod> {
        let mut wired = Vec::new();
        for slot in &self.slots {
            let mut slot = slot.lock().unwrap();
            match slot.state {
                State::Absent => {}
                State::Wired => wired.push(slot.pod.clone()),
                State::Unknown => {
                    assert!(self.call_del(&slot, None), "DEL of {}", slot.pod.name);
                    slot.state = State::Absent;
                }
            }
        }
        wired
    }

    /// DEL of all that are wired.
    pub(crate) fn end(&self) {
        for slot in &self.slots {
            let mut slot = slot.lock().unwrap();
            if slot.state == State::Wired {
                assert!(self.call_del(&slot, None), "DEL of {}", slot.pod.name);
                slot.state = State::Absent;
            }
        }
    }

    fn count(&self, what: Counted) {
        self.counts[what as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// What happened, in numbers.
    pub(crate) fn tally(&self) -> String {
        let names = [
            "added",
            "deleted",
            "failed",
            "killed",
            "repeated",
            "namespaces gone",
        ];
        let counts = self
            .counts
            .iter()
            .map(|count| count.load(Ordering::Relaxed));
        let shown: Vec<String> = names
            .iter()
            .zip(counts)
            .map(|(name, count)| format!("{count} {name}"))
            .collect();
        shown.join(", ")
    }
}

/// One call in eight is killed.
fn life(dice: &mut Dice) -> Option<Duration> {
    (dice.roll(8) == 0).then(|| Duration::from_micros(dice.roll(LIFE_MICROS)))
}

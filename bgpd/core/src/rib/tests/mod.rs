//! A RIB with decoded views of what it sent: scenarios, and the property that group output equals per-peer output.

mod add_path;
mod leaving;
mod looking;
mod monitor;
mod multipath;
mod options;
mod property;
mod relations;
mod scenarios;
mod simulation;

use std::collections::{BTreeMap, BTreeSet};

use bgp_wire::{
    AttributeEditor, DecodeContext, EncodeContext, Family, MAX_EXTENDED_MESSAGE_LEN,
    MAX_MESSAGE_LEN, NextHop, Nlri, Origin, PathAttributes, decode_update, frame,
};
use ipnet::IpNet;

use super::best::{Ineligible, Step, Verdict};
use super::*;
use crate::policy::{Builtin, RouteSource};

const T: TableId = TableId(0);

fn encode() -> EncodeContext {
    EncodeContext {
        four_octet_as: true,
        add_path: [false; 2],
        max_len: MAX_MESSAGE_LEN,
        extended_next_hop: false,
    }
}

fn up(session: u64, remote_as: u32) -> PeerUp {
    PeerUp {
        session: SessionId(session),
        name: format!("p{session}").into(),
        table: T,
        remote_as,
        local_as: 65000,
        bgp_id: Ipv4Addr::from(session as u32),
        address: Ipv4Addr::from(0xc000_0200 + session as u32).into(),
        families: [true; 2],
        next_hop_self: [
            Some(NextHop::V4(Ipv4Addr::from(0x0a00_0000 + session as u32))),
            Some(NextHop::V6 {
                global: "2001:db8::1".parse().unwrap(),
                link_local: None,
            }),
        ],
        encode: encode(),
        import: Chain::new(&[Builtin::AcceptAll]),
        export: Chain::new(&[Builtin::AcceptAll]),
        relation: Default::default(),
    }
}

fn attributes(path: &[u32], med: Option<u32>) -> PathAttributes {
    let mut editor = AttributeEditor::new(Origin::Igp);
    editor.set_as_path_sequence(path).set_med(med);
    editor.build()
}

fn next_hop(n: u8) -> NextHop {
    NextHop::V4(Ipv4Addr::new(192, 0, 2, n))
}

fn prefix(n: u32) -> IpNet {
    format!("10.{}.{}.0/24", n / 256, n % 256).parse().unwrap()
}

/// By prefix and path identifier.
type Paths = BTreeMap<(IpNet, u32), (PathAttributes, NextHop)>;

/// A RIB with decoded views of what each session was sent.
struct Bench {
    rib: Rib,
    sent: BTreeMap<u64, BTreeMap<IpNet, (PathAttributes, NextHop)>>,
    /// The same, each path by itself.
    paths: BTreeMap<u64, Paths>,
    add_path: BTreeMap<u64, [bool; 2]>,
    end_of_rib: BTreeMap<u64, usize>,
    messages: BTreeMap<u64, usize>,
    fib: BTreeMap<IpNet, NextHop>,
    /// Refused where nothing more specific leads on.
    discarded: BTreeSet<IpNet>,
    /// All next hops last told.
    shared: BTreeMap<IpNet, Vec<Forward>>,
    tracked: BTreeMap<NextHop, ()>,
    now: u32,
}

impl Bench {
    fn new() -> Self {
        Self::with(false)
    }

    fn with(assume_next_hops: bool) -> Self {
        Self {
            rib: Rib::new(RibConfig {
                local_as: 65000,
                router_id: Ipv4Addr::new(10, 255, 0, 1),
                cluster_id: Ipv4Addr::new(10, 255, 0, 1),
                seed: 1,
                assume_next_hops,
            }),
            sent: BTreeMap::new(),
            paths: BTreeMap::new(),
            add_path: BTreeMap::new(),
            end_of_rib: BTreeMap::new(),
            messages: BTreeMap::new(),
            fib: BTreeMap::new(),
            discarded: BTreeSet::new(),
            shared: BTreeMap::new(),
            tracked: BTreeMap::new(),
            now: 1,
        }
    }

    fn event(&mut self, event: Event) {
        let mut out = Vec::new();
        self.note(&event);
        self.rib.settle(self.now, event, &mut out);
        for output in out {
            self.take(output);
        }
        self.rib.check();
    }

    /// Remembers how a session is to be read.
    fn note(&mut self, event: &Event) {
        if let Event::PeerUp(up) = event {
            self.add_path.insert(up.session.0, up.encode.add_path);
        }
    }

    fn take(&mut self, output: Output) {
        match output {
            Output::Send(session, message) => self.receive(session.0, &message),
            Output::Fib(change) => {
                match change.discard {
                    true => self.discarded.insert(change.prefix),
                    false => self.discarded.remove(&change.prefix),
                };
                match change.next_hops.first() {
                    Some(best) => self.fib.insert(change.prefix, best.next_hop),
                    None => self.fib.remove(&change.prefix),
                };
                self.shared.insert(change.prefix, change.next_hops.to_vec());
            }
            Output::Track(next_hop) => {
                assert_eq!(self.tracked.insert(next_hop, ()), None, "tracked twice")
            }
            Output::Untrack(next_hop) => {
                assert!(self.tracked.remove(&next_hop).is_some(), "untracked twice")
            }
        }
    }

    fn receive(&mut self, session: u64, message: &OutMessage) {
        let context = DecodeContext {
            four_octet_as: true,
            ebgp: false,
            add_path: self.add_path.get(&session).copied().unwrap_or_default(),
            families: [true; 2],
            extended_next_hop: true,
        };
        *self.messages.entry(session).or_default() += 1;
        let mut bytes = message.bytes.to_vec();
        if let Some((at, len)) = message.next_hop_at {
            bytes[at..at + len].fill(7);
        }
        let found = frame(&bytes, MAX_EXTENDED_MESSAGE_LEN).unwrap().unwrap();
        assert_eq!(found.len, bytes.len());
        let update = decode_update(found.body, &context);
        assert_eq!(update.faults.len(), 0, "{:?}", update.faults);
        if update.end_of_rib().is_some() {
            *self.end_of_rib.entry(session).or_default() += 1;
            return;
        }
        let view = self.sent.entry(session).or_default();
        let paths = self.paths.entry(session).or_default();
        let withdrawn = update
            .withdrawn
            .iter()
            .chain(update.mp_unreach.iter().flat_map(|n| n.iter()));
        for nlri in withdrawn {
            view.remove(&nlri.prefix);
            paths.remove(&(nlri.prefix, nlri.path_id));
        }
        if let Some(attributes) = update.attributes {
            let mp = update.mp_reach.map(|mp| (mp.next_hop, mp.nlri));
            let v4 = update.next_hop.map(|n| (NextHop::V4(n), update.announced));
            for (next_hop, nlri) in mp.into_iter().chain(v4) {
                for nlri in nlri.iter() {
                    let route = (attributes.clone(), next_hop);
                    view.insert(nlri.prefix, route.clone());
                    paths.insert((nlri.prefix, nlri.path_id), route);
                }
            }
        }
    }

    fn up(&mut self, up: PeerUp) {
        let session = up.session;
        self.event(Event::PeerUp(Box::new(up)));
        self.event(Event::Permit(session, u32::MAX));
    }

    fn announce(
        &mut self,
        session: u64,
        prefixes: &[IpNet],
        attributes: &PathAttributes,
        next_hop: NextHop,
    ) {
        self.event(Event::Update(
            SessionId(session),
            vec![FamilyUpdate {
                family: Family::of(&prefixes[0]),
                withdrawn: vec![],
                announced: prefixes
                    .iter()
                    .map(|p| Nlri {
                        path_id: 0,
                        prefix: *p,
                    })
                    .collect(),
                attributes: Some((attributes.clone(), next_hop)),
            }],
        ));
    }

    fn withdraw(&mut self, session: u64, prefixes: &[IpNet]) {
        self.event(Event::Update(
            SessionId(session),
            vec![FamilyUpdate {
                family: Family::of(&prefixes[0]),
                withdrawn: prefixes
                    .iter()
                    .map(|p| Nlri {
                        path_id: 0,
                        prefix: *p,
                    })
                    .collect(),
                announced: vec![],
                attributes: None,
            }],
        ));
    }

    fn resolve(&mut self, next_hop: NextHop, igp_cost: u32) {
        self.event(Event::NextHops(vec![(
            next_hop,
            NextHopState::Resolved { igp_cost },
        )]));
    }

    fn has(&self, session: u64, prefix: &IpNet) -> bool {
        self.sent
            .get(&session)
            .is_some_and(|v| v.contains_key(prefix))
    }
}

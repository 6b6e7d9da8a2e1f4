//! What a seed decides beforehand: who speaks to whom, and what happens to them.

use super::*;

/// Prefixes that speakers originate; the upper half is IPv6.
pub(super) const PREFIXES: u32 = 16;

pub(super) fn net(n: u32) -> IpNet {
    match n {
        0..8 => prefix(n),
        _ => format!("2001:db8:{n:x}::/48").parse().unwrap(),
    }
}

/// Sites, each an AS of its own, whose speakers know each other by iBGP; eBGP between them.
pub(super) struct Topology {
    /// The AS of each speaker.
    pub(super) asn: Vec<u32>,
    /// Speakers with next hop self towards iBGP.
    pub(super) next_hop_self: Vec<bool>,
    pub(super) links: Vec<Link>,
    /// Whether links may have ADD-PATH.
    add_path: bool,
}

/// Two speakers with a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) ends: [usize; 2],
    /// The second end is a client of the first (RFC 4456).
    pub(super) reflects: bool,
    /// The first end never dials.
    pub(super) passive: bool,
    /// Without it, IPv4 alone is negotiated.
    pub(super) v6: bool,
    /// Both ends send each other so many paths of a prefix (RFC 7911).
    pub(super) add_path: Option<u8>,
}

impl Topology {
    pub(super) fn speakers(&self) -> usize {
        self.asn.len()
    }

    pub(super) fn is_ibgp(&self, a: usize, b: usize) -> bool {
        self.asn[a] == self.asn[b]
    }

    pub(super) fn has_ibgp(&self) -> bool {
        self.links
            .iter()
            .any(|l| self.is_ibgp(l.ends[0], l.ends[1]))
    }

    pub(super) fn has_add_path(&self) -> bool {
        self.links.iter().any(|l| l.add_path.is_some())
    }

    pub(super) fn has_reflectors(&self) -> bool {
        self.links.iter().any(|l| l.reflects)
    }

    /// The links of a speaker, with who is at the other end.
    pub(super) fn links_of(&self, at: usize) -> impl Iterator<Item = (&Link, usize)> {
        self.links.iter().filter_map(move |link| match link.ends {
            [a, b] if a == at => Some((link, b)),
            [a, b] if b == at => Some((link, a)),
            _ => None,
        })
    }

    fn draw(dice: &mut Dice) -> Self {
        let speakers = match dice.below(20) {
            0 => 50,
            1 => 20 + dice.index(30),
            2..=4 => 8 + dice.index(12),
            _ => 2 + dice.index(6),
        };
        let mut sites: Vec<Vec<usize>> = Vec::new();
        let mut next = 0;
        while next < speakers {
            let size = match dice.below(3) {
                0 => 2 + dice.index(if speakers < 20 { 4 } else { 9 }),
                _ => 1,
            };
            let end = (next + size).min(speakers);
            sites.push((next..end).collect());
            next = end;
        }
        let mut topology = Self {
            asn: Vec::new(),
            next_hop_self: Vec::new(),
            links: Vec::new(),
            add_path: dice.one_in(3),
        };
        for (asn, site) in (65001..).zip(&sites) {
            let next_hop_self = dice.one_in(2);
            topology.asn.extend(site.iter().map(|_| asn));
            topology
                .next_hop_self
                .extend(site.iter().map(|_| next_hop_self));
            topology.inside(site, dice);
        }
        // A tree of sites, and some links more.
        let mut between: BTreeSet<(usize, usize)> =
            (1..sites.len()).map(|to| (dice.index(to), to)).collect();
        for _ in 0..dice.below(sites.len() as u64) {
            let (a, b) = (dice.index(sites.len()), dice.index(sites.len()));
            if a != b {
                between.insert((a.min(b), a.max(b)));
            }
        }
        for (a, b) in between {
            let ends = [dice.pick(&sites[a]), dice.pick(&sites[b])];
            topology.link(ends, false, dice);
        }
        topology
    }

    /// Reflectors and their clients, or each to each, or a ring in which each is the client of the one before, and one
    /// more a client of the first: nothing but CLUSTER_LIST keeps its routes from going round for ever.
    fn inside(&mut self, site: &[usize], dice: &mut Dice) {
        if let [ring @ .., leaf] = site
            && ring.len() > 2
            && dice.one_in(3)
        {
            for (i, reflector) in ring.iter().enumerate() {
                let client = ring[(i + 1) % ring.len()];
                self.link([*reflector, client], true, dice);
            }
            self.link([ring[0], *leaf], true, dice);
            return;
        }
        let reflectors = match site.len() {
            0..3 => site.len(),
            _ if dice.one_in(3) => site.len(),
            len => 1 + dice.index(2.min(len - 1)),
        };
        let (reflectors, clients) = site.split_at(reflectors);
        for (i, a) in reflectors.iter().enumerate() {
            for b in &reflectors[i + 1..] {
                self.link([*a, *b], false, dice);
            }
        }
        for client in clients {
            let only = dice.one_in(4).then(|| dice.pick(reflectors));
            for reflector in reflectors {
                if only.is_none_or(|only| only == *reflector) {
                    self.link([*reflector, *client], true, dice);
                }
            }
        }
    }

    fn link(&mut self, ends: [usize; 2], reflects: bool, dice: &mut Dice) {
        self.links.push(Link {
            ends,
            reflects,
            passive: dice.one_in(4),
            v6: !dice.one_in(4),
            add_path: (self.add_path && dice.one_in(3)).then(|| 2 + dice.below(2) as u8),
        });
    }
}

/// What a speaker lets pass, of [`net`]s by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Policy {
    All,
    /// Not each third one.
    Reject,
    /// Each third one with a longer AS_PATH. For export to eBGP.
    Prepend,
    /// What it originates itself. For export.
    Own,
}

impl Policy {
    pub(super) const PREPENDED: usize = 2;

    pub(super) fn passes(self, prefix: &IpNet, own: bool) -> bool {
        match self {
            Policy::All | Policy::Prepend => true,
            Policy::Reject => !is_third(prefix),
            Policy::Own => own,
        }
    }

    pub(super) fn prepends(self, prefix: &IpNet) -> usize {
        match self {
            Policy::Prepend if is_third(prefix) => Self::PREPENDED,
            _ => 0,
        }
    }

    pub(super) fn chain(self) -> Chain {
        let thirds = (0..PREFIXES).step_by(3).map(net);
        let matched = serde_json::json!({"prefixes":
            thirds.map(|p| serde_json::json!({"prefix": p})).collect::<Vec<_>>()});
        let rule = match self {
            Policy::All => return Chain::new(&[Builtin::AcceptAll]),
            Policy::Own => return Chain::new(&[Builtin::Default]),
            Policy::Reject => serde_json::json!({"match": matched, "action": "reject"}),
            Policy::Prepend => serde_json::json!({"match": matched,
                "set": {"prependAs": {"count": Self::PREPENDED}}, "action": "accept"}),
        };
        relations::policy(serde_json::json!({"rules": [rule], "defaultAction": "accept"}))
    }
}

fn is_third(prefix: &IpNet) -> bool {
    (0..PREFIXES).step_by(3).any(|n| net(n) == *prefix)
}

/// How a speaker goes away.
#[derive(Clone, Copy, Debug)]
pub(super) enum Goodbye {
    /// Its connections are closed.
    Closes,
    /// Half-open: who sends on an old connection is answered with a reset.
    Resets,
    /// Half-open: what is sent on an old connection vanishes.
    Nothing,
}

/// One thing that happens.
#[derive(Clone, Copy, Debug)]
pub(super) enum Action {
    Wait(u64),
    /// A prefix is originated, or no longer.
    Toggle(usize, u32),
    /// The same many times, without pause.
    Churn(usize),
    /// The connections of a link are reset.
    Reset(usize),
    /// Nothing gets through in these directions, and nobody is told.
    Cut(usize, [bool; 2]),
    /// Speakers below this one from those above.
    Partition(usize),
    /// What was held back comes through: a cut that TCP outlived.
    Heal(usize),
    /// What was held back is lost and its connections are reset.
    HealWithReset(usize),
    Restart(usize, Goodbye),
    /// One end asks the other for all again (RFC 2918).
    Refresh(usize, bool),
    /// One end loses the next UPDATE of the other and asks for all again: only a sweep (RFC 7313) takes away what that
    /// one withdrew.
    Lose(usize, bool),
    /// One end's import and export.
    Policies(usize, bool, Policy, Policy),
    /// One end's Hold Time, which resets the session.
    Settings(usize, bool),
    /// All next hops of a speaker are lost for a while.
    NextHops(usize),
}

pub(super) const KINDS: [&str; 14] = [
    "Wait",
    "Toggle",
    "Churn",
    "Reset",
    "Cut",
    "Partition",
    "Heal",
    "HealWithReset",
    "Restart",
    "Refresh",
    "Lose",
    "Policies",
    "Settings",
    "NextHops",
];

impl Action {
    pub(super) fn kind(self) -> &'static str {
        let debug = format!("{self:?}");
        let end = debug.find('(').unwrap_or(debug.len());
        KINDS
            .into_iter()
            .find(|kind| *kind == &debug[..end])
            .unwrap_or("")
    }

    fn draw(topology: &Topology, dice: &mut Dice) -> Vec<Self> {
        let (at, link) = (
            dice.index(topology.speakers()),
            dice.index(topology.links.len()),
        );
        let first = dice.one_in(2);
        vec![match dice.below(36) {
            0 | 1 => Action::Reset(link),
            2 | 3 => Action::Cut(link, [true, true]),
            4 | 5 => Action::Cut(link, [first, !first]),
            6 => Action::Partition(at),
            7 | 8 => Action::Heal(link),
            9 => Action::HealWithReset(link),
            10 => Action::Restart(at, Goodbye::Closes),
            11 => Action::Restart(at, Goodbye::Resets),
            12 => Action::Restart(at, Goodbye::Nothing),
            13 => Action::Refresh(link, first),
            14 | 15 => Action::Lose(link, first),
            16 | 17 => {
                let [a, b] = topology.links[link].ends;
                let exports = match topology.is_ibgp(a, b) {
                    true => vec![Policy::All, Policy::Reject, Policy::Own],
                    false => vec![Policy::All, Policy::Reject, Policy::Own, Policy::Prepend],
                };
                let import = dice.pick(&[Policy::All, Policy::Reject]);
                Action::Policies(link, first, import, dice.pick(&exports))
            }
            18 => Action::Settings(link, first),
            19 => Action::NextHops(at),
            // A hold time and more, now and then.
            20 => Action::Wait(dice.below(15_000)),
            21..=25 => Action::Wait(dice.below(1_500)),
            // A peer that reads nothing for a while, and is left behind.
            26 | 27 => {
                let from = topology.links[link].ends[usize::from(!first)];
                return vec![
                    Action::Cut(link, [first, !first]),
                    Action::Churn(from),
                    Action::Wait(dice.below(3_000)),
                    Action::Heal(link),
                ];
            }
            _ => Action::Toggle(at, dice.below(PREFIXES.into()) as u32),
        }]
    }
}

pub(super) struct Plan {
    pub(super) topology: Topology,
    pub(super) actions: Vec<Action>,
}

impl Plan {
    pub(super) fn draw(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let topology = Topology::draw(&mut dice);
        let mut actions: Vec<Action> = (0..8)
            .map(|_| {
                let at = dice.index(topology.speakers());
                Action::Toggle(at, dice.below(PREFIXES.into()) as u32)
            })
            .collect();
        actions.push(Action::Wait(dice.below(8_000)));
        actions.extend((0..60).flat_map(|_| Action::draw(&topology, &mut dice)));
        Self { topology, actions }
    }
}

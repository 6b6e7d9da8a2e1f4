//! The cases: what is announced and withdrawn when, what everybody must then have, and one run of it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::daemon::{Daemon, Kind, Place, Usage};
use crate::null::Null;
use crate::scene::Scene;
use crate::session::{Load, Peers};
use crate::workload::{Shape, Workload};

/// For all sessions to come up, or for one part.
const LIMIT: Duration = Duration::from_secs(60);
/// Bytes up to which small pieces of what the null daemon writes are joined.
const JOINED: usize = 128 << 10;
/// Rounds of the flap.
const ROUNDS: usize = 10;

/// Rows of the result, in order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Metric {
    Single,
    Distinct,
    Overlap,
    Withdraw,
    Flap,
    Reflector,
}

impl Metric {
    pub(crate) const ALL: [Metric; 6] = [
        Metric::Single,
        Metric::Distinct,
        Metric::Overlap,
        Metric::Withdraw,
        Metric::Flap,
        Metric::Reflector,
    ];

    /// The number that `--row` takes.
    pub(crate) fn row(self) -> u8 {
        match self {
            Metric::Single => 1,
            Metric::Distinct => 2,
            Metric::Overlap => 3,
            Metric::Withdraw | Metric::Flap => 4,
            Metric::Reflector => 5,
        }
    }
}

/// Sizes of all cases.
#[derive(Clone, Debug)]
pub(crate) struct Sizes {
    pub(crate) single: usize,
    /// Peers, and prefixes of each.
    pub(crate) distinct: (usize, usize),
    /// Peers, and prefixes that each of them announces.
    pub(crate) overlap: (usize, usize),
    /// Clients, and prefixes of each, which share their attributes.
    pub(crate) reflector: (usize, usize),
    pub(crate) per_set: usize,
}

/// One thing that happens in a run, and what it is part of the time of.
struct Part {
    metric: Option<Metric>,
    load: Load,
    /// What an ideal daemon would then send.
    passed_on: Load,
    wanted: Vec<u16>,
    /// Wait until nothing comes any more, check again, measure memory.
    settle: bool,
}

/// A run, prepared: one daemon's life from its first session to its last part.
pub(crate) struct Case {
    pub(crate) workload: Arc<Workload>,
    parts: Vec<Part>,
}

/// What was measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) metric: Metric,
    pub(crate) seconds: f64,
    /// Of a real daemon: memory so far, processor time of this metric alone.
    pub(crate) usage: Option<Usage>,
}

impl Case {
    /// The cases that `rows` need.
    pub(crate) fn all(sizes: &Sizes, rows: &[u8]) -> Vec<(Workload, Vec<u8>)> {
        let wanted = |row: &u8| rows.is_empty() || rows.contains(row);
        let workload = |shape, peers, prefixes, per_set| Workload {
            shape,
            peers,
            prefixes,
            per_set,
        };
        let (distinct, overlap, reflector) = (sizes.distinct, sizes.overlap, sizes.reflector);
        let n = sizes.per_set;
        [
            (workload(Shape::Single, 2, sizes.single, n), vec![1, 4]),
            (
                workload(Shape::Distinct, distinct.0, distinct.0 * distinct.1, n),
                vec![2],
            ),
            (workload(Shape::Overlap, overlap.0, overlap.1, n), vec![3]),
            (
                workload(
                    Shape::Reflector,
                    reflector.0,
                    reflector.0 * reflector.1,
                    reflector.1,
                ),
                vec![5],
            ),
        ]
        .into_iter()
        .map(|(workload, rows)| {
            (
                workload,
                rows.into_iter().filter(wanted).collect::<Vec<_>>(),
            )
        })
        .filter(|(_, rows)| !rows.is_empty())
        .collect()
    }

    pub(crate) fn prepare(workload: Workload, rows: &[u8]) -> Result<Self> {
        workload.check()?;
        let metric = match workload.shape {
            Shape::Single => Metric::Single,
            Shape::Distinct => Metric::Distinct,
            Shape::Overlap => Metric::Overlap,
            Shape::Reflector => Metric::Reflector,
        };
        let all = |_: usize| true;
        let first = rows.contains(&metric.row()).then_some(metric);
        let mut parts = vec![announce(&workload, first, &all, &all, true)?];
        if rows.contains(&Metric::Withdraw.row()) {
            parts.push(withdraw(&workload, Metric::Withdraw, &all, true));
            parts.push(announce(&workload, None, &all, &all, true)?);
            for round in 0..ROUNDS {
                let flapping = move |set: usize| set % ROUNDS == round;
                parts.push(withdraw(&workload, Metric::Flap, &flapping, false));
                let flap = Some(Metric::Flap);
                parts.push(announce(&workload, flap, &flapping, &all, false)?);
            }
        }
        Ok(Self {
            workload: Arc::new(workload),
            parts,
        })
    }

    /// One run with a daemon.
    pub(crate) fn run(&self, kind: Kind, place: &Place) -> Result<Vec<Sample>> {
        let scene = Scene::new(self.workload.peers)?;
        let daemon = Daemon::start(kind, &scene, &self.workload, place)?;
        self.play(&scene, Some(&daemon))
            .with_context(|| daemon.log_tail())
    }

    /// One run without.
    pub(crate) fn run_null(&self) -> Result<Vec<Sample>> {
        let scene = Scene::new(self.workload.peers)?;
        let mut before = 0;
        let mut parts = Vec::new();
        for part in &self.parts {
            parts.push((before, part.passed_on.clone()));
            let bytes = part.load.iter().flatten().map(|piece| piece.len());
            before += bytes.sum::<usize>();
        }
        let null = Null::start(&scene, &self.workload, parts)?;
        let result = self.play(&scene, None);
        let stopped = null.stop();
        let samples = result?;
        stopped?;
        Ok(samples)
    }

    fn play(&self, scene: &Scene, daemon: Option<&Daemon>) -> Result<Vec<Sample>> {
        let mut peers = Peers::new(&self.workload)?;
        let mut samples: Vec<Sample> = Vec::new();
        let usage = || daemon.map(Daemon::usage).transpose();
        let reflector = self.workload.shape == Shape::Reflector;
        let mut up = false;
        for part in &self.parts {
            peers.expect(part.wanted.clone());
            let before = usage()?;
            let elapsed = if reflector {
                peers.establish(scene, Some(&part.load), LIMIT)?
            } else {
                if !up {
                    peers.establish(scene, None, LIMIT)?;
                    peers.settle(LIMIT)?;
                    up = true;
                }
                peers.run(&part.load, LIMIT)?
            };
            let mut after = usage()?;
            if part.settle {
                peers.settle(LIMIT)?;
                peers.check()?;
                if let (Some(after), Some(settled)) = (&mut after, usage()?) {
                    after.peak_kib = settled.peak_kib;
                }
            }
            let Some(metric) = part.metric else { continue };
            let used = after.zip(before).map(|(after, before)| Usage {
                peak_kib: after.peak_kib,
                cpu_seconds: after.cpu_seconds - before.cpu_seconds,
            });
            let seconds = elapsed.as_secs_f64();
            match samples.iter_mut().find(|sample| sample.metric == metric) {
                Some(sample) => {
                    sample.seconds += seconds;
                    if let (Some(sum), Some(used)) = (&mut sample.usage, used) {
                        sum.peak_kib = used.peak_kib;
                        sum.cpu_seconds += used.cpu_seconds;
                    }
                }
                None => samples.push(Sample {
                    metric,
                    seconds,
                    usage: used,
                }),
            }
        }
        Ok(samples)
    }
}

/// Those of `sets` are announced, after which `present` ones must be there.
fn announce(
    workload: &Workload,
    metric: Option<Metric>,
    sets: &impl Fn(usize) -> bool,
    present: &impl Fn(usize) -> bool,
    settle: bool,
) -> Result<Part> {
    let (mut load, mut passed_on) = (Load::new(), Vec::new());
    for peer in 0..workload.peers {
        load.push(vec![Arc::new(workload.announcements(peer, sets)?)]);
        passed_on.push(Arc::new(workload.passed_on(peer, sets)?));
    }
    Ok(Part {
        metric,
        load,
        passed_on: to_all_others(&passed_on),
        wanted: workload.wanted(present),
        settle,
    })
}

/// Those of `sets` are withdrawn, all others stay.
fn withdraw(
    workload: &Workload,
    metric: Metric,
    sets: &impl Fn(usize) -> bool,
    settle: bool,
) -> Part {
    let withdrawals: Vec<Arc<Vec<u8>>> = (0..workload.peers)
        .map(|peer| Arc::new(workload.withdrawals(peer, sets)))
        .collect();
    Part {
        metric: Some(metric),
        passed_on: to_all_others(&withdrawals),
        load: withdrawals.into_iter().map(|all| vec![all]).collect(),
        wanted: workload.wanted(|set| !sets(set)),
        settle,
    }
}

/// Everybody gets every piece but their own, those of their right neighbour first. Small pieces are joined, as a
/// daemon's writes are.
fn to_all_others(pieces: &[Arc<Vec<u8>>]) -> Load {
    let n = pieces.len();
    (0..n)
        .map(|peer| {
            let mut all: Vec<Arc<Vec<u8>>> = Vec::new();
            for step in 1..n {
                let piece = &pieces[(peer + step) % n];
                match all.last_mut() {
                    _ if piece.is_empty() => {}
                    Some(last) if last.len() + piece.len() <= JOINED => {
                        Arc::make_mut(last).extend_from_slice(piece);
                    }
                    _ => all.push(Arc::clone(piece)),
                }
            }
            all
        })
        .collect()
}

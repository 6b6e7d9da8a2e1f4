//! From samples to medians, ratios and verdicts, as a table and as JSON.

use std::fmt::Write as _;

use serde::Serialize;

use crate::case::{Metric, Sizes};
use crate::daemon::{Kind, Usage};

/// One run of one daemon (or, without a kind, of none) as one row sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub(crate) kind: Option<Kind>,
    pub(crate) metric: Metric,
    pub(crate) seconds: f64,
    pub(crate) usage: Option<Usage>,
}

/// What must hold for our time and memory, as a share of the reference's.
struct Target {
    time: f64,
    memory: Option<f64>,
    reference: &'static [Kind],
}

fn target(metric: Metric) -> Target {
    let (time, memory, reference): (_, _, &[Kind]) = match metric {
        Metric::Single => (0.8, Some(1.5), &[Kind::Bird]),
        Metric::Distinct => (0.35, None, &[Kind::Bird]),
        Metric::Overlap => (0.35, Some(1.0), &[Kind::Bird]),
        Metric::Withdraw | Metric::Flap => (0.5, None, &[Kind::Bird]),
        Metric::Reflector => (0.5, None, &[Kind::Bird, Kind::Frr]),
    };
    Target {
        time,
        memory,
        reference,
    }
}

/// The row's name, with the numbers it was run with.
pub(crate) fn title(metric: Metric, sizes: &Sizes) -> String {
    match metric {
        Metric::Single => format!("1 peer x {} -> 1 sink", sizes.single),
        Metric::Distinct => format!("{} peers x {} distinct", sizes.distinct.0, sizes.distinct.1),
        Metric::Overlap => format!(
            "{} peers x {} overlapping",
            sizes.overlap.0, sizes.overlap.1
        ),
        Metric::Withdraw => format!("withdraw of all {}", sizes.single),
        Metric::Flap => format!("10 flaps of 10 % of {}", sizes.single),
        Metric::Reflector => format!(
            "reflector, {} clients x {}",
            sizes.reflector.0, sizes.reflector.1
        ),
    }
}

/// Median, least and most.
#[derive(Clone, Copy, Debug, Serialize)]
struct Spread {
    median: f64,
    min: f64,
    max: f64,
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let n = values.len();
        let (min, max) = (*values.first()?, *values.last()?);
        let median = (values[(n - 1) / 2] + values[n / 2]) / 2.0;
        Some(Self { median, min, max })
    }
}

#[derive(Debug, Serialize)]
struct Line {
    who: &'static str,
    runs: usize,
    seconds: Spread,
    cpu_seconds: Option<Spread>,
    peak_mib: Option<Spread>,
    all_seconds: Vec<f64>,
}

#[derive(Debug, Serialize)]
struct Row {
    row: u8,
    title: String,
    lines: Vec<Line>,
    time_ratio: Option<f64>,
    time_target: f64,
    memory_ratio: Option<f64>,
    memory_target: Option<f64>,
    /// The harness took more than half of our time.
    void: bool,
}

/// The result of a whole invocation.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    machine: Vec<String>,
    command: String,
    rows: Vec<Row>,
    failures: Vec<String>,
}

impl Report {
    pub(crate) fn new(
        machine: Vec<String>,
        sizes: &Sizes,
        runs: &[Run],
        failures: Vec<String>,
    ) -> Self {
        let rows = Metric::ALL
            .into_iter()
            .filter(|metric| runs.iter().any(|run| run.metric == *metric))
            .map(|metric| row(metric, sizes, runs))
            .collect();
        Self {
            machine,
            command: std::env::args().collect::<Vec<_>>().join(" "),
            rows,
            failures,
        }
    }

    /// For people.
    pub(crate) fn table(&self) -> String {
        let mut text = String::new();
        for line in &self.machine {
            writeln!(text, "{line}").ok();
        }
        for row in &self.rows {
            writeln!(text, "\nRow {}: {}", row.row, row.title).ok();
            writeln!(
                text,
                "  {:<10} {:>9} {:>9} {:>9}  {:>7}  {:>9}  runs",
                "", "median s", "min", "max", "cpu s", "peak MiB"
            )
            .ok();
            for line in &row.lines {
                let optional = |spread: Option<Spread>, digits| {
                    spread.map_or("-".into(), |spread| format!("{:.*}", digits, spread.median))
                };
                writeln!(
                    text,
                    "  {:<10} {:>9.3} {:>9.3} {:>9.3}  {:>7}  {:>9}  {}",
                    line.who,
                    line.seconds.median,
                    line.seconds.min,
                    line.seconds.max,
                    optional(line.cpu_seconds, 2),
                    optional(line.peak_mib, 1),
                    line.runs
                )
                .ok();
            }
            if let Some(ratio) = row.time_ratio {
                let verdict = verdict(row.void, ratio <= row.time_target);
                let target = row.time_target;
                writeln!(text, "  time ratio {ratio:.2} (target {target}): {verdict}").ok();
            }
            if let (Some(ratio), Some(target)) = (row.memory_ratio, row.memory_target) {
                let verdict = verdict(false, ratio <= target);
                writeln!(
                    text,
                    "  memory ratio {ratio:.2} (target {target}): {verdict}"
                )
                .ok();
            }
        }
        for failure in &self.failures {
            writeln!(text, "\nFAILED {failure}").ok();
        }
        text
    }
}

fn verdict(void: bool, reached: bool) -> &'static str {
    match (void, reached) {
        (true, _) => "VOID, the null sink takes more than half of our time",
        (false, true) => "reached",
        (false, false) => "not reached",
    }
}

fn row(metric: Metric, sizes: &Sizes, runs: &[Run]) -> Row {
    let of = |kind: Option<Kind>| {
        let runs: Vec<&Run> = runs
            .iter()
            .filter(|run| run.metric == metric && run.kind == kind)
            .collect();
        let usage = || runs.iter().filter_map(|run| run.usage);
        Some(Line {
            who: kind.map_or("null sink", Kind::name),
            runs: runs.len(),
            seconds: Spread::of(runs.iter().map(|run| run.seconds))?,
            cpu_seconds: Spread::of(usage().map(|usage| usage.cpu_seconds)),
            peak_mib: Spread::of(usage().map(|usage| usage.peak_kib as f64 / 1024.0)),
            all_seconds: runs.iter().map(|run| run.seconds).collect(),
        })
    };
    let target = target(metric);
    let ours = of(Some(Kind::Roadbed));
    let least = |value: &dyn Fn(&Line) -> Option<f64>| {
        target
            .reference
            .iter()
            .filter_map(|kind| of(Some(*kind)))
            .filter_map(|line| value(&line))
            .min_by(f64::total_cmp)
    };
    let ratio = |value: &dyn Fn(&Line) -> Option<f64>| Some(value(ours.as_ref()?)? / least(value)?);
    let seconds = |line: &Line| Some(line.seconds.median);
    let null = of(None).map(|line| line.seconds.median);
    let void = ours
        .as_ref()
        .zip(null)
        .is_some_and(|(ours, null)| null > ours.seconds.median / 2.0);
    Row {
        row: metric.row(),
        title: title(metric, sizes),
        time_ratio: ratio(&seconds),
        time_target: target.time,
        memory_ratio: ratio(&|line| line.peak_mib.map(|peak| peak.median)),
        memory_target: target.memory,
        void,
        lines: Kind::ALL
            .into_iter()
            .map(Some)
            .chain([None])
            .filter_map(of)
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: Sizes = Sizes {
        single: 1,
        distinct: (1, 1),
        overlap: (1, 1),
        reflector: (1, 1),
        per_set: 1,
    };

    fn run(kind: Option<Kind>, seconds: f64, peak_kib: u64) -> Run {
        Run {
            kind,
            metric: Metric::Single,
            seconds,
            usage: kind.map(|_| Usage {
                peak_kib,
                cpu_seconds: seconds,
            }),
        }
    }

    /// Our medians are 1 s and 150 MiB, BIRD's 2 s and 100 MiB; `null` is the null sink's time.
    fn check(null: f64, expected: &[&str]) {
        let runs = [
            run(Some(Kind::Roadbed), 9.0, 150 << 10),
            run(Some(Kind::Roadbed), 0.5, 150 << 10),
            run(Some(Kind::Roadbed), 1.0, 150 << 10),
            run(Some(Kind::Bird), 1.0, 100 << 10),
            run(Some(Kind::Bird), 3.0, 100 << 10),
            run(Some(Kind::Frr), 0.1, 1 << 10),
            run(None, null, 0),
        ];
        let text = Report::new(Vec::new(), &SIZES, &runs, Vec::new()).table();
        for expected in expected {
            assert!(text.contains(expected), "{text}\nlacks {expected}");
        }
    }

    #[test]
    fn verdicts_follow_from_medians() {
        check(
            0.4,
            &[
                "time ratio 0.50 (target 0.8): reached",
                "memory ratio 1.50 (target 1.5): reached",
            ],
        );
        check(0.6, &["time ratio 0.50 (target 0.8): VOID"]);
    }
}

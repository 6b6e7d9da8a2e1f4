//! Numbers into tables, bars and JSON.

use std::fs;
use std::path::Path;

use anyhow::Result;
use serde_json::json;

use crate::look::Reads;
use crate::node::{Node, sh};
use crate::pairs::Calls;
use crate::path::Paths;

/// Everything that was measured.
pub(crate) struct Report {
    machine: String,
    /// Whether the agent filters what pods send.
    anti_spoofing: bool,
    /// Pods that the agent held.
    pub(crate) held: usize,
    /// Ours, ptp.
    pub(crate) pairs: [Calls; 2],
    /// Ours, ptp.
    pub(crate) bursts: [Calls; 2],
    /// Without and with the held pods.
    pub(crate) reads: [Reads; 2],
    /// Most memory of the plugin.
    pub(crate) rss_kib: u64,
    /// By purpose, under strace, milliseconds.
    pub(crate) shares: Vec<(&'static str, f64)>,
    /// By themselves, milliseconds.
    pub(crate) steps: Vec<(&'static str, f64)>,
    /// Throughput and latency.
    pub(crate) path: Option<Paths>,
}

/// What must hold.
struct Bar {
    name: String,
    found: f64,
    limit: f64,
    met: bool,
}

impl Report {
    pub(crate) fn new(_node: &Node) -> Result<Self> {
        let cpu = fs::read_to_string("/proc/cpuinfo")?;
        let model = cpu
            .lines()
            .find_map(|line| line.strip_prefix("model name\t: "));
        let cores = cpu
            .lines()
            .filter(|line| line.starts_with("processor"))
            .count();
        let kernel = sh("uname -r")?;
        Ok(Self {
            machine: format!(
                "{cores} × {}, Linux {}",
                model.unwrap_or("?"),
                kernel.trim()
            ),
            anti_spoofing: sh("nft list ruleset")?.contains("roadbed"),
            held: 0,
            pairs: Default::default(),
            bursts: Default::default(),
            reads: Default::default(),
            rss_kib: 0,
            shares: Vec::new(),
            steps: Vec::new(),
            path: None,
        })
    }

    /// The bars, each with what was found.
    fn bars(&self) -> Vec<Bar> {
        let most = |name: &str, found: f64, limit: f64| Bar {
            name: name.to_owned(),
            found,
            limit,
            met: found <= limit,
        };
        let ratio = |of: &dyn Fn(&Calls) -> f64, calls: &[Calls; 2]| of(&calls[0]) / of(&calls[1]);
        let mut bars = vec![
            most(
                "ADD, median, of ptp's",
                ratio(&|c| median(&c.add), &self.pairs),
                0.4,
            ),
            most(
                "ADD, p99, of ptp's",
                ratio(&|c| quantile(&c.add, 0.99), &self.pairs),
                0.7,
            ),
            most(
                "a lone DEL, median, of ptp's",
                ratio(&|c| median(&c.del), &self.pairs),
                1.1,
            ),
            most(
                "burst: all ADDs, median, of ptp's",
                ratio(&|c| median(&c.add), &self.bursts),
                0.4,
            ),
            most(
                "burst: all DELs, median, of ptp's",
                ratio(&|c| median(&c.del), &self.bursts),
                0.25,
            ),
            most("plugin's memory, MiB", self.rss_kib as f64 / 1024.0, 4.0),
            most(
                "bytes that ADD reads from files, more with the held pods",
                self.reads[1].bytes as f64 - self.reads[0].bytes as f64,
                0.0,
            ),
        ];
        if let Some(path) = &self.path {
            bars.push(most(
                "differences from the hand-made wiring",
                path.differences.len() as f64,
                0.0,
            ));
            for (name, ratio) in [
                ("throughput", &path.throughput),
                ("round trips", &path.rate),
            ] {
                let high = ratio[0].high;
                bars.push(Bar {
                    name: format!(
                        "{name}, of the hand-made wiring's: upper end of the 95 % interval"
                    ),
                    found: high,
                    limit: 0.95,
                    met: high >= 0.95,
                });
            }
        }
        bars
    }

    pub(crate) fn print(&self) {
        println!(
            "{}; anti-spoofing {}; the agent holds {} pods\n",
            self.machine,
            if self.anti_spoofing { "on" } else { "off" },
            self.held
        );
        println!("| ms: p10, p50, p99 | roadbed | ptp | ratio |\n|---|---|---|---|");
        for (name, calls, of) in [
            ("ADD", &self.pairs, (|c| &c.add) as fn(&Calls) -> &Vec<f64>),
            ("DEL", &self.pairs, |c| &c.del),
            ("burst ADD", &self.bursts, |c| &c.add),
            ("burst DEL", &self.bursts, |c| &c.del),
        ] {
            let [ours, ptp] =
                [0, 1].map(|which| [0.1, 0.5, 0.99].map(|part| quantile(of(&calls[which]), part)));
            let ratio = [0, 1, 2].map(|at| ours[at] / ptp[at]);
            let [ours, ptp, ratio] =
                [ours, ptp, ratio].map(|three| three.map(|value| format!("{value:.2}")).join(", "));
            println!(
                "| {name} ({}) | {ours} | {ptp} | {ratio} |",
                of(&calls[0]).len()
            );
        }
        println!("\n| where an ADD's time goes | ms |\n|---|---|");
        for (name, time) in &self.steps {
            println!("| {name} | {time:.2} |");
        }
        for (name, time) in &self.shares {
            println!("| under strace: {name} | {time:.2} |");
        }
        println!(
            "\nADD reads {:?} without other pods, {:?} with them",
            self.reads[0], self.reads[1]
        );
        if let Some(path) = &self.path {
            path.print();
        }
        println!("\n| bar | found | limit | |\n|---|---|---|---|");
        for bar in self.bars() {
            println!(
                "| {} | {:.2} | {:.2} | {} |",
                bar.name,
                bar.found,
                bar.limit,
                if bar.met { "met" } else { "MISSED" }
            );
        }
    }

    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let calls = |calls: &[Calls; 2]| {
            json!({"roadbed": {"addMillis": calls[0].add, "delMillis": calls[0].del},
                   "ptp": {"addMillis": calls[1].add, "delMillis": calls[1].del}})
        };
        let bars: Vec<_> = self
            .bars()
            .iter()
            .map(|bar| json!({"name": bar.name, "found": bar.found, "limit": bar.limit, "met": bar.met}))
            .collect();
        let report = json!({
            "machine": self.machine, "antiSpoofing": self.anti_spoofing, "held": self.held,
            "pairs": calls(&self.pairs), "bursts": calls(&self.bursts), "rssKib": self.rss_kib,
            "steps": self.steps, "shares": self.shares, "bars": bars,
        });
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir)?;
        }
        Ok(fs::write(path, report.to_string())?)
    }
}

/// The middle one.
pub(crate) fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// The nearest of the values; 0 of none.
pub(crate) fn quantile(values: &[f64], part: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1);
    let at = (last as f64 * part).round() as usize;
    sorted.get(at).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles() {
        let values: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!(quantile(&values, 0.99), 99.0);
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[]), 0.0);
    }
}

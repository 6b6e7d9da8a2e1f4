//! `roadbed-demo`: two racks in network namespaces, pods across them, and every promise checked. `make demo` runs it.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use nix::sys::signal::{SigSet, Signal};
use roadbed_lab::{Lab, LabError, Options};
use roadbed_tests::pod::Pod;
use roadbed_tests::probe;
use roadbed_tests::site::Site;
use roadbed_tests::two_racks::leftovers::{self, Machine, Traces};
use roadbed_tests::two_racks::story::{self, Story};
use roadbed_tests::two_racks::{self, FILE, NODES, PODS_PER_NODE, reach, tables, trace};

/// The lab's directory, seen from the repository.
const DIR: &str = "labs/two-racks";
/// The lab's name.
const NAME: &str = "two-racks";

/// Two racks, three nodes, six pods in network namespaces of this machine, and every promise checked
#[derive(Parser)]
#[command(name = "roadbed-demo", version, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Bring the lab up, start pods, check, clean up
    Run {
        /// Leave everything up, also when a check fails; `roadbed-demo down` removes it
        #[arg(long)]
        keep: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Remove what `run --keep` left up
    Down {
        #[command(flatten)]
        place: Place,
    },
    /// TCP transfers; run inside pods
    #[command(subcommand, hide = true)]
    Probe(Probe),
}

#[derive(clap::Args)]
struct Place {
    /// Directory of the topology [default: labs/two-racks of the repository]
    #[arg(long, value_name = "DIR")]
    topology: Option<PathBuf>,
    /// Name of the lab
    #[arg(long, default_value = NAME)]
    name: String,
    /// Where labs live
    #[arg(long, value_name = "DIR", env = "ROADBED_LAB_DIR", default_value = roadbed_lab::BASE_DIR)]
    dir: PathBuf,
}

#[derive(Subcommand)]
enum Probe {
    /// Accept transfers
    Listen {
        /// TCP port
        #[arg(long, default_value_t = probe::PORT)]
        port: u16,
    },
    /// Send to each address in turn
    Send {
        /// The listeners
        to: Vec<IpAddr>,
    },
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().verb {
        Verb::Run { keep, place } => run(keep, &place),
        Verb::Down { place } => down(&place),
        Verb::Probe(Probe::Listen { port }) => probe::listen(port).context("listen"),
        Verb::Probe(Probe::Send { to }) => probe::send(&to).context("send"),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("roadbed-demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(keep: bool, place: &Place) -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("network namespaces need root: run `make demo`, or this with sudo");
    }
    let interrupted = interruptions()?;
    let story = Story::new(Arc::clone(&interrupted));
    let before = Machine::look()?;
    let dir = topology_dir(place)?;
    println!(
        "Roadbed: pods in two racks, routed by the underlay. No overlay, no bridge, no NAT.\n"
    );
    picture();
    let site = story.step(
        "lab: FRR on spine, tor1, tor2; an agent on n1, n2, n3",
        || {
            let helper = std::env::current_exe().context("find the running program")?;
            let options = Options {
                interrupted: Some(Arc::clone(&interrupted)),
                ..options(place)
            };
            let site = Site::up(&dir.join(FILE), &options, &helper)
                .map_err(|error| already_up(error, place))?;
            let links = format!("{} namespaces", site.lab().nodes().count());
            Ok((site, links))
        },
    )?;
    // From here on whatever happens ends with a decision about the lab.
    match tell(&story, &site, keep) {
        Ok(()) if keep => {
            look_around(place, &site);
            println!(
                "\nAll checks passed in {:.0} s; the lab stays up.",
                story.seconds()
            );
            Ok(())
        }
        Ok(()) => {
            remove(&story, site, before)?;
            println!("\nAll checks passed in {:.0} s.", story.seconds());
            Ok(())
        }
        Err(error) => {
            let by_person = interrupted.load(Ordering::Relaxed);
            if by_person {
                eprintln!("\ninterrupted: cleaning up");
            } else {
                eprintln!("\nA check failed: {error:#}\n");
                where_to_look(&site, keep, place);
            }
            if by_person || !keep {
                site.down().context("cleaning up")?;
            }
            bail!(if by_person {
                "interrupted"
            } else {
                "not every check passed"
            });
        }
    }
}

/// All steps between the lab's coming up and its going.
fn tell(story: &Story, site: &Site, keep: bool) -> Result<()> {
    story.check(
        "resources into the store that the three agents share",
        || {
            let text = site.apply("n1")?;
            let count = |kind: &str| text.lines().filter(|line| line.starts_with(kind)).count();
            let (pools, peers) = (count("ippool/"), count("bgppeer/"));
            Ok(format!(
                "{pools} pools, {peers} peers, the BGP configuration"
            ))
        },
    )?;
    story.check("each agent confirms a block per family", || {
        let mut lines = String::new();
        for node in &NODES {
            site.ready(node.name)?;
        }
        for (node, blocks) in NODES.iter().zip(tables::blocks(site)?) {
            lines += &format!("\n{}  {}", node.name, list(&blocks));
        }
        Ok(lines)
    })?;
    story.check("BGP sessions of the nodes with their switches", || {
        let mut sessions = Vec::new();
        for node in &NODES {
            site.established(node.name)?;
            sessions.push(format!("{}–{}", node.name, node.tor));
        }
        Ok(format!("Established, {}", sessions.join(", ")))
    })?;
    story.check("the routes of all are everywhere", || {
        tables::converged(site)
    })?;
    let title =
        format!("{PODS_PER_NODE} pods per node, by the plugin called as a runtime calls it");
    let pods = story.step(title, || {
        let pods = two_racks::start_pods(site)?;
        let line = |pod: &Pod| format!("\n{}  {}", pod.name, list(&pod.addresses));
        let lines = pods.iter().map(line).collect();
        Ok((pods, lines))
    })?;
    println!();
    story.check("every pod reaches every pod", || {
        reach::pods_to_pods(site, &pods)
    })?;
    story.check("every node reaches every pod and back", || {
        reach::nodes_and_pods(site, &pods)
    })?;
    story.check("a trace across racks", || trace::across_racks(site, &pods))?;
    story.check("the spine's table", || tables::spine(site))?;
    story.check("the nodes' kernels", || tables::kernels(site, &pods))?;
    for args in [&["status"][..], &["ipam", "show"], &["routes"]] {
        let argv = [&["roadbedctl"], args].concat();
        let title = format!("{}   # on n1", argv.join(" "));
        story.show(&title, &site.exec("n1", &argv)?);
    }
    println!();
    if keep {
        return Ok(());
    }
    story.check("DEL of all pods", || {
        two_racks::stop_pods(site, &pods)?;
        leftovers::of_pods(site, &pods)
    })
}

fn remove(story: &Story, site: Site, before: Machine) -> Result<()> {
    let traces = Traces::of(&site, before)?;
    let name = site.lab().name().to_owned();
    story.check(format!("teardown of {name}"), || {
        site.down()?;
        traces.gone()
    })
}

fn down(place: &Place) -> Result<()> {
    match Lab::find(&place.name, &options(place)) {
        Ok(lab) => {
            lab.down()?;
            println!("the lab {} is removed", place.name);
            Ok(())
        }
        Err(LabError::Missing { .. }) => {
            println!("the lab {} is not up", place.name);
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

fn options(place: &Place) -> Options {
    Options {
        name: Some(place.name.clone()),
        base_dir: Some(place.dir.clone()),
        ..Options::default()
    }
}

/// In the working directory, or where the repository is, seen from the program in its target directory.
fn topology_dir(place: &Place) -> Result<PathBuf> {
    if let Some(dir) = &place.topology {
        return Ok(dir.clone());
    }
    let exe = std::env::current_exe()?;
    let roots = [Path::new(".")]
        .into_iter()
        .chain(exe.ancestors().skip(1).take(4));
    roots
        .map(|root| root.join(DIR))
        .find(|dir| dir.join(FILE).is_file())
        .with_context(|| {
            format!("no {DIR}/{FILE} here: run this in the repository, or say --topology DIR")
        })
}

fn already_up(error: anyhow::Error, place: &Place) -> anyhow::Error {
    match error.downcast_ref::<LabError>() {
        Some(LabError::Exists { name, .. }) => {
            anyhow::anyhow!("the lab {name} exists: remove it with `{}`", place.down())
        }
        _ => error,
    }
}

/// Sets a flag on Ctrl-C and the like. Signals are blocked, so that nothing is left half done.
fn interruptions() -> Result<Arc<AtomicBool>> {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        signals.add(signal);
    }
    signals.thread_block().context("block signals")?;
    let flag = Arc::new(AtomicBool::new(false));
    let set = Arc::clone(&flag);
    std::thread::spawn(move || {
        while signals.wait().is_ok() {
            set.store(true, Ordering::Relaxed);
        }
    });
    Ok(flag)
}

fn picture() {
    println!("               spine 65000");
    println!("              /           \\");
    println!("      tor1 65101         tor2 65102");
    println!("       /      \\              |");
    println!("   n1 65111  n2 65112    n3 65121");
    println!("    ⬤  ⬤      ⬤  ⬤        ⬤  ⬤     pods\n");
}

fn list<'a, T: ToString + 'a>(items: impl IntoIterator<Item = &'a T>) -> String {
    let texts: Vec<String> = items.into_iter().map(ToString::to_string).collect();
    texts.join("  ")
}

impl Place {
    /// The options that name this place, when it is not the usual one.
    fn flags(&self) -> String {
        let mut flags = String::new();
        if self.name != NAME {
            flags += &format!(" --name {}", self.name);
        }
        if self.dir != Path::new(roadbed_lab::BASE_DIR) {
            flags += &format!(" --dir {}", self.dir.display());
        }
        flags
    }

    /// The command that removes the lab.
    fn down(&self) -> String {
        match self.flags().as_str() {
            "" => "make demo-down".to_owned(),
            flags => format!("{} down{flags}", program("roadbed-demo")),
        }
    }
}

/// How to call a program that lies beside this one, from the working directory.
fn program(name: &str) -> String {
    let sudo = std::env::var_os("SUDO_UID").map_or("", |_| "sudo ");
    let path = std::env::current_exe().map(|exe| exe.with_file_name(name));
    let path = path.unwrap_or_else(|_| name.into());
    let here = std::env::current_dir().unwrap_or_default();
    let path = path.strip_prefix(&here).unwrap_or(&path);
    format!("{sudo}{}", path.display())
}

fn look_around(place: &Place, site: &Site) {
    let lab = program("roadbed-lab");
    let topology = topology_dir(place).unwrap_or_else(|_| DIR.into());
    let topology = topology.join(FILE);
    let topology = topology.strip_prefix(".").unwrap_or(&topology).display();
    let exec = format!("{lab} exec {topology}{}", place.flags());
    println!("\nLook around:");
    for (line, what) in [
        (
            "n1 -- roadbedctl status",
            "the agent of n1 and its BGP peer",
        ),
        (
            "n3 -- roadbedctl routes -o wide",
            "its routes, and why each",
        ),
        ("n1 -- roadbedctl get all", "what the store holds"),
        ("n1 -- ip route show proto 82", "what it forwards by"),
        ("n1 -- ip netns exec n1-a ip address", "inside a pod"),
        ("n1 -- ip netns exec n1-a sh", "a shell in a pod"),
        ("spine -- vtysh", "the spine's own shell"),
    ] {
        println!("  {exec} {line:<36} # {what}");
    }
    println!("  logs: {}/*/*.log", site.lab().dir().display());
    println!("Remove it: {}", place.down());
}

fn where_to_look(site: &Site, keep: bool, place: &Place) {
    if keep {
        eprintln!("The lab stays up.");
        look_around(place, site);
        return;
    }
    match story::keep_evidence(site) {
        Ok(dir) => {
            let dir = dir.display();
            eprintln!("Where to look:");
            eprintln!("  {dir}/n1/roadbed-agent.log, …   what the agents say");
            eprintln!("  {dir}/spine/bgpd.log, …         what FRR says");
            eprintln!(
                "  {dir}/*/state.txt               sessions, addresses and routes of every node at that moment"
            );
            eprintln!("  make demo KEEP=1 leaves the lab up, with commands to look around");
        }
        Err(error) => eprintln!("The logs could not be kept: {error:#}"),
    }
}

//! The table of container images and what a namespace runs in their place.
//!
//! The only file to change when a lab wants another image. Decides from texts; starts nothing.

use std::path::PathBuf;

use crate::spec::{OwnedDir, ProcessSpec};
use crate::words;

/// What stands in for one image.
#[derive(Debug, PartialEq, Eq)]
pub struct Image {
    /// Repository names without a tag; every tag is taken, the programs are the machine's own.
    pub names: &'static [&'static str],
    /// What the node runs unless the file says `cmd` or `entrypoint`.
    pub main: Main,
    /// A router: the kernel of this node forwards both families.
    pub forwards: bool,
}

/// The default programs of an image.
#[derive(Debug, PartialEq, Eq)]
pub enum Main {
    /// Nothing; the node waits for `exec`.
    Idle,
    /// FRR's daemons as `/etc/frr/daemons` chooses them, configured by `vtysh -b`.
    Frr,
    /// One program in the foreground.
    Command(&'static [&'static str]),
}

/// Every image that a namespace can stand in for.
pub const IMAGES: &[Image] = &[
    Image {
        names: &["quay.io/frrouting/frr", "frrouting/frr"],
        main: Main::Frr,
        forwards: true,
    },
    Image {
        names: &["ghcr.io/roadbed/roadbed"],
        main: Main::Command(&["roadbed-agent", "--config", "/etc/roadbed/agent.toml"]),
        forwards: true,
    },
    Image {
        names: &["netlab/bird", "pierky/bird", "ghcr.io/srl-labs/bird"],
        main: Main::Command(&["bird", "-f", "-c", "/etc/bird/bird.conf"]),
        forwards: true,
    },
    Image {
        names: &[
            "alpine",
            "busybox",
            "debian",
            "ubuntu",
            "ghcr.io/hellt/network-multitool",
            "ghcr.io/srl-labs/network-multitool",
            "wbitt/network-multitool",
        ],
        main: Main::Idle,
        forwards: false,
    },
];

/// Programs of this repository that a node finds on its PATH, linked from the binaries' directory.
pub const TOOLS: &[&str] = &["roadbed", "roadbed-agent", "roadbed-bgpd", "roadbedctl"];

/// FRR daemons that `/etc/frr/daemons` may ask for, in start order; `zebra` always runs.
const FRR_DAEMONS: &[&str] = &[
    "zebra", "staticd", "bgpd", "bfdd", "ospfd", "ospf6d", "isisd",
];

/// The programs that a node starts and what must be there before.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Programs {
    pub(crate) processes: Vec<ProcessSpec>,
    pub(crate) boot: Vec<String>,
    pub(crate) dirs: Vec<OwnedDir>,
}

/// Finds the stand-in for `name`, whatever its tag or digest.
#[must_use]
pub fn find(name: &str) -> Option<&'static Image> {
    let bare = repository(name);
    IMAGES.iter().find(|image| image.names.contains(&bare))
}

/// Every known name, for a message.
#[must_use]
pub fn known() -> String {
    let names: Vec<&str> = IMAGES.iter().flat_map(|i| i.names).copied().collect();
    names.join(", ")
}

/// One program given by the file instead of the image's own.
pub(crate) fn command(argv: Vec<String>) -> Programs {
    let name = argv
        .first()
        .and_then(|program| program.rsplit('/').next())
        .unwrap_or("cmd")
        .to_owned();
    Programs {
        processes: vec![ProcessSpec {
            name,
            argv,
            ready: None,
        }],
        ..Programs::default()
    }
}

/// The image's own programs. `daemons` is the text of `/etc/frr/daemons`, when the file binds one.
pub(crate) fn programs(image: &Image, daemons: Option<&str>) -> Programs {
    match image.main {
        Main::Idle => Programs::default(),
        Main::Command(argv) => command(argv.iter().map(|word| (*word).to_owned()).collect()),
        Main::Frr => frr(daemons.unwrap_or_default()),
    }
}

fn repository(name: &str) -> &str {
    let name = name.split('@').next().unwrap_or(name);
    match name.rsplit_once(':') {
        Some((bare, tag)) if !tag.contains('/') => bare,
        _ => name,
    }
}

fn frr(daemons: &str) -> Programs {
    let setting = |key: &str| {
        daemons
            .lines()
            .filter_map(|line| line.trim().split_once('='))
            .filter(|(name, _)| *name == key)
            .map(|(_, value)| value.trim().trim_matches('"').to_owned())
            .next_back()
    };
    let processes = FRR_DAEMONS
        .iter()
        .filter(|name| **name == "zebra" || setting(name).as_deref() == Some("yes"))
        .map(|name| {
            let mut argv = vec![
                format!("/usr/lib/frr/{name}"),
                "--log".to_owned(),
                "stdout".to_owned(),
            ];
            let options = setting(&format!("{name}_options"));
            argv.extend(
                options
                    .as_deref()
                    .and_then(words::split)
                    .unwrap_or_default(),
            );
            ProcessSpec {
                name: (*name).to_owned(),
                argv,
                ready: Some(PathBuf::from(format!("/run/frr/{name}.vty"))),
            }
        })
        .collect();
    Programs {
        processes,
        boot: vec!["vtysh".to_owned(), "-b".to_owned()],
        dirs: vec![OwnedDir {
            path: PathBuf::from("/run/frr"),
            owner: "frr".to_owned(),
            mode: 0o755,
        }],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_tag_or_digest_finds_the_image() {
        for name in [
            "quay.io/frrouting/frr",
            "quay.io/frrouting/frr:8.4.1",
            "quay.io/frrouting/frr:10.2.1@sha256:00",
        ] {
            assert_eq!(find(name).map(|i| &i.main), Some(&Main::Frr), "{name}");
        }
        for name in ["localhost:5000/frr", "frr", "", ":", "alpine/x", "@"] {
            assert_eq!(find(name), None, "{name}");
        }
    }

    #[test]
    fn the_daemons_file_chooses() {
        let names = |text: &str| -> Vec<String> {
            let programs = frr(text);
            programs.processes.into_iter().map(|p| p.name).collect()
        };
        assert_eq!(names(""), ["zebra"]);
        assert_eq!(
            names("bgpd=yes\n# ospfd=yes\nstaticd=no\nripd=yes\n"),
            ["zebra", "bgpd"]
        );
        assert_eq!(names("zebra=no\nstaticd=yes"), ["zebra", "staticd"]);
        let bgpd = frr("bgpd=yes\nbgpd_options=\"  -A 127.0.0.1 -p 1179\"");
        assert_eq!(
            bgpd.processes[1].argv[3..],
            ["-A", "127.0.0.1", "-p", "1179"]
        );
    }
}

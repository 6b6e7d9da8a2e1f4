//! From a validated node to what its first process is told. Reads the file system, changes nothing but the lab's directory.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::error::{LabError, Tried};
use crate::images::{self, TOOLS};
use crate::spec::{Mount, NodeSpec};
use crate::topology::{Node, Topology};

/// PATH of a node, as Debian's login has it for root.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The complete environment of a node's processes. Nothing of the caller's environment gets in.
pub(crate) fn environment(
    node: &Node,
    extra: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let mut env = BTreeMap::from([
        ("PATH".to_owned(), PATH.to_owned()),
        ("HOME".to_owned(), "/root".to_owned()),
        ("HOSTNAME".to_owned(), node.name.clone()),
    ]);
    env.extend(node.env.clone());
    env.extend(extra.clone());
    env
}

/// What `node` is made of, in the lab at `lab_dir`.
pub(crate) fn spec(
    topology: &Topology,
    node: &Node,
    lab_dir: &Path,
    bin_dir: &Path,
    env: BTreeMap<String, String>,
) -> Result<NodeSpec, LabError> {
    let mounts = mounts(topology, node, lab_dir)?;
    let daemons = mounts
        .iter()
        .find(|mount| mount.target == Path::new("/etc/frr/daemons"))
        .map(|mount| mount.source.clone())
        .or_else(|| {
            let whole = mounts
                .iter()
                .find(|mount| mount.target == Path::new("/etc/frr"))?;
            Some(whole.source.join("daemons"))
        })
        .and_then(|path| fs::read_to_string(path).ok());
    let programs = if node.entrypoint.is_empty() && node.cmd.is_empty() {
        images::programs(node.stand_in, daemons.as_deref())
    } else {
        images::command([node.entrypoint.clone(), node.cmd.clone()].concat())
    };
    let mut sysctls = Vec::new();
    if node.stand_in.forwards {
        for name in ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"] {
            sysctls.push((name.to_owned(), "1".to_owned()));
        }
    }
    sysctls.extend(node.sysctls.clone());
    let tools: Vec<PathBuf> = TOOLS
        .iter()
        .map(|name| bin_dir.join(name))
        .filter(|path| path.is_file())
        .collect();
    Ok(NodeSpec {
        hostname: node.name.clone(),
        visible: visible(&[Path::new("/usr"), bin_dir, topology.dir()]),
        mounts,
        tools,
        env,
        sysctls,
        dirs: programs.dirs,
        processes: programs.processes,
        boot: programs.boot,
    })
}

/// The directories that the overlay of `/` does not show: on another file system, or hidden by a fresh tmpfs.
fn visible(wanted: &[&Path]) -> Vec<PathBuf> {
    let root = fs::metadata("/").map(|meta| meta.dev()).ok();
    wanted
        .iter()
        .filter(|dir| {
            let hidden = ["/tmp", "/run", "/dev"]
                .iter()
                .any(|top| dir.starts_with(top));
            hidden || fs::metadata(dir).map(|meta| meta.dev()).ok() != root
        })
        .filter(|dir| dir.is_dir())
        .map(|dir| dir.to_path_buf())
        .collect()
}

fn mounts(topology: &Topology, node: &Node, lab_dir: &Path) -> Result<Vec<Mount>, LabError> {
    let node_dir = lab_dir.join(&node.name);
    let mut mounts = Vec::new();
    for bind in &node.binds {
        let replaced = bind
            .source
            .replace("__clabNodeDir__", &node_dir.to_string_lossy())
            .replace("__clabDir__", &lab_dir.to_string_lossy());
        let source = topology.dir().join(&replaced);
        if replaced != bind.source && source.starts_with(lab_dir) && !source.exists() {
            fs::create_dir_all(&source).tried(|| format!("make {}", source.display()))?;
        }
        let source = source
            .canonicalize()
            .tried(|| format!("node {}: bind {}", node.name, source.display()))?;
        mounts.push(Mount {
            source,
            target: PathBuf::from(&bind.target),
            read_only: bind.read_only,
        });
    }
    Ok(mounts)
}

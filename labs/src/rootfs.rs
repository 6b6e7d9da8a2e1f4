//! A node's root: the machine's own `/`, seen through an overlay whose writes die with the node.
//!
//! Runs in the node's fresh mount and pid namespaces only. Order matters: binds are made after `pivot_root`, so that
//! symbolic links in their targets (`/var/run` → `/run`) resolve inside the node and never on the machine.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::{Gid, Uid, User, chdir, chown, pivot_root};

use crate::spec::{Mount, NodeSpec, OwnedDir};

/// Where the machine's root hangs while binds are made.
const HOST: &str = "/run/.host";
/// Room for what a node writes: half of the memory at most, as tmpfs counts.
const SCRATCH: &str = "size=50%,mode=0755";
/// Device nodes that a container has.
const DEVICES: &[&str] = &[
    "null", "zero", "full", "random", "urandom", "tty", "net/tun",
];

/// Builds the root on `scratch`, an empty directory of the machine, and moves into it.
pub(crate) fn enter(scratch: &Path, spec: &NodeSpec) -> Result<()> {
    special(
        None,
        Path::new("/"),
        MsFlags::MS_REC | MsFlags::MS_PRIVATE,
        None,
    )?;
    special(Some("tmpfs"), scratch, MsFlags::empty(), Some(SCRATCH))?;
    chdir(scratch).context("enter the scratch file system")?;
    for dir in ["upper", "work", "root"] {
        fs::create_dir(dir)?;
    }
    // Relative directories: the lab's path may hold a colon or a comma, which overlayfs would split.
    let layers = "lowerdir=/,upperdir=upper,workdir=work";
    special(
        Some("overlay"),
        Path::new("root"),
        MsFlags::empty(),
        Some(layers),
    )?;
    chdir("root").context("enter the overlay")?;
    make_dir(Path::new("run"))?;
    special(
        Some("tmpfs"),
        Path::new("run"),
        MsFlags::empty(),
        Some("mode=0755"),
    )?;
    fs::create_dir("run/.host")?;
    pivot_root(".", "run/.host").context("pivot_root")?;
    chdir("/").context("enter the new root")?;

    for (kind, target, options) in [
        ("proc", "/proc", None),
        ("sysfs", "/sys", None),
        ("tmpfs", "/tmp", Some("mode=1777")),
        ("tmpfs", "/dev", Some("mode=0755")),
    ] {
        make_dir(Path::new(target))?;
        special(Some(kind), Path::new(target), MsFlags::empty(), options)?;
    }
    devices()?;
    for dir in ["/run/lock", "/run/netns"] {
        fs::create_dir(dir)?;
    }
    for dir in &spec.visible {
        let mount = Mount {
            source: dir.clone(),
            target: dir.clone(),
            read_only: true,
        };
        bind(&mount)?;
    }
    for mount in &spec.mounts {
        bind(mount)?;
    }
    umount2(HOST, MntFlags::MNT_DETACH).context("let go of the machine's root")?;
    fs::remove_dir(HOST)?;
    tools(&spec.tools)?;
    spec.dirs.iter().try_for_each(owned_dir)
}

/// Writes kernel settings, names dotted as in `sysctl.conf`.
pub(crate) fn sysctls(settings: &[(String, String)]) -> Result<()> {
    for (name, value) in settings {
        // A dot inside an interface name is written as a slash, as sysctl(8) has it.
        let swapped: String = name
            .chars()
            .map(|c| match c {
                '.' => '/',
                '/' => '.',
                c => c,
            })
            .collect();
        let path = Path::new("/proc/sys").join(swapped);
        // Opened without creating: procfs would answer EACCES for an unknown name and hide the reason.
        fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .and_then(|mut file| file.write_all(value.as_bytes()))
            .with_context(|| format!("set {name} = {value}"))?;
    }
    Ok(())
}

fn special(kind: Option<&str>, target: &Path, flags: MsFlags, options: Option<&str>) -> Result<()> {
    mount(kind, target, kind, flags, options)
        .with_context(|| format!("mount {} on {}", kind.unwrap_or("root"), target.display()))
}

fn make_dir(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)
}

fn devices() -> Result<()> {
    for name in DEVICES {
        let source = Path::new(HOST).join("dev").join(name);
        if source.exists() {
            let target = Path::new("/dev").join(name);
            make_dir(target.parent().unwrap_or(Path::new("/dev")))?;
            fs::write(&target, "")?;
            mount(
                Some(&source),
                &target,
                None::<&str>,
                MsFlags::MS_BIND,
                None::<&str>,
            )
            .with_context(|| format!("bind /dev/{name}"))?;
        }
    }
    for dir in ["/dev/pts", "/dev/shm"] {
        fs::create_dir(dir)?;
    }
    let terminals = Some("newinstance,ptmxmode=0666,mode=0620");
    special(
        Some("devpts"),
        Path::new("/dev/pts"),
        MsFlags::empty(),
        terminals,
    )?;
    special(
        Some("tmpfs"),
        Path::new("/dev/shm"),
        MsFlags::empty(),
        Some("mode=1777"),
    )?;
    for (link, target) in [
        ("/dev/ptmx", "pts/ptmx"),
        ("/dev/fd", "/proc/self/fd"),
        ("/dev/stdin", "/proc/self/fd/0"),
        ("/dev/stdout", "/proc/self/fd/1"),
        ("/dev/stderr", "/proc/self/fd/2"),
    ] {
        symlink(target, link)?;
    }
    Ok(())
}

fn bind(wanted: &Mount) -> Result<()> {
    let source = Path::new(HOST).join(wanted.source.strip_prefix("/").unwrap_or(&wanted.source));
    let target = &wanted.target;
    let text = || format!("bind {} on {}", wanted.source.display(), target.display());
    if fs::metadata(&source).with_context(text)?.is_dir() {
        make_dir(target).with_context(text)?;
    } else {
        make_dir(target.parent().unwrap_or(Path::new("/"))).with_context(text)?;
        if !target.exists() {
            fs::write(target, "").with_context(text)?;
        }
    }
    let bind = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some(&source), target, None::<&str>, bind, None::<&str>).with_context(text)?;
    if wanted.read_only {
        let again = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(None::<&str>, target, None::<&str>, again, None::<&str>).with_context(text)?;
    }
    Ok(())
}

fn tools(tools: &[PathBuf]) -> Result<()> {
    make_dir(Path::new("/usr/local/bin"))?;
    for tool in tools {
        let Some(name) = tool.file_name() else {
            continue;
        };
        let link = Path::new("/usr/local/bin").join(name);
        if link == *tool {
            continue;
        }
        match fs::remove_file(&link) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => symlink(tool, &link)?,
        }
    }
    Ok(())
}

fn owned_dir(dir: &OwnedDir) -> Result<()> {
    let text = || format!("make {} for {}", dir.path.display(), dir.owner);
    make_dir(&dir.path).with_context(text)?;
    let (uid, gid) = match User::from_name(&dir.owner).with_context(text)? {
        Some(user) => (user.uid, user.gid),
        // The program says best what it misses without its user.
        None => (Uid::from_raw(0), Gid::from_raw(0)),
    };
    chown(&dir.path, Some(uid), Some(gid)).with_context(text)?;
    fs::set_permissions(&dir.path, fs::Permissions::from_mode(dir.mode)).with_context(text)
}

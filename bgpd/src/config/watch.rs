//! Says when the file has another text, however it came to that: written in place, renamed over (editors), or by a
//! symbolic link on the way that now points elsewhere (ConfigMaps, release directories).
//!
//! Owns: what is watched, and the pause in which a burst of changes settles. Never does: judge the text.
//!
//! Directories are watched, not the file: who renames over a file replaces what a watch on it would be bound to. An
//! event is only a hint; what counts is whether the text differs from the last one.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::file::read;

/// Quiet time after which the text is looked at.
const QUIET: Duration = Duration::from_millis(200);
/// Longest that a burst may put that off.
const LONGEST: Duration = Duration::from_secs(2);
/// As many symbolic links as the kernel follows.
const MAX_LINKS: usize = 40;

/// A watched file.
pub struct Watch {
    path: PathBuf,
    text: Option<String>,
    watcher: RecommendedWatcher,
    directories: BTreeSet<PathBuf>,
    hints: mpsc::Receiver<()>,
    /// First hint of the burst, and when it will have settled.
    burst: Option<(Instant, Instant)>,
}

impl Watch {
    /// Watches the file from now on.
    ///
    /// # Errors
    /// When the kernel gives no watch.
    pub fn start(path: &Path) -> notify::Result<Self> {
        let path = std::path::absolute(path)?;
        let (hint, hints) = mpsc::channel(1);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if event.map_or(true, |event| matters(&event)) {
                // Full: one hint is waiting already.
                hint.try_send(()).ok();
            }
        })?;
        let mut watch = Self {
            text: None,
            path,
            watcher,
            directories: BTreeSet::new(),
            hints,
            burst: None,
        };
        watch.follow()?;
        watch.text = read(&watch.path).ok();
        Ok(watch)
    }

    /// Waits until the file has another text than when it was looked at last. May be dropped and called again.
    pub async fn changed(&mut self) {
        loop {
            let hinted = match self.burst {
                None => self.hints.recv().await,
                Some((_, settled)) => tokio::select! {
                    hint = self.hints.recv() => hint,
                    () = tokio::time::sleep_until(settled) => {
                        self.burst = None;
                        if self.look() {
                            return;
                        }
                        continue;
                    }
                },
            };
            if hinted.is_none() {
                // The watcher lives as long as we do.
                return std::future::pending().await;
            }
            let now = Instant::now();
            let (first, _) = *self.burst.get_or_insert((now, now));
            self.burst = Some((first, (now + QUIET).min(first + LONGEST)));
        }
    }

    fn look(&mut self) -> bool {
        if let Err(error) = self.follow() {
            tracing::warn!(%error, "the configuration file is not watched any more: reload with SIGHUP");
        }
        let text = read(&self.path).ok();
        let changed = text != self.text;
        self.text = text;
        changed
    }

    /// Watches what must be watched now. A directory in the place of another is another one under the same name, so all
    /// are asked for again.
    fn follow(&mut self) -> notify::Result<()> {
        let wanted = directories(&self.path);
        for gone in self.directories.difference(&wanted) {
            // The watch of a directory that was removed went with it.
            self.watcher.unwatch(gone).ok();
        }
        for directory in &wanted {
            self.watcher.watch(directory, RecursiveMode::NonRecursive)?;
        }
        self.directories = wanted;
        Ok(())
    }
}

/// Whether an event may be the end of a change: a writer that has not closed the file is not done.
fn matters(event: &notify::Event) -> bool {
    match event.kind {
        EventKind::Access(kind) => kind == AccessKind::Close(AccessMode::Write),
        EventKind::Create(_) => event.paths.iter().any(|p| p.is_symlink() || p.is_dir()),
        EventKind::Modify(kind) => !matches!(kind, ModifyKind::Data(_)),
        EventKind::Any | EventKind::Remove(_) | EventKind::Other => true,
    }
}

/// Directories in which a change can change what `path`, which is absolute, leads to: that of the file, and those of the
/// symbolic links on the way. Of what is not there, the nearest directory that is.
fn directories(path: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut at = PathBuf::from("/");
    let mut rest = steps(path);
    let mut links = 0;
    while let Some(step) = rest.pop() {
        if step == ".." {
            at.pop();
            continue;
        }
        let next = at.join(step);
        match std::fs::read_link(&next) {
            Ok(target) if links < MAX_LINKS => {
                links += 1;
                found.insert(at.clone());
                if target.is_absolute() {
                    at = PathBuf::from("/");
                }
                rest.extend(steps(&target));
            }
            _ if rest.is_empty() || !next.exists() => {
                found.insert(at.clone());
                break;
            }
            _ => at = next,
        }
    }
    found
}

/// The steps of a path, the first one last.
fn steps(path: &Path) -> Vec<OsString> {
    let steps = path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::Prefix(_) | Component::RootDir | Component::CurDir => None,
    });
    steps.rev().collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    /// More than enough for a notification on a busy machine.
    const SOON: Duration = Duration::from_secs(10);

    struct Fixture {
        root: tempfile::TempDir,
        watch: Watch,
    }

    impl Fixture {
        /// `conf/f` with the text `1`; the layout of a ConfigMap when `linked`.
        fn new(linked: bool) -> Self {
            let root = tempfile::tempdir().unwrap();
            let conf = root.path().join("conf");
            fs::create_dir(&conf).unwrap();
            if linked {
                fs::create_dir(conf.join("..v1")).unwrap();
                fs::write(conf.join("..v1/f"), "1").unwrap();
                symlink("..v1", conf.join("..data")).unwrap();
                symlink("..data/f", conf.join("f")).unwrap();
            } else {
                fs::write(conf.join("f"), "1").unwrap();
            }
            let watch = Watch::start(&conf.join("f")).unwrap();
            Self { root, watch }
        }

        fn at(&self, name: &str) -> PathBuf {
            self.root.path().join("conf").join(name)
        }

        /// The watch says nothing for longer than it would need.
        async fn stays(&mut self) {
            let watch = &mut self.watch;
            let waited = tokio::time::timeout(QUIET * 5, watch.changed()).await;
            assert!(waited.is_err(), "{:?}", watch.text);
        }

        /// The watch says that there is a change, and the text is this.
        async fn becomes(&mut self, text: Option<&str>) {
            let watch = &mut self.watch;
            tokio::time::timeout(SOON, watch.changed()).await.unwrap();
            assert_eq!(watch.text.as_deref(), text);
        }
    }

    #[tokio::test]
    async fn in_place_and_by_rename() {
        let mut file = Fixture::new(false);
        fs::write(file.at("f"), "2").unwrap();
        file.becomes(Some("2")).await;
        fs::write(file.at(".f.swp"), "3").unwrap();
        fs::rename(file.at(".f.swp"), file.at("f")).unwrap();
        file.becomes(Some("3")).await;
        fs::rename(file.at("f"), file.at("f~")).unwrap();
        file.becomes(None).await;
        fs::write(file.at("f"), "4").unwrap();
        file.becomes(Some("4")).await;
        // The watch is on what is there now.
        fs::write(file.at("f"), "5").unwrap();
        file.becomes(Some("5")).await;
    }

    #[tokio::test]
    async fn links_that_point_elsewhere() {
        let mut file = Fixture::new(true);
        for (version, before) in [("2", "1"), ("3", "2")] {
            let dir = format!("..v{version}");
            fs::create_dir(file.at(&dir)).unwrap();
            fs::write(file.at(&dir).join("f"), version).unwrap();
            symlink(&dir, file.at("..data_tmp")).unwrap();
            fs::rename(file.at("..data_tmp"), file.at("..data")).unwrap();
            fs::remove_dir_all(file.at(&format!("..v{before}"))).unwrap();
            file.becomes(Some(version)).await;
        }
        // The link itself, not atomically.
        fs::write(file.at("g"), "4").unwrap();
        fs::remove_file(file.at("f")).unwrap();
        symlink("g", file.at("f")).unwrap();
        file.becomes(Some("4")).await;
    }

    #[tokio::test]
    async fn a_directory_that_goes_and_comes_back() {
        let mut file = Fixture::new(false);
        fs::remove_dir_all(file.at("")).unwrap();
        file.becomes(None).await;
        fs::create_dir(file.at("")).unwrap();
        fs::write(file.at("f"), "2").unwrap();
        file.becomes(Some("2")).await;
    }

    #[tokio::test]
    async fn what_is_no_change() {
        let mut file = Fixture::new(false);
        fs::write(file.at("other"), "2").unwrap();
        fs::write(file.at("f"), "1").unwrap();
        file.stays().await;
        // Not closed: not done.
        let mut half = fs::File::create(file.at("f")).unwrap();
        std::io::Write::write_all(&mut half, b"half").unwrap();
        file.stays().await;
        drop(half);
        file.becomes(Some("half")).await;
    }

    #[test]
    fn what_is_watched() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        let check = |path: &str, expected: &[&str]| {
            let expected: BTreeSet<PathBuf> = expected.iter().map(|d| root.join(d)).collect();
            assert_eq!(directories(&root.join(path)), expected, "{path}");
        };
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::create_dir(root.join("c")).unwrap();
        symlink(root.join("c/g"), root.join("a/f")).unwrap();
        symlink("../a/b/h", root.join("c/g")).unwrap();
        symlink("a", root.join("d")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        check("c/x", &["c"]);
        check("a/f", &["a", "c", "a/b"]);
        check("d/b/h", &["", "a/b"]);
        check("a/none/f", &["a"]);
        check("loop", &[""]);
    }
}

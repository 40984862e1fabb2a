//! Hints from inotify (by the `notify` crate): that a directory may have changed.
//!
//! In: directories to watch. Out: a hint for each that something happened in. A hint may come too often, too late
//! or not at all; the rescan does not need it. Out of watches: said once, the rest is asked instead.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use notify::event::EventKind;
use notify::{RecommendedWatcher, RecursiveMode, Watcher};

/// How long no further watch is asked for once the system had none left: each refusal costs a round trip to the
/// watcher's thread, and thousands of directories would ask at every tick.
const EXHAUSTED: Duration = Duration::from_secs(60);

/// What the watcher says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Hint {
    /// Something happened in this directory (a path below the root; empty for the root).
    Directory(PathBuf),
    /// Events were lost: look everywhere.
    Everything,
}

/// Device and inode: which directory bears a path at the moment.
pub(super) type Identity = (u64, u64);

/// The directories that are watched.
#[derive(Debug)]
pub(super) struct Watches {
    root: PathBuf,
    watcher: Option<RecommendedWatcher>,
    watched: HashMap<PathBuf, Identity>,
    told: bool,
    /// Until when no watch is asked for.
    exhausted: Option<Instant>,
}

impl Watches {
    /// A watcher for directories below `root`; without one, if the system has none left, everything is asked.
    pub fn new(root: PathBuf, hint: impl Fn(Hint) + Send + 'static) -> Watches {
        let base = root.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let Ok(event) = event else { return hint(Hint::Everything) };
            if event.need_rescan() {
                return hint(Hint::Everything);
            }
            // Our own listings open the directories: an access changes nothing.
            if matches!(event.kind, EventKind::Access(_)) {
                return;
            }
            for path in &event.paths {
                let below = path.strip_prefix(&base).unwrap_or(Path::new(""));
                // An event names the entry; what changed is the directory that holds it.
                hint(Hint::Directory(below.parent().unwrap_or(Path::new("")).to_owned()));
            }
        });
        let watcher = watcher
            .inspect_err(|error| {
                tracing::warn!(%error, "cannot watch directories; they are asked at every tick instead (raise fs.inotify.max_user_instances)");
            })
            .ok();
        Watches { root, watcher, watched: HashMap::new(), told: false, exhausted: None }
    }

    /// Watches a directory below the root; false if that is not possible. `identity` says which directory bears that
    /// path now: the watch of one that was deleted or moved away is no good for its successor.
    pub fn add(&mut self, below: &Path, identity: Identity) -> bool {
        match self.watched.get(below) {
            Some(watched) if *watched == identity => return true,
            Some(_) => self.remove(below),
            None => {}
        }
        let Some(watcher) = &mut self.watcher else { return false };
        if self.exhausted.is_some_and(|until| until > Instant::now()) {
            return false;
        }
        match watcher.watch(&self.root.join(below), RecursiveMode::NonRecursive) {
            Ok(()) => {
                self.watched.insert(below.to_owned(), identity);
                self.exhausted = None;
                true
            }
            Err(error) => {
                let full = match &error.kind {
                    notify::ErrorKind::MaxFilesWatch => true,
                    notify::ErrorKind::Io(io) => io.kind() == io::ErrorKind::StorageFull,
                    _ => false,
                };
                if full {
                    self.exhausted = Some(Instant::now() + EXHAUSTED);
                    if !std::mem::replace(&mut self.told, true) {
                        tracing::warn!(
                            watched = self.watched.len(),
                            "out of inotify watches: further directories are asked at every tick instead (raise fs.inotify.max_user_watches)"
                        );
                    }
                }
                false
            }
        }
    }

    /// Watches a directory no more. It may be gone already.
    pub fn remove(&mut self, below: &Path) {
        if self.watched.remove(below).is_some() {
            if let Some(watcher) = &mut self.watcher {
                // Refused where the watch went with its directory.
                let _ = watcher.unwatch(&self.root.join(below));
            }
            self.exhausted = None;
        }
    }

    /// How many there are.
    #[cfg(test)]
    pub fn count(&self) -> usize {
        self.watched.len()
    }

    /// As on a system that has none left.
    #[cfg(test)]
    pub fn take_all(&mut self) {
        self.watcher = None;
        self.watched.clear();
    }
}

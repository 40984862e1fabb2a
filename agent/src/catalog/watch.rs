//! Hints from inotify (by the `notify` crate): that a directory may have changed.
//!
//! In: directories to watch. Out: a hint for each that something happened in. A hint may come too often, too late
//! or not at all; the rescan does not need it. Out of watches: said once, the rest is asked instead.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};

use notify::event::EventKind;
use notify::{RecommendedWatcher, RecursiveMode, Watcher};

/// What the watcher says.
#[derive(Debug, PartialEq, Eq)]
pub enum Hint {
    /// Something happened in this directory (a path below the root; empty for the root).
    Directory(PathBuf),
    /// Events were lost: look everywhere.
    Everything,
}

/// The directories that are watched.
#[derive(Debug)]
pub struct Watches {
    root: PathBuf,
    watcher: Option<RecommendedWatcher>,
    watched: HashSet<PathBuf>,
    exhausted: bool,
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
        Watches { root, watcher, watched: HashSet::new(), exhausted: false }
    }

    /// Watches a directory below the root; false if that is not possible.
    pub fn add(&mut self, below: &Path) -> bool {
        if self.watched.contains(below) {
            return true;
        }
        let Some(watcher) = &mut self.watcher else { return false };
        match watcher.watch(&self.root.join(below), RecursiveMode::NonRecursive) {
            Ok(()) => {
                self.watched.insert(below.to_owned());
                self.exhausted = false;
                true
            }
            Err(error) => {
                let full = match &error.kind {
                    notify::ErrorKind::MaxFilesWatch => true,
                    notify::ErrorKind::Io(io) => io.kind() == io::ErrorKind::StorageFull,
                    _ => false,
                };
                if full && !std::mem::replace(&mut self.exhausted, true) {
                    tracing::warn!(
                        watched = self.watched.len(),
                        "out of inotify watches: further directories are asked at every tick instead (raise fs.inotify.max_user_watches)"
                    );
                }
                false
            }
        }
    }

    /// Watches a directory no more. It may be gone already.
    pub fn remove(&mut self, below: &Path) {
        if self.watched.remove(below) {
            if let Some(watcher) = &mut self.watcher {
                let _ = watcher.unwatch(&self.root.join(below));
            }
        }
    }
}

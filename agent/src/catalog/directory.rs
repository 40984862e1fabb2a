//! A container's directory in the catalog's picture, and the questions that it answers without being listed.
//!
//! In: sizes and times that the file system tells. Out: whether a file grew, and whether the directory must be listed.
//! Never opens anything.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use rustix::fs::{fstat, stat};

use super::file::{LogFile, Stamp};
use super::name::{LogName, Rotation};
use super::origin::{Container, Origin};
use super::{QUIET, Seen};

/// A container's directory as the catalog knows it.
#[derive(Debug)]
pub(super) struct Directory {
    pub container: Container,
    /// The same, as its files share it.
    pub origin: Arc<Origin>,
    pub files: Vec<Known>,
    /// Files without a key yet, and their sizes when that was found: nothing is to be done until they grow.
    pub unkeyed: Vec<(PathBuf, u64)>,
    /// What it said when it was listed.
    pub seen: Seen,
    /// To be listed at the next tick, whatever it says.
    pub relist: bool,
    /// When to list it again because a file may have settled by then.
    pub settle_at: Option<Instant>,
    /// Silent and watched; else asked at every tick.
    pub watched: bool,
    /// When something last happened.
    pub active_at: Instant,
    /// It has spoken since it was found: not all that was there at the start is asked at every tick.
    pub speaks: bool,
    /// It is gone; what is left is being read from open descriptors.
    pub vanished: bool,
}

/// A file in the picture.
#[derive(Debug)]
pub(super) struct Known {
    pub file: Arc<LogFile>,
    /// Since when it has been renamed and has a successor.
    pub replaced_since: Option<Instant>,
    /// The last listing did not have it.
    pub missed: bool,
}

/// What a directory answered.
pub(super) struct Asked {
    /// A file grew.
    pub grew: bool,
    /// It must be listed.
    pub list: bool,
    /// What it says of itself; nothing where a file grew.
    pub seen: Seen,
}

/// What a file answered.
#[derive(PartialEq, Eq)]
pub(super) enum Look {
    Same,
    Grew,
    /// It shrank, or its path leads to another file now.
    Other,
}

impl Directory {
    pub fn new(container: Container) -> Directory {
        Directory {
            origin: Arc::new(Origin::Container(container.clone())),
            container,
            files: Vec::new(),
            unkeyed: Vec::new(),
            seen: Seen::default(),
            relist: false,
            settle_at: None,
            watched: false,
            active_at: Instant::now(),
            speaks: false,
            vanished: false,
        }
    }

    /// Asks for the sizes of the files and whether the directory changed.
    pub fn ask(&mut self, logs: &Path, path: &Path, now: Instant) -> Asked {
        let mut asked = Asked { grew: false, list: self.relist, seen: Seen::default() };
        for known in &self.files {
            asked.list |= known.file.is_adrift();
            match known.look(logs) {
                Look::Same => {}
                Look::Grew => asked.grew = true,
                Look::Other => asked.list = true,
            }
        }
        if asked.grew {
            (self.active_at, self.speaks) = (now, true);
            // A file that grows has not been rotated away just now.
            return asked;
        }
        asked.seen = Seen::now(&logs.join(path));
        asked.list |= !asked.seen.is_same(&self.seen)
            || self.settle_at.is_some_and(|at| at <= now)
            || self
                .unkeyed
                .iter()
                .any(|(path, size)| stat(logs.join(path)).map_or(0, |stat| stat.st_size as u64) != *size);
        asked
    }

    /// Whether something happened in it a moment ago.
    pub fn is_busy(&self, now: Instant) -> bool {
        self.speaks && now.duration_since(self.active_at) <= QUIET
    }

    /// Whether a watch of the directory would tell all that asking tells. A link's target lies elsewhere.
    pub fn may_be_watched(&self, now: Instant) -> bool {
        now.duration_since(self.active_at) > QUIET
            && self.settle_at.is_none()
            && !self.files.iter().any(|known| known.file.place().linked)
    }

    /// Whether a file is wanted for which there was no descriptor when it was found.
    pub fn lacks_descriptors(&self) -> bool {
        self.files.iter().any(|known| known.file.is_wanted() && !known.file.place().is_safe())
    }

    /// Lets go of descriptors that nobody needs, and of files that are gone and read.
    pub fn drop_finished(&mut self) {
        for known in &self.files {
            let mut place = known.file.place();
            // What has a name of our own can be opened again.
            if !known.file.is_wanted() || (known.file.is_settled() && place.kept.is_some()) {
                place.held = None;
            }
        }
        self.files.retain(|known| !known.file.is_gone() || known.file.is_wanted());
    }

    /// The name that orders a new file: its own, but where a file that was found as the live one is so no more. It was there
    /// before this one, and is called live still: so then is this one, and they go by when they were found. `live`: the file
    /// that the runtime writes to now.
    pub fn order_of(&self, name: &LogName, live: Option<Stamp>) -> LogName {
        let is_before = |known: &Known| {
            known.file.name.is_live()
                && known.file.name.restart == name.restart
                && Some(known.file.place().stamp) != live
        };
        let rotation = if self.files.iter().any(is_before) { Rotation::Live } else { name.rotation.clone() };
        LogName { rotation, ..name.clone() }
    }

    pub fn list_again_at(&mut self, at: Instant) {
        self.settle_at = Some(self.settle_at.map_or(at, |already| already.min(at)));
    }
}

impl Known {
    /// Looks whether the file has grown, and remembers it.
    pub fn look(&self, logs: &Path) -> Look {
        if self.file.is_settled() {
            return Look::Same;
        }
        let place = self.file.place();
        let found = match &place.held {
            Some(held) if !place.linked => fstat(&held.file),
            // Not held, or where a link leads may have changed without a trace in this directory.
            _ => stat(logs.join(&place.path)),
        };
        let Ok(found) = found else { return Look::Other };
        let size = found.st_size as u64;
        if found.st_ino != place.stamp.inode || size < self.file.size() {
            return Look::Other;
        }
        if size == self.file.size() {
            return Look::Same;
        }
        self.file.set_size(size);
        Look::Grew
    }
}

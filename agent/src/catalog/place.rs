//! Where a log file's bytes are had: by a path, by a descriptor that is held open, by a name of our own.
//!
//! In: what the catalog and the retention know of the file. Out: the open file, and no other that has taken its place.
//! Never counts by hand what is held: a [`Held`] that goes gives its descriptor back.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::beneath::{Roots, regular};
use super::{Stamp, stamp_of};

/// How many files may be held open, and how many are. Clones share both.
#[derive(Debug, Clone)]
pub struct Descriptors {
    limit: usize,
    used: Arc<AtomicUsize>,
}

impl Descriptors {
    /// So many.
    pub fn new(limit: usize) -> Descriptors {
        Descriptors { limit, used: Arc::default() }
    }

    /// The most that may be held.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// Whether one more may be held.
    pub(super) fn has_spare(&self) -> bool {
        self.used.load(Ordering::Acquire) < self.limit
    }

    /// Holds a file, if there is room for it.
    pub(super) fn hold(&self, file: Arc<File>) -> Option<Held> {
        self.has_spare().then(|| self.keep(file))
    }

    /// Holds a file that must be held, such as one that replaces another.
    pub(super) fn keep(&self, file: Arc<File>) -> Held {
        self.used.fetch_add(1, Ordering::AcqRel);
        Held { file, used: self.used.clone() }
    }

    #[cfg(test)]
    pub(super) fn used(&self) -> usize {
        self.used.load(Ordering::Acquire)
    }
}

/// A file that is held open: rotated or deleted, it stays readable.
#[derive(Debug)]
pub(super) struct Held {
    pub file: Arc<File>,
    used: Arc<AtomicUsize>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.used.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Where the bytes are had.
#[derive(Debug)]
pub(super) struct Place {
    /// Path below the root of the pod logs.
    pub path: PathBuf,
    pub stamp: Stamp,
    /// Whether `path` is a link into another allowed root.
    pub linked: bool,
    pub packed: bool,
    /// Held open while somebody has yet to read it.
    pub held: Option<Held>,
    /// The same file by a name of our own, in the state directory.
    pub kept: Option<PathBuf>,
}

impl Place {
    /// Whether its bytes stay, whatever becomes of its path.
    pub fn is_safe(&self) -> bool {
        self.held.is_some() || self.kept.is_some()
    }

    /// The file: the descriptor that is held, else by its path, else by our own name.
    pub fn open(&self, roots: &Roots) -> io::Result<Arc<File>> {
        if let Some(held) = &self.held {
            return Ok(held.file.clone());
        }
        let by_path = open_place(roots, self).and_then(|file| self.checked(file));
        by_path
            .or_else(|error| self.kept.as_deref().map_or(Err(error), |kept| self.checked(open_kept(kept)?)))
    }

    fn checked(&self, file: File) -> io::Result<Arc<File>> {
        if stamp_of(&file)? == self.stamp {
            Ok(Arc::new(file))
        } else {
            Err(io::Error::new(io::ErrorKind::NotFound, "another file has taken its place"))
        }
    }
}

/// Opens what the path leads to, whatever that is.
pub(super) fn open_place(roots: &Roots, place: &Place) -> io::Result<File> {
    if place.linked { roots.open_link(&place.path) } else { roots.open_log(&place.path) }
}

/// Opens a file by a name of our own. The folders above it are ours; the file itself must still be a plain one.
pub(super) fn open_kept(path: &Path) -> io::Result<File> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    regular(File::open(folder)?, name)
}

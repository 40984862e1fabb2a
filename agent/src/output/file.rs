//! The `file` output: NDJSON files, rotated by size, exactly once.
//!
//! In: sealed batches. Out: appended lines. The length of each file is part of the output's state and is saved together
//! with the positions, after the bytes are on disk; a restart cuts each file back to the length that was saved, so that
//! what is read again is not written twice. Rotation keeps to that: `x.ndjson` becomes `x.ndjson.1`, the next one
//! `x.ndjson.2`, and a rotation that was not saved is undone. A file that somebody moves, deletes or shortens is theirs:
//! the next batch begins a new one, or goes on at its end.

use std::collections::{HashMap, HashSet};
use std::fmt::Display;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::batch::Sealed;
use crate::position::{Ledger, State, Written};

/// Files kept open between batches: a path may name pods and dates, of which there is no end.
const MOST_OPEN: usize = 1024;

/// Files that are being written, by path.
#[derive(Debug)]
pub struct Files {
    ledger: Arc<Ledger>,
    max_size: u64,
    keep: usize,
    open: HashMap<PathBuf, Target>,
    /// Bytes of the batch in hand that have been written, should the rest have to be tried again.
    done: usize,
    /// Counts batches: which file has not been written to for longest.
    batches: u64,
    /// A file was taken up, and the state that says how long it was is not saved yet.
    unsaved: bool,
    /// A rotation failed, and that has been told.
    told: bool,
    /// Of these there are more rotated files than are to be kept, since a batch that was not saved filled them.
    overfull: HashSet<PathBuf>,
    /// The directory that this batch last made a name in: one handle of it, so that it is synced once.
    directory: Option<(PathBuf, Arc<File>)>,
}

/// A file that is being written.
#[derive(Debug)]
struct Target {
    /// None after a rotation, until the next one is made.
    file: Option<Arc<File>>,
    written: Written,
    /// The batch that last wrote to it.
    used: u64,
}

impl Files {
    /// Brings the files of an earlier run back to what was saved.
    pub fn recover(ledger: Arc<Ledger>, max_size: u64, keep: usize) -> io::Result<Files> {
        for (path, written) in ledger.read(|state| state.written.clone()) {
            undo(&path, &written)?;
            // Its length is right now, and need not be remembered until it is written to again.
            ledger.change(|state| state.written.remove(&path));
        }
        Ok(Files {
            ledger,
            max_size,
            keep,
            open: HashMap::new(),
            done: 0,
            batches: 0,
            unsaved: false,
            told: false,
            overfull: HashSet::new(),
            directory: None,
        })
    }

    /// Forgets what has been written since the last [`note`](Self::note): what it came from will be read again.
    pub fn reset(&mut self) -> io::Result<()> {
        *self = Files::recover(self.ledger.clone(), self.max_size, self.keep)?;
        Ok(())
    }

    /// Nothing more is written, and all that was written has been noted: the files are as long as they should be, and
    /// need not be cut back. Whoever comes to write there next is not cut back to what was ours.
    pub fn leave(&self) {
        if self.ledger.read(|state| !state.written.is_empty()) {
            self.ledger.change(|state| state.written.clear());
        }
    }

    /// Writes a batch, or what is left of it after an error.
    pub fn write(&mut self, sealed: &Sealed) -> io::Result<()> {
        self.batches += 1;
        self.directory = None;
        let done = self.done;
        for segment in sealed.segments.iter().filter(|segment| segment.end > done) {
            self.take_up(Path::new(&segment.path)).map_err(|error| of(&segment.path, error))?;
        }
        if self.unsaved {
            // Before the first byte is written: should we be killed after it, the file is cut back to this.
            self.ledger.save().map_err(|error| of("the output's positions", error))?;
            self.unsaved = false;
        }
        for segment in &sealed.segments {
            while self.done < segment.end {
                let bytes = &sealed.body[self.done..segment.end];
                let part = self.write_some(Path::new(&segment.path), bytes);
                self.done += part.map_err(|error| of(&segment.path, error))?;
            }
        }
        self.done = 0;
        Ok(())
    }

    /// Writes as many of these lines as fit into the file at `path`, or into the one that takes its place; how many bytes
    /// that is.
    fn write_some(&mut self, path: &Path, bytes: &[u8]) -> io::Result<usize> {
        self.make_room(path)?;
        let max_size = self.max_size;
        let (file, written) = self.opened(path)?;
        let part = &bytes[..lines_within(bytes, max_size.saturating_sub(written.length))];
        // At the known length, so that what an error left half written is written over.
        file.write_all_at(part, written.length)?;
        written.length += part.len() as u64;
        Ok(part.len())
    }

    /// Enters what has been written into the state that the acknowledgement of the batch is part of.
    pub fn note(&mut self, state: &mut State) {
        if self.done > 0 {
            return;
        }
        for (path, target) in self.open.iter().filter(|(_, target)| target.used == self.batches) {
            if state.written.get(path) != Some(&target.written) {
                state.written.insert(path.clone(), target.written.clone());
                target.file.iter().for_each(|file| state.sync_first(file.clone()));
            }
        }
        while self.open.len() > MOST_OPEN {
            let Some(path) =
                self.open.iter().min_by_key(|(_, target)| target.used).map(|(path, _)| path.clone())
            else {
                return;
            };
            // As long as it is now it will be found again.
            self.open.remove(&path);
            state.written.remove(&path);
        }
    }

    /// Removes the rotated files that are too many, once what has been written and [noted](Self::note) is saved: until then
    /// they would be needed to take the rotations back.
    pub fn trim(&mut self) {
        // Positions that cannot be saved are told by who saves them every second.
        if self.overfull.is_empty() || self.done > 0 || self.ledger.save().is_err() {
            return;
        }
        let (ledger, open, keep) = (&self.ledger, &self.open, self.keep as u64);
        self.overfull.retain(|path| {
            let saved = ledger.read(|state| state.written.get(path).map_or(0, |written| written.rotations));
            remove_down_from(path, saved.saturating_sub(keep));
            open.get(path).is_some_and(|target| target.written.rotations > saved)
        });
    }

    /// Makes sure that what is at `path` is the file that is being written, before a batch goes into it.
    fn take_up(&mut self, path: &Path) -> io::Result<()> {
        let known = self.open.get(path);
        let rotations = known.map_or(0, |target| target.written.rotations);
        if let Some(Target { file: Some(file), written, .. }) = known {
            let (ours, there) = (file.metadata()?, fs::metadata(path));
            match there {
                Ok(there) if (there.dev(), there.ino()) == (ours.dev(), ours.ino()) => {
                    if ours.len() >= written.length {
                        return Ok(());
                    }
                    tell_shortened(path, written, ours.len());
                }
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => tracing::warn!(path = %path.display(),
                    "somebody took an output file away while it was being written: beginning another"),
            }
        } else if known.is_some() {
            return Ok(());
        }
        let file = create(path)?;
        let written = Written { length: file.metadata()?.len(), rotations: newest(path)?.max(rotations) };
        let directory = self.directory_of(path)?;
        self.ledger.change(|state| {
            state.written.insert(path.to_owned(), written.clone());
            state.sync_first(directory);
        });
        self.unsaved = true;
        self.open.insert(path.to_owned(), Target { file: Some(Arc::new(file)), written, used: self.batches });
        Ok(())
    }

    /// The directory of a file, to be synced: a name is on disk only when its directory is.
    fn directory_of(&mut self, path: &Path) -> io::Result<Arc<File>> {
        let parent = parent(path);
        if let Some((_, open)) = self.directory.as_ref().filter(|(known, _)| known == parent) {
            return Ok(open.clone());
        }
        let open = Arc::new(File::open(parent)?);
        self.directory = Some((parent.to_owned(), open.clone()));
        Ok(open)
    }

    /// The file at `path`, which has been taken up.
    fn opened(&mut self, path: &Path) -> io::Result<(&File, &mut Written)> {
        let target = self.open.get_mut(path).ok_or(io::ErrorKind::NotFound)?;
        target.used = self.batches;
        if target.file.is_none() {
            target.file = Some(Arc::new(create(path)?));
        }
        let file = target.file.as_deref().ok_or(io::ErrorKind::NotFound)?;
        Ok((file, &mut target.written))
    }

    /// Rotates the file at `path` if it is full. Where that is not possible the file grows on: an output that stands
    /// still would be worse.
    fn make_room(&mut self, path: &Path) -> io::Result<()> {
        let max_size = self.max_size.max(1);
        let (file, written) = self.opened(path)?;
        if written.length < max_size {
            return Ok(());
        }
        let number = written.rotations + 1;
        file.set_len(written.length)?;
        self.ledger.save()?;
        if let Err(error) = fs::rename(path, numbered(path, number)) {
            if !std::mem::replace(&mut self.told, true) {
                tracing::warn!(path = %path.display(), %error, "cannot rotate an output file: it grows over its `max_size`");
            }
            return Ok(());
        }
        let directory = self.directory_of(path)?;
        let Some(target) = self.open.get_mut(path) else { return Ok(()) };
        target.written = Written { length: 0, rotations: number };
        let full = target.file.take();
        // The renamed file's bytes, and its new name, must be on disk before a state that says so.
        let saved = self.ledger.change(|state| {
            full.into_iter().for_each(|file| state.sync_first(file));
            state.sync_first(directory);
            state.written.get(path).map_or(0, |written| written.rotations)
        });
        // Those later than what is saved would be needed to take the rotations back.
        let surplus = number.saturating_sub(self.keep as u64);
        remove_down_from(path, surplus.min(saved));
        if surplus > saved {
            self.overfull.insert(path.to_owned());
        }
        Ok(())
    }
}

/// Opens a file to write to, making it and its directory if need be. Never blocks on a FIFO.
fn create(path: &Path) -> io::Result<File> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    let nonblock = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    // 0640: logs may hold what not everyone should read.
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o640)
        .custom_flags(nonblock)
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    Ok(file)
}

/// An error that says of what it is.
fn of(what: impl Display, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// How many bytes the whole lines take that fit into `room`; one line at least.
fn lines_within(bytes: &[u8], room: u64) -> usize {
    let room = bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX));
    let fitting = memchr::memrchr(b'\n', &bytes[..room]);
    fitting.or_else(|| memchr::memchr(b'\n', bytes)).map_or(bytes.len(), |newline| newline + 1)
}

fn numbered(path: &Path, number: u64) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

/// Removes the rotated files from this number downwards, as far as there are any.
fn remove_down_from(path: &Path, mut number: u64) {
    while number > 0 {
        match fs::remove_file(numbered(path, number)) {
            Ok(()) => number -= 1,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => {
                tracing::warn!(path = %path.display(), number, %error, "cannot remove a rotated output file");
                return;
            }
        }
    }
}

/// The highest number that a rotated file of `path` has.
fn newest(path: &Path) -> io::Result<u64> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str())) else {
        return Ok(0);
    };
    let mut newest = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?.file_name();
        let number = entry.to_str().and_then(|e| e.strip_prefix(name)?.strip_prefix('.')?.parse().ok());
        newest = newest.max(number.unwrap_or(0));
    }
    Ok(newest)
}

/// Takes back rotations that came after `written` was saved, and cuts the file to the saved length. On return that is
/// on disk.
fn undo(path: &Path, written: &Written) -> io::Result<()> {
    let mut later = written.rotations + 1;
    if numbered(path, later).exists() {
        fs::rename(numbered(path, later), path)?;
        loop {
            later += 1;
            match fs::remove_file(numbered(path, later)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                other => other?,
            }
        }
        File::open(parent(path))?.sync_all()?;
    }
    let file = match OpenOptions::new().write(true).open(path) {
        Ok(file) => file,
        // Somebody took the file away with what was in it: that is theirs to do.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let length = file.metadata()?.len();
    if length > written.length {
        file.set_len(written.length)?;
        file.sync_all()?;
    } else if length < written.length {
        tell_shortened(path, written, length);
    }
    Ok(())
}

fn tell_shortened(path: &Path, written: &Written, found: u64) {
    tracing::warn!(path = %path.display(), expected = written.length, found,
        "somebody shortened an output file: going on at its end");
}

#[cfg(test)]
mod tests;

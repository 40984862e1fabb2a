//! Files without a cursor: those whose turn has not come, and those that are delivered. There may be a hundred thousand of
//! them, and a cursor is large.
//!
//! In: files, in the order in which a container's are read, and what the catalog notes in them. Out: a cursor for the
//! next one, when the ones before it have nothing more to be read; positions marked as those of a file that is gone. Never
//! opens anything.

use std::sync::Arc;
use std::time::Instant;

use super::cursor::{self, Cursor};
use super::{Reading, Worker};
use crate::catalog::file::{FileKey, LogFile};
use crate::position::Entry;

/// A look at all that are delivered is followed by a rest of so many times what it took: 1% of a core.
const REST: u32 = 99;

/// A file whose turn has not come.
#[derive(Debug)]
struct Waiting {
    file: Arc<LogFile>,
    /// What is acknowledged of it.
    offset: u64,
    /// All that is known of a copy, of which the positions say something else.
    copied: Option<Box<Entry>>,
    /// See [`Cursor::new`].
    again: bool,
}

/// A file that is delivered, and released.
#[derive(Debug)]
struct Released {
    file: Arc<LogFile>,
    /// The size at which nothing more was to be read: there is no such size where nothing is to be read.
    end: u64,
}

/// The files of a container that have no cursor.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    /// The next one last.
    waiting: Vec<Waiting>,
    released: Vec<Released>,
}

/// When the released files were looked at.
#[derive(Debug)]
pub(super) struct Looks {
    rested: Instant,
    /// A look has been put off until then.
    owed: bool,
}

impl Waiting {
    fn order(&self) -> cursor::Order<'_> {
        cursor::order(&self.file)
    }
}

impl Shelf {
    /// Whether a file waits for its turn.
    pub fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The file whose turn is next.
    pub fn next(&self) -> Option<&LogFile> {
        self.waiting.last().map(|waiting| &*waiting.file)
    }

    /// And where its oldest record begins that is not acknowledged.
    pub fn oldest(&self) -> Option<(&Arc<LogFile>, u64)> {
        self.waiting.last().map(|waiting| (&waiting.file, waiting.offset))
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.released.is_empty()
    }

    /// Bytes on disk of files that wait, and are not acknowledged.
    pub fn lag(&self) -> u64 {
        self.waiting.iter().map(|waiting| waiting.file.size().saturating_sub(waiting.offset)).sum()
    }

    /// Puts a file to those that wait, or in the place of the same one as it was known before.
    pub fn wait(&mut self, file: Arc<LogFile>, known: Option<Entry>, again: bool) {
        if let Some(known) = self.waiting.iter_mut().find(|waiting| waiting.file.key == file.key) {
            known.file = file;
            return;
        }
        // One that went, and is there again.
        self.released.retain(|released| released.file.key != file.key);
        let offset = known.as_ref().map_or(0, |entry| entry.position.offset);
        let copied = known.filter(|_| file.begins > 0).map(Box::new);
        let waiting = Waiting { file, offset, copied, again };
        let at = self.waiting.partition_point(|other| other.order() > waiting.order());
        self.waiting.insert(at, waiting);
    }

    /// A file that is not read here, and is released.
    pub fn leave(&mut self, file: Arc<LogFile>) {
        self.released.retain(|released| released.file.key != file.key);
        self.released.push(Released { file, end: u64::MAX });
    }

    /// The files that wait.
    pub fn take_waiting(&mut self) -> Vec<Arc<LogFile>> {
        self.waiting.drain(..).map(|waiting| waiting.file).collect()
    }

    /// The files that were not read here, oldest first.
    pub fn take_left(&mut self) -> Vec<Arc<LogFile>> {
        let (mut left, released) =
            std::mem::take(&mut self.released).into_iter().partition(|r| r.end == u64::MAX);
        self.released = released;
        left.sort_by(|one: &Released, other| cursor::order(&one.file).cmp(&cursor::order(&other.file)));
        left.into_iter().map(|left| left.file).collect()
    }

    /// The files that wait, and the rest, for a worker that begins again.
    pub fn split(mut self) -> (Vec<Arc<LogFile>>, Shelf) {
        (self.take_waiting(), self)
    }

    /// Looks at the files that are delivered: those that are gone are forgotten, with a word to `gone`; those that have
    /// grown are given to `grown`, and are released no more.
    fn look(&mut self, mut gone: impl FnMut(FileKey), mut grown: impl FnMut(Arc<LogFile>)) {
        self.released.retain(|released| {
            let file = &released.file;
            if file.size() > released.end && !file.name.packed {
                grown(file.clone());
                return false;
            }
            if file.is_gone() {
                gone(file.key);
            }
            !file.is_gone()
        });
    }
}

impl Looks {
    pub fn new() -> Looks {
        Looks { rested: Instant::now(), owed: false }
    }

    /// When there is a look to make up for.
    pub fn due(&self) -> Option<Instant> {
        self.owed.then_some(self.rested)
    }
}

impl Worker {
    /// Makes cursors of files that wait until a file of the container has something to be read.
    pub(super) fn take_up_next(&mut self, place: usize) {
        while !self.containers[place].cursors.iter().any(Cursor::is_readable) && self.take_up(place) {}
    }

    /// Makes cursors of all files of a container that wait.
    pub(super) fn take_up_all(&mut self, place: usize) {
        while self.take_up(place) {}
    }

    pub(super) fn take_up(&mut self, place: usize) -> bool {
        let Some(Waiting { file, copied, again, .. }) = self.containers[place].shelf.waiting.pop() else {
            return false;
        };
        let known = copied.map(|known| *known).or_else(|| self.ledger.read(|state| state.entry(file.key)));
        self.next_cursor += 1;
        self.owners.insert(self.next_cursor, file.origin.clone());
        self.containers[place].insert(Cursor::new(self.next_cursor, file, known, again));
        true
    }

    /// Drops a container's cursors of files that are delivered.
    pub(super) fn shelve(&mut self, place: usize) {
        let reading = &mut self.containers[place];
        let is_here = reading.is_here();
        let (ledger, owners, released) = (&self.ledger, &mut self.owners, &mut reading.shelf.released);
        let mut is_first = true;
        reading.cursors.retain_mut(|cursor| {
            cursor.drop_stale_source();
            // The file before may have to be read again, and its last record goes on in this one.
            if !std::mem::replace(&mut is_first, false) && !cursor.at.skipped.is_nothing() {
                return true;
            }
            cursor.release_if_delivered();
            let is_done =
                if is_here { cursor.is_delivered() && !cursor.has_grown() } else { !cursor.has_under_way() };
            if !is_done {
                return true;
            }
            is_first = true;
            cursor.release();
            owners.remove(&cursor.id);
            if cursor.file.is_gone() {
                ledger.change(|state| state.gone(cursor.file.key));
            } else {
                let end = if is_here { cursor.end() } else { u64::MAX };
                released.push(Released { file: cursor.file.clone(), end });
            }
            false
        });
    }

    /// Drops cursors of files that are delivered, and containers that have no files left. True if a file that had been
    /// delivered has grown, and is to be read on.
    pub(super) fn forget_finished(&mut self) -> bool {
        (0..self.containers.len()).for_each(|place| self.shelve(place));
        let grown = self.look_at_released();
        let again = !grown.is_empty();
        for file in grown {
            file.claim();
            self.take_file(file, false);
        }
        self.forget_empty();
        again
    }

    fn look_at_released(&mut self) -> Vec<Arc<LogFile>> {
        let begun = Instant::now();
        if begun < self.looks.rested && !self.phase.is_draining() {
            self.looks.owed = true;
            return Vec::new();
        }
        let (ledger, mut grown) = (&self.ledger, Vec::new());
        for reading in &mut self.containers {
            reading.shelf.look(|key| ledger.change(|state| state.gone(key)), |file| grown.push(file));
        }
        self.looks = Looks { rested: Instant::now() + begun.elapsed() * REST, owed: false };
        grown
    }

    fn forget_empty(&mut self) {
        if !self.containers.iter().any(Reading::is_empty) {
            return;
        }
        let stats = &self.stats;
        self.containers.retain(|reading| {
            if reading.is_empty() {
                stats.forget(&reading.stats);
            }
            !reading.is_empty()
        });
        self.places =
            self.containers.iter().enumerate().map(|(at, c)| (c.stats.origin.clone(), at)).collect();
    }
}

impl Reading {
    /// Whether it has no files left.
    fn is_empty(&self) -> bool {
        self.cursors.is_empty() && self.shelf.is_empty()
    }

    /// Takes in a cursor, in the order of reading.
    pub(super) fn insert(&mut self, cursor: Cursor) {
        let at = self.cursors.partition_point(|other| other.order() < cursor.order());
        // One or two are all that most containers ever have.
        self.cursors.reserve_exact(1);
        self.cursors.insert(at, cursor);
    }
}

//! Where a record goes on in the next file: kubelet rotates logs wherever they are, in the middle of a trace too.
//!
//! In: a file that has been rotated and read to its end, with a record that may go on. Out: the file after it, to be looked
//! into for the end of that record, and how far its first lines belong to it: those are passed over there. Until that is
//! known, the next file is not read. Never joins what two runs of a container have written.

use std::sync::Arc;

use super::cursor::Cursor;
use super::{Reading, Worker};
use crate::catalog::file::LogFile;
use crate::catalog::origin::Origin;
use crate::position::Skipped;
use crate::read::Follower;

/// The next file, and its size and whether it was settled, before it was looked into.
pub(super) struct Next {
    pub follower: Follower,
    file: Arc<LogFile>,
    seen: (u64, bool),
}

fn is_same_run(file: &LogFile, next: &LogFile) -> bool {
    matches!(*file.origin, Origin::Container(_)) && file.name.restart == next.name.restart
}

impl Reading {
    /// Whether a cursor must not be read before an earlier file of the same run tells which lines are its own.
    pub(super) fn is_held_back(&self, cursor: &Cursor) -> bool {
        let mut earlier = self.cursors.iter().take_while(|other| other.id != cursor.id);
        earlier.any(|other| other.holds_next() && is_same_run(&other.file, &cursor.file))
    }

    /// Whether there is a file after this one, so that no more will be written to it, though it may not be known yet.
    pub(super) fn is_followed(&self, at: usize) -> bool {
        let file = &self.cursors[at].file;
        let next = self.cursors.get(at + 1).map(|next| &*next.file);
        next.or_else(|| self.shelf.next()).is_some_and(|next| is_same_run(file, next))
    }
}

impl Worker {
    /// The file in which the open records of a file that is read to its end may go on; none if there is none, or if it has
    /// been read without them already.
    pub(super) fn next_of(&mut self, place: usize, at: usize) -> Option<Next> {
        let cursors = &self.containers[place].cursors;
        let id = cursors[at].id;
        if at + 1 == cursors.len() {
            self.take_up(place);
        }
        let reading = &self.containers[place];
        let (cursor, next) = (&reading.cursors[at], reading.cursors.get(at + 1)?);
        // What was taken up comes before it.
        if cursor.id != id {
            return None;
        }
        if !is_same_run(&cursor.file, &next.file) || next.file.begins > 0 {
            return None;
        }
        let begun = next.at.offset > 0;
        if begun && next.at.skipped.is_nothing() {
            return None;
        }
        // Asked before it is looked into: what is settled by then has no more than is seen.
        let is_whole = next.file.is_settled();
        let (file, size) = (next.file.clone(), next.file.size());
        // No record goes on into a third file.
        let limit = match begun {
            true => next.at.skipped.0,
            false if is_whole => [size; 2],
            false => [u64::MAX; 2],
        };
        // Where it cannot be read, what is open ends here.
        let source = file.open().ok()?;
        let follower = Follower { source, limit, skipped: Skipped::default(), pending: [None; 2] };
        Some(Next { follower, file, seen: (size, is_whole) })
    }

    /// Enters what has been found in the next file.
    pub(super) fn found_in_next(&mut self, place: usize, at: usize, next: Next, waits: bool) {
        let found = next.follower.skipped.0;
        let cursor = &mut self.containers[place].cursors[at];
        // One stream's record may have ended earlier than the other's.
        cursor.taken = Skipped([cursor.taken.0[0].max(found[0]), cursor.taken.0[1].max(found[1])]);
        if waits {
            cursor.waits_for(next.file, next.seen, next.follower.pending);
        }
        self.settle_next(place, at);
    }

    /// Tells the next file which of its first lines are not its own. A file may be read a second time, by other rules than
    /// the first: then what was taken from the next one before may be its own after all, and is not to be lost.
    pub(super) fn settle_next(&mut self, place: usize, at: usize) {
        let reading = &mut self.containers[place];
        let [cursor, rest @ ..] = &mut reading.cursors[at..] else { return };
        let (file, waits) = (cursor.file.clone(), cursor.has_open());
        if let Some(next) = rest.first_mut() {
            let taken = cursor.taken_after(next.at.skipped);
            if !is_same_run(&file, &next.file) || next.at.skipped == taken {
                return;
            }
            let [had, has] = [next.at.skipped.0, taken.0];
            if next.at.offset == 0 {
                next.skip(taken);
            } else if !waits && (had[0] > has[0] || had[1] > has[1]) {
                next.begin_with(taken);
            } else {
                return;
            }
            return self.ledger.change(|state| state.begin_with(next.file.key, taken));
        }
        let Some(next) = reading.shelf.next().filter(|next| is_same_run(&file, next)) else { return };
        let Some(known) = self.ledger.read(|state| state.entry(next.key)) else { return };
        let taken = cursor.taken_after(known.position.skipped);
        if !waits && known.position.skipped != taken {
            self.ledger.change(|state| state.begin_with(next.key, taken));
        }
    }
}

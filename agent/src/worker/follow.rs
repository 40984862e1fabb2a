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
        let is_last = at + 1 == self.containers[place].cursors.len();
        if is_last {
            self.take_up(place);
        }
        let reading = &self.containers[place];
        let (cursor, next) = (&reading.cursors[at], reading.cursors.get(at + 1)?);
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
        let cursors = &mut self.containers[place].cursors;
        let found = next.follower.skipped;
        let following = cursors.iter_mut().find(|cursor| cursor.file.key == next.file.key);
        if let Some(following) = following.filter(|_| !found.is_nothing()) {
            let known = following.at.skipped.0;
            // One stream's record may have ended earlier than the other's.
            let skipped = Skipped([known[0].max(found.0[0]), known[1].max(found.0[1])]);
            following.skip(skipped);
            self.ledger.change(|state| state.skip(next.file.key, skipped));
        }
        if waits {
            cursors[at].waits_for(next.file, next.seen, next.follower.pending);
        }
    }
}

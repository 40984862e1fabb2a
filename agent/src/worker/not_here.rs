//! Containers that the routes do not send here: their files are left alone, and nothing is kept of them.
//!
//! In: files of such containers, and containers that have become ones, or are none any more, since more is known of their
//! pods. Out: files released, so that nobody retains them for this output; and files claimed again. What a container wrote
//! while it was not sent here is sent when it is again, as far as it is still on the disk: reading goes on where it had
//! stopped, as after an outage, or begins with the oldest file there is.

use std::sync::Arc;

use super::Worker;
use crate::catalog::file::LogFile;
use crate::route::Course;

impl Worker {
    /// Leaves a file alone that is not read here.
    pub(super) fn leave(&mut self, place: usize, file: Arc<LogFile>) {
        // What was delivered of it before is not forgotten while it is there.
        if self.ledger.read(|state| state.entry(file.key).is_some()) {
            self.ledger.change(|state| state.found(file.key));
        }
        let reading = &mut self.containers[place];
        match reading.cursors.iter_mut().find(|cursor| cursor.file.key == file.key) {
            // Something of it is under way; it is released when that has landed.
            Some(cursor) => cursor.found_again(file),
            None => {
                file.release();
                reading.shelf.leave(file);
            }
        }
    }

    /// A container is no longer read here. What is under way of it lands.
    pub(super) fn give_away(&mut self, place: usize) {
        let reading = &mut self.containers[place];
        (reading.parked, reading.limited) = (None, None);
        reading.cursors.iter_mut().for_each(|cursor| cursor.held = false);
        for file in reading.shelf.take_waiting() {
            file.release();
            reading.shelf.leave(file);
        }
        self.stats.forget(&reading.stats);
        self.shelve(place);
    }

    /// A container is read here from now on, or again.
    pub(super) fn take_over(&mut self, place: usize) {
        let reading = &mut self.containers[place];
        self.stats.remember(&reading.stats);
        for file in reading.shelf.take_left() {
            file.claim();
            self.take_file(file, true);
        }
    }

    /// Counts the containers that go nowhere or are excluded, and says so when there is the first.
    pub(super) fn tell_unsent(&mut self) {
        let nowhere = self.containers.iter().filter(|c| matches!(c.course, Course::Nowhere));
        let excluded = self.containers.iter().filter(|c| matches!(c.course, Course::Excluded));
        let firsts = (nowhere.clone().next(), excluded.clone().next());
        let now = (nowhere.count(), excluded.count());
        let before = std::mem::replace(&mut self.unsent, now);
        self.stats.change_unsent(before, now);
        if let (0, Some(reading)) = (before.0, firsts.0) {
            tracing::info!(
                output = self.settings.output,
                container = reading.plan.label,
                "no route matches a container: its records go nowhere; add a `[[routes]]` at the end for all others"
            );
        }
        if let (0, Some(reading)) = (before.1, firsts.1) {
            tracing::info!(
                output = self.settings.output,
                container = reading.plan.label,
                "an annotation of a pod excludes its logs, as `[annotations]` allows; more such containers are counted"
            );
        }
    }
}

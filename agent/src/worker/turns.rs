//! Reading: fair turns over the containers, and the end of partial lines that have fallen silent.

use std::io;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use super::Worker;
use super::cursor::Cursor;
use crate::position::Position;
use crate::read::Turn;

/// How often partial lines that have fallen silent are looked for, whatever else there is to do.
pub(super) const LOOK_FOR_CUTS: Duration = Duration::from_millis(250);

/// Compressed files that are in the middle of being read, at most: each keeps some 50 KiB of inflating state, and
/// closing one would mean to inflate it again from its beginning.
const MOST_INFLATING: usize = 64;

impl Worker {
    pub(super) fn has_readable(&self) -> bool {
        self.containers.iter().any(|c| c.parked.is_none() && c.cursors.iter().any(Cursor::is_readable))
    }

    /// Whether there is a file that cannot be read for now.
    pub(super) fn has_unreadable(&self) -> bool {
        self.containers.iter().flat_map(|c| &c.cursors).any(|cursor| cursor.retry_at().is_some())
    }

    /// Whether there is one that may not be read on before it is saved where a line of it ends.
    pub(super) fn has_held(&self) -> bool {
        self.containers.iter().flat_map(|c| &c.cursors).any(|cursor| cursor.held)
    }

    /// One turn for each container that has something to read, until the batch is full; false if there was nothing.
    pub(super) fn round(&mut self) -> bool {
        let mut progress = false;
        let now = Instant::now();
        let count = self.containers.len();
        let mut inflating =
            self.containers.iter().flat_map(|c| &c.cursors).filter(|c| c.is_inflating()).count();
        for _ in 0..count {
            if self.is_full() {
                break;
            }
            let place = self.next_turn % count;
            self.next_turn = place + 1;
            let reading = &mut self.containers[place];
            if reading.parked.is_some_and(|until| until > now) {
                continue;
            }
            reading.parked = None;
            let may_inflate = inflating < MOST_INFLATING;
            let next = reading
                .cursors
                .iter()
                .position(|c| c.is_readable() && (may_inflate || !c.file.name.packed || c.is_inflating()));
            if let Some(at) = next {
                inflating += usize::from(reading.cursors[at].file.name.packed);
                progress |= self.turn(place, at);
            }
        }
        progress
    }

    /// One turn in one file; false if nothing came of it.
    fn turn(&mut self, place: usize, at: usize) -> bool {
        let limit = self.batch_bytes();
        let reading = &mut self.containers[place];
        let cursor = &mut reading.cursors[at];
        // Asked before the read: what is settled by then is read to its end.
        let (size, settled) = (cursor.file.size(), cursor.file.is_settled());
        // That a plain file is settled is our clock's word: the lines that it ends are cut first, and that is saved.
        let ended = settled && (cursor.file.name.packed || cursor.has_seen(size));
        if ended && cursor.lacks_cuts() {
            let cuts = cursor.cut();
            self.ledger.change(|state| cuts.iter().for_each(|cut| state.cut(cursor.file.key, *cut)));
            return true;
        }
        cursor.read_on();
        let mut source = match cursor.take_source() {
            Ok(source) => source,
            Err(error) => return self.reading_failed(place, at, error),
        };
        let (start, items) = (cursor.at, self.batch.items);
        let (batch, plan) = (&mut self.batch, &reading.plan);
        let framing = cursor.file.framing;
        let result = self.reader.turn(&mut source, &mut cursor.at, framing, &cursor.cuts, ended, |record| {
            batch.push(plan, &cursor.id_text, &record);
            if batch.plain_bytes() >= limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        let progress = self.enter_run(place, at, start, items);
        let cursor = &mut self.containers[place].cursors[at];
        match result {
            Ok(Turn::More) => cursor.keep_source(source),
            Ok(Turn::End) => {
                if let Some(damage) = cursor.reached_end(size, ended, source) {
                    let lost = size.saturating_sub(cursor.at.offset);
                    tracing::error!(
                        output = self.settings.output,
                        container = self.containers[place].plan.label,
                        bytes = lost,
                        damage,
                        "a compressed log file is damaged: what lies behind the damage is lost"
                    );
                    self.stats.lost_bytes.add(lost);
                }
            }
            Err(error) => {
                self.reading_failed(place, at, error);
            }
        }
        // At the end of a settled file there is one turn more.
        progress || settled
    }

    /// Enters what a turn has read since `start`, when the batch had `items` records; false if that is nothing.
    fn enter_run(&mut self, place: usize, at: usize, start: Position, items: u32) -> bool {
        let reading = &mut self.containers[place];
        let cursor = &mut reading.cursors[at];
        let items = self.batch.items - items;
        reading.stats.read_bytes.add(cursor.at.offset.saturating_sub(start.offset));
        reading.stats.records_read.add(items.into());
        self.stats.records_read.add(items.into());
        self.stats.records_too_old.add(std::mem::take(&mut self.reader.too_old));
        if let Err(error) = self.batch.fold() {
            unreachable!("compressing into memory failed: {error}");
        }
        if cursor.at == start {
            return false;
        }
        cursor.add_run(&mut self.batch, start, items);
        true
    }

    /// A file could not be read: it is left alone for a while, or given up if it is gone. Always true: there may be
    /// another file of the container to be read.
    fn reading_failed(&mut self, place: usize, at: usize, error: io::Error) -> bool {
        let reading = &mut self.containers[place];
        let (output, container) = (&self.settings.output, &reading.plan.label);
        let failure = reading.cursors[at].fail(&error);
        if let Some(bytes) = failure.lost {
            self.stats.lost_bytes.add(bytes);
            tracing::error!(output, container, bytes, %error,
                "a log file went away before it was read: these bytes are lost");
        } else if failure.first {
            tracing::warn!(output, container, %error, "cannot read a log file; trying again every second");
        }
        true
    }

    /// Ends partial lines whose end has not come for `join_gap`. Where they end is then a matter of our clock, so it is
    /// saved before they are sent: read again, they must end there too. Not left to quiet times: a busy container must
    /// not hold back the last line of a silent one.
    pub(super) fn cut_silent_groups(&mut self) -> bool {
        if self.cuts_looked.elapsed() < LOOK_FOR_CUTS || self.is_full() {
            return false;
        }
        self.cuts_looked = Instant::now();
        let mut due = Vec::new();
        for (place, reading) in self.containers.iter_mut().enumerate().filter(|(_, c)| c.parked.is_none()) {
            for (at, cursor) in reading.cursors.iter_mut().enumerate() {
                let silent = cursor.silent_at(self.settings.rules.join_gap);
                let is_due = silent.is_some_and(|since| since <= self.cuts_looked) && !cursor.has_unread();
                if is_due && !cursor.held {
                    let cuts = cursor.cut();
                    self.ledger.change(|state| cuts.iter().for_each(|cut| state.cut(cursor.file.key, *cut)));
                }
                if cursor.held {
                    due.push((place, at));
                }
            }
        }
        if due.is_empty() {
            return false;
        }
        if let Err(error) = self.ledger.save() {
            if !std::mem::replace(&mut self.cuts_told, true) {
                tracing::warn!(output = self.settings.output, %error,
                    "cannot save where partial lines end; they wait until that works");
            }
            return false;
        }
        self.cuts_told = false;
        for (place, at) in due {
            let cursor = &mut self.containers[place].cursors[at];
            cursor.held = false;
            // One that was set back, or has grown since, is read on, and its lines end where they were cut. What has no
            // room now is found again at the next look.
            if !cursor.has_unread() && !self.is_full() {
                self.close_groups(place, at);
            }
        }
        true
    }

    fn close_groups(&mut self, place: usize, at: usize) {
        let reading = &mut self.containers[place];
        let cursor = &mut reading.cursors[at];
        let mut source = match cursor.take_source() {
            Ok(source) => source,
            Err(error) => {
                self.reading_failed(place, at, error);
                return;
            }
        };
        let (start, items) = (cursor.at, self.batch.items);
        let (batch, plan) = (&mut self.batch, &reading.plan);
        let closed = self.reader.close_groups(&mut source, &mut cursor.at, cursor.file.framing, |record| {
            batch.push(plan, &cursor.id_text, &record);
            ControlFlow::Continue(())
        });
        self.enter_run(place, at, start, items);
        if let Err(error) = closed {
            self.reading_failed(place, at, error);
        }
    }
}

//! Reading: fair turns over the containers, and the end of partial lines that have fallen silent.

use std::io;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use super::cursor::{Cursor, LeftOut};
use super::enrich::Waits;
use super::limits::Gate;
use super::queue::Queue;
use super::{Reading, Worker};
use crate::batch::Pushed;
use crate::catalog::file::Source;
use crate::position::Position;
use crate::read::{End, Manner, TURN, Turn};
use crate::stats::Loss;

/// How often partial lines that have fallen silent are looked for, whatever else there is to do.
pub(super) const LOOK_FOR_CUTS: Duration = Duration::from_millis(250);

/// A save of where they end is followed by so many times its length without one: at most a tenth of the time goes into it.
const REST_AFTER_CUTS: u32 = 9;

/// But by no more than this.
const MOST_REST_AFTER_CUTS: Duration = Duration::from_secs(10);

/// Compressed files that are in the middle of being read, at most: each keeps some 50 KiB of inflating state, and
/// closing one would mean to inflate it again from its beginning.
const MOST_INFLATING: usize = 64;

/// Bytes that a round reads at most: what of it is dropped or passed over as too old fills no batch, and one that lingers
/// must be sent in time.
const ROUND: u64 = 8 << 20;

impl Worker {
    pub(super) fn has_readable(&self) -> bool {
        self.containers.iter().any(|c| c.set_aside().is_none() && c.has_readable())
    }

    /// Whether there is a file that cannot be read for now, or that waits for somebody else.
    pub(super) fn has_unreadable(&self) -> bool {
        let held = |c: &Reading| matches!(c.waits, Waits::ForIt(_)) && c.has_readable();
        self.containers
            .iter()
            .filter(|c| c.is_here())
            .any(|c| held(c) || c.cursors.iter().any(|cursor| cursor.retry_at().is_some()))
    }

    /// Whether there is one that may not be read on before it is saved where a line of it ends, or before it is known which
    /// of its lines are its own.
    pub(super) fn has_held(&self) -> bool {
        let held = |c: &Reading| {
            c.cursors.iter().any(|cursor| cursor.held || (cursor.is_readable() && c.is_held_back(cursor)))
        };
        self.containers.iter().filter(|c| c.is_here()).any(held)
    }

    /// Turns of the containers that have something to read, until the batch is full; false if there was nothing.
    pub(super) fn round(&mut self) -> bool {
        let (mut progress, mut looked, mut read) = (false, false, 0);
        let leaving = self.is_leaving();
        while read < ROUND && !self.is_full() {
            if !looked && self.queue.is_look_due() {
                self.line_up();
                looked = true;
            }
            let Some(origin) = self.queue.next() else { break };
            // It is not there where it has been forgotten meanwhile.
            let Some(&place) = self.places.get(&origin) else { continue };
            Queue::out(&mut self.containers[place].share);
            let (bytes, useful) = self.visit(place);
            let reading = &mut self.containers[place];
            let more = useful && reading.set_aside().is_none() && reading.has_readable();
            reading.share.charge(&mut self.queue, bytes, more);
            if more {
                reading.share.written = leaving.then(|| reading.oldest_written());
                self.queue.add(&origin, &mut reading.share);
            }
            progress |= useful;
            read += bytes;
        }
        progress
    }

    /// Whether there are records that wait for their end, on a node that is going away: nobody will read them later.
    pub(super) fn has_last_words(&self) -> bool {
        self.is_leaving()
            && self.containers.iter().filter(|c| c.is_here()).flat_map(|c| &c.cursors).any(Cursor::has_open)
    }

    /// Whether the node is going away.
    pub(super) fn is_leaving(&self) -> bool {
        self.settings.table.as_ref().is_some_and(|table| table.is_leaving())
    }

    /// Puts every container into the queue that has something to read.
    fn line_up(&mut self) {
        let (now, leaving, stops) = (Instant::now(), self.is_leaving(), self.phase.is_draining());
        self.inflating = 0;
        for reading in &mut self.containers {
            reading.parked = reading.parked.filter(|until| *until > now);
            reading.limited = reading.limited.filter(|until| *until > now);
            reading.waits.end_at(now);
            self.inflating += reading.cursors.iter().filter(|c| c.is_inflating()).count();
            for at in 0..if stops { reading.cursors.len() } else { 0 } {
                if reading.cursors[at].has_open() && reading.is_followed(at) {
                    reading.cursors[at].leave();
                }
            }
            if !reading.share.is_queued() && reading.set_aside().is_none() && reading.has_readable() {
                reading.share.written = leaving.then(|| reading.oldest_written());
                self.queue.add(&reading.stats.origin, &mut reading.share);
            }
        }
        self.queue.looked(now);
    }

    /// One turn in the oldest file of a container that can be read; how many bytes were read, and whether anything came
    /// of it.
    fn visit(&mut self, place: usize) -> (u64, bool) {
        if self.containers[place].set_aside().is_some() {
            return (0, false);
        }
        self.take_up_next(place);
        let reading = &mut self.containers[place];
        let may_inflate = self.inflating < MOST_INFLATING;
        let next = reading.cursors.iter().position(|c| {
            c.is_readable()
                && (may_inflate || !c.file.name.packed || c.is_inflating())
                && !reading.is_held_back(c)
        });
        let Some(at) = next else { return (0, false) };
        let restart = reading.cursors[at].file.name.restart;
        if reading.awaits_run(&self.settings, restart) {
            return (0, false);
        }
        let cursor = &reading.cursors[at];
        self.inflating += usize::from(cursor.file.name.packed && !cursor.is_inflating());
        let (id, start) = (cursor.id, cursor.at.offset);
        let useful = self.turn(place, at);
        // Another one may have been taken up before it.
        let read = Some(&self.containers[place].cursors[at]).filter(|cursor| cursor.id == id);
        (read.map_or(0, |cursor| cursor.at.offset.saturating_sub(start)), useful)
    }

    /// One turn in one file; false if nothing came of it.
    fn turn(&mut self, place: usize, at: usize) -> bool {
        let limit = self.batch_bytes();
        let reading = &mut self.containers[place];
        let gate = reading.limit.as_deref_mut().map(|limit| limit.open(Instant::now()));
        reading.limited = gate.and_then(|mut gate| gate.shut_until());
        if reading.limited.is_some() {
            return false;
        }
        let cursor = &mut reading.cursors[at];
        // Asked before the read: what is settled by then is read to its end.
        let (size, settled) = (cursor.file.size(), cursor.is_settled());
        // That a plain file is settled is our clock's word: the lines that it ends are cut first, and that is saved.
        let ended = settled && (cursor.file.name.packed || cursor.has_seen(size));
        if cursor.is_packed_and_done() {
            cursor.finish();
            return true;
        }
        // The end of a compressed file may come with this turn.
        let may_go_on = cursor.has_open() || (cursor.file.name.packed && cursor.unread() <= TURN as u64);
        let id = cursor.id;
        let mut next = if ended && may_go_on { self.next_of(place, at) } else { None };
        let reading = &mut self.containers[place];
        let cursor = &mut reading.cursors[at];
        if cursor.id != id {
            // A file that comes before it was taken up.
            return true;
        }
        if ended && next.is_none() {
            cursor.follow_no_more();
            if cursor.lacks_cuts() {
                let cuts = cursor.cut();
                self.ledger.change(|state| cuts.iter().for_each(|cut| state.cut(cursor.file.key, *cut)));
                return true;
            }
        }
        cursor.read_on();
        self.reader.past = cursor.past;
        let mut source = match cursor.take_source() {
            Ok(source) => source,
            Err(error) => return self.reading_failed(place, at, error),
        };
        let mut gate = reading.limit.as_deref_mut().map(|limit| limit.open(Instant::now()));
        let (start, items, mark) = (cursor.at, self.batch.items, self.batch.mark());
        let (batch, judged) = (&mut self.batch, cursor.judged_until);
        let plan = reading.plan.of_run(cursor.file.name.restart);
        let mut filtered = 0;
        let manner = Manner {
            framing: cursor.file.framing,
            cuts: &cursor.cuts,
            multiline: reading.plan.multiline(),
            end: match &mut next {
                Some(next) => End::Followed(&mut next.follower),
                None if ended => End::Final,
                None => End::Open,
            },
        };
        let result = self.reader.turn(&mut source, &mut cursor.at, manner, |record| {
            let mut gate = gate.as_mut().filter(|_| record.last > judged);
            let pushed = batch.push(plan, &cursor.id_text, &record, |record| {
                gate.as_mut().is_none_or(|gate| gate.admits(record))
            });
            filtered += u64::from(pushed == Pushed::Filtered);
            if pushed != Pushed::In {
                return ControlFlow::Continue(());
            }
            let shut = gate.is_some_and(|gate| gate.is_shut());
            if shut || batch.plain_bytes() >= limit {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        reading.limited = gate.as_mut().and_then(Gate::shut_until);
        let dropped = gate.map(|gate| gate.dropped).unwrap_or_default();
        let left_out = LeftOut { dropped, filtered, ..LeftOut::default() };
        if self.channels.taps.are_open() {
            self.offer(place, mark);
        }
        let progress = self.enter_run(place, at, start, items, left_out);
        let waits = matches!(result, Ok(Turn::Waits));
        if let Some(next) = next {
            self.found_in_next(place, at, next, waits);
        }
        self.end_turn(place, at, result, source, (size, ended));
        // At the end of a settled file there is one turn more.
        progress || (settled && !waits)
    }

    /// What the end of a turn means for its file, which had that size, and was ended or not, when it began.
    pub(super) fn end_turn(
        &mut self,
        place: usize,
        at: usize,
        result: io::Result<Turn>,
        source: Source,
        (size, ended): (u64, bool),
    ) {
        let cursor = &mut self.containers[place].cursors[at];
        match result {
            Ok(Turn::More | Turn::Waits) => cursor.keep_source(source),
            Ok(Turn::End) => {
                if ended {
                    self.settle_next(place, at);
                }
                let cursor = &mut self.containers[place].cursors[at];
                if let Some((reason, damage)) = cursor.reached_end(size, ended, source) {
                    let lost = cursor.lose_to(size);
                    let reading = &self.containers[place];
                    tracing::error!(
                        output = self.settings.output,
                        container = reading.plan.label,
                        bytes = lost,
                        reason = reason.as_str(),
                        damage,
                        "a rotated log file is not whole: what is not there of it any more is lost"
                    );
                    self.stats.losses.add(&reading.stats.origin, reason, Loss::unread(lost));
                }
            }
            Err(error) => {
                self.reading_failed(place, at, error);
            }
        }
    }

    /// Enters what a turn has read since `start`, when the batch had `items` records; false if that is nothing.
    fn enter_run(&mut self, place: usize, at: usize, start: Position, items: u32, left_out: LeftOut) -> bool {
        let reading = &mut self.containers[place];
        let cursor = &mut reading.cursors[at];
        let items = self.batch.items - items;
        let bytes = cursor.at.offset.saturating_sub(start.offset);
        reading.stats.read_bytes.add(bytes);
        self.stats.read_bytes.add(bytes);
        reading.stats.records_read.add(items.into());
        self.stats.records_read.add(items.into());
        self.stats.records_too_old.add(std::mem::take(&mut self.reader.too_old));
        if let Err(error) = self.batch.fold() {
            unreachable!("compressing into memory failed: {error}");
        }
        if cursor.at == start {
            return false;
        }
        cursor.add_run(&mut self.batch, (start, self.reader.begun), items, left_out);
        true
    }

    /// A file could not be read: it is left alone for a while, or given up if it is gone. Always true: there may be
    /// another file of the container to be read.
    pub(super) fn reading_failed(&mut self, place: usize, at: usize, error: io::Error) -> bool {
        let reading = &mut self.containers[place];
        let (output, container) = (&self.settings.output, &reading.plan.label);
        let failure = reading.cursors[at].fail(&error);
        if let Some((bytes, reason)) = failure.lost {
            if self.stats.losses.add(&reading.stats.origin, reason, Loss::unread(bytes)) {
                tracing::error!(output, container, bytes, reason = reason.as_str(), %error,
                    "a log file went away before it was read: these bytes are lost; what more goes of this container in this \
                     way is counted");
            }
        } else if failure.first {
            tracing::warn!(output, container, %error, "cannot read a log file; trying again every second");
        }
        true
    }

    /// Ends records whose end has not come for long. Where they end is then a matter of our clock, so it is
    /// saved before they are sent: read again, they must end there too. Not left to quiet times: a busy container must
    /// not hold back the last line of a silent one.
    pub(super) fn cut_silent_groups(&mut self) -> bool {
        if self.cuts_looked.elapsed() < self.cuts_pause() || self.is_full() {
            return false;
        }
        self.cuts_looked = Instant::now();
        let (mut due, gap) = (Vec::new(), self.settings.rules.join_gap);
        for (place, reading) in self
            .containers
            .iter_mut()
            .enumerate()
            .filter(|(_, c)| c.parked.is_none() && !c.waits.is_waiting() && c.is_here())
        {
            let timeout = reading.timeout(gap);
            for at in 0..reading.cursors.len() {
                let cursor = &reading.cursors[at];
                let silent = cursor.silent_at(gap, timeout);
                let is_due = silent.is_some_and(|since| since <= self.cuts_looked) && !cursor.has_unread();
                // One that has been rotated is looked for in the next file first.
                let may_go_on = is_due && !cursor.is_settled() && reading.is_followed(at);
                let cursor = &mut reading.cursors[at];
                if is_due && !may_go_on && !cursor.held {
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
        let begun = Instant::now();
        let saved = self.ledger.save();
        self.cuts_took = begun.elapsed();
        if let Err(error) = saved {
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

    /// Time between two looks for them: on a slow disk a save takes long, and nothing is read meanwhile.
    pub(super) fn cuts_pause(&self) -> Duration {
        let rest = if self.phase.is_draining() { Duration::ZERO } else { self.cuts_took * REST_AFTER_CUTS };
        rest.clamp(LOOK_FOR_CUTS, MOST_REST_AFTER_CUTS)
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
        let (start, items, mark) = (cursor.at, self.batch.items, self.batch.mark());
        let (batch, judged) = (&mut self.batch, cursor.judged_until);
        let plan = reading.plan.of_run(cursor.file.name.restart);
        let mut gate = reading.limit.as_deref_mut().map(|limit| limit.open(Instant::now()));
        self.reader.past = cursor.past;
        let mut filtered = 0;
        let closed = self.reader.close_groups(&mut source, &mut cursor.at, cursor.file.framing, |record| {
            let gate = gate.as_mut().filter(|_| record.last > judged);
            let pushed = batch
                .push(plan, &cursor.id_text, &record, |record| gate.is_none_or(|gate| gate.admits(record)));
            filtered += u64::from(pushed == Pushed::Filtered);
            ControlFlow::Continue(())
        });
        let dropped = gate.map(|gate| gate.dropped).unwrap_or_default();
        if self.channels.taps.are_open() {
            self.offer(place, mark);
        }
        self.enter_run(place, at, start, items, LeftOut { dropped, filtered, ..LeftOut::default() });
        if let Err(error) = closed {
            self.reading_failed(place, at, error);
        }
    }
}

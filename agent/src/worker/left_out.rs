//! What is left out by decision: where an output lags too far behind, and by rate limits.
//!
//! In: containers of which more than `max_lag` is unread. Out: cursors that stand further on, at the end of a whole
//! record, and counts by container and reason. Whole files are passed over unread; in the last one the records are read
//! and let go, so that those behind them begin where they always would. What is left out is acknowledged in its order:
//! no position moves over it before all that lies in front of it is delivered.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use super::Worker;
use super::cursor::{LeftOut, Moved};
use crate::read::{End, Manner};
use crate::stats::{Loss, LossReason};

/// How often it is looked for containers that lag.
const LOOK_FOR_LAG: Duration = Duration::from_millis(250);

/// Bytes that are read and let go before anything else is done again.
const AT_A_TIME: u64 = 16 << 20;

impl Worker {
    /// Brings containers of which too much is unread back under the bound; true if there was one.
    pub(super) fn drop_oldest(&mut self) -> bool {
        let Some(most) = self.settings.max_lag else { return false };
        if self.lag_looked.elapsed() < LOOK_FOR_LAG {
            return false;
        }
        let (mut left, mut progress) = (AT_A_TIME, false);
        for place in 0..self.containers.len() {
            let reading = &self.containers[place];
            if !reading.is_here() {
                continue;
            }
            let unread =
                reading.cursors.iter().map(|cursor| cursor.unread()).sum::<u64>() + reading.shelf.lag();
            if unread > most {
                self.take_up_all(place);
                progress |= self.pass_over(place, unread - most, &mut left);
            }
            if left == 0 {
                return true;
            }
        }
        self.lag_looked = Instant::now();
        progress
    }

    /// Passes over `excess` bytes of the oldest files of a container, of which at most `left` are read; true if it could.
    fn pass_over(&mut self, place: usize, mut excess: u64, left: &mut u64) -> bool {
        let mut progress = false;
        for at in 0..self.containers[place].cursors.len() {
            let unread = self.containers[place].cursors[at].unread();
            if unread == 0 {
                continue;
            }
            // Which of its first lines are its own is not known yet.
            if self.containers[place].is_held_back(&self.containers[place].cursors[at]) {
                break;
            }
            let cursor = &mut self.containers[place].cursors[at];
            if unread <= excess && cursor.file.is_settled() {
                excess -= unread;
                let moved = cursor.pass_to_end();
                self.passed_over(place, at, moved);
                progress = true;
                continue;
            }
            let end = cursor.at.offset + excess.min(*left);
            while *left > 0 && self.containers[place].cursors[at].at.offset < end {
                let read = self.let_go(place, at, end);
                if read == 0 {
                    break;
                }
                *left = left.saturating_sub(read);
                progress = true;
            }
            break;
        }
        progress
    }

    /// Reads records of a file up to `end` and lets them go; how many bytes that was.
    fn let_go(&mut self, place: usize, at: usize, end: u64) -> u64 {
        let reading = &mut self.containers[place];
        let cursor = &mut reading.cursors[at];
        if !cursor.is_readable() {
            return 0;
        }
        let (size, settled) = (cursor.file.size(), cursor.file.is_settled());
        cursor.read_on();
        self.reader.past = cursor.past;
        let mut source = match cursor.take_source() {
            Ok(source) => source,
            Err(error) => {
                self.reading_failed(place, at, error);
                return 0;
            }
        };
        let (start, framing) = (cursor.at, cursor.file.framing);
        let mut records = 0;
        let multiline = reading.plan.multiline();
        let end_of_file = if settled { End::Final } else { End::Open };
        let manner = Manner { framing, cuts: &cursor.cuts, multiline, end: end_of_file };
        let result = self.reader.turn(&mut source, &mut cursor.at, manner, |record| {
            records += 1;
            if record.last >= end { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        // Those too old were to be passed over anyhow.
        self.stats.records_too_old.add(std::mem::take(&mut self.reader.too_old));
        let moved = if cursor.at == start {
            None
        } else {
            cursor.pass_over(Loss { records, bytes: cursor.at.oldest().saturating_sub(start.oldest()) })
        };
        let read = cursor.at.offset - start.offset;
        self.passed_over(place, at, moved);
        self.end_turn(place, at, result, source, (size, settled));
        read
    }

    fn passed_over(&mut self, place: usize, at: usize, moved: Option<Moved>) {
        let Some(moved) = moved else { return };
        let key = self.containers[place].cursors[at].file.key;
        self.ledger.change(|state| state.acknowledge(key, moved.to));
        self.count_left_out(place, moved.left_out);
    }

    /// Counts what a position has moved over without its being delivered, and tells of it once for each container.
    pub(super) fn count_left_out(&self, place: usize, left_out: LeftOut) {
        let reading = &self.containers[place];
        let (output, container) = (&self.settings.output, &reading.plan.label);
        reading.stats.records_filtered.add(left_out.filtered);
        self.stats.records_filtered.add(left_out.filtered);
        let lagged = Some((LossReason::Lag, left_out.lagged)).filter(|(_, loss)| *loss != Loss::default());
        for (reason, loss) in left_out.dropped.by_reason().chain(lagged) {
            let Loss { records, bytes } = loss;
            if !self.stats.losses.add(&reading.stats.origin, reason, loss) {
                continue;
            }
            if reason == LossReason::Lag {
                tracing::warn!(
                    output,
                    container,
                    records,
                    bytes,
                    "the output lags by more than `max_lag`: the oldest of a container is dropped, and counted from now on"
                );
            } else {
                tracing::warn!(
                    output,
                    container,
                    records,
                    bytes,
                    reason = reason.as_str(),
                    "a container writes more than `rate_limit` allows: the rest is dropped, and counted from now on"
                );
            }
        }
    }
}

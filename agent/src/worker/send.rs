//! Sending: when a batch goes, how it is accounted for, and what its end does to cursors and positions.

use std::future::Future;
use std::time::{Duration, Instant};

use super::enrich::Waits;
use super::{Landed, Sink, Worker};
use crate::batch::Run;
use crate::clock::unix_nanos;
use crate::output::credit::Credit;
use crate::output::{Fate, Settled};
use crate::stats::{Loss, LossReason};

/// A batch is closed when it covers this many stretches, whatever its size: they are kept in memory.
const MOST_RUNS: usize = 1024;

impl Worker {
    pub(super) fn is_full(&self) -> bool {
        self.batch.plain_bytes() >= self.batch_bytes() || self.batch.runs.len() >= MOST_RUNS
    }

    /// Bytes that a batch may have: as configured, or less where the destination has refused that much.
    pub(super) fn batch_bytes(&self) -> u64 {
        match &self.sink {
            Sink::Elasticsearch(client, _) => self.settings.batch.min(client.batch_limit()),
            Sink::CloudWatch(..) | Sink::Files(_) | Sink::Stdout(_) => self.settings.batch,
            #[cfg(test)]
            Sink::Kept(_) => self.settings.batch,
        }
    }

    /// How long a batch waits to become fuller: as configured, or longer where the destination asks for fewer requests.
    pub(super) fn linger(&self) -> Duration {
        if self.is_leaving() {
            return Duration::ZERO;
        }
        match &self.sink {
            Sink::CloudWatch(sender, _) => sender.linger(),
            Sink::Elasticsearch(..) | Sink::Files(_) | Sink::Stdout(_) => self.settings.linger,
            #[cfg(test)]
            Sink::Kept(_) => self.settings.linger,
        }
    }

    pub(super) fn is_due(&self) -> bool {
        let waited = self.batch.opened.is_some_and(|opened| opened.elapsed() >= self.linger());
        self.is_full()
            || waited
            || (!self.batch.is_empty() && self.phase.is_draining() && !self.has_readable())
    }

    pub(super) fn has_credit(&self) -> bool {
        let in_flight = self.in_flight.saturating_sub(self.early.batches());
        let bytes = self.in_flight_bytes.saturating_sub(self.early.bytes());
        self.waiting.is_none()
            && in_flight < self.settings.in_flight
            && (self.in_flight == 0 || bytes < self.settings.in_flight_bytes)
    }

    /// Closes the batch and sends it.
    pub(super) fn dispatch(&mut self) {
        let sealed = match self.batch.seal(self.spare.pop().unwrap_or_default()) {
            Ok(sealed) => sealed,
            // Compression writes into memory: there is nothing that could fail.
            Err(error) => unreachable!("compressing into memory failed: {error}"),
        };
        if sealed.items == 0 {
            let runs = sealed.runs.into_iter().map(|run| (run, Fate::Acknowledged)).collect();
            return self.acknowledge(runs);
        }
        match &mut self.sink {
            Sink::Elasticsearch(client, runtime) => {
                let (client, runtime, bytes) = (client.clone(), runtime.clone(), sealed.body.len() as u64);
                let credit = Credit::new(self.early.clone(), self.channels.wake.clone(), bytes);
                self.launch(&runtime, bytes, async move { client.deliver(sealed, Some(credit)).await });
            }
            Sink::CloudWatch(sender, runtime) => {
                // With what is kept of each event beside its text: of short lines that is as much again.
                let (runtime, bytes) = (runtime.clone(), sealed.plain_bytes);
                let delivery = sender.send(sealed);
                self.launch(&runtime, bytes, delivery);
            }
            Sink::Files(_) | Sink::Stdout(_) => {
                self.waiting = Some((sealed, Instant::now()));
                self.write_waiting();
            }
            #[cfg(test)]
            Sink::Kept(kept) => {
                let bytes = sealed.body.len() as u64;
                self.in_flight += 1;
                self.in_flight_bytes += bytes;
                self.stats.in_flight.add(1);
                self.stats.in_flight_bytes.add(bytes);
                kept.push(sealed);
            }
        }
    }

    /// A batch is on its way, and comes back as [`Landed`].
    fn launch(
        &mut self,
        runtime: &tokio::runtime::Handle,
        bytes: u64,
        delivery: impl Future<Output = Settled> + Send + 'static,
    ) {
        self.in_flight += 1;
        self.in_flight_bytes += bytes;
        self.stats.in_flight.add(1);
        self.stats.in_flight_bytes.add(bytes);
        let (settle, wake) = (self.channels.settle.clone(), self.channels.wake.clone());
        let delivery = runtime.spawn(delivery);
        runtime.spawn(async move {
            // An error is a panic of the delivery: its credit must come back nevertheless.
            let settled = delivery.await.ok();
            // The worker is gone only when the agent stops.
            let _ = settle.send(Landed { settled, bytes });
            wake.wake();
        });
    }

    /// Writes the batch that waits, if it is time; true if it is written.
    pub(super) fn write_waiting(&mut self) -> bool {
        let Some((sealed, at)) = self.waiting.take() else { return false };
        if at > Instant::now() {
            self.waiting = Some((sealed, at));
            return false;
        }
        let written = match &mut self.sink {
            Sink::Files(files) => files.write(&sealed),
            Sink::Stdout(out) => out.write(&sealed),
            Sink::Elasticsearch(..) | Sink::CloudWatch(..) => Ok(()),
            #[cfg(test)]
            Sink::Kept(_) => Ok(()),
        };
        if let Err(error) = written {
            if self.retry.tries() == 0 {
                tracing::warn!(output = self.settings.output, %error,
                    "cannot write; trying again until it works, nothing is lost meanwhile");
            }
            self.stats.fail(&error);
            self.stats.retries.add(1);
            self.waiting = Some((sealed, Instant::now() + self.retry.next(None)));
            return false;
        }
        if self.retry.tries() > 0 {
            tracing::info!(output = self.settings.output, "writing again");
            self.retry.reset();
        }
        self.stats.requests.add(1);
        self.stats.sent_bytes.add(sealed.body.len() as u64);
        self.stats.records_delivered.add(sealed.items.into());
        self.acknowledge(sealed.runs.into_iter().map(|run| (run, Fate::Acknowledged)).collect());
        self.keep_spare(sealed.body);
        true
    }

    fn keep_spare(&mut self, body: Vec<u8>) {
        if self.spare.len() < self.settings.in_flight && body.capacity() > 0 {
            self.spare.push(body);
        }
    }

    /// A batch has come back: gives its credit back and enters what became of it.
    pub(super) fn land(&mut self, landed: Landed) {
        assert!(self.in_flight > 0, "more batches came back than were sent");
        self.in_flight -= 1;
        self.in_flight_bytes -= landed.bytes;
        self.stats.in_flight.sub(1);
        self.stats.in_flight_bytes.sub(landed.bytes);
        match landed.settled {
            Some(settled) => {
                if self.settings.gzip.is_none() {
                    self.keep_spare(settled.spare);
                }
                self.enter_losses(settled.lost);
                self.acknowledge(settled.runs);
            }
            None => {
                tracing::error!(
                    output = self.settings.output,
                    "a delivery failed, which is a bug in Taffrail; what was under way is read and sent again"
                );
                for place in 0..self.containers.len() {
                    let mut lost = false;
                    for cursor in self.containers[place].cursors.iter_mut().filter(|c| c.has_under_way()) {
                        cursor.set_back();
                        lost = true;
                    }
                    if lost {
                        self.park(place);
                    }
                }
            }
        }
    }

    /// Counts what the destination will never have.
    fn enter_losses(&self, lost: Vec<(u64, LossReason, Loss)>) {
        for (cursor, reason, loss) in lost {
            let Some(origin) = self.owners.get(&cursor) else { continue };
            if self.stats.losses.add(origin, reason, loss) {
                tracing::error!(output = self.settings.output, container = %origin, reason = reason.as_str(),
                    "the destination rejected a record for its time, and it is dropped as `rejected` says; \
                     what more goes of this container in this way is counted");
            }
        }
    }

    /// Moves positions over what the destination has taken, and sets back the cursors of what it has not.
    pub(super) fn acknowledge(&mut self, runs: Vec<(Run, Fate)>) {
        let (mut moved, mut places) = (Vec::new(), Vec::new());
        let now = unix_nanos();
        for (run, fate) in runs {
            let Some(&place) = self.owners.get(&run.cursor).and_then(|owner| self.places.get(owner)) else {
                continue;
            };
            let reading = &mut self.containers[place];
            let Some(cursor) =
                reading.cursors.iter_mut().find(|c| c.id == run.cursor && c.epoch == run.epoch)
            else {
                continue;
            };
            match fate {
                Fate::Acknowledged => {
                    reading.stats.records_delivered.add(run.items.into());
                    self.stats.passed_bytes.add(run.end.offset.saturating_sub(run.start.offset));
                    if run.items > 0 {
                        reading.stats.delivered_bytes.add(run.line_bytes);
                        self.stats.delivered_bytes.add(run.line_bytes);
                        let times = (run.begun, run.end.time);
                        self.stats.count_in_time(run.items.into(), times, now);
                    }
                    if let Some(position) = cursor.acknowledge(&run) {
                        moved.push((cursor.file.key, position.to));
                        // What lands of it while it is set aside, of another of its files, says nothing yet.
                        if reading.parked.is_none() && reading.backoff.tries() > 0 {
                            reading.backoff.reset();
                            let container = &reading.plan.label;
                            tracing::info!(
                                output = self.settings.output,
                                container,
                                "the destination takes the container's records again"
                            );
                        }
                        places.push(place);
                        self.count_left_out(place, position.left_out);
                    }
                }
                Fate::Parked => {
                    cursor.set_back();
                    self.park(place);
                }
                // The agent ends, or goes on after all: what is not known to be there is read again.
                Fate::Abandoned => cursor.set_back(),
            }
        }
        self.ledger.change(|state| {
            for (key, position) in moved {
                state.acknowledge(key, position);
            }
            if let Sink::Files(files) = &mut self.sink {
                files.note(state);
            }
        });
        if let Sink::Files(files) = &mut self.sink {
            files.trim();
        }
        // At once: small files are read by the thousand, and each would keep its cursor until there is time.
        places.dedup();
        places.into_iter().for_each(|place| self.shelve(place));
    }

    /// Sets a container aside for a while; the others go on.
    fn park(&mut self, place: usize) {
        let reading = &mut self.containers[place];
        if reading.parked.is_some() || !reading.is_here() {
            return;
        }
        let wait = Duration::from_secs(1) + reading.backoff.next(None);
        if reading.backoff.tries() == 1 {
            tracing::warn!(
                output = self.settings.output,
                container = reading.plan.label,
                error = self.stats.last_error(),
                "the destination does not take a container's records: set aside and tried again, others go on"
            );
        }
        self.stats.parked.add(1);
        reading.parked = Some(Instant::now() + wait);
    }

    /// Whether a container is to be read on that is set aside, or waits for its rate limit or for what is not known of it.
    pub(super) fn has_set_aside(&self) -> bool {
        self.containers.iter().any(|c| {
            let waits = c.limited.is_some() || matches!(c.waits, Waits::Until(_));
            c.parked.is_some() || (waits && c.has_readable())
        })
    }
}

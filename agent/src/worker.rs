//! A worker: the one reader of an output (or of its share of the containers).
//!
//! In: files from the catalog, settlements from the output. Out: batches for the output and acknowledgements for the
//! ledger. It reads when it has credit to send, in fair turns, and stands still otherwise: the log files are the queue.
//! Owns its cursors alone; never blocks on the network.

mod cursor;

use std::collections::HashMap;
use std::io;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::batch::{Batch, Format, Run, Sealed};
use crate::catalog::beneath::Roots;
use crate::catalog::file::{Container, LogFile};
use crate::config::template::{Safe, Template};
use crate::metadata::NodeFacts;
use crate::output::backoff::Backoff;
use crate::output::elasticsearch::Elasticsearch;
use crate::output::file::Files;
use crate::output::stdout::Stdout;
use crate::output::{Fate, Settled};
use crate::position::{Cut, Lane, Ledger};
use crate::read::{Reader, Rules, Turn};
use crate::route::Plan;
use crate::stats::{ContainerStats, OutputStats};
use crate::wake::Wake;
use cursor::Cursor;

/// A batch is closed when it covers this many stretches, whatever its size: they are kept in memory.
const MOST_RUNS: usize = 1024;

/// How far the agent has come with stopping.
#[derive(Debug, Default)]
pub struct Phase(AtomicU8);

impl Phase {
    /// Read on until nothing is left, without waiting for more; then end.
    pub fn drain(&self) {
        self.0.fetch_max(1, Ordering::AcqRel);
    }

    /// End now.
    pub fn abort(&self) {
        self.0.store(2, Ordering::Release);
    }

    fn is_draining(&self) -> bool {
        self.0.load(Ordering::Acquire) >= 1
    }

    fn is_aborting(&self) -> bool {
        self.0.load(Ordering::Acquire) == 2
    }
}

/// Where a worker's batches go.
#[derive(Debug)]
pub enum Sink {
    /// Over the network, several at a time.
    Elasticsearch(Arc<Elasticsearch>, tokio::runtime::Handle),
    /// Into files, by the worker itself.
    Files(Files),
    /// To standard output, by the worker itself.
    Stdout(Stdout),
}

/// What a worker is made with.
#[derive(Debug)]
pub struct Settings {
    /// The output's name.
    pub output: String,
    /// Which share of the containers is its own, of how many.
    pub shard: (usize, usize),
    /// Where files may lie.
    pub roots: Roots,
    /// What is the same for all containers.
    pub facts: NodeFacts,
    /// Where records go.
    pub target: Option<(Template, Safe)>,
    /// What records are turned into.
    pub format: Format,
    /// Level of gzip, or none.
    pub gzip: Option<u32>,
    /// How lines are read.
    pub rules: Rules,
    /// How long the first record of a batch waits for others.
    pub linger: Duration,
    /// Bytes of a batch before compression.
    pub batch: u64,
    /// Batches in flight at most.
    pub in_flight: usize,
    /// Bytes of batches in flight at most: this worker's share of the memory budget.
    pub in_flight_bytes: u64,
}

/// The ends of the channels to a worker.
#[derive(Debug)]
pub struct Channels {
    /// Files, from the catalog.
    pub files: Receiver<Arc<LogFile>>,
    /// Settlements, from the output.
    pub settled: Receiver<Settled>,
    /// For the output to settle by.
    pub settle: Sender<Settled>,
    /// Set when either has something, or the phase changed.
    pub wake: Arc<Wake>,
}

/// A container as this worker reads it.
#[derive(Debug)]
struct Reading {
    plan: Plan,
    cursors: Vec<Cursor>,
    stats: Arc<ContainerStats>,
    /// Set aside until then, because the destination did not take its records.
    parked: Option<Instant>,
    backoff: Backoff,
}

/// The worker's whole state.
#[derive(Debug)]
pub struct Worker {
    settings: Settings,
    channels: Channels,
    ledger: Arc<Ledger>,
    stats: Arc<OutputStats>,
    phase: Arc<Phase>,
    sink: Sink,
    reader: Reader,
    batch: Batch,
    containers: Vec<Reading>,
    /// Which container each cursor belongs to.
    owners: HashMap<u64, Arc<Container>>,
    places: HashMap<Arc<Container>, usize>,
    next_cursor: u64,
    next_turn: usize,
    in_flight: usize,
    in_flight_bytes: u64,
    spare: Vec<Vec<u8>>,
    /// A batch that the worker writes itself and could not yet, and when to try again.
    waiting: Option<(Sealed, Instant)>,
    retry: Backoff,
    lag_told: Instant,
}

impl Worker {
    /// A worker that has read nothing yet.
    pub fn new(
        settings: Settings,
        channels: Channels,
        ledger: Arc<Ledger>,
        stats: Arc<OutputStats>,
        phase: Arc<Phase>,
        sink: Sink,
    ) -> Worker {
        Worker {
            reader: Reader::new(settings.rules),
            batch: Batch::new(settings.format, settings.gzip),
            settings,
            channels,
            ledger,
            stats,
            phase,
            sink,
            containers: Vec::new(),
            owners: HashMap::new(),
            places: HashMap::new(),
            next_cursor: 0,
            next_turn: 0,
            in_flight: 0,
            in_flight_bytes: 0,
            spare: Vec::new(),
            waiting: None,
            retry: Backoff::new(Duration::from_millis(100), Duration::from_secs(10)),
            lag_told: Instant::now(),
        }
    }

    /// Works until the agent stops; true if everything was delivered.
    pub fn run(&mut self) -> bool {
        loop {
            self.take_news();
            self.tell_lag();
            if self.phase.is_aborting() {
                return false;
            }
            let mut progress = self.write_waiting();
            if self.is_due() && self.has_credit() {
                self.dispatch();
                progress = true;
            }
            if !self.is_full() {
                progress |= self.round();
            }
            if !progress {
                self.cut_silent_groups();
                let idle = self.batch.is_empty() && self.in_flight == 0 && self.waiting.is_none();
                if self.phase.is_draining() && idle && !self.has_parked() {
                    return true;
                }
                self.channels.wake.wait(self.next_event());
            }
        }
    }

    fn take_news(&mut self) {
        while let Ok(file) = self.channels.files.try_recv() {
            self.take_file(file);
        }
        while let Ok(settled) = self.channels.settled.try_recv() {
            self.settle(settled);
        }
    }

    fn take_file(&mut self, file: Arc<LogFile>) {
        let (shard, shards) = self.settings.shard;
        if file.container.shard(shards) != shard {
            return;
        }
        let container = file.container.clone();
        let place = *self.places.entry(container.clone()).or_insert_with(|| {
            let target = self.settings.target.as_ref().map(|(template, safe)| (template, *safe));
            self.containers.push(Reading {
                plan: Plan::new(&self.settings.facts, &container, target),
                cursors: Vec::new(),
                stats: self.stats.container(container.clone()),
                parked: None,
                backoff: Backoff::new(Duration::from_secs(1), Duration::from_secs(60)),
            });
            self.containers.len() - 1
        });
        let cursors = &mut self.containers[place].cursors;
        if cursors.iter().any(|cursor| cursor.file.key == file.key) {
            return;
        }
        self.next_cursor += 1;
        self.owners.insert(self.next_cursor, container);
        let known = self.ledger.read(|state| state.entry(file.key).cloned());
        let cursor = Cursor::new(self.next_cursor, file, known);
        let at = cursors.partition_point(|other| other.order() < cursor.order());
        cursors.insert(at, cursor);
    }

    // Sending.

    fn is_full(&self) -> bool {
        self.batch.plain_bytes() >= self.settings.batch || self.batch.runs.len() >= MOST_RUNS
    }

    fn is_due(&self) -> bool {
        let waited = self.batch.opened.is_some_and(|opened| opened.elapsed() >= self.settings.linger);
        self.is_full() || waited || (!self.batch.is_empty() && self.phase.is_draining() && !self.has_readable())
    }

    fn has_credit(&self) -> bool {
        self.waiting.is_none()
            && self.in_flight < self.settings.in_flight
            && (self.in_flight == 0 || self.in_flight_bytes < self.settings.in_flight_bytes)
    }

    fn dispatch(&mut self) {
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
                self.in_flight += 1;
                self.in_flight_bytes += sealed.body.len() as u64;
                let (client, settle, wake) =
                    (client.clone(), self.channels.settle.clone(), self.channels.wake.clone());
                runtime.spawn(async move {
                    let settled = client.deliver(sealed).await;
                    // The worker is gone only when the agent stops.
                    let _ = settle.send(settled);
                    wake.wake();
                });
            }
            Sink::Files(_) | Sink::Stdout(_) => {
                self.waiting = Some((sealed, Instant::now()));
                self.write_waiting();
            }
        }
    }

    /// Writes the batch that waits, if it is time; true if it is written.
    fn write_waiting(&mut self) -> bool {
        let Some((sealed, at)) = self.waiting.take() else { return false };
        if at > Instant::now() {
            self.waiting = Some((sealed, at));
            return false;
        }
        let written = match &mut self.sink {
            Sink::Files(files) => files.write(&sealed),
            Sink::Stdout(out) => out.write(&sealed),
            Sink::Elasticsearch(..) => Ok(()),
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

    fn settle(&mut self, settled: Settled) {
        self.in_flight -= 1;
        self.in_flight_bytes = if self.in_flight == 0 {
            0
        } else {
            self.in_flight_bytes.saturating_sub(settled.spare.len() as u64)
        };
        if self.settings.gzip.is_none() {
            self.keep_spare(settled.spare);
        }
        self.acknowledge(settled.runs);
    }

    /// Moves positions over what the destination has taken, and sets back the cursors of what it has not.
    fn acknowledge(&mut self, runs: Vec<(Run, Fate)>) {
        let mut moved = Vec::new();
        for (run, fate) in runs {
            let Some(place) = self.owners.get(&run.cursor).and_then(|owner| self.places.get(owner)) else { continue };
            let reading = &mut self.containers[*place];
            let Some(cursor) = reading.cursors.iter_mut().find(|c| c.id == run.cursor && c.epoch == run.epoch) else {
                continue;
            };
            match fate {
                Fate::Acknowledged => {
                    reading.stats.records_delivered.add(run.items.into());
                    if let Some(position) = cursor.acknowledge(&run) {
                        moved.push((cursor.file.key, position));
                        reading.backoff.reset();
                    }
                }
                Fate::Parked => {
                    cursor.set_back();
                    let wait = Duration::from_secs(1) + reading.backoff.next(None);
                    if reading.backoff.tries() == 1 {
                        tracing::warn!(output = self.settings.output, container = reading.plan.label,
                            error = self.stats.last_error(),
                            "the destination does not take a container's records: set aside and tried again, others go on");
                    }
                    self.stats.parked.add(1);
                    reading.parked = Some(Instant::now() + wait);
                }
                Fate::Abandoned => {}
            }
        }
        self.ledger.change(|state| {
            for (key, position) in moved {
                state.acknowledge(key, position);
            }
            if let Sink::Files(files) = &self.sink {
                files.note(state);
            }
        });
        self.forget_finished();
    }

    // Reading.

    fn has_readable(&self) -> bool {
        self.containers.iter().any(|c| c.parked.is_none() && c.cursors.iter().any(Cursor::is_readable))
    }

    fn has_parked(&self) -> bool {
        self.containers.iter().any(|c| c.parked.is_some())
    }

    /// One turn for each container that has something to read, until the batch is full.
    fn round(&mut self) -> bool {
        let mut progress = false;
        let now = Instant::now();
        let count = self.containers.len();
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
            if let Some(at) = reading.cursors.iter().position(Cursor::is_readable) {
                progress |= self.turn(place, at);
            }
        }
        progress
    }

    fn turn(&mut self, place: usize, at: usize) -> bool {
        let reading = &mut self.containers[place];
        let cursor = &mut reading.cursors[at];
        // Asked before the read: what is settled by then is read to its end.
        let (size, settled) = (cursor.file.size(), cursor.file.is_settled());
        cursor.read_on();
        if let Err(error) = cursor.open(&self.settings.roots) {
            if cursor.fail(&error) {
                let lost = size.saturating_sub(cursor.at.offset);
                self.stats.lost_bytes.add(lost);
                tracing::error!(output = self.settings.output, container = reading.plan.label, bytes = lost, %error,
                    "a log file went away before it was read: these bytes are lost");
            }
            return false;
        }
        let Some(mut source) = cursor.source.take() else { return false };
        let (start, items) = (cursor.at, self.batch.items);
        let (batch, plan, limit) = (&mut self.batch, &reading.plan, self.settings.batch);
        let result = self.reader.turn(&mut source, &mut cursor.at, &cursor.cuts, settled, |record| {
            batch.push(plan, &cursor.id_text, &record);
            if batch.plain_bytes() >= limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        let items = self.batch.items - items;
        reading.stats.read_bytes.add(cursor.at.offset.saturating_sub(start.offset));
        reading.stats.records_read.add(items.into());
        self.stats.records_read.add(items.into());
        self.stats.records_too_old.add(std::mem::take(&mut self.reader.too_old));
        let progress = cursor.at != start;
        if progress {
            cursor.add_run(&mut self.batch, start, items);
        }
        match result {
            Ok(Turn::More) => cursor.source = Some(source),
            Ok(Turn::End) => {
                if let Some(damage) = cursor.reached_end(size, settled, source) {
                    tracing::error!(output = self.settings.output, container = reading.plan.label, damage,
                        "a compressed log file is damaged: what lies behind the damage is lost");
                    self.stats.lost_bytes.add(size.saturating_sub(cursor.at.offset));
                }
            }
            Err(error) => {
                if cursor.fail(&error) {
                    self.stats.lost_bytes.add(size.saturating_sub(cursor.at.offset));
                }
                tracing::warn!(output = self.settings.output, container = reading.plan.label, %error,
                    "cannot read a log file; trying again");
            }
        }
        if let Err(error) = self.batch.fold() {
            unreachable!("compressing into memory failed: {error}");
        }
        progress || self.containers[place].cursors[at].is_finished()
    }

    /// Ends partial lines whose end has not come for `join_gap`. Where they end is then a matter of our clock, so it is
    /// saved before they are sent: read again, they must end there too.
    fn cut_silent_groups(&mut self) {
        let gap = self.settings.rules.join_gap;
        for place in 0..self.containers.len() {
            for at in 0..self.containers[place].cursors.len() {
                let reading = &mut self.containers[place];
                let cursor = &mut reading.cursors[at];
                let lanes = [Lane::Stdout as usize, Lane::Stderr as usize];
                let open: Vec<Cut> = lanes
                    .iter()
                    .filter_map(|lane| cursor.at.open[*lane])
                    .map(|group| Cut { first: group.first, end: group.end })
                    .collect();
                if open.is_empty() || cursor.is_readable() || cursor.last_read.elapsed() < gap {
                    continue;
                }
                self.ledger.change(|state| open.iter().for_each(|cut| state.cut(cursor.file.key, *cut)));
                if let Err(error) = self.ledger.save() {
                    tracing::warn!(%error, "cannot save where a partial line ends; it waits");
                    return;
                }
                cursor.cuts.extend(open);
                if cursor.open(&self.settings.roots).is_err() {
                    continue;
                }
                let Some(mut source) = cursor.source.take() else { continue };
                let (start, items) = (cursor.at, self.batch.items);
                let (batch, plan) = (&mut self.batch, &reading.plan);
                let closed = self.reader.close_groups(&mut source, &mut cursor.at, |record| {
                    batch.push(plan, &cursor.id_text, &record);
                    ControlFlow::Continue(())
                });
                let items = self.batch.items - items;
                reading.stats.records_read.add(items.into());
                self.stats.records_read.add(items.into());
                if cursor.at != start {
                    cursor.add_run(&mut self.batch, start, items);
                }
                if let Err(error) = closed {
                    tracing::warn!(%error, container = reading.plan.label, "cannot read a partial line again; it waits");
                }
            }
        }
    }

    /// Drops cursors of files that are gone and delivered, and containers that have none left.
    fn forget_finished(&mut self) {
        let mut emptied = false;
        for reading in &mut self.containers {
            let (ledger, owners) = (&self.ledger, &mut self.owners);
            reading.cursors.retain_mut(|cursor| {
                cursor.release_if_delivered();
                let done = cursor.is_delivered() && cursor.file.is_gone();
                if done {
                    ledger.change(|state| state.gone(cursor.file.key));
                    owners.remove(&cursor.id);
                }
                !done
            });
            emptied |= reading.cursors.is_empty();
        }
        if emptied {
            let stats = &self.stats;
            self.containers.retain(|reading| {
                if reading.cursors.is_empty() {
                    stats.forget(&reading.stats);
                }
                !reading.cursors.is_empty()
            });
            self.places =
                self.containers.iter().enumerate().map(|(at, c)| (c.stats.container.clone(), at)).collect();
        }
    }

    fn tell_lag(&mut self) {
        if self.lag_told.elapsed() < Duration::from_millis(100) {
            return;
        }
        self.lag_told = Instant::now();
        self.forget_finished();
        for reading in &self.containers {
            reading.stats.lag_bytes.set(reading.cursors.iter().map(Cursor::lag).sum());
        }
    }

    /// How long nothing will happen unless somebody wakes us.
    fn next_event(&self) -> Duration {
        let now = Instant::now();
        let mut wait = Duration::from_secs(10);
        if let Some(opened) = self.batch.opened.filter(|_| self.has_credit()) {
            wait = wait.min(self.settings.linger.saturating_sub(opened.elapsed()));
        }
        if let Some((_, at)) = &self.waiting {
            wait = wait.min(at.saturating_duration_since(now));
        }
        for reading in &self.containers {
            if let Some(until) = reading.parked {
                wait = wait.min(until.saturating_duration_since(now));
            }
            for at in reading.cursors.iter().filter_map(Cursor::retry_at) {
                wait = wait.min(at.saturating_duration_since(now));
            }
            if reading.cursors.iter().any(Cursor::has_open_pieces) {
                wait = wait.min(Duration::from_millis(250).min(self.settings.rules.join_gap));
            }
        }
        wait
    }
}

/// Runs a worker so that a fault in it ends neither the agent nor another output; false if it ended by one.
pub fn run_guarded(worker: &mut Worker) -> Result<bool, io::Error> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| worker.run()))
        .map_err(|_| io::Error::other("the worker of this output failed; this is a bug in Taffrail"))
}

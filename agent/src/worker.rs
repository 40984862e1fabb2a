//! A worker: the one reader of an output (or of its share of the containers).
//!
//! In: files from the catalog, settlements from the output. Out: batches for the output and acknowledgements for the
//! ledger. It reads when it has credit to send, in fair turns ([`turns`]), sends ([`send`]), and stands still
//! otherwise: the log files are the queue. Owns its cursors alone; never blocks on the network.

pub(crate) mod cursor;
mod enrich;
mod follow;
mod left_out;
mod limits;
mod not_here;
mod offer;
mod oldest;
mod phase;
mod queue;
mod send;
mod shelf;
mod turns;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::time::{Duration, Instant, UNIX_EPOCH};

use crate::batch::{Batch, Format, Sealed};
use crate::catalog::file::LogFile;
use crate::catalog::origin::Origin;
use crate::config::Wish;
use crate::config::template::{Safe, Template};
use crate::metadata::NodeFacts;
use crate::metadata::facts::Known;
use crate::metadata::table::{Claim, Table};
use crate::output::Settled;
use crate::output::backoff::Backoff;
use crate::output::cloudwatch;
use crate::output::credit::Early;
use crate::output::elasticsearch::Elasticsearch;
use crate::output::file::Files;
use crate::output::stdout::Stdout;
use crate::position::{Entry, Ledger, Position};
use crate::pulse::Pulse;
use crate::read::{Reader, Rules};
use crate::route::{Course, Plan, Routes};
use crate::stats::{ContainerStats, Loss, LossReason, OutputStats};
use crate::tap::Taps;
use crate::wake::Wake;
use cursor::Cursor;
use enrich::Waits;
use limits::Limit;
pub use limits::RateLimits;
use oldest::Oldest;
pub use phase::{Event, Phase, Standing};
use queue::{Queue, Share};
use shelf::{Looks, Shelf};

/// How often lags are worked out while there is work.
const TELL_LAG: Duration = Duration::from_millis(100);

/// How long nothing may happen before a worker looks round by itself.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// After this long without a fault, the next one is taken for the first.
const FORGIVEN: Duration = Duration::from_secs(300);

/// Where a worker's batches go.
#[derive(Debug)]
pub enum Sink {
    /// Over the network, several at a time.
    Elasticsearch(Arc<Elasticsearch>, tokio::runtime::Handle),
    /// To CloudWatch, several batches at a time.
    CloudWatch(cloudwatch::Sender, tokio::runtime::Handle),
    /// Into files, by the worker itself.
    Files(Files),
    /// To standard output, by the worker itself.
    Stdout(Stdout),
    /// Kept, for a test to settle them.
    #[cfg(test)]
    Kept(Vec<Sealed>),
}

/// What a worker is made with.
#[derive(Debug)]
pub struct Settings {
    /// The output's name.
    pub output: String,
    /// Which share of the containers is its own, of how many.
    pub shard: (usize, usize),
    /// What is the same for all containers.
    pub facts: NodeFacts,
    /// Where more is known of containers, if anybody is asked.
    pub table: Option<Arc<Table>>,
    /// Where records go.
    pub target: Option<(Template, Safe)>,
    /// Which containers' records go there, and what is done with each.
    pub routes: Routes,
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
    /// What containers and namespaces may send.
    pub limits: Option<Arc<RateLimits>>,
    /// Bytes of a container that may be unread; beyond that the oldest is dropped.
    pub max_lag: Option<u64>,
}

/// The ends of the channels to a worker.
#[derive(Debug)]
pub struct Channels {
    /// Files, from the catalog.
    pub files: Receiver<Arc<LogFile>>,
    /// Batches that have landed, from the output.
    pub settled: Receiver<Landed>,
    /// For the output to settle by.
    pub settle: Sender<Landed>,
    /// Set when either has something, or the phase changed.
    pub wake: Arc<Wake>,
    /// How the worker stands, for those who stop the agent.
    pub standing: Arc<Standing>,
    /// And where it tells them that this has changed.
    pub events: Sender<Event>,
    /// That of its thread.
    pub pulse: Arc<Pulse>,
    /// Who looks at documents on their way.
    pub taps: Arc<Taps>,
}

/// A batch that is no longer in flight.
#[derive(Debug)]
pub struct Landed {
    /// What became of it; `None` if the delivery itself failed, by a fault in us.
    settled: Option<Settled>,
    /// The credit that it took.
    bytes: u64,
}

/// A container as this worker reads it.
#[derive(Debug)]
struct Reading {
    /// What the routes say of it.
    course: Course,
    /// What its pod wishes and is not followed here.
    suppressed: Vec<Wish>,
    plan: Plan,
    /// Keeps what is known of its pod.
    claim: Option<Claim>,
    /// What the plan was made of.
    known: Option<Arc<Known>>,
    waits: Waits,
    /// Which run was waited for, and until when.
    awaited_run: Option<(u32, Instant)>,
    cursors: Vec<Cursor>,
    shelf: Shelf,
    stats: Arc<ContainerStats>,
    oldest: Oldest,
    /// Set aside until then, because the destination did not take its records.
    parked: Option<Instant>,
    backoff: Backoff,
    /// Its share of the turns.
    share: Share,
    /// What it may send, and until when it waits because that is used up.
    limit: Option<Box<Limit>>,
    limited: Option<Instant>,
}

impl Reading {
    /// Until when nothing of it is to be read.
    fn set_aside(&self) -> Option<Instant> {
        self.parked.max(self.limited).max(self.waits.until())
    }

    /// When what it has to read first was last written to, in [`queue::WRITTEN_TOGETHER`]: 0 where kubelet has deleted it.
    fn oldest_written(&self) -> u64 {
        let read = self.cursors.iter().find(|cursor| cursor.is_readable()).map(|cursor| &*cursor.file);
        let written = read.or_else(|| self.shelf.next()).and_then(LogFile::modified);
        let since = written.and_then(|written| written.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
        since.as_secs() / queue::WRITTEN_TOGETHER.as_secs()
    }

    /// How long a record of several lines waits for more; one whose line is not whole waits for `gap`.
    fn timeout(&self, gap: Duration) -> Duration {
        self.plan.multiline().map_or(gap, |rule| rule.timeout)
    }

    fn has_readable(&self) -> bool {
        self.is_here() && (self.shelf.has_waiting() || self.cursors.iter().any(Cursor::is_readable))
    }
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
    owners: HashMap<u64, Arc<Origin>>,
    places: HashMap<Arc<Origin>, usize>,
    next_cursor: u64,
    /// Containers that have something to read.
    queue: Queue,
    /// Compressed files that are in the middle of being read.
    inflating: usize,
    in_flight: usize,
    in_flight_bytes: u64,
    early: Arc<Early>,
    spare: Vec<Vec<u8>>,
    /// A batch that the worker writes itself and could not yet, and when to try again.
    waiting: Option<(Sealed, Instant)>,
    retry: Backoff,
    lag_told: Instant,
    oldest_looked: Option<Instant>,
    looks: Looks,
    /// When silent partial lines were last looked for, and whether it has been told that they cannot be ended.
    cuts_looked: Instant,
    /// How long the last save of them took.
    cuts_took: Duration,
    cuts_told: bool,
    /// When it was last looked for containers of which too much is unread.
    lag_looked: Instant,
    /// The revision of what is known that the plans follow.
    revision: u64,
    /// Whether it has been told that containers wait for what is not known of them.
    waiting_told: bool,
    /// Containers that go nowhere, and that are excluded.
    unsent: (usize, usize),
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
            queue: Queue::new(),
            inflating: 0,
            in_flight: 0,
            in_flight_bytes: 0,
            early: Arc::default(),
            spare: Vec::new(),
            waiting: None,
            retry: Backoff::new(Duration::from_millis(100), Duration::from_secs(10)),
            lag_told: Instant::now(),
            oldest_looked: None,
            looks: Looks::new(),
            cuts_looked: Instant::now(),
            cuts_took: Duration::ZERO,
            cuts_told: false,
            lag_looked: Instant::now(),
            revision: 0,
            waiting_told: false,
            unsent: (0, 0),
        }
    }

    /// Works until the agent stops; true if everything was delivered.
    pub fn run(&mut self) -> bool {
        loop {
            self.channels.pulse.beat();
            self.take_news();
            if self.lag_told.elapsed() >= TELL_LAG {
                self.tell_lag();
            }
            if self.phase.is_aborting() {
                self.leave_files();
                return false;
            }
            if self.phase.is_settling() {
                self.tell_standing();
                self.wait(LONGEST_WAIT);
                continue;
            }
            if self.step() || self.tell_lag() {
                continue;
            }
            let idle = self.batch.is_empty() && self.in_flight == 0 && self.waiting.is_none();
            // All containers are looked through for it: only where the answer counts.
            let is_quiet = || !self.has_set_aside() && !self.has_held() && !self.has_last_words();
            if self.phase.is_draining() && idle && is_quiet() {
                self.leave_files();
                return !self.has_unreadable();
            }
            self.wait(self.next_event());
        }
    }

    fn wait(&self, timeout: Duration) {
        self.channels.pulse.rest();
        self.channels.wake.wait(timeout);
    }

    /// Does whatever can be done now; false if that is nothing.
    fn step(&mut self) -> bool {
        let mut progress = self.write_waiting() | self.drop_oldest();
        if self.is_due() && self.has_credit() {
            self.dispatch();
            progress = true;
        }
        if !self.is_full() {
            progress |= self.round();
        }
        progress | self.cut_silent_groups()
    }

    /// Says that nothing is read and written, and whether nothing is under way.
    fn tell_standing(&self) {
        let standing = if self.in_flight == 0 { Standing::SETTLED } else { Standing::PAUSED };
        if self.channels.standing.tell(standing) {
            // Nobody listens when the agent has been dropped.
            let _ = self.channels.events.send(Event::Stands);
        }
    }

    /// At the end: files that hold what is acknowledged and nothing else need no cutting back. The next to write there
    /// may be another output.
    fn leave_files(&mut self) {
        if let (Sink::Files(files), None) = (&self.sink, &self.waiting) {
            files.leave();
        }
    }

    fn take_news(&mut self) {
        self.follow_metadata();
        while let Ok(file) = self.channels.files.try_recv() {
            self.take_file(file, false);
        }
        while let Ok(landed) = self.channels.settled.try_recv() {
            self.land(landed);
        }
    }

    /// Takes up a file. `again`: this worker has read in it before, and forgotten how far.
    fn take_file(&mut self, file: Arc<LogFile>, again: bool) {
        let (shard, shards) = self.settings.shard;
        if file.origin.shard(shards) != shard {
            return;
        }
        let origin = file.origin.clone();
        let place = self.place_of(&origin);
        if !self.containers[place].is_here() {
            return self.leave(place, file);
        }
        let since = self.settings.rules.since;
        let known = self.ledger.change(|state| {
            if let (None, Some(past)) = (state.entry(file.key), file.past)
                && since.is_some_and(|since| past.modified < since)
            {
                // All of it is older than what this output begins with. Remembered: later its time of change is another.
                let position = Position { offset: past.end, ..Position::default() };
                state.acknowledge(file.key, position);
            }
            if state.is_new() && file.at_start {
                let inflated = if file.name.packed { u64::MAX } else { file.size() };
                state.was_there(file.key, inflated);
            }
            state.found(file.key)
        });
        let known = self.without_lost(&file, known);
        let reading = &mut self.containers[place];
        match reading.cursors.iter().position(|cursor| cursor.file.key == file.key) {
            // The catalog had lost sight of it, and found it again.
            Some(at) => {
                let mut cursor = reading.cursors.remove(at);
                cursor.found_again(file);
                reading.insert(cursor);
            }
            None => reading.shelf.wait(file, known, again),
        }
    }

    /// Where a container is, which is new if it is not known yet.
    fn place_of(&mut self, origin: &Arc<Origin>) -> usize {
        *self.places.entry(origin.clone()).or_insert_with(|| {
            let enriched = enrich::enrich(&self.settings, origin);
            let stats = self.stats.container(origin.clone());
            if !enriched.course.is_here() {
                self.stats.forget(&stats);
            }
            stats.set_plan(enriched.plan.in_words());
            if let (Some(table), Some(known)) = (&self.settings.table, &enriched.known) {
                stats.set_labels(enrich::labels(table, known));
            }
            let suppressed = enrich::suppressed(&self.settings, origin, enriched.known.as_deref());
            suppressed.iter().for_each(|wish| self.stats.suppressed[*wish as usize].add(1));
            // What the agent tells of itself is bounded, and is to arrive most of all where limits drop something.
            let limits = self.settings.limits.as_ref().filter(|_| !origin.is_health());
            self.containers.push(Reading {
                suppressed,
                course: enriched.course,
                plan: enriched.plan,
                claim: enriched.claim,
                known: enriched.known,
                waits: enriched.waits,
                awaited_run: None,
                cursors: Vec::new(),
                shelf: Shelf::default(),
                stats,
                oldest: Oldest::default(),
                parked: None,
                backoff: Backoff::new(Duration::from_secs(1), Duration::from_secs(60)),
                share: Share::default(),
                limit: limits.map(|all| Box::new(all.of(origin, Instant::now()))),
                limited: None,
            });
            self.containers.len() - 1
        })
    }

    /// What is known of a file, but for what a copy of it lacks: that was read when the copy was made, by every output that
    /// there was.
    fn without_lost(&self, file: &LogFile, known: Option<Entry>) -> Option<Entry> {
        let oldest = known.as_ref().map_or(file.begins, |entry| entry.position.oldest());
        if known.is_some() && oldest >= file.begins {
            return known;
        }
        if oldest < file.begins {
            self.stats.losses.add(&file.origin, LossReason::Deleted, Loss::unread(file.begins - oldest));
        }
        let position = Position { offset: file.begins, ..Position::default() };
        (file.begins > 0).then(|| Entry { position, ..Entry::default() })
    }

    /// After a fault: forgets everything but the files, and begins again where the ledger says.
    fn begin_again(&mut self) -> io::Result<()> {
        let (mut files, mut shelves) = (Vec::new(), Vec::new());
        for reading in self.containers.drain(..) {
            self.stats.forget(&reading.stats);
            files.extend(reading.cursors.into_iter().map(Cursor::give_up));
            let (waiting, shelf) = reading.shelf.split();
            files.extend(waiting);
            shelves.push((reading.stats.origin.clone(), shelf));
        }
        self.owners.clear();
        self.places.clear();
        self.queue = Queue::new();
        self.reader = Reader::new(self.settings.rules);
        self.batch = Batch::new(self.settings.format, self.settings.gzip);
        self.waiting = None;
        match &mut self.sink {
            Sink::Files(files) => files.reset()?,
            Sink::Stdout(out) => *out = Stdout::default(),
            // What is in flight comes back, and finds that the cursors it was read by are gone.
            Sink::Elasticsearch(..) | Sink::CloudWatch(..) => {}
            #[cfg(test)]
            Sink::Kept(_) => {}
        }
        for (origin, shelf) in shelves.into_iter().filter(|(_, shelf)| !shelf.is_empty()) {
            let place = self.place_of(&origin);
            self.containers[place].shelf = shelf;
            if self.containers[place].is_here() {
                self.take_over(place);
            }
        }
        files.into_iter().for_each(|file| self.take_file(file, true));
        Ok(())
    }

    /// Tells how much is not delivered yet; true if what was delivered has grown, and is to be read on.
    fn tell_lag(&mut self) -> bool {
        self.lag_told = Instant::now();
        let again = self.forget_finished();
        for reading in &self.containers {
            let lag = reading.cursors.iter().map(Cursor::lag).sum::<u64>() + reading.shelf.lag();
            reading.stats.lag_bytes.set(lag);
            reading.stats.parked.set(reading.parked.is_some().into());
        }
        self.tell_oldest();
        self.tell_waiting();
        self.tell_unsent();
        again
    }

    /// How long nothing will happen unless somebody wakes us. Called when there is nothing to do: what is counted here
    /// must be something that [`step`](Self::step) will act on when its time has come, else the worker would spin.
    fn next_event(&self) -> Duration {
        let now = Instant::now();
        let mut next = now + LONGEST_WAIT;
        if let Some(opened) = self.batch.opened.filter(|_| self.has_credit()) {
            next = next.min(opened + self.linger());
        }
        if let Some((_, at)) = &self.waiting {
            next = next.min(*at);
        }
        if let Some(at) = self.looks.due() {
            next = next.min(at);
        }
        if !self.is_full() {
            for reading in self.containers.iter().filter(|c| c.is_here()) {
                let own = reading.set_aside().or_else(|| self.next_reading(reading));
                next = own.map_or(next, |at| next.min(at));
            }
        }
        next.saturating_duration_since(now)
    }

    /// When something is to be read of a container that has nothing to be read now.
    fn next_reading(&self, reading: &Reading) -> Option<Instant> {
        let retries = reading.cursors.iter().filter_map(Cursor::retry_at);
        let gap = self.settings.rules.join_gap;
        let timeout = reading.timeout(gap);
        let silent = reading
            .cursors
            .iter()
            .filter_map(|c| c.silent_at(gap, timeout).or(c.held.then_some(self.cuts_looked)));
        retries.chain(silent.map(|at| at.max(self.cuts_looked + self.cuts_pause()))).min()
    }
}

/// Runs a worker so that a fault in it ends neither the agent, nor another output, nor its own: after a fault it begins
/// again from what is acknowledged. True if everything was delivered in the end; an error if it cannot begin again.
pub fn run_guarded(worker: &mut Worker) -> Result<bool, io::Error> {
    let mut pause = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
    loop {
        let begun = Instant::now();
        if let Ok(ended) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| worker.run())) {
            return Ok(ended);
        }
        if begun.elapsed() > FORGIVEN {
            pause.reset();
        }
        tracing::error!(
            output = worker.settings.output,
            "the worker of this output failed, which is a bug in Taffrail; it begins again from what is acknowledged"
        );
        worker.begin_again()?;
        let until = Instant::now() + Duration::from_millis(100) + pause.next(None);
        while !worker.phase.is_aborting() && until > Instant::now() {
            if worker.phase.is_settling() {
                worker.take_news();
                worker.tell_standing();
            }
            worker.wait(until.saturating_duration_since(Instant::now()));
        }
    }
}

//! The pipeline: puts the rooms together and takes them down again.
//!
//! In: a configuration. Out: a running agent. Wiring only: nothing here is on a record's way.

mod budget;

use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::fs::FlockOperation;
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::batch::Format;
use crate::batch::events::RECORD_BYTES;
use crate::catalog::beneath::Roots;
use crate::catalog::file::{KeyMaker, LogFile};
use crate::catalog::host::{self, HostCatalog};
use crate::catalog::place::Descriptors;
use crate::catalog::{self, Catalog, Subscriber};
use crate::config::template::Safe;
use crate::config::{ByteSize, Color, Config, FilesFormat, OutputConfig, Start, StdoutFormat};
use crate::metadata::NodeFacts;
use crate::output::cloudwatch::{self, CloudWatch};
use crate::output::dead_letter::DeadLetters;
use crate::output::elasticsearch::Elasticsearch;
use crate::output::file::Files;
use crate::output::stdout::Stdout;
use crate::position::{Keeper, Ledger};
use crate::read::{Framing, Rules};
use crate::retain::{self, Retainer};
use crate::stats::{Loss, OutputStats};
use crate::wake::Wake;
use crate::worker::{self, Channels, Phase, RateLimits, Sink, Worker};
pub use budget::{batch_size, memory_shares};
use budget::{batch_within, descriptor_budget, workers_of};

/// How often positions are saved while they change.
const SAVE_EVERY: Duration = Duration::from_secs(1);

/// Batches to CloudWatch under way at a time: one whose calls are made, one that is cut, one that comes back.
const CLOUDWATCH_BATCHES: usize = 4;

/// How long a worker that was told to end at once may take for it. One that takes longer hangs in a write, such as to
/// a pipe that nobody reads, and is left behind.
const LAST_MOMENT: Duration = Duration::from_millis(300);

/// Why the agent did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The state directory cannot be used.
    #[error(
        "cannot use the state directory {path}: {error}\n  it must be writable by the user that the agent runs as: mount one there, or set `state_dir`"
    )]
    State {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// What an output has delivered so far cannot be read or saved.
    #[error(
        "cannot read or write {path}, where output `{output}` keeps what it has delivered: {error}\n  make it a file that the agent may read and write, or move it away: the output then begins anew"
    )]
    Positions {
        /// The output's name.
        output: String,
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// Another agent has it.
    #[error(
        "the state directory {path} is in use by another agent\n  two agents on one node would send everything twice: stop the other one, or give this one a `state_dir` and a `node` of its own"
    )]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// The configuration asks for more than `memory` allows.
    #[error("{0}")]
    Memory(String),
    /// An output cannot be made.
    #[error("output `{output}`: {reason}")]
    Output {
        /// Its name.
        output: String,
        /// What is wrong.
        reason: String,
    },
    /// The system refused something.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
}

/// How the agent ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// Whether every output had delivered all there was.
    pub caught_up: bool,
}

/// What one output has done.
#[derive(Debug, Clone)]
pub struct OutputProgress {
    /// Its name.
    pub name: String,
    /// The containers it reads.
    pub containers: Vec<ContainerProgress>,
    /// Requests or items sent again.
    pub retries: u64,
    /// Records refused for good.
    pub refused: u64,
    /// What was lost.
    pub lost: Loss,
    /// What rate limits dropped.
    pub dropped: Loss,
    /// The last thing that went wrong.
    pub last_error: Option<String>,
}

/// What one output has done with one container.
#[derive(Debug, Clone)]
pub struct ContainerProgress {
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub pod: String,
    /// Name of the container.
    pub container: String,
    /// Bytes taken from its files.
    pub read_bytes: u64,
    /// Bytes not acknowledged yet.
    pub lag_bytes: u64,
    /// Records taken from its files.
    pub records_read: u64,
    /// Records acknowledged.
    pub records_delivered: u64,
}

/// What the thread that ends the agent waits for.
#[derive(Debug)]
enum Event {
    /// A worker has ended; whether it had delivered everything.
    Ended(bool),
    /// Nobody wants to wait any longer.
    Hasten,
}

/// Ends an agent that is being stopped sooner than its deadline.
#[derive(Debug)]
pub struct Hasten(Sender<Event>);

impl Hasten {
    /// Do not go on reading: save, and end.
    pub fn now(&self) {
        // Nobody listens when the agent has ended.
        let _ = self.0.send(Event::Hasten);
    }
}

/// The running agent.
#[derive(Debug)]
pub struct Agent {
    catalog: Option<Catalog>,
    host_files: Option<HostCatalog>,
    retainer: Option<Retainer>,
    wakes: Vec<Arc<Wake>>,
    events: (Sender<Event>, Receiver<Event>),
    /// Workers that have not ended.
    running: usize,
    caught_up: bool,
    phase: Arc<Phase>,
    stop_requests: watch::Sender<bool>,
    keeper: Option<Keeper>,
    outputs: Vec<(String, Arc<OutputStats>)>,
    runtime: Option<Runtime>,
    _lock: File,
}

/// A worker that has all it needs but its thread.
struct Ready {
    worker: Worker,
    files: Sender<Arc<LogFile>>,
    wake: Arc<Wake>,
    output: String,
}

impl Agent {
    /// Starts everything. Servers that are away are waited for; whatever else is wrong is told before the first record
    /// is read.
    pub fn start(config: Config) -> Result<Agent, StartError> {
        let shares = memory_shares(&config)?;
        let lock = lock_state(&config)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("network")
            .enable_all()
            .build()?;
        let (stop_requests, stop) = watch::channel(false);
        let mut agent = Agent {
            catalog: None,
            host_files: None,
            retainer: None,
            wakes: Vec::new(),
            events: mpsc::channel(),
            running: 0,
            caught_up: true,
            phase: Arc::new(Phase::default()),
            stop_requests,
            keeper: None,
            outputs: Vec::new(),
            runtime: Some(runtime),
            _lock: lock,
        };
        let (mut ledgers, mut workers) = (Vec::new(), Vec::new());
        for ((name, output), share) in config.outputs.iter().zip(shares) {
            let (ledger, ready) = agent.make_output(&config, name, output, share, &stop)?;
            ledgers.push(ledger);
            workers.extend(ready);
        }
        agent.keeper = Some(Keeper::start(ledgers.clone(), SAVE_EVERY)?);
        let readers = workers.iter().map(|ready| ready.wake.clone()).collect();
        let retainer = start_retention(&config, ledgers, readers)?;
        let (retention, kept) = retainer
            .as_ref()
            .map_or((None, Vec::new()), |retainer| (Some(retainer.retention()), retainer.found().to_vec()));
        agent.retainer = retainer;
        let linger =
            config.outputs.values().map(|o| o.reading().linger).min().unwrap_or(Duration::from_secs(1));
        // Often enough that a record's way is mostly its linger, seldom enough that 500 busy containers cost little.
        let tick = (linger / 8).clamp(Duration::from_millis(10), Duration::from_millis(250));
        let descriptors = descriptor_budget();
        let keys = KeyMaker { cluster: config.cluster.clone(), node: config.node.clone() };
        let host_files = if config.files.is_empty() {
            None
        } else {
            let mut settings = host_settings(&config, keys.clone(), tick, descriptors / 4);
            (settings.retention, settings.kept) = (retention.clone(), kept.clone());
            Some(HostCatalog::start(settings)?)
        };
        let catalog = Catalog::start(catalog::Settings {
            roots: Arc::new(Roots::new(config.pod_logs.clone(), config.link_roots.clone())),
            keys,
            rescan: config.rescan,
            tick,
            outputs: config.outputs.len(),
            descriptors: Descriptors::new(descriptors - descriptors / 4),
            retention,
            kept,
        })?;
        for Ready { mut worker, files, wake, output } in workers {
            let subscriber = Subscriber { files, wake: wake.clone() };
            if let Some(host_files) = &host_files {
                host_files.subscribe(subscriber.clone());
            }
            catalog.subscribe(subscriber);
            let ended = agent.events.0.clone();
            std::thread::Builder::new().name(format!("out-{output}")).spawn(move || {
                let caught_up = worker::run_guarded(&mut worker).unwrap_or_else(|error| {
                    tracing::error!(output, %error, "an output has ended; the others go on, and its logs stay on disk");
                    false
                });
                drop(worker);
                // Nobody listens when the agent has been dropped.
                let _ = ended.send(Event::Ended(caught_up));
            })?;
            agent.wakes.push(wake);
            agent.running += 1;
        }
        (agent.catalog, agent.host_files) = (Some(catalog), host_files);
        Ok(agent)
    }

    /// Makes an output and its workers. Nothing of it runs yet. `share`: bytes of batches under way for each worker.
    fn make_output(
        &mut self,
        config: &Config,
        name: &str,
        output: &OutputConfig,
        share: u64,
        stop: &watch::Receiver<bool>,
    ) -> Result<(Arc<Ledger>, Vec<Ready>), StartError> {
        let refused = |reason: String| StartError::Output { output: name.to_owned(), reason };
        let positions = |error| {
            let path = config.state_dir.join(format!("{name}.positions"));
            StartError::Positions { output: name.to_owned(), path, error }
        };
        let reading = output.reading();
        let previous_end = Ledger::saved_at(&config.state_dir, name);
        let ledger = Arc::new(Ledger::open(&config.state_dir, name).map_err(positions)?);
        if ledger.read(|state| state.since).is_none() {
            // The very first start: remembered, so that a later one does not pass over what an outage delayed.
            let age = if reading.start == Start::Now { Duration::ZERO } else { reading.max_age };
            ledger.change(|state| state.since = Some(nanos_ago(age)));
            ledger.save().map_err(positions)?;
        }
        let stats = Arc::new(OutputStats::default());
        self.outputs.push((name.to_owned(), stats.clone()));
        let (workers, batch) = (workers_of(output), batch_within(reading.batch.bytes(), share));
        if batch < reading.batch.bytes() {
            tracing::info!(output = name, batch = %ByteSize::new(batch), wanted = %reading.batch,
                "batches are smaller than configured, so that they fit its share of `memory`");
        }
        let facts = NodeFacts { cluster: config.cluster.clone(), node: config.node.clone() };
        let (format, gzip, in_flight, target) = match output {
            OutputConfig::Elasticsearch(es) => (
                Format::Bulk { op: es.op, ids: es.document_id },
                es.gzip_level(),
                es.in_flight,
                Some((es.target.template().clone(), Safe::Index)),
            ),
            OutputConfig::CloudWatch(cw) => {
                (Format::Events(cw.format), None, CLOUDWATCH_BATCHES, Some((cw.target(), Safe::LogStream)))
            }
            OutputConfig::File(file) => (Format::Lines, None, 1, Some((file.path.clone(), Safe::Path))),
            OutputConfig::Stdout(out) => {
                let color = match out.color {
                    Color::Always => true,
                    Color::Never => false,
                    Color::Auto => {
                        io::IsTerminal::is_terminal(&io::stdout()) && std::env::var_os("NO_COLOR").is_none()
                    }
                };
                let format = match out.format {
                    StdoutFormat::Json => Format::Lines,
                    StdoutFormat::Text => Format::Text { color },
                };
                (format, None, 1, None)
            }
        };
        let client = match output {
            OutputConfig::Elasticsearch(es) => Some(Arc::new(
                Elasticsearch::new(
                    name,
                    es,
                    DeadLetters::new(&config.state_dir, name, es.dead_letters),
                    previous_end,
                    stats.clone(),
                    stop.clone(),
                )
                .map_err(|e| refused(e.to_string()))?,
            )),
            _ => None,
        };
        let cloudwatch = match output {
            OutputConfig::CloudWatch(cw) => {
                let letters = DeadLetters::new(&config.state_dir, name, cw.dead_letters);
                Some(Arc::new(CloudWatch::new(name, cw, letters, stats.clone(), stop.clone())))
            }
            _ => None,
        };
        let max_record = match output {
            OutputConfig::CloudWatch(_) => config.max_record.as_usize().min(RECORD_BYTES),
            _ => config.max_record.as_usize(),
        };
        let limits = reading.rate_limit.clone().map(|limits| Arc::new(RateLimits::new(limits)));
        let mut ready = Vec::with_capacity(workers);
        for shard in 0..workers {
            let sink = match (output, &client, &self.runtime) {
                (OutputConfig::File(file), ..) => Sink::Files(
                    Files::recover(ledger.clone(), file.max_size.bytes(), file.keep)
                        .map_err(|e| refused(format!("cannot go on with its files: {e}")))?,
                ),
                (OutputConfig::Elasticsearch(_), Some(client), Some(runtime)) => {
                    Sink::Elasticsearch(client.clone(), runtime.handle().clone())
                }
                (OutputConfig::CloudWatch(_), _, Some(runtime)) if let Some(client) = &cloudwatch => {
                    Sink::CloudWatch(cloudwatch::Sender::new(client.clone()), runtime.handle().clone())
                }
                _ => Sink::Stdout(Stdout::default()),
            };
            let (files, files_in) = mpsc::channel();
            let (settle, settled) = mpsc::channel();
            let wake = Arc::new(Wake::default());
            let worker = Worker::new(
                worker::Settings {
                    output: name.to_owned(),
                    shard: (shard, workers),
                    facts: facts.clone(),
                    target: target.clone(),
                    format,
                    gzip,
                    rules: Rules {
                        max_record,
                        oversize: config.oversize,
                        join_gap: config.join_timeout,
                        since: ledger.read(|state| state.since),
                    },
                    linger: reading.linger,
                    batch,
                    in_flight,
                    in_flight_bytes: share,
                    limits: limits.clone(),
                    max_lag: reading.max_lag.map(ByteSize::bytes),
                },
                Channels { files: files_in, settled, settle, wake: wake.clone() },
                ledger.clone(),
                stats.clone(),
                self.phase.clone(),
                sink,
            );
            ready.push(Ready { worker, files, wake, output: name.to_owned() });
        }
        Ok((ledger, ready))
    }

    /// What has been done so far; cheap enough to be asked several times a second.
    pub fn progress(&self) -> Vec<OutputProgress> {
        self.outputs
            .iter()
            .map(|(name, stats)| OutputProgress {
                name: name.clone(),
                containers: stats
                    .containers()
                    .iter()
                    .map(|c| {
                        let (namespace, pod, container) = c.origin.place();
                        ContainerProgress {
                            namespace: namespace.to_owned(),
                            pod: pod.to_owned(),
                            container,
                            read_bytes: c.read_bytes.get(),
                            lag_bytes: c.lag_bytes.get(),
                            records_read: c.records_read.get(),
                            records_delivered: c.records_delivered.get(),
                        }
                    })
                    .collect(),
                retries: stats.retries.get(),
                refused: stats.refused.get(),
                lost: stats.losses.lost(),
                dropped: stats.losses.dropped(),
                last_error: stats.last_error(),
            })
            .collect()
    }

    /// The counters of each output.
    pub fn stats(&self) -> &[(String, Arc<OutputStats>)] {
        &self.outputs
    }

    /// For ending a [`stop`](Agent::stop) that is under way sooner.
    pub fn hasten(&self) -> Hasten {
        Hasten(self.events.0.clone())
    }

    /// Reads on until every output has delivered what is on disk now, or until `deadline`; saves, and ends.
    pub fn stop(mut self, deadline: Instant) -> Outcome {
        // What was written before this moment is known after it; what comes later is the next process's.
        let pods = self.catalog.as_ref().is_none_or(|catalog| catalog.refresh(deadline));
        let host = self.host_files.as_ref().is_none_or(|catalog| catalog.refresh(deadline));
        if !(pods && host) {
            tracing::warn!(
                "the logs could not be looked through once more in time: what was written last comes with the next start"
            );
        }
        self.catalog.iter().for_each(Catalog::halt);
        self.host_files.iter().for_each(HostCatalog::halt);
        self.phase.drain();
        self.wake_all();
        if !self.wait_for_workers(deadline) {
            self.end_workers();
        }
        if self
            .retainer
            .take()
            .is_some_and(|retainer| !retainer.finish(deadline.max(Instant::now() + LAST_MOMENT)))
        {
            tracing::error!(
                "what is unread of deleted logs could not be made safe in time: some of it is lost"
            );
        }
        if let Some(Err(error)) = self.keeper.take().map(Keeper::stop) {
            tracing::error!(%error, "positions could not be saved at the end: the next start sends some records again");
        }
        Outcome { caught_up: self.caught_up }
    }

    /// Waits for all workers to end; false if it was told to hasten, or `deadline` passed.
    fn wait_for_workers(&mut self, deadline: Instant) -> bool {
        while self.running > 0 {
            match self.events.1.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(Event::Ended(caught_up)) => {
                    self.running -= 1;
                    self.caught_up &= caught_up;
                }
                Ok(Event::Hasten) | Err(_) => return false,
            }
        }
        true
    }

    /// Ends the workers without regard to what is left to read.
    fn end_workers(&mut self) {
        self.phase.abort();
        self.stop_requests.send_replace(true);
        self.wake_all();
        let deadline = Instant::now() + LAST_MOMENT;
        while !self.wait_for_workers(deadline) && Instant::now() < deadline {}
        if self.running > 0 {
            tracing::error!(
                workers = self.running,
                "an output hangs in a write, such as to a pipe that nobody reads, and is left behind"
            );
            (self.running, self.caught_up) = (0, false);
        }
    }

    fn wake_all(&self) {
        self.wakes.iter().for_each(|wake| wake.wake());
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Not stopped in order, such as when a thread could not be made: end at once.
        if self.running > 0 {
            self.end_workers();
        }
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Makes the state directory this process's own, for as long as the file that is returned is open.
///
/// # Errors
/// When it cannot be used, or another agent has it.
pub fn lock_state(config: &Config) -> Result<File, StartError> {
    let state = |error| StartError::State { path: config.state_dir.clone(), error };
    fs::create_dir_all(&config.state_dir).map_err(state)?;
    let lock = File::create(config.state_dir.join("lock")).map_err(state)?;
    // Kept by the kernel for as long as the descriptor is open: a crash leaves nothing behind.
    match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(lock),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(StartError::Locked { path: config.state_dir.clone() }),
        Err(error) => Err(state(error.into())),
    }
}

/// Keeps what is deleted unread, unless the configuration keeps nothing.
fn start_retention(
    config: &Config,
    ledgers: Vec<Arc<Ledger>>,
    readers: Vec<Arc<Wake>>,
) -> Result<Option<Retainer>, StartError> {
    if config.retain.max_bytes.bytes() == 0 {
        return Ok(None);
    }
    let settings = retain::Settings {
        state_dir: config.state_dir.clone(),
        config: config.retain.clone(),
        ledgers,
        readers,
    };
    let started = Retainer::start(settings);
    started.map(Some).map_err(|error| StartError::State { path: config.state_dir.join("retained"), error })
}

fn nanos_ago(age: Duration) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.saturating_sub(age).as_nanos() as i64
}

/// What the catalog of host files needs to know. It never reads what this agent writes, nor the pod logs again.
fn host_settings(config: &Config, keys: KeyMaker, tick: Duration, descriptors: usize) -> host::Settings {
    let sources = config.files.iter().map(|(name, files)| host::Source {
        name: name.clone(),
        paths: files.paths.clone(),
        exclude: files.exclude.clone(),
        framing: match files.format {
            FilesFormat::Plain => Framing::Lines,
            FilesFormat::Container => Framing::Runtime,
        },
        labels: files.labels.clone(),
    });
    let folders = [&config.state_dir, &config.pod_logs].map(|folder| format!("{}/", folder.display()));
    let written = config.outputs.values().filter_map(|output| match output {
        OutputConfig::File(file) => Some(file.path.fixed_beginning().to_owned()),
        _ => None,
    });
    host::Settings {
        sources: sources.collect(),
        links: config.link_roots.clone(),
        never: folders.into_iter().chain(written).collect(),
        keys,
        state_dir: config.state_dir.clone(),
        rescan: config.rescan,
        tick,
        outputs: config.outputs.len(),
        descriptors: Descriptors::new(descriptors),
        retention: None,
        kept: Vec::new(),
    }
}

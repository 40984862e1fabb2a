//! The pipeline: puts the rooms together and takes them down again.
//!
//! In: a configuration. Out: a running agent. Wiring only: nothing here is on a record's way.

use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::sync::mpsc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::fs::FlockOperation;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::batch::Format;
use crate::catalog::beneath::Roots;
use crate::catalog::file::KeyMaker;
use crate::catalog::{self, Catalog, Subscriber};
use crate::config::template::Safe;
use crate::config::{Color, Config, OutputConfig, Start, StdoutFormat};
use crate::metadata::NodeFacts;
use crate::output::dead_letter::DeadLetters;
use crate::output::elasticsearch::Elasticsearch;
use crate::output::file::Files;
use crate::output::stdout::Stdout;
use crate::position::{Keeper, Ledger};
use crate::read::Rules;
use crate::stats::OutputStats;
use crate::wake::Wake;
use crate::worker::{self, Channels, Phase, Sink, Worker};

/// How often positions are saved while they change.
const SAVE_EVERY: Duration = Duration::from_secs(1);

/// Descriptors left for connections, libraries and what is opened for a moment.
const SPARE_DESCRIPTORS: u64 = 128;

/// Why the agent did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The state directory cannot be used.
    #[error("cannot use the state directory {path}: {error}\n  it must be writable by the user that the agent runs as: mount one there, or set `state_dir`")]
    State {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// Another agent has it.
    #[error("the state directory {path} is in use by another agent\n  two agents on one node would send everything twice: stop the other one, or give this one a `state_dir` and a `node` of its own")]
    Locked {
        /// The directory.
        path: PathBuf,
    },
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

/// The running agent.
#[derive(Debug)]
pub struct Agent {
    catalog: Option<Catalog>,
    workers: Vec<(Arc<Wake>, JoinHandle<bool>)>,
    phase: Arc<Phase>,
    stop_requests: watch::Sender<bool>,
    keeper: Option<Keeper>,
    outputs: Vec<(String, Arc<OutputStats>)>,
    runtime: Option<Runtime>,
    _lock: File,
}

impl Agent {
    /// Starts everything. Servers that are away are waited for.
    pub fn start(config: Config) -> Result<Agent, StartError> {
        let lock = lock_state(&config)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("network")
            .enable_all()
            .build()?;
        let (stop_requests, stop) = watch::channel(false);
        let phase = Arc::new(Phase::default());
        let roots = Roots::new(config.pod_logs.clone(), config.link_roots.clone());
        let facts = NodeFacts { cluster: config.cluster.clone(), node: config.node.clone() };
        let linger = config.outputs.values().map(|o| o.reading().linger).min().unwrap_or(Duration::from_secs(1));
        let catalog = Catalog::start(catalog::Settings {
            roots: roots.clone(),
            keys: KeyMaker { cluster: config.cluster.clone(), node: config.node.clone() },
            rescan: config.rescan,
            // Often enough that a record's way is mostly its linger, seldom enough that 500 busy containers cost little.
            tick: (linger / 8).clamp(Duration::from_millis(10), Duration::from_millis(250)),
            outputs: config.outputs.len(),
            descriptors: descriptor_budget(),
        })?;
        let mut agent = Agent {
            catalog: Some(catalog),
            workers: Vec::new(),
            phase,
            stop_requests,
            keeper: None,
            outputs: Vec::new(),
            runtime: Some(runtime),
            _lock: lock,
        };
        let mut ledgers = Vec::new();
        for (name, output) in &config.outputs {
            ledgers.push(agent.start_output(&config, name, output, &roots, &facts, &stop)?);
        }
        agent.keeper = Some(Keeper::start(ledgers, SAVE_EVERY)?);
        Ok(agent)
    }

    fn start_output(
        &mut self,
        config: &Config,
        name: &str,
        output: &OutputConfig,
        roots: &Roots,
        facts: &NodeFacts,
        stop: &watch::Receiver<bool>,
    ) -> Result<Arc<Ledger>, StartError> {
        let refused = |reason: String| StartError::Output { output: name.to_owned(), reason };
        let state = |error| StartError::State { path: config.state_dir.clone(), error };
        let reading = output.reading();
        let previous_end = Ledger::saved_at(&config.state_dir, name);
        let ledger = Arc::new(Ledger::open(&config.state_dir, name).map_err(state)?);
        if ledger.read(|state| state.since).is_none() {
            // The very first start: remembered, so that a later one does not pass over what an outage delayed.
            let age = if reading.start == Start::Now { Duration::ZERO } else { reading.max_age };
            ledger.change(|state| state.since = Some(nanos_ago(age)));
            ledger.save().map_err(state)?;
        }
        let stats = Arc::new(OutputStats::default());
        self.outputs.push((name.to_owned(), stats.clone()));
        // Half of the budget is for batches under way; the other half is for the batch in hand (which may be held
        // twice, plain and compressed), read buffers and what libraries take.
        let workers = match output {
            OutputConfig::Elasticsearch(_) => reading.workers,
            // One writer keeps one order.
            OutputConfig::File(_) | OutputConfig::Stdout(_) => 1,
        };
        let share = config.memory.bytes() / 2 / (config.outputs.len() * workers) as u64;
        let (format, gzip, in_flight, target) = match output {
            OutputConfig::Elasticsearch(es) => (
                Format::Bulk,
                es.gzip_level(),
                es.in_flight,
                Some((es.target.template().clone(), Safe::Index)),
            ),
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
                Elasticsearch::new(name, es, DeadLetters::new(&config.state_dir, name), previous_end, stats.clone(), stop.clone()).map_err(|e| refused(e.to_string()))?,
            )),
            _ => None,
        };
        for shard in 0..workers {
            let sink = match (output, &client, &self.runtime) {
                (OutputConfig::File(file), ..) => Sink::Files(
                    Files::recover(ledger.clone(), file.max_size.bytes(), file.keep)
                        .map_err(|e| refused(format!("cannot go on with its files: {e}")))?,
                ),
                (OutputConfig::Elasticsearch(_), Some(client), Some(runtime)) => {
                    Sink::Elasticsearch(client.clone(), runtime.handle().clone())
                }
                _ => Sink::Stdout(Stdout::default()),
            };
            let (files, files_in) = mpsc::channel();
            let (settle, settled) = mpsc::channel();
            let wake = Arc::new(Wake::default());
            let mut worker = Worker::new(
                worker::Settings {
                    output: name.to_owned(),
                    shard: (shard, workers),
                    roots: roots.clone(),
                    facts: facts.clone(),
                    target: target.clone(),
                    format,
                    gzip,
                    rules: Rules {
                        max_record: config.max_record.as_usize(),
                        oversize: config.oversize,
                        join_gap: config.join_timeout,
                        since: ledger.read(|state| state.since),
                    },
                    linger: reading.linger,
                    batch: reading.batch.bytes().min(share.max(64 << 10)),
                    in_flight,
                    in_flight_bytes: share,
                },
                Channels { files: files_in, settled, settle, wake: wake.clone() },
                ledger.clone(),
                stats.clone(),
                self.phase.clone(),
                sink,
            );
            if let Some(catalog) = &self.catalog {
                catalog.subscribe(Subscriber { files, wake: wake.clone() });
            }
            let output = name.to_owned();
            let thread = std::thread::Builder::new().name(format!("out-{name}")).spawn(move || {
                worker::run_guarded(&mut worker).unwrap_or_else(|error| {
                    tracing::error!(output, %error, "an output has ended; the others go on, and its logs stay on disk");
                    false
                })
            })?;
            self.workers.push((wake, thread));
        }
        Ok(ledger)
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
                    .map(|c| ContainerProgress {
                        namespace: c.container.namespace.clone(),
                        pod: c.container.pod.clone(),
                        container: c.container.name.clone(),
                        read_bytes: c.read_bytes.get(),
                        lag_bytes: c.lag_bytes.get(),
                        records_read: c.records_read.get(),
                        records_delivered: c.records_delivered.get(),
                    })
                    .collect(),
                retries: stats.retries.get(),
                refused: stats.refused.get(),
                last_error: stats.last_error(),
            })
            .collect()
    }

    /// The counters of each output.
    pub fn stats(&self) -> &[(String, Arc<OutputStats>)] {
        &self.outputs
    }

    /// Reads on until every output has delivered what is on disk now, or until `deadline`; saves, and ends.
    pub fn stop(mut self, deadline: Instant) -> Outcome {
        if let Some(catalog) = self.catalog.take() {
            // What was written before this moment is known after it; what comes later is the next process's.
            catalog.refresh();
        }
        self.phase.drain();
        self.wake_all();
        // A thread that waits for the deadline, so that joining needs no polling.
        let (finished, wait) = mpsc::channel::<()>();
        let guard = {
            let (phase, stop) = (self.phase.clone(), self.stop_requests.clone());
            let wakes: Vec<_> = self.workers.iter().map(|(wake, _)| wake.clone()).collect();
            std::thread::spawn(move || {
                let left = deadline.saturating_duration_since(Instant::now());
                if wait.recv_timeout(left) == Err(mpsc::RecvTimeoutError::Timeout) {
                    phase.abort();
                    stop.send_replace(true);
                    wakes.iter().for_each(|wake| wake.wake());
                }
            })
        };
        let mut caught_up = true;
        for (_, thread) in self.workers.drain(..) {
            caught_up &= thread.join().unwrap_or(false);
        }
        drop(finished);
        let _ = guard.join();
        if let Some(keeper) = self.keeper.take() {
            if let Err(error) = keeper.stop() {
                tracing::error!(%error, "positions could not be saved at the end: the next start sends some records again");
            }
        }
        Outcome { caught_up }
    }

    fn wake_all(&self) {
        self.workers.iter().for_each(|(wake, _)| wake.wake());
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Not stopped in order, such as when an output could not be made: end at once.
        self.phase.abort();
        self.stop_requests.send_replace(true);
        self.wake_all();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn lock_state(config: &Config) -> Result<File, StartError> {
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

/// Raises the limit of open files as far as it goes; how many log files may be held open.
fn descriptor_budget() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let _ = setrlimit(Resource::Nofile, raised);
    let current = getrlimit(Resource::Nofile).current.unwrap_or(1 << 20);
    current.saturating_sub(SPARE_DESCRIPTORS).max(current / 2) as usize
}

fn nanos_ago(age: Duration) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.saturating_sub(age).as_nanos() as i64
}

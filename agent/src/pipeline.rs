//! The pipeline: puts the rooms together and takes them down again.
//!
//! In: a configuration. Out: a running agent. Wiring only: nothing here is on a record's way. `outputs` makes what is
//! configured, [`stop`](Agent::stop) takes it down, [`give_way`](Agent::give_way) does so for another agent to
//! [`follow`](Agent::follow).

mod budget;
mod fallback;
mod outputs;
mod progress;
mod stop;
#[cfg(test)]
mod tests;
mod view;

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::catalog::beneath::Roots;
use crate::catalog::file::KeyMaker;
use crate::catalog::host::HostCatalog;
use crate::catalog::place::Descriptors;
use crate::catalog::{self, Catalog, Subscriber};
use crate::config::Config;
use crate::metadata;
use crate::output::Stop;
use crate::position::Keeper;
use crate::position::removed::Removed;
use crate::pulse::Pulse;
use crate::retain::Retainer;
use crate::stats::OutputStats;
use crate::tap::Taps;
use crate::wake::Wake;
use crate::worker::{self, Event, Phase, Standing};
use budget::descriptor_budget;
pub use budget::{batch_size, memory_shares};
pub(crate) use outputs::{Form, facts_for, form_of, hash_key, own_pod, rules_of};
use outputs::{Ready, host_settings, start_retention};
pub use progress::{ContainerProgress, OutputProgress};
pub use stop::{Carried, Hasten, Outcome, PutOff, lock_state};
pub use view::View;

/// How often positions are saved while they change.
const SAVE_EVERY: Duration = Duration::from_secs(1);

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

/// The running agent.
#[derive(Debug)]
pub struct Agent {
    catalog: Option<Catalog>,
    host_files: Option<HostCatalog>,
    retainer: Option<Retainer>,
    metadata: Option<metadata::Room>,
    seats: Vec<Seat>,
    events: (Sender<Event>, Receiver<Event>),
    /// Workers that have not ended.
    running: usize,
    caught_up: bool,
    phase: Arc<Phase>,
    stop_requests: watch::Sender<Stop>,
    keeper: Option<Keeper>,
    outputs: Vec<(String, Arc<OutputStats>)>,
    taps: Arc<Taps>,
    runtime: Option<Runtime>,
    lock: Arc<File>,
}

/// A worker as those see it who stop the agent.
#[derive(Debug, Clone)]
struct Seat {
    output: String,
    wake: Arc<Wake>,
    standing: Arc<Standing>,
    pulse: Arc<Pulse>,
}

impl Agent {
    /// Starts everything. Servers that are away are waited for; whatever else is wrong is told before the first record
    /// is read.
    pub fn start(config: Config) -> Result<Agent, StartError> {
        memory_shares(&config)?;
        Agent::follow(&config, &Carried::first(&config)?)
    }

    /// Starts an agent where another gave way, which may be by another configuration, but over the same state directory.
    pub fn follow(config: &Config, carried: &Carried) -> Result<Agent, StartError> {
        let shares = memory_shares(config)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("network")
            .enable_all()
            .build()?;
        let (stop_requests, stop) = watch::channel(Stop::No);
        let mut agent = Agent {
            catalog: None,
            host_files: None,
            retainer: None,
            metadata: metadata::Room::start(config, runtime.handle(), carried.known.clone()),
            seats: Vec::new(),
            events: mpsc::channel(),
            running: 0,
            caught_up: true,
            phase: Arc::new(Phase::default()),
            stop_requests,
            keeper: None,
            outputs: Vec::new(),
            taps: carried.taps.clone(),
            runtime: Some(runtime),
            lock: carried.lock.clone(),
        };
        let (mut ledgers, mut workers) = (Vec::new(), Vec::new());
        for ((name, output), share) in config.outputs.iter().zip(shares) {
            let (ledger, ready) = agent.make_output(config, name, output, share, &stop, carried)?;
            ledgers.push(ledger);
            workers.extend(ready);
        }
        let removed = Removed::other_than(config.outputs.keys().cloned(), &config.state_dir);
        agent.keeper = Some(Keeper::start(ledgers.clone(), SAVE_EVERY, removed)?);
        let readers = workers.iter().map(|ready| ready.seat.wake.clone()).collect();
        agent.retainer = start_retention(config, ledgers, readers)?;
        let (retention, kept) = agent
            .retainer
            .as_ref()
            .map_or((None, Vec::new()), |retainer| (Some(retainer.retention()), retainer.found().to_vec()));
        let linger =
            config.outputs.values().map(|o| o.reading().linger).min().unwrap_or(Duration::from_secs(1));
        // Often enough that a record's way is mostly its linger, seldom enough that 500 busy containers cost little.
        let tick = (linger / 8).clamp(Duration::from_millis(10), Duration::from_millis(250));
        let descriptors = descriptor_budget();
        let keys = KeyMaker { cluster: config.cluster.clone(), node: config.node.clone() };
        let host_files = if config.files.is_empty() && !config.health.is_wanted() {
            None
        } else {
            let mut settings = host_settings(config, keys.clone(), tick, descriptors / 4);
            (settings.retention, settings.kept) = (retention.clone(), kept.clone());
            Some(HostCatalog::start_after(settings, carried.files.clone())?)
        };
        let settings = catalog::Settings {
            roots: Arc::new(Roots::new(config.pod_logs.clone(), config.link_roots.clone())),
            keys,
            rescan: config.rescan,
            tick,
            outputs: config.outputs.len(),
            descriptors: Descriptors::new(descriptors - descriptors / 4),
            retention,
            kept,
        };
        let catalog = Catalog::start_after(settings, carried.files.clone())?;
        for Ready { mut worker, files, seat } in workers {
            let subscriber = Subscriber { files, wake: seat.wake.clone() };
            if let Some(host_files) = &host_files {
                host_files.subscribe(subscriber.clone());
            }
            catalog.subscribe(subscriber);
            if let Some(metadata) = &agent.metadata {
                metadata.table().subscribe(seat.wake.clone());
            }
            let (ended, standing, pulse, output) =
                (agent.events.0.clone(), seat.standing.clone(), seat.pulse.clone(), seat.output.clone());
            std::thread::Builder::new().name(format!("out-{output}")).spawn(move || {
                let caught_up = worker::run_guarded(&mut worker).unwrap_or_else(|error| {
                    tracing::error!(output, %error, "an output has ended; the others go on, and its logs stay on disk");
                    false
                });
                drop(worker);
                pulse.end();
                standing.ended();
                // Nobody listens when the agent has been dropped.
                let _ = ended.send(Event::Ended(caught_up));
            })?;
            agent.seats.push(seat);
            agent.running += 1;
        }
        (agent.catalog, agent.host_files) = (Some(catalog), host_files);
        Ok(agent)
    }

    /// The counters of each output.
    pub fn stats(&self) -> &[(String, Arc<OutputStats>)] {
        &self.outputs
    }

    /// For ending a [`stop`](Agent::stop), or a [`give_way`](Agent::give_way), that is under way sooner.
    pub fn hasten(&self) -> Hasten {
        Hasten(self.events.0.clone())
    }
}

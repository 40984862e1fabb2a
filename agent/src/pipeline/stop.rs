//! Taking an agent down: to its end, or for another to go on in its place.
//!
//! In: a deadline. Out: whether all was delivered; or, for the agent that follows in the same process, [`Carried`]: what
//! would be lost between the two. An agent gives way only once its workers stand still and its positions are saved;
//! until then it can go on as if nothing had been.

use std::fs::{self, File};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;

use super::{Agent, StartError};
use crate::catalog::Catalog;
use crate::catalog::file::LogFile;
use crate::catalog::host::HostCatalog;
use crate::config::Config;
use crate::metadata::Room;
use crate::metadata::table::Saved;
use crate::output::Stop;
use crate::position::Keeper;
use crate::retain::Retainer;
use crate::stats::OutputStats;
use crate::tap::Taps;
use crate::worker::Event;

/// How long a worker that was told to end at once may take for it. One that takes longer hangs in a write, such as to
/// a pipe that nobody reads, and is left behind.
const LAST_MOMENT: Duration = Duration::from_millis(300);

/// How often it is looked whether everything is delivered.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The same for one that stands still and only has to wake up: as long as a busy machine may need.
const WHEN_PAUSED: Duration = Duration::from_secs(30);

/// How the agent ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// Whether every output had delivered all there was.
    pub caught_up: bool,
}

/// What one agent leaves to the next in the same process. While it is there, no other process can start an agent over the
/// same state, and no file that it knew goes away unread.
#[derive(Debug)]
pub struct Carried {
    pub(super) lock: Arc<File>,
    /// Files that an output has yet to read, some of them deleted and held open.
    pub(super) files: Vec<Arc<LogFile>>,
    /// Counters go on, by the outputs' names.
    pub(super) stats: Vec<(String, Arc<OutputStats>)>,
    /// What was known of pods.
    pub(super) known: Option<Saved>,
    /// Who looks goes on looking.
    pub(super) taps: Arc<Taps>,
}

impl Carried {
    /// For the first agent of a process: the state directory's lock and nothing else.
    pub(super) fn first(config: &Config) -> Result<Carried, StartError> {
        Ok(Carried {
            lock: Arc::new(lock_state(config)?),
            files: Vec::new(),
            stats: Vec::new(),
            known: None,
            taps: Arc::default(),
        })
    }
}

/// Why an agent did not give way.
#[derive(Debug, thiserror::Error)]
pub enum PutOff {
    /// A worker does not answer.
    #[error("output `{0}` hangs, such as in a write to a pipe that nobody reads, or to a disk that is away")]
    Hangs(String),
    /// Positions are not on disk.
    #[error("positions cannot be saved: {0}")]
    Unsaved(io::Error),
    /// Somebody wants the whole agent to end.
    #[error("the agent is being stopped")]
    Hastened,
}

/// Ends an agent that is being stopped, or gives way, sooner than its deadline.
#[derive(Debug)]
pub struct Hasten(pub(super) std::sync::mpsc::Sender<Event>);

impl Hasten {
    /// Do not go on reading: save, and end. An agent that was about to give way goes on instead.
    pub fn now(&self) {
        // Nobody listens when the agent has ended.
        let _ = self.0.send(Event::Hasten);
    }
}

impl Agent {
    /// Reads on until every output has delivered what is on disk now, or until `deadline`; saves, and ends.
    pub fn stop(mut self, deadline: Instant) -> Outcome {
        if self.is_leaving() {
            self.read_on(deadline);
        }
        // What was written before this moment is known after it; what comes later is the next process's.
        let pods = self.catalog.as_ref().is_none_or(|catalog| catalog.refresh(deadline));
        let host = self.host_files.as_ref().is_none_or(|catalog| catalog.refresh(deadline));
        if !(pods && host) {
            tracing::warn!(
                "the logs could not be looked through once more in time: what was written last comes with the next start"
            );
        }
        let unreadable = self.catalog.as_ref().map_or(0, Catalog::unreadable)
            + self.host_files.as_ref().map_or(0, HostCatalog::unreadable);
        if unreadable > 0 {
            tracing::warn!(unreadable, "logs that could not be read are left behind undelivered");
            self.caught_up = false;
        }
        self.catalog.iter().for_each(Catalog::halt);
        self.host_files.iter().for_each(HostCatalog::halt);
        self.phase.drain();
        self.wake_all();
        if !self.wait_for_workers(deadline) {
            self.end_workers(LAST_MOMENT);
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
        // Last: without it, the next start asks the API server for what it would have known.
        self.metadata.take().into_iter().for_each(Room::stop);
        Outcome { caught_up: self.caught_up }
    }

    /// Whether the node is going away.
    pub fn is_leaving(&self) -> bool {
        self.metadata.as_ref().is_some_and(|metadata| metadata.table().is_leaving())
    }

    /// Goes on as it is until everything is delivered, what is written meanwhile included, or until `deadline`: no later
    /// process comes to what is left.
    pub(super) fn read_on(&mut self, deadline: Instant) {
        let lag = |agent: &Agent| {
            let outputs = agent.outputs.iter();
            let containers = outputs.flat_map(|(_, stats)| stats.containers());
            containers.map(|container| container.lag_bytes.get()).sum::<u64>()
        };
        while lag(self) > 0 && Instant::now() < deadline {
            match self.events.1.recv_timeout(LOOK_EVERY) {
                Ok(Event::Ended(caught_up)) => self.has_ended(caught_up),
                // Whoever is in a hurry says so again to what follows.
                Ok(Event::Hasten) => return self.hasten().now(),
                Ok(Event::Stands) | Err(_) => {}
            }
        }
    }

    /// Takes the agent down for another that goes on in its place. Nothing new is read or sent, and up to `settle` is
    /// given to what is under way; positions are saved.
    ///
    /// # Errors
    /// The agent goes on as before, since without that it could not be followed exactly.
    pub fn give_way(mut self, settle: Duration) -> Result<Carried, (Box<Agent>, PutOff)> {
        match self.settle(Instant::now() + settle) {
            Ok(()) => Ok(self.hand_over()),
            Err(reason) => {
                self.phase.resume();
                self.stop_requests.send_replace(Stop::No);
                self.wake_all();
                Err((Box::new(self), reason))
            }
        }
    }

    fn settle(&mut self, deadline: Instant) -> Result<(), PutOff> {
        self.seats.iter().for_each(|seat| seat.standing.ask());
        self.phase.settle();
        self.stop_requests.send_replace(Stop::Unsent);
        self.wake_all();
        while !self.seats.iter().all(|seat| seat.standing.is_settled()) {
            match self.events.1.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(Event::Ended(caught_up)) => self.has_ended(caught_up),
                Ok(Event::Stands) => {}
                Ok(Event::Hasten) => return Err(PutOff::Hastened),
                Err(_) => break,
            }
        }
        // A request that is still under way can be given up. A worker that does not answer cannot: it would write on
        // beside its successor.
        if let Some(seat) = self.seats.iter().find(|seat| !seat.standing.is_paused()) {
            return Err(PutOff::Hangs(seat.output.clone()));
        }
        self.keeper.iter().try_for_each(Keeper::save).map_err(PutOff::Unsaved)
    }

    /// Ends workers that stand still.
    fn hand_over(mut self) -> Carried {
        self.end_workers(WHEN_PAUSED);
        self.catalog.iter().for_each(Catalog::halt);
        self.host_files.iter().for_each(HostCatalog::halt);
        let mut files = self.catalog.take().map(Catalog::stop).unwrap_or_default();
        files.extend(self.host_files.take().map(HostCatalog::stop).unwrap_or_default());
        // What is held open needs no copy: the next agent has it.
        self.retainer.take().into_iter().for_each(Retainer::give_way);
        if let Some(Err(error)) = self.keeper.take().map(Keeper::stop) {
            tracing::error!(%error, "positions could not be saved at the end: some records are sent again");
        }
        let known = self.metadata.take().map(Room::give_way);
        if let Some(runtime) = self.runtime.take() {
            // What writes a dead letter just now writes it to its end.
            runtime.shutdown_timeout(LAST_MOMENT);
        }
        for (_, stats) in &self.outputs {
            stats.forget_containers();
        }
        let (lock, stats) = (self.lock.clone(), std::mem::take(&mut self.outputs));
        Carried { lock, files, stats, known, taps: self.taps.clone() }
    }

    /// Waits for all workers to end; false if it was told to hasten, or `deadline` passed.
    fn wait_for_workers(&mut self, deadline: Instant) -> bool {
        while self.running > 0 {
            match self.events.1.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(Event::Ended(caught_up)) => self.has_ended(caught_up),
                Ok(Event::Stands) => {}
                Ok(Event::Hasten) | Err(_) => return false,
            }
        }
        true
    }

    fn has_ended(&mut self, caught_up: bool) {
        self.running -= 1;
        self.caught_up &= caught_up;
    }

    /// Ends the workers without regard to what is left to read.
    fn end_workers(&mut self, within: Duration) {
        self.phase.abort();
        self.stop_requests.send_replace(Stop::Now);
        self.wake_all();
        let deadline = Instant::now() + within;
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
        self.seats.iter().for_each(|seat| seat.wake.wake());
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Not stopped in order, such as when a thread could not be made: end at once.
        if self.running > 0 {
            self.end_workers(LAST_MOMENT);
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

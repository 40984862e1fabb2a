//! Files of the host that the configuration names: `[files.NAME]`.
//!
//! In: patterns of paths. Out: a [`LogFile`] for each file that matches, given to every output's reader, with its size
//! kept up to date and its rotation and deletion marked. A file is told from another by its inode and birth time and, once
//! it was cut short or begins otherwise, by a generation, all kept in the [`Register`]: rotation by renaming goes on
//! in the same file, `copytruncate` in a new one, and the copy that it left is where the rest of the old one is read. Never
//! opens what lies outside of a pattern's folder and the allowed roots, never takes a compressed file.
//!
//! Files are asked for their sizes at every tick, and patterns are looked through when a folder changed, and every
//! `rescan`: host files are few, and nobody needs to be watched.

mod adopt;
mod carried;
mod register;
mod scan;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::file::{KeyMaker, LogFile};
use super::inbox::Inbox;
use super::place::Descriptors;
use super::{QUIET, REST_AFTER_LOOK, REST_AFTER_RESCAN, Seen, Subscriber, cpu_time};
use crate::pulse::Pulse;
use crate::read::Framing;
use crate::retain::{Kept, Retention};
use crate::stats::Counter;
use register::{Mark, Register};
pub use scan::fixed_folder;

/// How long a file that was renamed out of its patterns, or deleted, must have been silent to be done with: its writer
/// goes on in it until it is told to open the new one.
const LEFT_SILENT: Duration = Duration::from_secs(60);

/// How often files are asked when all of them are silent.
const SLOW_TICK: Duration = Duration::from_secs(1);

/// One `[files.NAME]`.
#[derive(Debug, Clone)]
pub struct Source {
    /// NAME.
    pub name: String,
    /// Which files are read.
    pub paths: Vec<glob::Pattern>,
    /// Which of them are not.
    pub exclude: Vec<glob::Pattern>,
    /// How their lines are framed.
    pub framing: Framing,
    /// What their documents say under `labels`.
    pub labels: BTreeMap<String, String>,
}

/// What the catalog of host files needs to know.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What is read.
    pub sources: Vec<Source>,
    /// Where links may lead, beside the folder of the pattern that found them.
    pub links: Vec<PathBuf>,
    /// Beginnings of paths that are never read, nor by another way that leads there: the agent's own files, and the pod logs.
    pub never: Vec<String>,
    /// How keys are made.
    pub keys: KeyMaker,
    /// Where the register is kept.
    pub state_dir: PathBuf,
    /// Time between two looks through all patterns.
    pub rescan: Duration,
    /// Time between two looks at files that are written to.
    pub tick: Duration,
    /// How many outputs read each file.
    pub outputs: usize,
    /// How many files may be held open.
    pub descriptors: Descriptors,
    /// Who keeps files that are deleted unread, if anybody does.
    pub retention: Option<Retention>,
    /// What earlier processes have kept.
    pub kept: Vec<Kept>,
}

/// The running catalog of host files.
#[derive(Debug)]
pub struct HostCatalog {
    inbox: Arc<Inbox>,
    thread: Option<JoinHandle<Vec<Arc<LogFile>>>>,
}

impl HostCatalog {
    /// Starts its thread.
    pub fn start(settings: Settings) -> io::Result<HostCatalog> {
        HostCatalog::start_after(settings, Vec::new())
    }

    /// Starts its thread where another ended, which has `left` these files.
    pub fn start_after(settings: Settings, left: Vec<Arc<LogFile>>) -> io::Result<HostCatalog> {
        let inbox = Arc::new(Inbox::default());
        let mut scanner = HostScanner::new(settings, inbox.clone())?;
        scanner.carry(left);
        let thread = std::thread::Builder::new().name("host-files".into()).spawn(move || {
            scanner.run();
            scanner.leave()
        })?;
        Ok(HostCatalog { inbox, thread: Some(thread) })
    }

    /// Ends; returns the files that some output has yet to read.
    pub fn stop(mut self) -> Vec<Arc<LogFile>> {
        self.halt();
        // A panic of that thread has been reported where it happened.
        self.thread.take().and_then(|thread| thread.join().ok()).unwrap_or_default()
    }

    /// Tells `subscriber` of every known file and of all that will come.
    pub fn subscribe(&self, subscriber: Subscriber) {
        self.inbox.post(|r| r.subscribe.push(subscriber));
    }

    /// Looks through all patterns now and returns when that is done; false if it was not by `deadline`.
    pub fn refresh(&self, deadline: Instant) -> bool {
        let (done, wait) = mpsc::sync_channel(1);
        self.inbox.post(|r| r.refresh.push(done));
        wait.recv_timeout(deadline.saturating_duration_since(Instant::now())).is_ok()
    }

    /// That of its thread, which has begun once it has looked at everything.
    pub fn pulse(&self) -> Arc<Pulse> {
        self.inbox.pulse.clone()
    }

    /// How many files it knows.
    pub fn files(&self) -> Arc<Counter> {
        self.inbox.files.clone()
    }

    /// How many files it was not allowed to read when it last looked at everything.
    pub fn unreadable(&self) -> u64 {
        self.inbox.unreadable.get()
    }

    /// Asks the thread to end, without waiting for it: nothing new will be found.
    pub fn halt(&self) {
        self.inbox.post(|r| r.stop = true);
    }
}

impl Drop for HostCatalog {
    fn drop(&mut self) {
        self.halt();
        if let Some(thread) = self.thread.take() {
            // A panic of that thread has been reported where it happened.
            let _ = thread.join();
        }
    }
}

/// A file that is being read.
#[derive(Debug)]
struct Known {
    file: Arc<LogFile>,
    mark: Mark,
    /// Its absolute path, as it was last seen.
    path: PathBuf,
    /// No pattern finds it any more: renamed or deleted.
    left: bool,
    /// When it last grew, or was found.
    grew_at: Instant,
}

#[derive(Debug)]
struct HostScanner {
    settings: Settings,
    inbox: Arc<Inbox>,
    subscribers: Vec<Subscriber>,
    register: Register,
    known: Vec<Known>,
    /// Files that nobody has been told of, because the register could not be saved.
    unpublished: Vec<Arc<LogFile>>,
    /// Folders in which files were found, and what they said.
    folders: HashMap<PathBuf, Seen>,
    sequence: u64,
    started: bool,
    news: bool,
    told_unreadable: HashSet<PathBuf>,
    /// Files that could not be read for want of a right, in this look through the patterns.
    denied: u64,
    told_unsaved: bool,
    /// What a catalog before this one knew, and this one has not found yet.
    carried: Vec<Arc<LogFile>>,
}

impl HostScanner {
    fn new(settings: Settings, inbox: Arc<Inbox>) -> io::Result<HostScanner> {
        let register = Register::open(&settings.state_dir, settings.keys.clone())?;
        let sequence = settings.kept.iter().map(|kept| kept.sequence).max().unwrap_or(0);
        Ok(HostScanner {
            settings,
            inbox,
            subscribers: Vec::new(),
            register,
            known: Vec::new(),
            unpublished: Vec::new(),
            folders: HashMap::new(),
            sequence,
            started: false,
            news: false,
            told_unreadable: HashSet::new(),
            denied: 0,
            told_unsaved: false,
            carried: Vec::new(),
        })
    }

    fn run(&mut self) {
        let (mut scanned, mut looked, mut active) = (Instant::now(), Instant::now(), Instant::now());
        self.inbox.pulse.beat();
        let mut rescan_took = self.rescan();
        self.adopt();
        self.adopt_carried();
        self.inbox.pulse.has_begun();
        let mut look_took = Duration::ZERO;
        loop {
            let tick =
                if active.elapsed() < QUIET { self.settings.tick } else { self.settings.tick.max(SLOW_TICK) };
            let due = scanned + self.settings.rescan.max(rescan_took * REST_AFTER_RESCAN);
            let asked = self.inbox.take(due.min(looked + tick.max(look_took * REST_AFTER_LOOK)), due);
            if asked.stop {
                return;
            }
            for subscriber in asked.subscribe {
                let unpublished =
                    |file: &Arc<LogFile>| self.unpublished.iter().any(|other| Arc::ptr_eq(file, other));
                for known in self.known.iter().filter(|known| !unpublished(&known.file)) {
                    let _ = subscriber.files.send(known.file.clone());
                }
                subscriber.wake.wake();
                self.subscribers.push(subscriber);
            }
            let begun = cpu_time();
            if self.tick() || Instant::now() >= due || !asked.refresh.is_empty() {
                rescan_took = self.rescan();
                scanned = Instant::now();
            }
            self.publish();
            for done in asked.refresh {
                let _ = done.send(());
            }
            if std::mem::take(&mut self.news) {
                active = Instant::now();
                self.subscribers.iter().for_each(|s| s.wake.wake());
            }
            look_took = cpu_time().saturating_sub(begun);
            looked = Instant::now();
        }
    }

    /// Asks the files for their sizes; true if the patterns must be looked through.
    fn tick(&mut self) -> bool {
        let mut changed = self.folders.iter().any(|(folder, seen)| !Seen::now(folder).is_same(seen));
        for known in &mut self.known {
            if known.file.is_settled() {
                continue;
            }
            let place = known.file.place();
            let found = match &place.held {
                Some(held) if known.left => rustix::fs::fstat(&held.file),
                _ => rustix::fs::stat(&known.path),
            };
            let (inode, size) = (place.stamp.inode, known.file.size());
            drop(place);
            match found {
                Ok(found) if found.st_ino == inode && found.st_size as u64 >= size => {
                    if found.st_size as u64 > size {
                        known.file.set_size(found.st_size as u64);
                        known.grew_at = Instant::now();
                        self.news = true;
                    }
                }
                _ if known.left => {}
                _ => changed = true,
            }
        }
        self.let_go();
        changed
    }

    /// Tells of new files, once their keys are on disk.
    fn publish(&mut self) {
        if let Err(error) = self.register.save() {
            if !std::mem::replace(&mut self.told_unsaved, true) {
                tracing::error!(%error, "cannot save the register of host files: new ones wait until that works");
            }
            return;
        }
        self.told_unsaved = false;
        for file in self.unpublished.drain(..) {
            for subscriber in &self.subscribers {
                let _ = subscriber.files.send(file.clone());
            }
            self.news = true;
        }
    }

    /// Lets go of what is left and silent, of descriptors that nobody needs, and of files that are gone and read.
    fn let_go(&mut self) {
        for known in self.known.iter().filter(|known| known.left && !known.file.is_gone()) {
            let is_held = known.file.place().held.is_some();
            if !is_held || known.file.is_settled() || known.grew_at.elapsed() > LEFT_SILENT {
                known.file.settle();
                known.file.set_gone(true);
                self.news = true;
            }
        }
        for known in &self.known {
            let mut place = known.file.place();
            if !known.file.is_wanted() || (known.file.is_settled() && place.kept.is_some()) {
                place.held = None;
            }
        }
        self.known.retain(|known| !known.file.is_gone() || known.file.is_wanted());
    }
}

//! The catalog: which log files there are.
//!
//! In: the directories of the kubelet. Out: a [`LogFile`] for each file that has a key, given to every output's
//! reader, with its size kept up to date and its rotation, settling and deletion marked. Never parses content
//! (but for the first line that a key is made of), never follows a link out of the allowed roots, never blocks on a FIFO.
//!
//! **The rescan is the truth**: every `rescan` the whole tree is looked at, each file asked for its size, and each
//! directory listed that has changed or may have. In between, a container that is being
//! written to is *hot*: its files are asked for their sizes several times in a `linger`, and its directory is
//! listed when it changed. A container that has fallen silent is *watched* (inotify, by `notify`) and costs nothing.
//! Watching the busy ones too would mean an event for each write: at 50,000 writes a second 12% of a core and more,
//! against 0.1% for asking. Whatever the size of the tree and however many hints come, looking takes at most 5% of a
//! core and rescans 1%: after each look the thread rests for a multiple of what it took.

mod adopt;
pub mod beneath;
mod carried;
mod container;
mod directory;
pub mod file;
pub mod host;
mod inbox;
pub mod name;
pub mod origin;
pub mod place;
mod round;
mod scan;
mod watch;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, StatxFlags};
use rustix::time::{ClockId, clock_gettime};

use crate::clock::unix_nanos;
use crate::pulse::Pulse;
use crate::retain::{Kept, Retention};
use crate::stats::Counter;
use crate::wake::Wake;
use beneath::Roots;
use directory::{Directory, Known};
use file::{KeyMaker, LogFile, Stamp};
use inbox::Inbox;
use place::Descriptors;
use round::Round;
use scan::Which;
use watch::{Hint, Identity, Watches};

/// How long a container must have been silent to be watched instead of asked.
const QUIET: Duration = Duration::from_secs(10);

/// Hints that come within this time of a look are answered together: a pod's start makes dozens.
const HINT_PAUSE: Duration = Duration::from_millis(20);

/// A look is followed by a rest of so many times what it took: 5% of a core.
const REST_AFTER_LOOK: u32 = 19;

/// How long a look may take over the directories that are silent and not watched, as they all are where the system has no
/// watches left: the rest of them is asked at the next look. Those that speak do not wait for them.
const LOOK_AT_SILENT: Duration = Duration::from_millis(4);

/// And a rescan by so many: 1% of a core.
const REST_AFTER_RESCAN: u32 = 99;

/// How close to a listing a directory's time of change may be and yet show every later change: file systems keep it in
/// steps, the coarsest of two seconds.
const COARSEST_CLOCK: Duration = Duration::from_secs(2);

/// How many unreadable places are told one by one.
const MOST_TOLD: usize = 50;

/// What the catalog needs to know.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where files may lie.
    pub roots: Arc<Roots>,
    /// How keys are made.
    pub keys: KeyMaker,
    /// Time between two listings of the whole tree.
    pub rescan: Duration,
    /// Time between two looks at a hot container.
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

/// Who is told of new files, and woken when there is something to read.
#[derive(Debug, Clone)]
pub struct Subscriber {
    /// Receives every file: first all that are known, then each new one.
    pub files: Sender<Arc<LogFile>>,
    /// Woken when a file appeared, grew, settled or went.
    pub wake: Arc<Wake>,
}

/// The running catalog.
#[derive(Debug)]
pub struct Catalog {
    inbox: Arc<Inbox>,
    thread: Option<JoinHandle<Vec<Arc<LogFile>>>>,
}

impl Catalog {
    /// Starts the catalog's thread.
    pub fn start(settings: Settings) -> io::Result<Catalog> {
        Catalog::start_after(settings, Vec::new())
    }

    /// Starts the catalog's thread where another ended, which has `left` these files.
    pub fn start_after(settings: Settings, left: Vec<Arc<LogFile>>) -> io::Result<Catalog> {
        let inbox = Arc::new(Inbox::default());
        let mut scanner = Scanner::new(settings, inbox.clone());
        scanner.carry(left);
        let thread = std::thread::Builder::new().name("catalog".into()).spawn(move || {
            scanner.run();
            scanner.leave()
        })?;
        Ok(Catalog { inbox, thread: Some(thread) })
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

    /// Lists the whole tree now and returns when that is done: what was written before is then known. False if it was
    /// not done by `deadline`.
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

    /// Asks the thread to end, without waiting for it: nothing new will be found.
    pub fn halt(&self) {
        self.inbox.post(|r| r.stop = true);
    }
}

impl Drop for Catalog {
    fn drop(&mut self) {
        self.halt();
        if let Some(thread) = self.thread.take() {
            // A panic of that thread has been reported where it happened.
            let _ = thread.join();
        }
    }
}

/// A directory that holds directories: the root, or a pod's.
#[derive(Debug, Default)]
struct Parent {
    watched: bool,
    seen: Seen,
}

/// What a directory said of itself when it was listed last. While it says the same, its entries are the same, and it
/// is not listed again: to open a directory is an event for everyone who watches it, ourselves among them.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Seen {
    identity: Option<Identity>,
    /// When its entries last changed: nanoseconds since the epoch.
    changed: i128,
    /// A change after the listing would show: everything in it could be read, and its last change was long before.
    sure: bool,
}

impl Seen {
    fn now(path: &Path) -> Seen {
        rustix::fs::stat(path).map_or(Seen::default(), |stat| Seen::of(&stat))
    }

    fn of(stat: &rustix::fs::Stat) -> Seen {
        let changed = i128::from(stat.st_mtime) * 1_000_000_000 + i128::from(stat.st_mtime_nsec);
        let sure = (i128::from(unix_nanos()) - changed).abs() > COARSEST_CLOCK.as_nanos() as i128;
        Seen { identity: Some((stat.st_dev, stat.st_ino)), changed, sure }
    }

    /// Whether it is the same directory, and nobody has changed it since.
    fn is_same(&self, then: &Seen) -> bool {
        (self.identity, self.changed) == (then.identity, then.changed)
    }
}

/// Conditions that have been told and are not told again while they last.
#[derive(Debug, Default)]
struct Told {
    root: bool,
    descriptors: bool,
    /// What could not be read, and in which rescan that was last so.
    unreadable: HashMap<PathBuf, u64>,
    rescans: u64,
}

/// The catalog's thread: its one owner of everything.
#[derive(Debug)]
struct Scanner {
    settings: Settings,
    inbox: Arc<Inbox>,
    subscribers: Vec<Subscriber>,
    root: Parent,
    /// Pods by the names of their directories.
    pods: BTreeMap<String, Parent>,
    /// Containers by their paths below the root; sorted, so that those of a pod lie together.
    directories: BTreeMap<PathBuf, Directory>,
    /// Which of those that are silent are asked at a tick.
    silent_pods: Round<String>,
    silent_containers: Round<PathBuf>,
    watches: Watches,
    sequence: u64,
    /// Whether the first listing is done.
    started: bool,
    told: Told,
    /// Whether something happened that readers should look at.
    news: bool,
    /// What a catalog before this one knew, and this one has not found yet.
    carried: Vec<Arc<LogFile>>,
}

impl Scanner {
    fn new(settings: Settings, inbox: Arc<Inbox>) -> Scanner {
        let hints = inbox.clone();
        let watches = Watches::new(settings.roots.logs().to_owned(), move |hint| {
            hints.hint(|requests| match hint {
                Hint::Directory(path) => {
                    requests.dirty.insert(path);
                }
                Hint::Everything => requests.lost = true,
            });
        });
        // Numbers order the files of a container over restarts as well.
        let sequence = settings.kept.iter().map(|kept| kept.sequence).max().unwrap_or(0);
        Scanner {
            settings,
            inbox,
            subscribers: Vec::new(),
            root: Parent::default(),
            pods: BTreeMap::new(),
            directories: BTreeMap::new(),
            silent_pods: Round::new(LOOK_AT_SILENT / 2),
            silent_containers: Round::new(LOOK_AT_SILENT / 2),
            watches,
            sequence,
            started: false,
            told: Told::default(),
            news: false,
            carried: Vec::new(),
        }
    }

    fn run(&mut self) {
        self.inbox.pulse.beat();
        let mut rescan_took = self.rescan();
        self.adopt();
        self.keep_found();
        self.adopt_carried();
        self.started = true;
        self.inbox.pulse.has_begun();
        let (mut scanned, mut looked, mut look_took) = (Instant::now(), Instant::now(), Duration::ZERO);
        loop {
            let due = scanned + self.settings.rescan.max(rescan_took * REST_AFTER_RESCAN);
            let rest = look_took * REST_AFTER_LOOK;
            let until = if self.is_asking() { due.min(looked + self.settings.tick.max(rest)) } else { due };
            let asked = self.inbox.take(until, looked + HINT_PAUSE.max(rest));
            if asked.stop {
                return;
            }
            for subscriber in asked.subscribe {
                for known in self.directories.values().flat_map(|d| &d.files) {
                    let _ = subscriber.files.send(known.file.clone());
                }
                subscriber.wake.wake();
                self.subscribers.push(subscriber);
            }
            let begun = cpu_time();
            let mut dirty = self.follow_hints(asked.dirty);
            let is_due = Instant::now() >= due;
            if is_due || asked.lost || !asked.refresh.is_empty() {
                rescan_took = self.rescan();
                scanned = Instant::now();
                dirty.clear();
            }
            self.tick(dirty);
            for done in asked.refresh {
                let _ = done.send(());
            }
            if std::mem::take(&mut self.news) {
                self.subscribers.iter().for_each(|s| s.wake.wake());
            }
            // A rescan that was due is paid for by the time to the next one.
            let paid = if is_due { rescan_took } else { Duration::ZERO };
            look_took = cpu_time().saturating_sub(begun + paid);
            looked = Instant::now();
        }
    }

    /// Lists everything; returns what that took of the processor.
    fn rescan(&mut self) -> Duration {
        let begun = cpu_time();
        self.told.rescans += 1;
        self.scan_root(Which::All);
        self.tell_readable();
        if self.started {
            self.adopt();
            self.adopt_carried();
        }
        self.inbox.files.set(self.directories.values().map(|directory| directory.files.len() as u64).sum());
        cpu_time().saturating_sub(begun)
    }

    /// Whether there is anything that must be asked because it is not watched.
    fn is_asking(&self) -> bool {
        !self.root.watched
            || self.pods.values().any(|pod| !pod.watched)
            || self.directories.values().any(|directory| !directory.watched)
    }

    /// Containers that speak again are asked from now on, since a busy writer would send an event for each write.
    /// Returns the rest: where a pod or a container has come or gone.
    fn follow_hints(&mut self, mut dirty: HashSet<PathBuf>) -> HashSet<PathBuf> {
        dirty.retain(|path| {
            let Some(directory) = self.directories.get_mut(path) else { return true };
            directory.active_at = Instant::now();
            directory.speaks = true;
            directory.relist = true;
            if std::mem::take(&mut directory.watched) {
                self.watches.remove(path);
            }
            false
        });
        dirty
    }

    /// Asks what is not watched for news. `dirty`: parents that are known to have changed.
    fn tick(&mut self, mut dirty: HashSet<PathBuf>) {
        let logs = self.settings.roots.logs();
        let now = Instant::now();
        if !self.root.watched && !Seen::now(logs).is_same(&self.root.seen) {
            dirty.insert(PathBuf::new());
        }
        self.silent_pods.begin();
        for (pod, parent) in &self.pods {
            if !parent.watched
                && self.silent_pods.takes(pod)
                && !Seen::now(&logs.join(pod)).is_same(&parent.seen)
            {
                dirty.insert(pod.into());
            }
        }
        let (mut listed, mut finished) = (Vec::new(), Vec::new());
        self.silent_containers.begin();
        for (path, directory) in &mut self.directories {
            if directory.vanished {
                directory.drop_finished();
                if directory.files.is_empty() {
                    finished.push(path.clone());
                }
                continue;
            }
            if directory.watched || !(directory.is_busy(now) || self.silent_containers.takes(path)) {
                continue;
            }
            let asked = directory.ask(logs, path, now);
            self.news |= asked.grew;
            if asked.list {
                listed.push(path.clone());
            } else if directory.may_be_watched(now)
                && asked.seen.identity.is_some_and(|identity| self.watches.add(path, identity))
            {
                directory.watched = true;
                // What came between the look and the watch is seen by one more.
                let again = directory.ask(logs, path, now);
                self.news |= again.grew;
                if again.list {
                    listed.push(path.clone());
                }
            }
        }
        for path in finished {
            self.forget_directory(&path);
        }
        for path in listed {
            self.scan_container(&path);
        }
        if !dirty.is_empty() {
            self.scan_root(Which::Changed(dirty));
        }
    }

    /// After a rescan: what was not found unreadable in it is readable again, or gone.
    fn tell_readable(&mut self) {
        let (round, logs) = (self.told.rescans, self.settings.roots.logs());
        let mut again: Vec<PathBuf> = Vec::new();
        self.told.unreadable.retain(|path, seen| {
            if *seen != round && rustix::fs::lstat(logs.join(path)).is_ok() {
                again.push(path.clone());
            }
            *seen == round
        });
        for path in again.iter().take(MOST_TOLD) {
            tracing::info!(path = %path.display(), "a log can be read again");
        }
        if again.len() > MOST_TOLD {
            tracing::info!(count = again.len() - MOST_TOLD, "more logs can be read again");
        }
    }

    fn tell_unreadable(&mut self, path: &Path, error: &io::Error) {
        let told = self.told.unreadable.len();
        if self.told.unreadable.insert(path.to_owned(), self.told.rescans).is_some() {
            return;
        }
        match told {
            ..MOST_TOLD => {
                tracing::warn!(path = %path.display(), %error, "cannot read a log; trying again at every rescan");
            }
            MOST_TOLD => tracing::warn!("more logs cannot be read; those are told at level debug"),
            _ => tracing::debug!(path = %path.display(), %error, "cannot read a log"),
        }
    }
}

/// What the trailer of a compressed file says of its inflated size (RFC 1952: the last four bytes). Only the lag is told by
/// it.
fn packed_size(file: &File, length: u64) -> io::Result<u64> {
    let mut trailer = [0; 4];
    file.read_exact_at(&mut trailer, length.saturating_sub(4))?;
    Ok(u32::from_le_bytes(trailer).into())
}

/// The stamp of an open file.
fn stamp_of(file: &File) -> io::Result<Stamp> {
    let wanted = StatxFlags::INO | StatxFlags::BTIME;
    Ok(stamp(&rustix::fs::statx(file.as_fd(), "", AtFlags::EMPTY_PATH, wanted)?))
}

fn stamp(stat: &rustix::fs::Statx) -> Stamp {
    let born = if stat.stx_mask & StatxFlags::BTIME.bits() == 0 { 0 } else { nanos(&stat.stx_btime) };
    Stamp {
        device: (u64::from(stat.stx_dev_major) << 32) | u64::from(stat.stx_dev_minor),
        inode: stat.stx_ino,
        born,
    }
}

fn nanos(time: &rustix::fs::StatxTimestamp) -> i128 {
    i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec)
}

/// Processor time of this thread. Not the clock's: on a busy node that would mistake waiting for work.
fn cpu_time() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime).try_into().unwrap_or_default()
}

#[cfg(test)]
mod tests;

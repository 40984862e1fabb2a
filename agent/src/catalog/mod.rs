//! The catalog: which log files there are.
//!
//! In: the directories of the kubelet. Out: a [`LogFile`] for each file that has a key, given to every output's
//! reader, with its size kept up to date and its rotation, settling and deletion marked. Never parses content
//! (but for the first line that a key is made of), never follows a link out of the allowed roots, never blocks on a FIFO.
//!
//! **The rescan is the truth**: every `rescan` the whole tree is listed. In between, a container that is being
//! written to is *hot*: its files are asked for their sizes several times in a `linger`, and its directory is
//! listed when it changed. A container that has fallen silent is *watched* (inotify, by `notify`) and costs nothing.
//! Watching the busy ones too would mean an event for each write: at 50,000 writes a second 12% of a core and more,
//! against 0.1% for asking.

pub mod beneath;
pub mod file;
pub mod name;
mod scan;
mod watch;

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::mpsc::{self, Sender, SyncSender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, StatxFlags};

use crate::wake::Wake;
use beneath::Roots;
use file::{KeyMaker, LogFile, Stamp};
use scan::{Known, Which};
use watch::Watches;

/// How long a container must have been silent to be watched instead of asked.
const QUIET: Duration = Duration::from_secs(10);

/// What the catalog needs to know.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where files may lie.
    pub roots: Roots,
    /// How keys are made.
    pub keys: KeyMaker,
    /// Time between two listings of the whole tree.
    pub rescan: Duration,
    /// Time between two looks at a hot container.
    pub tick: Duration,
    /// How many outputs read each file.
    pub outputs: usize,
    /// How many files may be held open.
    pub descriptors: usize,
}

/// Who is told of new files, and woken when there is something to read.
#[derive(Debug, Clone)]
pub struct Subscriber {
    /// Receives every file: first all that are known, then each new one.
    pub files: Sender<Arc<LogFile>>,
    /// Woken when a file appeared, grew, settled or went.
    pub wake: Arc<Wake>,
}

/// What others ask of the catalog's thread.
#[derive(Debug, Default)]
struct Requests {
    /// Directories (below the root, empty for the root itself) that may have changed.
    dirty: HashSet<PathBuf>,
    /// Everything may have changed: the watcher lost events.
    rescan: bool,
    refresh: Vec<SyncSender<()>>,
    subscribe: Vec<Subscriber>,
    stop: bool,
}

/// The way into the catalog's thread, which hints and outputs share.
#[derive(Debug, Default)]
struct Inbox {
    requests: Mutex<Requests>,
    arrived: Condvar,
}

impl Inbox {
    fn post(&self, change: impl FnOnce(&mut Requests)) {
        change(&mut self.lock());
        self.arrived.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Requests> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what has been asked, waiting for it up to `timeout`.
    fn take(&self, timeout: Duration) -> Requests {
        let nothing = |r: &mut Requests| {
            r.dirty.is_empty() && !r.rescan && r.refresh.is_empty() && r.subscribe.is_empty() && !r.stop
        };
        let (mut requests, _) = self
            .arrived
            .wait_timeout_while(self.lock(), timeout, nothing)
            .unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut requests)
    }
}

/// The running catalog.
#[derive(Debug)]
pub struct Catalog {
    inbox: Arc<Inbox>,
    thread: Option<JoinHandle<()>>,
}

impl Catalog {
    /// Starts the catalog's thread.
    pub fn start(settings: Settings) -> io::Result<Catalog> {
        let inbox = Arc::new(Inbox::default());
        let mut scanner = Scanner::new(settings, inbox.clone());
        let thread = std::thread::Builder::new().name("catalog".into()).spawn(move || scanner.run())?;
        Ok(Catalog { inbox, thread: Some(thread) })
    }

    /// Tells `subscriber` of every known file and of all that will come.
    pub fn subscribe(&self, subscriber: Subscriber) {
        self.inbox.post(|r| r.subscribe.push(subscriber));
    }

    /// Lists the whole tree now and returns when that is done: what was written before is then known.
    pub fn refresh(&self) {
        let (done, wait) = mpsc::sync_channel(1);
        self.inbox.post(|r| r.refresh.push(done));
        // An error means that the thread has gone, and with it whatever there was to find.
        let _ = wait.recv();
    }
}

impl Drop for Catalog {
    fn drop(&mut self) {
        self.inbox.post(|r| r.stop = true);
        if let Some(thread) = self.thread.take() {
            // A panic of that thread has been reported where it happened.
            let _ = thread.join();
        }
    }
}

/// A container's directory as the catalog knows it.
#[derive(Debug)]
struct Directory {
    container: Arc<file::Container>,
    files: Vec<Known>,
    /// When the directory last changed, if that is certain.
    changed: Option<i128>,
    /// Whether there is a file without a key yet.
    unkeyed: bool,
    /// When to list it again because a file may have settled by then.
    settle_at: Option<Instant>,
    /// Silent and watched; else asked at every tick.
    watched: bool,
    active_at: Instant,
    /// Whether the last listing of its parents had it.
    present: bool,
}

/// The catalog's thread: its one owner of everything.
#[derive(Debug)]
struct Scanner {
    settings: Settings,
    inbox: Arc<Inbox>,
    subscribers: Vec<Subscriber>,
    directories: HashMap<PathBuf, Directory>,
    watches: Watches,
    sequence: u64,
    held: usize,
    /// Whether the first listing is done.
    started: bool,
    /// Conditions that have been told and are not told again: by path or by name.
    told: HashSet<String>,
    /// Whether something happened that readers should look at.
    news: bool,
}

impl Scanner {
    fn new(settings: Settings, inbox: Arc<Inbox>) -> Scanner {
        let hints = inbox.clone();
        let watches = Watches::new(settings.roots.logs().to_owned(), move |hint| {
            hints.post(|requests| match hint {
                watch::Hint::Directory(path) => {
                    requests.dirty.insert(path);
                }
                watch::Hint::Everything => requests.rescan = true,
            });
        });
        Scanner {
            settings,
            inbox,
            subscribers: Vec::new(),
            directories: HashMap::new(),
            watches,
            sequence: 0,
            held: 0,
            started: false,
            told: HashSet::new(),
            news: false,
        }
    }

    fn run(&mut self) {
        let mut scanned = Instant::now();
        let mut took = self.rescan();
        self.started = true;
        loop {
            // A tree so large that listing it takes long is listed less often: 1% of a core at most.
            let due = scanned + self.settings.rescan.max(took * 100);
            let hot = self.directories.values().any(|d| !d.watched);
            let until_due = due.saturating_duration_since(Instant::now());
            let asked = self.inbox.take(if hot { self.settings.tick.min(until_due) } else { until_due });
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
            if asked.rescan || !asked.refresh.is_empty() || Instant::now() >= due {
                took = self.rescan();
                scanned = Instant::now();
            } else {
                self.follow_hints(asked.dirty);
                self.tick();
            }
            for done in asked.refresh {
                let _ = done.send(());
            }
            if std::mem::take(&mut self.news) {
                self.subscribers.iter().for_each(|s| s.wake.wake());
            }
        }
    }

    fn rescan(&mut self) -> Duration {
        let begun = Instant::now();
        self.scan_root(Which::All);
        begun.elapsed()
    }

    fn follow_hints(&mut self, dirty: HashSet<PathBuf>) {
        let mut pods = HashSet::new();
        for path in dirty {
            match self.directories.get_mut(&path) {
                // It speaks again: asked from now on, since a busy writer would send an event for each write.
                Some(directory) => {
                    directory.active_at = Instant::now();
                    directory.changed = None;
                    if std::mem::take(&mut directory.watched) {
                        self.watches.remove(&path);
                    }
                }
                // A pod or a container has come or gone.
                None => {
                    pods.insert(path);
                }
            }
        }
        if !pods.is_empty() {
            self.scan_root(Which::Changed(pods));
        }
    }

    /// Asks the hot containers what is new.
    fn tick(&mut self) {
        let now = Instant::now();
        let mut listed = Vec::new();
        for (path, directory) in &mut self.directories {
            if directory.watched {
                continue;
            }
            let mut grew = false;
            for known in &mut directory.files {
                grew |= known.look_for_growth();
            }
            if grew {
                directory.active_at = now;
                self.news = true;
            }
            // A file that grows has not been rotated away just now; else its directory tells.
            let changed = !grew
                && (directory.changed.is_none()
                    || directory.changed != changed_at(&self.settings.roots.logs().join(path)));
            if changed || directory.unkeyed || directory.settle_at.is_some_and(|at| at <= now) {
                listed.push(path.clone());
            } else if now.duration_since(directory.active_at) > QUIET && self.watches.add(path) {
                directory.watched = true;
                // What came between the last look and the watch is seen by one more.
                grew = false;
                for known in &mut directory.files {
                    grew |= known.look_for_growth();
                }
                self.news |= grew;
            }
        }
        for path in listed {
            self.scan_container(&path);
        }
    }

    fn tell_once(&mut self, what: impl Into<String>) -> bool {
        self.told.insert(what.into())
    }
}

/// The stamp of an open file.
pub(in crate::catalog) fn stamp_of(file: &File) -> io::Result<Stamp> {
    let stat = rustix::fs::statx(
        file.as_fd(),
        "",
        AtFlags::EMPTY_PATH,
        StatxFlags::INO | StatxFlags::BTIME,
    )?;
    Ok(stamp(&stat))
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

/// When a directory last changed, in nanoseconds; `None` if that cannot be said.
fn changed_at(path: &std::path::Path) -> Option<i128> {
    let stat = rustix::fs::stat(path).ok()?;
    Some(i128::from(stat.st_mtime) * 1_000_000_000 + i128::from(stat.st_mtime_nsec))
}

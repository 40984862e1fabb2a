//! Retention: keeps rotated and deleted files until every output is past them.
//!
//! In: every log file, as the catalog finds it; how far outputs are, from their ledgers. Out: a name of our own for it in
//! the state directory, which goes when the last output has read it; after a restart, everything that has such a name.
//! **Linked early**: a hard link costs nothing, and what has one survives its pod's deletion even while no agent runs.
//! Where no link can be made (another mount, another owner) the catalog's open descriptor keeps the file, and what is unread
//! of it is copied once it has been gone for a while, and when the agent stops. Never outgrows its budgets: what must go is
//! chosen by [`budget`], and told. Never on a record's way: a thread of its own.

mod budget;
mod store;

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::fs::{StatVfs, fstatvfs, statvfs};

use crate::catalog::file::LogFile;
use crate::catalog::origin::Origin;
use crate::config::RetainConfig;
use crate::position::Ledger;
use crate::stats::{Counter, LossReason};
use crate::wake::Wake;
use budget::{Candidate, victims};
use store::Store;
pub use store::{Kept, Whose};

/// Time between two looks at everything, while something waits to be read.
const LOOK: Duration = Duration::from_secs(1);

/// And while nothing does.
const QUIET_LOOK: Duration = Duration::from_secs(10);

/// A look is followed by a rest of so many times what it took: 1% of a core.
const REST: u32 = 99;

/// Containers that are remembered as told of: what is told twice costs less than what is remembered for ever.
const MOST_TOLD: usize = 1000;

/// How long a file that its runtime has left waits for its link: most have been read before, and need none.
const SETTLED_FIRST: Duration = Duration::from_secs(1);

/// What retention is made with.
#[derive(Debug)]
pub struct Settings {
    /// The agent's state directory.
    pub state_dir: PathBuf,
    /// Its budgets.
    pub config: RetainConfig,
    /// What every output has acknowledged.
    pub ledgers: Vec<Arc<Ledger>>,
    /// Who reads: woken when a file had to go.
    pub readers: Vec<Arc<Wake>>,
}

/// What is kept, for people and metrics.
#[derive(Debug, Default)]
pub struct RetainStats {
    /// Files that lie on disk for the agent alone, because some output has yet to read them.
    pub files: Counter,
    /// Bytes of disk that these take.
    pub bytes: Counter,
    /// Bytes that they may take.
    pub limit: Counter,
    /// Bytes of disk that had to be let go unread since the start.
    pub let_go_bytes: Counter,
    by_container: Mutex<HashMap<Arc<Origin>, u64>>,
}

impl RetainStats {
    /// The bytes of each container, or host file.
    pub fn by_container(&self) -> HashMap<Arc<Origin>, u64> {
        self.by_container.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What the catalog hands to retention.
#[derive(Debug, Clone)]
pub struct Retention(Sender<Request>);

impl Retention {
    /// Looks after a file from now on.
    pub fn keep(&self, file: Arc<LogFile>) {
        // Nobody listens when the agent stops.
        let _ = self.0.send(Request::Keep(file));
    }

    /// A name of ours is of no use: the file is known under a better one.
    pub fn discard(&self, kept: PathBuf) {
        let _ = self.0.send(Request::Discard(kept));
    }
}

#[derive(Debug)]
enum Request {
    Keep(Arc<LogFile>),
    Discard(PathBuf),
    /// The end: nothing is read any more. Answered when everything is safe.
    Finish(SyncSender<()>),
}

/// The running retention.
#[derive(Debug)]
pub struct Retainer {
    requests: Sender<Request>,
    found: Vec<Kept>,
    stats: Arc<RetainStats>,
    thread: Option<JoinHandle<()>>,
}

impl Retainer {
    /// Looks what earlier processes have left, and starts.
    ///
    /// # Errors
    /// When the folder cannot be read, or no thread be had.
    pub fn start(settings: Settings) -> io::Result<Retainer> {
        let store = Store::new(&settings.state_dir);
        let found = store.list()?;
        let stats = Arc::new(RetainStats::default());
        stats.limit.set(settings.config.max_bytes.bytes());
        let (requests, inbox) = mpsc::channel();
        let mut warden =
            Warden { settings, store, stats: stats.clone(), charges: Vec::new(), told: Told::default() };
        let thread = std::thread::Builder::new().name("retain".into()).spawn(move || warden.run(&inbox))?;
        Ok(Retainer { requests, found, stats, thread: Some(thread) })
    }

    /// What earlier processes have left, in the order of finding: the catalogs take it up.
    pub fn found(&self) -> &[Kept] {
        &self.found
    }

    /// For the catalogs.
    pub fn retention(&self) -> Retention {
        Retention(self.requests.clone())
    }

    /// What is kept.
    pub fn stats(&self) -> Arc<RetainStats> {
        self.stats.clone()
    }

    /// Ends without making anything safe: another retention goes on in this process, with what is held open. The catalogs
    /// that hand files to this one have ended.
    pub fn give_way(self) {
        drop(self.requests);
        // A panic of that thread has been reported where it happened.
        let _ = self.thread.map(JoinHandle::join);
    }

    /// When nothing is read any more: makes safe what is unread, as far as that goes until `deadline`. False if that was
    /// not far enough.
    pub fn finish(mut self, deadline: Instant) -> bool {
        let (done, wait) = mpsc::sync_channel(1);
        let asked = self.requests.send(Request::Finish(done)).is_ok();
        let finished = asked && wait.recv_timeout(deadline.saturating_duration_since(Instant::now())).is_ok();
        // One that is not done hangs on a disk: nobody waits for it.
        if let (true, Some(thread)) = (finished, self.thread.take()) {
            let _ = thread.join();
        }
        finished
    }
}

/// A file that is looked after.
#[derive(Debug)]
struct Charge {
    file: Arc<LogFile>,
    /// A link is not possible: an open descriptor keeps it.
    unlinkable: bool,
    since: Instant,
    /// Since when it lies on disk for us alone.
    alone_since: Option<Instant>,
    /// Bytes on disk that its going would free.
    bytes: u64,
}

#[derive(Debug, Default)]
struct Told {
    unlinkable: bool,
    unsaved: bool,
    /// Containers of which something had to go.
    lost: HashSet<Arc<Origin>>,
}

/// The thread's state: its one owner.
#[derive(Debug)]
struct Warden {
    settings: Settings,
    store: Store,
    stats: Arc<RetainStats>,
    charges: Vec<Charge>,
    told: Told,
}

impl Warden {
    fn run(&mut self, inbox: &Receiver<Request>) {
        let mut next = Instant::now() + LOOK;
        loop {
            match inbox.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Ok(Request::Keep(file)) => {
                    next = next.min(Instant::now() + LOOK);
                    self.take(file);
                    continue;
                }
                Ok(Request::Discard(path)) => {
                    self.remove(&path);
                    continue;
                }
                Ok(Request::Finish(done)) => {
                    self.look(true);
                    // Nobody waits any longer when it took too long.
                    let _ = done.send(());
                    return;
                }
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {}
            }
            let begun = Instant::now();
            self.look(false);
            let busy = self.charges.iter().any(|charge| charge.file.is_settled() || charge.needs_link());
            next = Instant::now() + if busy { LOOK } else { QUIET_LOOK }.max(begun.elapsed() * REST);
        }
    }

    fn take(&mut self, file: Arc<LogFile>) {
        let settled = file.is_settled();
        self.charges.push(Charge {
            file,
            unlinkable: false,
            since: Instant::now(),
            alone_since: None,
            bytes: 0,
        });
        if let Some(charge) = self.charges.last_mut().filter(|charge| !settled && charge.needs_link()) {
            link(&self.store, &mut self.told, &self.settings.state_dir, charge);
        }
    }

    /// Looks at everything once. `last`: nothing comes after this, so that what is unread and not linked is copied.
    fn look(&mut self, last: bool) {
        self.let_go_of_read();
        for charge in &mut self.charges {
            let its_time = last || !charge.file.is_settled() || charge.since.elapsed() >= SETTLED_FIRST;
            if charge.needs_link() && its_time {
                link(&self.store, &mut self.told, &self.settings.state_dir, charge);
            }
        }
        self.measure();
        self.keep_budgets();
        self.copy_unlinkable(last);
        let alone = || self.charges.iter().filter(|charge| charge.alone_since.is_some());
        self.stats.files.set(alone().count() as u64);
        self.stats.bytes.set(alone().map(|charge| charge.bytes).sum());
        let mut by_container = HashMap::new();
        alone()
            .for_each(|charge| *by_container.entry(charge.file.origin.clone()).or_default() += charge.bytes);
        *self.stats.by_container.lock().unwrap_or_else(PoisonError::into_inner) = by_container;
    }

    /// What every output is past needs no name of ours.
    fn let_go_of_read(&mut self) {
        let (done, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut self.charges)
            .into_iter()
            .partition(|charge| !charge.file.is_wanted() || charge.file.loss().is_some());
        self.charges = rest;
        for kept in done.iter().filter_map(|charge| charge.file.forget_kept()) {
            self.remove(&kept);
        }
    }

    fn remove(&self, path: &Path) {
        if let Err(error) = self.store.remove(path) {
            tracing::warn!(path = %path.display(), %error, "cannot remove a retained file; remove it by hand");
        }
    }

    /// Finds out what lies on disk for us alone.
    fn measure(&mut self) {
        for charge in self.charges.iter_mut().filter(|charge| charge.file.is_settled()) {
            let found = match charge.file.kept() {
                Some(kept) => fs::metadata(kept).ok().filter(|found| found.nlink() == 1),
                None => charge
                    .file
                    .bytes()
                    .and_then(|file| file.metadata())
                    .ok()
                    .filter(|found| found.nlink() == 0),
            };
            charge.bytes = found.as_ref().map_or(0, |found| found.blocks() * 512);
            charge.alone_since = found.map(|_| charge.alone_since.unwrap_or_else(Instant::now));
        }
    }

    /// Lets go of what is too much: by the configured bound, or because the disk is too full.
    fn keep_budgets(&mut self) {
        let sum: u64 = self.charges.iter().map(|charge| charge.bytes).sum();
        let excess = sum.saturating_sub(self.settings.config.max_bytes.bytes());
        if excess > 0 {
            let all = (0..self.charges.len()).filter(|at| self.charges[*at].alone_since.is_some()).collect();
            self.let_go(all, excess, 0, LossReason::Budget);
        }
        let mut disks: HashMap<u64, Vec<usize>> = HashMap::new();
        for (at, charge) in self.charges.iter().enumerate().filter(|(_, charge)| charge.alone_since.is_some())
        {
            disks.entry(charge.file.device()).or_default().push(at);
        }
        // Those that have gone above are given up already; what they free shows in the figures of the disk.
        for members in disks.into_values() {
            let opened = members.iter().find_map(|at| self.charges[*at].file.bytes().ok());
            let Some(disk) = opened.and_then(|file| fstatvfs(&*file).ok()) else { continue };
            let (bytes, files) = self.lacking(&disk);
            if bytes > 0 || files > 0 {
                self.let_go(members, bytes, files, LossReason::DiskFloor);
            }
        }
    }

    /// Bytes and inodes that a disk has too few of.
    fn lacking(&self, disk: &StatVfs) -> (u64, u64) {
        let config = &self.settings.config;
        let (free, floor) = self.free(disk);
        let bytes = floor.saturating_sub(free);
        // File systems without a fixed number of inodes say that there are none.
        (bytes, config.min_free_inodes.of(disk.f_files).saturating_sub(disk.f_favail))
    }

    /// Bytes that a disk has more free than must be.
    fn room(&self, disk: &StatVfs) -> u64 {
        let (free, floor) = self.free(disk);
        free.saturating_sub(floor)
    }

    /// Bytes that are free on a disk, and that must be.
    fn free(&self, disk: &StatVfs) -> (u64, u64) {
        let floor = self.settings.config.min_free.of(disk.f_blocks * disk.f_frsize);
        (disk.f_bavail * disk.f_frsize, floor)
    }

    fn let_go(&mut self, members: Vec<usize>, bytes: u64, files: u64, reason: LossReason) {
        let members: Vec<usize> =
            members.into_iter().filter(|at| self.charges[*at].file.loss().is_none()).collect();
        let candidates: Vec<Candidate<'_>> = members
            .iter()
            .map(|at| &self.charges[*at])
            .map(|charge| Candidate {
                namespace: charge.file.origin.place().0,
                age: charge.file.sequence,
                bytes: charge.bytes,
            })
            .collect();
        for at in victims(&candidates, bytes, files).into_iter().map(|victim| members[victim]) {
            let charge = &mut self.charges[at];
            charge.alone_since = None;
            let freed = std::mem::take(&mut charge.bytes);
            let kept = if charge.file.is_gone() {
                self.stats.let_go_bytes.add(freed);
                if self.told.lost.len() >= MOST_TOLD {
                    self.told.lost.clear();
                }
                if self.told.lost.insert(charge.file.origin.clone()) {
                    tracing::error!(container = %charge.file.origin, bytes = freed, reason = reason.as_str(),
                        "unread logs had to go: more lies unread than `retain` allows; what is lost of this container is counted from now on");
                }
                charge.file.give_up(reason)
            } else {
                // It is there under another name as well, such as compressed: read on from that.
                charge.file.set_adrift()
            };
            if let Some(kept) = kept {
                self.remove(&kept);
            }
        }
        self.settings.readers.iter().for_each(|reader| reader.wake());
    }

    /// Copies what only an open descriptor keeps.
    fn copy_unlinkable(&mut self, last: bool) {
        let (config, mut sum) =
            (&self.settings.config, self.charges.iter().map(|charge| charge.bytes).sum::<u64>());
        let disk = statvfs(&self.settings.state_dir).ok();
        // A copy that the disk has no room for would be let go at the next look: the descriptor keeps the file until then.
        let mut room = disk.filter(|_| !last).map_or(u64::MAX, |disk| self.room(&disk));
        for charge in self.charges.iter_mut().filter(|charge| charge.needs_copy(config.copy_after, last)) {
            let copied = charge.file.bytes().and_then(|opened| {
                let begins = if charge.file.is_packed() {
                    0
                } else {
                    unread_from(&self.settings.ledgers, &charge.file)
                };
                let size = opened.metadata()?.len().saturating_sub(begins);
                if sum.saturating_sub(charge.bytes) + size > config.max_bytes.bytes() || size > room {
                    return Ok(());
                }
                room = room.saturating_sub(size);
                let (path, copy) = self.store.copy(&charge.file, &opened, begins)?;
                sum = sum.saturating_sub(charge.bytes) + size;
                charge.bytes = size;
                charge.file.keep_copy(path, &copy)
            });
            match copied {
                Ok(()) => self.told.unsaved = false,
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) if std::mem::replace(&mut self.told.unsaved, true) => {
                    tracing::debug!(container = %charge.file.origin, %error, "cannot copy a deleted log");
                }
                Err(error) => tracing::error!(container = %charge.file.origin, %error,
                    "cannot copy what is unread of a deleted log; it is held open, and lost if the agent ends before it is read"),
            }
        }
    }
}

impl Charge {
    /// Whether it has a name of ours.
    fn is_safe(&self) -> bool {
        self.file.kept().is_some()
    }

    fn needs_link(&self) -> bool {
        !self.unlinkable && !self.is_safe() && !self.is_live_host_file()
    }

    /// A host file that is still in its place has no second name: logrotate passes over a file that has.
    fn is_live_host_file(&self) -> bool {
        matches!(&*self.file.origin, Origin::Host(_)) && !self.file.is_settled()
    }

    /// Whether what is unread of it is to be copied now.
    fn needs_copy(&self, after: Duration, last: bool) -> bool {
        if self.is_safe() || self.file.loss().is_some() {
            return false;
        }
        if last && self.is_live_host_file() {
            return lies_on_disk_for_us_alone(&self.file);
        }
        let late = self.alone_since.is_some_and(|since| since.elapsed() >= after);
        self.unlinkable && self.file.is_settled() && (late || last)
    }
}

fn link(store: &Store, told: &mut Told, state_dir: &Path, charge: &mut Charge) {
    let linked = charge.file.bytes().and_then(|opened| Ok((store.link(&charge.file, &opened)?, opened)));
    match linked {
        Ok((path, opened)) => {
            if !charge.file.keep(path.clone(), &opened).unwrap_or(false) {
                // Another file by now, which is given to us as such.
                let _ = store.remove(&path);
            }
        }
        // Deleted already: only a copy can keep it.
        Err(error) if error.kind() == ErrorKind::NotFound => charge.unlinkable = true,
        Err(error) if is_passing(&error) => {}
        Err(error) => {
            charge.unlinkable = true;
            if !std::mem::replace(&mut told.unlinkable, true) {
                tracing::warn!(log = %charge.file.origin, state_dir = %state_dir.display(), %error,
                    "log files cannot be linked into `state_dir`: those that are deleted unread are held open instead, and what is \
                     deleted while no agent runs is lost (have the pod logs and `state_dir` on one mount, such as /var/log, and \
                     run as the files' owner)");
            }
        }
    }
}

/// Whether a file has no name any more, so that a descriptor alone keeps it.
fn lies_on_disk_for_us_alone(file: &LogFile) -> bool {
    file.bytes().and_then(|opened| opened.metadata()).is_ok_and(|found| found.nlink() == 0)
}

/// Whether the same may succeed later.
fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::Interrupted)
        || rustix::io::Errno::from_io_error(error)
            .is_some_and(|errno| matches!(errno, rustix::io::Errno::MFILE | rustix::io::Errno::NFILE))
}

/// Up to where every output is past a file.
fn unread_from(ledgers: &[Arc<Ledger>], file: &LogFile) -> u64 {
    ledgers
        .iter()
        .map(|ledger| ledger.read(|state| state.entry(file.key).map_or(0, |entry| entry.position.oldest())))
        .min()
        .unwrap_or(0)
}

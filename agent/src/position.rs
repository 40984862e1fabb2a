//! Positions: per output and file, up to where everything is acknowledged.
//!
//! In: acknowledgements, from the one reader of each file. Out: a file on disk per output, written whole (write,
//! fsync, rename) about once a second by a thread of its own, and read at start. Never moves ahead of an
//! acknowledgement. A damaged file is set aside with a message and the one before it is used: what is then read
//! again is recognised by its `_id`.

pub mod removed;

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};

use crate::catalog::file::FileKey;
use crate::clock::EvenClock;
use crate::record::Stream;
use removed::Removed;

/// Version of the file's format. A version reads its own and the one before, and members it does not know are
/// passed over, so that the one before can read what this one writes.
const VERSION: u32 = 1;

/// How long the positions of a file that is gone are kept, in seconds: a log directory that was only unmounted for
/// a while must not be read anew.
const KEEP_GONE_SECONDS: u64 = 24 * 3600;

/// Where a reader stands in a file: everything before it is dealt with, but for the groups that are open.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Offset (in bytes of the inflated file) of the next line to read.
    #[serde(rename = "o")]
    pub offset: u64,
    /// Records begun before `offset` whose end has not been seen, one for each [`Lane`].
    #[serde(rename = "p", default, skip_serializing_if = "no_groups")]
    pub open: [Option<OpenGroup>; Lane::COUNT],
    /// Time of the last line that had one, for lines that have none; nanoseconds since the epoch, 0 for none.
    #[serde(rename = "t", default)]
    pub time: i64,
    /// Up to where the first lines of the file, by stream, belong to the last record of the file before it.
    #[serde(rename = "h", default, skip_serializing_if = "is_default")]
    pub skipped: Skipped,
}

/// Offsets behind the lines that another file's record ends with: of standard output's, and of standard error's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped(pub [u64; 2]);

impl Skipped {
    /// Whether all lines are the file's own.
    pub fn is_nothing(&self) -> bool {
        *self == Skipped::default()
    }

    /// Whether the line of this stream at `offset` is another file's.
    #[inline]
    pub fn has(&self, lane: Lane, offset: u64) -> bool {
        self.0.get(lane as usize).is_some_and(|end| offset < *end)
    }
}

impl Position {
    /// Offset of the first byte that is still needed: of the oldest group that is open, else of the next line.
    pub fn oldest(&self) -> u64 {
        self.open.iter().flatten().map(|group| group.first).min().unwrap_or(self.offset)
    }
}

fn no_groups(open: &[Option<OpenGroup>; Lane::COUNT]) -> bool {
    open.iter().all(Option::is_none)
}

/// What pieces of a line are joined by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Lane {
    /// CRI pieces of the container's standard output.
    Stdout,
    /// CRI pieces of its standard error.
    Stderr,
    /// One physical line that is longer than a record may be.
    Long,
}

impl Lane {
    /// How many there are.
    pub const COUNT: usize = 3;

    /// The lane of a stream's partial lines.
    pub fn of(stream: Stream) -> Lane {
        match stream {
            Stream::Stdout => Lane::Stdout,
            Stream::Stderr => Lane::Stderr,
        }
    }

    /// The stream whose lane it is.
    pub fn stream(self) -> Option<Stream> {
        match self {
            Lane::Stdout => Some(Stream::Stdout),
            Lane::Stderr => Some(Stream::Stderr),
            Lane::Long => None,
        }
    }
}

/// A record whose end has not been seen, a line in pieces or several lines: its offsets, not its bytes; they are read again
/// when it ends. A version that knows of no lines takes it for one line, whose pieces it joins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenGroup {
    /// Offset of its first piece.
    #[serde(rename = "f")]
    pub first: u64,
    /// Offset behind its last piece.
    #[serde(rename = "z")]
    pub end: u64,
    /// Bytes of content in its pieces so far.
    #[serde(rename = "n")]
    pub content: u64,
    /// Time of its last piece, nanoseconds since the epoch.
    #[serde(rename = "l")]
    pub last: i64,
    /// Which part of a line over the bound this is, from 0.
    #[serde(rename = "s", default)]
    pub part: u32,
    /// Bytes of the line in the parts before this one.
    #[serde(rename = "b", default)]
    pub before: u64,
    /// Stream of a long physical line, where its beginning told.
    #[serde(rename = "e", default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<Lane>,
    /// Lines of a record of several, and 0 for a line that is one of its own.
    #[serde(rename = "m", default, skip_serializing_if = "is_default")]
    pub lines: u32,
    /// What of a record of several lines has been seen: see [`State`](crate::record::multiline::State).
    #[serde(rename = "y", default, skip_serializing_if = "is_default")]
    pub state: u8,
    /// Whether its last line is whole, so that only another line can go on with it.
    #[serde(rename = "w", default, skip_serializing_if = "is_default")]
    pub whole: bool,
}

/// A group that was ended by our clock: reading again must end it at the same place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    /// Offset of the group's first piece.
    #[serde(rename = "f")]
    pub first: u64,
    /// Offset behind its last.
    #[serde(rename = "e")]
    pub end: u64,
}

/// Everything that is kept of one file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// What is acknowledged.
    #[serde(flatten)]
    pub position: Position,
    /// Cuts behind it.
    #[serde(rename = "c", default, skip_serializing_if = "Vec::is_empty")]
    pub cuts: Vec<Cut>,
    /// Since when the file is gone, in seconds since the epoch; 0 while it is there.
    #[serde(rename = "g", default, skip_serializing_if = "is_default")]
    pub gone: u64,
    /// Up to where it was written before the output's very first start: records before this are passed over if they are
    /// too old. Behind it they never are, whatever time they bear, since clocks are set back at times.
    #[serde(rename = "a", default, skip_serializing_if = "is_default")]
    pub past: u64,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A [`Position`] where thousands are held: nearly all have nothing open.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Held {
    offset: u64,
    time: i64,
    more: Option<Box<([Option<OpenGroup>; Lane::COUNT], Skipped)>>,
}

impl From<Position> for Held {
    fn from(Position { offset, open, time, skipped }: Position) -> Held {
        let more = (!no_groups(&open) || !skipped.is_nothing()).then(|| Box::new((open, skipped)));
        Held { offset, time, more }
    }
}

impl From<&Held> for Position {
    fn from(Held { offset, time, more }: &Held) -> Position {
        let (open, skipped) = more.as_deref().copied().unwrap_or_default();
        Position { offset: *offset, open, time: *time, skipped }
    }
}

/// An [`Entry`] as it is held: of a hundred thousand files nearly all have no group open, and no cuts.
#[derive(Debug, Default)]
struct Kept {
    position: Held,
    gone: u64,
    past: u64,
    cuts: Option<Box<Cuts>>,
}

#[derive(Debug, Clone, Default)]
struct Cuts(Vec<Cut>);

impl From<Entry> for Kept {
    fn from(Entry { position, cuts, gone, past }: Entry) -> Kept {
        let cuts = (!cuts.is_empty()).then(|| Box::new(Cuts(cuts)));
        Kept { position: position.into(), gone, past, cuts }
    }
}

impl Kept {
    fn entry(&self) -> Entry {
        let Cuts(cuts) = self.cuts.as_deref().cloned().unwrap_or_default();
        Entry { position: (&self.position).into(), cuts, gone: self.gone, past: self.past }
    }
}

/// How far a file that an output writes is acknowledged; a restart cuts it back to this.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// Bytes.
    pub length: u64,
    /// How often it has been rotated.
    pub rotations: u64,
}

/// The state of one output.
#[derive(Debug, Default)]
pub struct State {
    entries: HashMap<FileKey, Kept>,
    /// Records older than this (nanoseconds since the epoch) are not sent: from the output's very first start.
    pub since: Option<i64>,
    /// Files written by the output itself, by path.
    pub written: BTreeMap<PathBuf, Written>,
    /// Files whose bytes must be on disk before this state may be.
    unsynced: Vec<Arc<File>>,
    /// No earlier process has saved anything of any file.
    new: bool,
    clock: EvenClock,
}

impl State {
    /// What is kept of a file.
    pub fn entry(&self, key: FileKey) -> Option<Entry> {
        self.entries.get(&key).map(Kept::entry)
    }

    /// Sets what is acknowledged of a file.
    pub fn acknowledge(&mut self, key: FileKey, position: Position) {
        let kept = self.entries.entry(key).or_default();
        let mut cuts = kept.cuts.take().map(|cuts| cuts.0).unwrap_or_default();
        let oldest = position.oldest();
        cuts.retain(|cut| cut.first >= oldest);
        let past = if oldest < kept.past { kept.past } else { 0 };
        *kept = Entry { position, cuts, gone: 0, past }.into();
    }

    /// Remembers where our clock ended a group.
    pub fn cut(&mut self, key: FileKey, cut: Cut) {
        let cuts = &mut self.entries.entry(key).or_default().cuts.get_or_insert_default().0;
        if !cuts.contains(&cut) {
            cuts.push(cut);
        }
    }

    /// A file begins at its first line, but for those that belong, up to these offsets, to the last records of the file
    /// before it.
    pub fn begin_with(&mut self, key: FileKey, skipped: Skipped) {
        let kept = self.entries.entry(key).or_default();
        kept.position = Position { skipped, ..Position::default() }.into();
    }

    /// Whether the output has begun with this process: what is there now was there before it.
    pub fn is_new(&self) -> bool {
        self.new
    }

    /// The file was there, up to `past`, before the output's very first start.
    pub fn was_there(&mut self, key: FileKey, past: u64) {
        self.entries.entry(key).or_insert_with(|| Entry { past, ..Entry::default() }.into());
    }

    /// The file is there (again); returns what is kept of it.
    pub fn found(&mut self, key: FileKey) -> Option<Entry> {
        let kept = self.entries.get_mut(&key)?;
        kept.gone = 0;
        Some(kept.entry())
    }

    /// The file is on disk no more.
    pub fn gone(&mut self, key: FileKey) {
        let now = self.clock.now();
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.gone = now;
        }
    }

    /// A file that was written to: synced before this state is saved.
    pub fn sync_first(&mut self, file: Arc<File>) {
        if !self.unsynced.iter().any(|f| Arc::ptr_eq(f, &file)) {
            self.unsynced.push(file);
        }
    }
}

/// The positions of one output, shared by its readers and the thread that saves them.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    output: String,
    state: Mutex<(State, u64)>,
    /// The change that is on disk.
    saved: Mutex<u64>,
    /// How often in a row the keeper could not save.
    failures: AtomicU64,
}

#[derive(Serialize, Deserialize)]
struct Header {
    taffrail_positions: u32,
    output: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    since: Option<i64>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    written: BTreeMap<PathBuf, Written>,
}

#[derive(Deserialize)]
struct Line {
    k: String,
    #[serde(flatten)]
    entry: Entry,
}

/// A [`Line`] to be written.
#[derive(Serialize)]
struct LineOf<'a> {
    k: String,
    #[serde(flatten)]
    entry: &'a Entry,
}

#[derive(Serialize, Deserialize)]
struct Trailer {
    end: usize,
    crc: u32,
}

impl Ledger {
    /// Opens the positions of `output` in the state directory; `None` inside means that it has never run.
    ///
    /// A damaged file is renamed to `….damaged` and the one saved before it is used; with neither, everything is
    /// read from the beginning.
    pub fn open(directory: &Path, output: &str) -> io::Result<Ledger> {
        fs::create_dir_all(directory)?;
        let path = directory.join(format!("{output}.positions"));
        let mut state = State::default();
        for candidate in [path.clone(), previous(&path)] {
            match read(&candidate) {
                Ok(Some(found)) => {
                    state = found;
                    break;
                }
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    let aside = candidate.with_extension("damaged");
                    fs::rename(&candidate, &aside)?;
                    tracing::error!(
                        file = %candidate.display(), %error, kept = %aside.display(),
                        "the positions of an output were damaged: going on from the ones saved before them, or from the beginning; what is read again is sent again: Elasticsearch and OpenSearch recognise it by its _id, files, standard output and CloudWatch have it twice"
                    );
                }
                Err(error) => return Err(error),
            }
        }
        // Gone until it is found: what was deleted while no agent ran is never seen to go, and would be kept for ever.
        let now = state.clock.now();
        state.new = state.entries.is_empty();
        state.entries.values_mut().filter(|entry| entry.gone == 0).for_each(|entry| entry.gone = now);
        let (state, saved) = (Mutex::new((state, 0)), Mutex::new(0));
        Ok(Ledger { path, output: output.to_owned(), state, saved, failures: AtomicU64::new(0) })
    }

    /// When an earlier process last saved the positions of `output`; `None` if there was none.
    pub fn saved_at(directory: &Path, output: &str) -> Option<SystemTime> {
        let path = directory.join(format!("{output}.positions"));
        // It may have ended with the old ones moved aside, and the new ones not yet in their place.
        let found = fs::metadata(&path).or_else(|_| fs::metadata(previous(&path)));
        found.ok()?.modified().ok()
    }

    /// Looks at the state.
    pub fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.lock().0)
    }

    /// Changes the state; what one call changes is saved together.
    pub fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut locked = self.lock();
        locked.1 += 1;
        change(&mut locked.0)
    }

    fn lock(&self) -> MutexGuard<'_, (State, u64)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Saves the state if it has changed since it was saved. On return it is on disk.
    pub fn save(&self) -> io::Result<()> {
        let mut saved = self.saved.lock().unwrap_or_else(PoisonError::into_inner);
        let (text, unsynced, change) = {
            let mut locked = self.lock();
            if locked.1 == *saved {
                return Ok(());
            }
            let limit = locked.0.clock.now().saturating_sub(KEEP_GONE_SECONDS);
            locked.0.entries.retain(|_, entry| entry.gone == 0 || entry.gone > limit);
            (self.render(&locked.0)?, std::mem::take(&mut locked.0.unsynced), locked.1)
        };
        let written =
            unsynced.iter().try_for_each(|file| file.sync_data()).and_then(|()| self.replace(&text));
        if let Err(error) = written {
            self.lock().0.unsynced.extend(unsynced);
            return Err(error);
        }
        *saved = change;
        Ok(())
    }

    fn render(&self, state: &State) -> io::Result<Vec<u8>> {
        let mut text = Vec::with_capacity(64 * (state.entries.len() + 2));
        let header = Header {
            taffrail_positions: VERSION,
            output: self.output.clone(),
            since: state.since,
            written: state.written.clone(),
        };
        line(&mut text, &header)?;
        for (key, kept) in &state.entries {
            line(&mut text, &LineOf { k: key.to_string(), entry: &kept.entry() })?;
        }
        let mut crc = flate2::Crc::new();
        crc.update(&text);
        line(&mut text, &Trailer { end: state.entries.len(), crc: crc.sum() })?;
        Ok(text)
    }

    fn replace(&self, text: &[u8]) -> io::Result<()> {
        // Written first: on a full disk the one that is there stays where it is.
        let fresh = write_beside(&self.path, text)?;
        match fs::rename(&self.path, previous(&self.path)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => put_in_place(&fresh, &self.path),
        }
    }
}

/// Replaces a file's content so that a crash leaves the old or the new, never half of either.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    put_in_place(&write_beside(path, content)?, path)
}

fn write_beside(path: &Path, content: &[u8]) -> io::Result<PathBuf> {
    let fresh = path.with_extension("tmp");
    let mut file = File::create(&fresh)?;
    file.write_all(content)?;
    file.sync_data()?;
    Ok(fresh)
}

fn put_in_place(fresh: &Path, path: &Path) -> io::Result<()> {
    fs::rename(fresh, path)?;
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

fn previous(path: &Path) -> PathBuf {
    path.with_extension("positions.before")
}

fn line(text: &mut Vec<u8>, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *text, value)?;
    text.push(b'\n');
    Ok(())
}

fn read(path: &Path) -> io::Result<Option<State>> {
    let text = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    parse(&text).map(Some).map_err(|why| io::Error::new(io::ErrorKind::InvalidData, why))
}

fn parse(text: &[u8]) -> Result<State, String> {
    let body = text.strip_suffix(b"\n").ok_or("its end is missing")?;
    let split = memchr::memrchr(b'\n', body).ok_or("its end is missing")? + 1;
    let trailer: Trailer = serde_json::from_slice(&body[split..]).map_err(|e| format!("its end: {e}"))?;
    let mut crc = flate2::Crc::new();
    crc.update(&body[..split]);
    if crc.sum() != trailer.crc {
        return Err("its checksum does not agree".to_owned());
    }
    let mut lines = body[..split].lines();
    let header = lines.next().ok_or("it is empty")?.map_err(|e| e.to_string())?;
    let header: Header = serde_json::from_str(&header).map_err(|e| format!("line 1: {e}"))?;
    if header.taffrail_positions > VERSION + 1 {
        return Err(format!("it was written by a much newer version (format {})", header.taffrail_positions));
    }
    let mut state = State { since: header.since, written: header.written, ..State::default() };
    for (number, line) in lines.enumerate() {
        let fault = |what: String| format!("line {}: {what}", number + 2);
        let line: Line = serde_json::from_str(&line.map_err(|e| fault(e.to_string()))?)
            .map_err(|e| fault(e.to_string()))?;
        let key = FileKey::parse(&line.k).ok_or_else(|| fault("not a key".to_owned()))?;
        state.entries.insert(key, line.entry.into());
    }
    Ok(state)
}

/// The thread that saves the positions.
#[derive(Debug)]
pub struct Keeper {
    ledgers: Vec<Arc<Ledger>>,
    stop: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    /// Saves `ledgers` about once in `every`, when they have changed, and looks after those of `removed` outputs.
    pub fn start(ledgers: Vec<Arc<Ledger>>, every: Duration, mut removed: Removed) -> io::Result<Keeper> {
        let stop = Arc::new((Mutex::new(false), Condvar::new()));
        let (theirs, stopped) = (ledgers.clone(), stop.clone());
        let thread = std::thread::Builder::new().name("positions".into()).spawn(move || {
            let mut pause = every;
            loop {
                let (flag, changed) = &*stopped;
                let guard = flag.lock().unwrap_or_else(PoisonError::into_inner);
                let (guard, _) = changed
                    .wait_timeout_while(guard, pause, |stop| !*stop)
                    .unwrap_or_else(PoisonError::into_inner);
                if *guard {
                    return;
                }
                drop(guard);
                let begun = Instant::now();
                // Told where it happens, and tried again in a moment.
                let _ = save_all(&theirs);
                removed.look_now_and_then();
                // Many files on a slow disk: at most a twentieth of the time goes into saving.
                pause = every.max(begun.elapsed() * 20);
            }
        })?;
        Ok(Keeper { ledgers, stop, thread: Some(thread) })
    }

    /// Saves now.
    pub fn save(&self) -> io::Result<()> {
        save_all(&self.ledgers)
    }

    /// Stops the thread and saves a last time.
    pub fn stop(mut self) -> io::Result<()> {
        self.halt();
        save_all(&self.ledgers)
    }

    fn halt(&mut self) {
        *self.stop.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.stop.1.notify_all();
        if let Some(thread) = self.thread.take() {
            // A panic of that thread has been reported where it happened.
            let _ = thread.join();
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.halt();
    }
}

/// Saves all of them; an error is that of the last that could not be saved. What fails and what works again is told once.
fn save_all(ledgers: &[Arc<Ledger>]) -> io::Result<()> {
    let mut result = Ok(());
    for ledger in ledgers {
        match ledger.save() {
            Ok(()) => {
                let failures = ledger.failures.swap(0, Ordering::Relaxed);
                if failures > 0 {
                    tracing::info!(output = ledger.output, failures, "positions are saved again");
                }
            }
            Err(error) => {
                if ledger.failures.fetch_add(1, Ordering::Relaxed) == 0 {
                    tracing::error!(output = ledger.output, file = %ledger.path.display(), %error,
                        "cannot save positions; going on, and trying again every second (after a crash now, more would be sent again)");
                }
                result = Err(error);
            }
        }
    }
    result
}

#[cfg(test)]
mod tests;

//! Looking through the patterns: which files have come, been renamed, or been cut short.
//!
//! In: what the patterns find. Out: changes to the [`HostScanner`]'s picture, and keys in its register.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, FileType, StatxFlags, statx};

use super::super::beneath::Roots;
use super::super::file::{Found, LogFile, Past};
use super::super::name::{LogName, Rotation};
use super::super::origin::{HostLog, Origin};
use super::super::place::{Place, open_place};
use super::super::scan::is_gone;
use super::super::{Seen, cpu_time, nanos, stamp, stamp_of};
use super::register::{Entry, Mark, PRINT_BYTES, Print, is_name_of_copy};
use super::{HostScanner, Known, Source};
use crate::read::Framing;
use crate::stats::LossReason;

/// Endings of files that rotation has compressed. Their plain form has been read; what is in them is not read again.
const COMPRESSED: [&str; 6] = ["gz", "bz2", "xz", "zst", "zip", "lz4"];

/// How far back from the end of a file the beginning of its last line is looked for.
const LAST_LINE: u64 = 64 << 10;

/// A path that a pattern found.
#[derive(Debug)]
struct Listed {
    path: PathBuf,
    /// Which source's.
    source: usize,
    /// Where it may lie.
    roots: Arc<Roots>,
}

/// A path that a pattern found, and the file there.
struct Candidate {
    listed: Listed,
    mark: Mark,
    place: Place,
    size: u64,
    modified: i128,
}

impl HostScanner {
    /// Looks through all patterns; returns what that took of the processor.
    pub(super) fn rescan(&mut self) -> Duration {
        let begun = cpu_time();
        self.denied = 0;
        let listed = self.expand();
        let mut candidates = Vec::with_capacity(listed.len());
        for listed in listed {
            let path = listed.path.clone();
            match self.look_at(listed) {
                Ok(candidate) => {
                    self.told_unreadable.remove(&path);
                    candidates.push(candidate);
                }
                Err(error) if is_gone(&error) => {}
                Err(error) => self.tell_unreadable(path, &error),
            }
        }
        if !self.started {
            candidates.extend(self.find_renamed(&candidates));
        }
        let present: HashSet<Mark> = candidates.iter().map(|candidate| candidate.mark).collect();
        // Those that have no key first: one may be the copy of a file whose new content is about to take its place.
        candidates.sort_by_key(|candidate| self.register.entry(candidate.mark).is_some());
        for candidate in candidates {
            let path = candidate.listed.path.clone();
            if let Err(error) = self.bring_up_to_date(candidate)
                && !is_gone(&error)
            {
                self.tell_unreadable(path, &error);
            }
        }
        for known in &mut self.known {
            let left = !present.contains(&known.mark);
            if left && !known.left {
                known.grew_at = Instant::now();
            }
            known.left = left;
        }
        self.let_go();
        self.publish();
        self.inbox.files.set(self.known.len() as u64);
        self.inbox.unreadable.set(self.denied);
        self.started = true;
        cpu_time().saturating_sub(begun)
    }

    /// Files that rotation renamed to where no pattern looks while no agent ran: beside where they were, called as they
    /// were and more.
    fn find_renamed(&self, candidates: &[Candidate]) -> Vec<Candidate> {
        let present: HashSet<Mark> = candidates.iter().map(|candidate| candidate.mark).collect();
        let mut found = Vec::new();
        for entry in self.register.entries().filter(|entry| !present.contains(&entry.mark())) {
            let has = |patterns: &[glob::Pattern]| {
                patterns.iter().find(|p| p.matches_path_with(&entry.path, MATCHING)).cloned()
            };
            let of = self
                .settings
                .sources
                .iter()
                .enumerate()
                .find_map(|(at, source)| Some((at, has(&source.paths)?)));
            let (Some((source, pattern)), Some(folder)) = (of, entry.path.parent()) else { continue };
            let roots = Arc::new(Roots::new(fixed_folder(pattern.as_str()), self.settings.links.clone()));
            let beside = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
            let renamed = beside
                .filter(|path| is_name_of_copy(path, &entry.path) && !is_compressed(path))
                .filter_map(|path| self.look_at(Listed { path, source, roots: roots.clone() }).ok())
                .find(|candidate| candidate.mark == entry.mark());
            found.extend(renamed);
        }
        found
    }

    /// The paths that the patterns find, each once: a path belongs to the first source that has it.
    fn expand(&mut self) -> Vec<Listed> {
        let mut found: BTreeMap<PathBuf, Listed> = BTreeMap::new();
        self.folders.clear();
        for (number, source) in self.settings.sources.iter().enumerate() {
            for pattern in &source.paths {
                let base = fixed_folder(pattern.as_str());
                let roots = Arc::new(Roots::new(base.clone(), self.settings.links.clone()));
                self.folders.entry(base).or_insert_with_key(|folder| Seen::now(folder));
                // The pattern was checked when it was configured; a folder that cannot be listed has no files for us.
                for path in glob::glob_with(pattern.as_str(), MATCHING).into_iter().flatten().flatten() {
                    if has(&source.exclude, &path)
                        || is_compressed(&path)
                        || source.name != HostLog::HEALTH && self.is_never(&path)
                        || found.contains_key(&path)
                    {
                        continue;
                    }
                    if let Some(folder) = path.parent().filter(|folder| !self.folders.contains_key(*folder)) {
                        self.folders.insert(folder.to_owned(), Seen::now(folder));
                    }
                    found.insert(path.clone(), Listed { path, source: number, roots: roots.clone() });
                }
            }
        }
        // After the listing: a folder that an output has only just made is known by now.
        let (never, mut known) = (self.never(), Identities::new());
        found.retain(|path, listed| {
            let is_own = self.settings.sources[listed.source].name == HostLog::HEALTH;
            is_own || !leads_to(path, &never, &mut known)
        });
        found.into_values().collect()
    }

    /// The folders that hold what is never read, by what they are and not by a name of theirs, and how the names in each
    /// begin.
    fn never(&self) -> Vec<(Identity, &[u8])> {
        let never = self.settings.never.iter().filter_map(|never| {
            let slash = never.rfind('/')?;
            let folder = identity(Path::new(&never[..slash.max(1)]))?;
            Some((folder, &never.as_bytes()[slash + 1..]))
        });
        never.collect()
    }

    fn is_never(&self, path: &Path) -> bool {
        self.settings
            .never
            .iter()
            .any(|never| path.as_os_str().as_encoded_bytes().starts_with(never.as_bytes()))
    }

    fn look_at(&self, listed: Listed) -> io::Result<Candidate> {
        let wanted = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
        let below = listed.path.strip_prefix(listed.roots.logs()).unwrap_or(&listed.path).to_owned();
        let mut stat = statx(CWD, &listed.path, AtFlags::SYMLINK_NOFOLLOW, wanted)?;
        let linked = FileType::from_raw_mode(stat.stx_mode.into()) == FileType::Symlink;
        if linked {
            stat = statx(listed.roots.open_link(&below)?, "", AtFlags::EMPTY_PATH, wanted)?;
        }
        if FileType::from_raw_mode(stat.stx_mode.into()) != FileType::RegularFile {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
        }
        let stamp = stamp(&stat);
        let place = Place { path: below, stamp, linked, packed: false, held: None, kept: None };
        Ok(Candidate {
            listed,
            mark: stamp.into(),
            place,
            size: stat.stx_size,
            modified: nanos(&stat.stx_mtime),
        })
    }

    fn bring_up_to_date(&mut self, candidate: Candidate) -> io::Result<()> {
        let Some(at) =
            self.known.iter().position(|known| known.mark == candidate.mark && !known.file.is_gone())
        else {
            return self.take_in(candidate);
        };
        let known = &mut self.known[at];
        if known.path != candidate.listed.path {
            candidate.listed.path.clone_into(&mut known.path);
            let mut place = known.file.place();
            (place.path, place.linked) = (candidate.place.path.clone(), candidate.place.linked);
        }
        if known.file.is_settled() {
            // What was copied, and is read to its end there.
            self.register.saw(candidate.mark, candidate.size, &candidate.listed.path, None);
            return Ok(());
        }
        let held = known.file.place().held.as_ref().map(|held| held.file.clone());
        let file = held.map_or_else(|| open(&candidate).map(Arc::new), Ok)?;
        if self.is_another(&candidate, &file)? {
            return self.renew(candidate, Some(at));
        }
        let known = &mut self.known[at];
        if candidate.size > known.file.size() {
            known.file.set_size(candidate.size);
            known.grew_at = Instant::now();
            self.news = true;
        }
        Ok(())
    }

    /// Whether a file that has a key holds another log by now: it is shorter, or begins otherwise. If not, what is new of
    /// it is entered.
    fn is_another(&mut self, candidate: &Candidate, file: &File) -> io::Result<bool> {
        let Some(entry) = self.register.entry(candidate.mark) else { return Ok(false) };
        if candidate.size < entry.size || print_of(file, entry.print.length)? != entry.print {
            return Ok(true);
        }
        let longer = PRINT_BYTES.min(usize::try_from(candidate.size).unwrap_or(PRINT_BYTES));
        let print = (longer > entry.print.length).then(|| print_of(file, longer)).transpose()?;
        self.register.saw(candidate.mark, candidate.size, &candidate.listed.path, print);
        Ok(false)
    }

    /// Takes in a file that is not being read: a new one, one from before the last start, or a copy.
    fn take_in(&mut self, candidate: Candidate) -> io::Result<()> {
        let file = open(&candidate)?;
        let path = &candidate.listed.path;
        if self.register.entry(candidate.mark).is_some() {
            if self.is_another(&candidate, &file)? {
                return self.renew(candidate, None);
            }
        } else if let Some(original) = self.original_of(&candidate, &file) {
            self.register.enter_copy(candidate.mark, &original);
        } else {
            let print = print_of(&file, PRINT_BYTES)?;
            self.register.enter(candidate.mark, print, candidate.size, path, false);
        }
        // If not, it is a copy of what is being read.
        if !self.is_known(self.register.entry(candidate.mark)) {
            self.begin(candidate, file);
        }
        Ok(())
    }

    fn is_known(&self, entry: Option<&Entry>) -> bool {
        let key = entry.and_then(Entry::key);
        self.known.iter().any(|known| Some(known.file.key) == key && !known.file.is_gone())
    }

    /// The file that a new one is a copy of.
    fn original_of(&self, candidate: &Candidate, file: &File) -> Option<Entry> {
        let originals = self.register.originals_of(candidate.mark, &candidate.listed.path);
        originals.into_iter().find(|entry| begins_as(file, entry)).cloned()
    }

    /// A file was cut short and written anew. `at`: the place among the known of the log that it was; the rest of that is
    /// read from the copy that rotation left, if there is one.
    fn renew(&mut self, candidate: Candidate, at: Option<usize>) -> io::Result<()> {
        let file = open(&candidate)?;
        let print = print_of(&file, PRINT_BYTES)?;
        if let Some(old) = self.register.entry(candidate.mark).cloned() {
            match (self.find_copy(&candidate, &old), at) {
                (Some(copy), Some(at)) => self.go_on_in(copy, at, &old),
                (Some((copy, opened)), None) => {
                    self.register.enter_copy(copy.mark, &old);
                    if !self.is_known(Some(&old)) {
                        self.begin(copy, opened);
                    }
                }
                (None, Some(at)) => {
                    tracing::warn!(path = %candidate.listed.path.display(),
                        "a host file was cut short, and no copy of what was in it is to be found: what had not been read of it is lost");
                    // A live host file has no name of ours that would have to go.
                    self.known[at].file.give_up(LossReason::Cut);
                }
                (None, None) => {}
            }
        }
        self.register.enter(candidate.mark, print, candidate.size, &candidate.listed.path, true);
        self.begin(candidate, file);
        Ok(())
    }

    /// The copy that was made of a file before it was cut short: beside it, of its name and more, beginning as it did.
    fn find_copy(&self, candidate: &Candidate, old: &Entry) -> Option<(Candidate, File)> {
        let folder = candidate.listed.path.parent().filter(|_| old.print.is_telling())?;
        let copies = fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path());
        let mut copies: Vec<(Candidate, File)> = copies
            .filter(|path| is_name_of_copy(path, &candidate.listed.path) && !is_compressed(path))
            .filter_map(|path| {
                let (source, roots) = (candidate.listed.source, candidate.listed.roots.clone());
                let copy = self.look_at(Listed { path, source, roots }).ok()?;
                let file = open(&copy).ok()?;
                (copy.mark != candidate.mark && begins_as(&file, old)).then_some((copy, file))
            })
            .collect();
        copies.sort_by_key(|(copy, _)| copy.modified);
        copies.pop()
    }

    /// What was being read is read on in a copy.
    fn go_on_in(&mut self, (copy, opened): (Candidate, File), at: usize, old: &Entry) {
        self.register.enter_copy(copy.mark, old);
        let known = &mut self.known[at];
        let descriptors = &self.settings.descriptors;
        let (opened, was_held) = (Arc::new(opened), known.file.place().held.is_some());
        let held = if was_held { Some(descriptors.keep(opened)) } else { descriptors.hold(opened) };
        let place = Place { held, ..copy.place };
        known.file.move_to(place, copy.size);
        (known.mark, known.path) = (copy.mark, copy.listed.path);
        self.news = true;
    }

    /// Begins to read a file that has a key.
    fn begin(&mut self, candidate: Candidate, opened: File) {
        let Some(key) = self.register.entry(candidate.mark).and_then(Entry::key) else { return };
        let Candidate { listed, mark, mut place, size, modified } = candidate;
        let source = &self.settings.sources[listed.source];
        let past = (!self.started && source.framing == Framing::Lines).then(|| Past {
            modified: i64::try_from(modified).unwrap_or(i64::MAX),
            end: end_of_last_line(&opened, size),
        });
        place.held = self.settings.descriptors.hold(Arc::new(opened));
        self.sequence += 1;
        let origin =
            HostLog { source: source.name.clone(), path: listed.path.clone(), labels: source.labels.clone() };
        let found = Found {
            key,
            origin: Arc::new(Origin::Host(origin)),
            framing: source.framing,
            roots: listed.roots,
            name: LogName { restart: 0, rotation: Rotation::Live, packed: false },
            sequence: self.sequence,
            at_start: !self.started,
            past,
            begins: 0,
            size,
            place,
        };
        let file = Arc::new(LogFile::new(self.settings.outputs, found));
        self.unpublished.push(file.clone());
        self.settings.retention.iter().for_each(|retention| retention.keep(file.clone()));
        self.known.push(Known { file, mark, path: listed.path, left: false, grew_at: Instant::now() });
    }

    pub(super) fn tell_unreadable(&mut self, path: PathBuf, error: &io::Error) {
        // A folder that a pattern finds too, or a link that leads out, lacks nothing.
        self.denied += u64::from(error.kind() == io::ErrorKind::PermissionDenied);
        if !self.told_unreadable.contains(&path) {
            tracing::warn!(path = %path.display(), %error, "cannot read a host file; trying again at every rescan");
            self.told_unreadable.insert(path);
        }
    }
}

/// Whether a path is one of a source's.
pub(super) fn is_of(source: &Source, path: &Path) -> bool {
    has(&source.paths, path) && !has(&source.exclude, path)
}

fn has(patterns: &[glob::Pattern], path: &Path) -> bool {
    patterns.iter().any(|pattern| pattern.matches_path_with(path, MATCHING))
}

/// As a shell matches: `*` stops at `/`, and does not find what begins with a dot.
const MATCHING: glob::MatchOptions = glob::MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: true,
};

/// The folder that a pattern cannot leave: what stands before its first wildcard.
pub fn fixed_folder(pattern: &str) -> PathBuf {
    let fixed = &pattern[..pattern.find(['*', '?', '[']).unwrap_or(pattern.len())];
    PathBuf::from(&fixed[..fixed.rfind('/').map_or(0, |slash| slash.max(1))])
}

fn is_compressed(path: &Path) -> bool {
    path.extension().and_then(|ending| ending.to_str()).is_some_and(|ending| COMPRESSED.contains(&ending))
}

/// Device and inode of a folder: the same by whatever link or mount one comes to it.
type Identity = (u64, u64);

fn identity(folder: &Path) -> Option<Identity> {
    fs::metadata(folder).ok().map(|found| (found.dev(), found.ino()))
}

/// Those of folders that were looked at.
type Identities = HashMap<PathBuf, Option<Identity>>;

/// Whether a path leads to what is never read.
fn leads_to(path: &Path, never: &[(Identity, &[u8])], known: &mut Identities) -> bool {
    let Ok(path) = fs::canonicalize(path) else { return false };
    path.ancestors().skip(1).any(|folder| {
        let found = known.get(folder).copied();
        let found =
            found.unwrap_or_else(|| *known.entry(folder.to_owned()).or_insert_with(|| identity(folder)));
        let below = path.strip_prefix(folder).unwrap_or(&path).as_os_str().as_encoded_bytes();
        never.iter().any(|(folder, begins)| found == Some(*folder) && below.starts_with(begins))
    })
}

/// Opens the file that was looked at, and no other that has taken its place meanwhile.
fn open(candidate: &Candidate) -> io::Result<File> {
    let file = open_place(&candidate.listed.roots, &candidate.place)?;
    if stamp_of(&file)? == candidate.place.stamp {
        Ok(file)
    } else {
        Err(io::Error::new(io::ErrorKind::NotFound, "another file has taken its place"))
    }
}

/// Whether a file begins as another did, as far as that can be told.
fn begins_as(file: &File, entry: &Entry) -> bool {
    entry.print.is_telling() && print_of(file, entry.print.length).is_ok_and(|print| print == entry.print)
}

fn print_of(file: &File, length: usize) -> io::Result<Print> {
    let mut bytes = vec![0; length];
    let mut filled = 0;
    while filled < length {
        match file.read_at(&mut bytes[filled..], filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Print::of(&bytes[..filled]))
}

/// Where the last whole line of a file of `size` bytes ends.
fn end_of_last_line(file: &File, size: u64) -> u64 {
    let start = size.saturating_sub(LAST_LINE);
    let mut bytes = vec![0; (size - start) as usize];
    match file.read_exact_at(&mut bytes, start) {
        Ok(()) => memchr::memrchr(b'\n', &bytes).map_or(size, |newline| start + newline as u64 + 1),
        Err(_) => size,
    }
}

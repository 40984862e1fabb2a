//! One container's directory: which of its files are new, grown, renamed, compressed or deleted.
//!
//! In: the directory's entries, and the sizes of what is held open. Out: new [`LogFile`]s to the subscribers, and
//! changes to those that are known. What is missing from a single listing is not yet taken for deleted: a rename may
//! have slipped past it.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, FileType, StatxFlags, statx};

use super::directory::{Directory, Known};
use super::file::{FileKey, Found, LogFile};
use super::name::LogName;
use super::origin::Container;
use super::place::{Place, open_place};
use super::scan::{is_gone, list};
use super::{Scanner, Seen, Stamp, beneath, nanos, packed_size, stamp, stamp_of};
use crate::clock::unix_nanos;
use crate::read::Framing;
use crate::stats::LossReason;

/// After a rename, the runtime may still be in the middle of a write to the old file when the new one appears.
const SETTLING: Duration = Duration::from_secs(1);

/// How close to now a directory's time of change may be and yet be trusted: file systems keep it in steps of a
/// clock tick, so that a second change within the same step would not show.
const CLOCK_STEP_NANOS: i128 = 20_000_000;

/// How often a directory is listed in which files are renamed meanwhile, before that is put off.
const LISTINGS: u32 = 10;

/// A file of a listing.
struct Entry {
    name: LogName,
    path: PathBuf,
    stamp: Stamp,
    size: u64,
    modified: i128,
    linked: bool,
}

/// A file was renamed or deleted after its directory was listed.
struct Replaced;

/// What is the newest of a listing: the files before it are left by the runtime.
#[derive(Clone, Copy)]
struct Newest {
    restart: u32,
    live: bool,
}

impl Newest {
    fn of(entries: &[Entry]) -> Newest {
        let restart = entries.iter().map(|entry| entry.name.restart).max().unwrap_or(0);
        let live = entries.iter().any(|entry| entry.name.restart == restart && entry.name.is_live());
        Newest { restart, live }
    }

    /// Whether the listing shows that the runtime has left this file: the container was started again, or the kubelet
    /// rotated it and the runtime has opened the next.
    fn follows(self, name: &LogName) -> bool {
        self.restart > name.restart || (!name.is_live() && self.live)
    }
}

impl Scanner {
    /// Lists one container's directory and brings its files up to date.
    pub(super) fn scan_container(&mut self, path: &Path) {
        let seen = Seen::now(&self.settings.roots.logs().join(path));
        let listing = self.open_root().map(|root| self.list_container(root, path));
        let Some(directory) = self.directories.get_mut(path) else { return };
        let (entries, complete) = match listing {
            Some(Ok(listed)) => listed,
            Some(Err(error)) if is_gone(&error) => return self.forget_directory(path),
            failed => {
                // Left as it is known; tried again when it changes, and at every rescan.
                directory.seen = Seen { sure: false, ..seen };
                directory.relist = false;
                directory.settle_at = directory.settle_at.map(|_| Instant::now() + SETTLING);
                if let Some(Err(error)) = failed {
                    self.tell_unreadable(path, &error);
                }
                return;
            }
        };
        let Some(mut directory) = self.directories.remove(path) else { return };
        directory.seen = Seen { sure: seen.sure && complete, ..seen };
        directory.relist = (i128::from(unix_nanos()) - seen.changed).abs() <= CLOCK_STEP_NANOS;
        directory.settle_at = None;
        directory.unkeyed.clear();
        let newest = Newest::of(&entries);
        let mut listed = vec![false; directory.files.len()];
        let (mut found, mut replaced) = (false, false);
        for entry in &entries {
            match directory.files.iter().position(|known| is_same(&known.file, entry)) {
                Some(at) if directory.files[at].file.is_gone() => {
                    // It was away and is back. Its readers have been told that it is gone: when they have done with it,
                    // it is taken in anew.
                    directory.list_again_at(Instant::now() + SETTLING);
                }
                Some(at) if entry.size < directory.files[at].file.size() && !entry.name.packed => {
                    self.mark_cut(&directory.files[at].file, path);
                    directory.list_again_at(Instant::now());
                    (listed[at], found) = (true, true);
                }
                Some(at) => {
                    listed[at] = true;
                    found |= self.update(&directory.files[at].file, entry);
                }
                None if replaced => {}
                None => match self.take_in(&mut directory, entry, &entries, newest, &mut listed) {
                    Ok(new) => found |= new,
                    Err(Replaced) => replaced = true,
                },
            }
        }
        let mut again = replaced;
        for (known, listed) in directory.files.iter_mut().zip(&listed) {
            if *listed {
                known.missed = false;
            } else if known.missed {
                found |= self.mark_gone(&known.file);
            } else if !known.file.is_gone() {
                known.missed = true;
                again = true;
            }
        }
        if again {
            directory.list_again_at(Instant::now());
        }
        found |= self.settle(&mut directory, newest);
        directory.drop_finished();
        self.news |= found;
        if directory.watched && (found || directory.relist || directory.settle_at.is_some()) {
            // No hint came of this: the watch is lost, or slow.
            self.watches.remove(path);
            directory.watched = false;
            directory.active_at = Instant::now();
        }
        self.directories.insert(path.to_owned(), directory);
    }

    /// The rescan's look at a container: its directory is listed only if it may have changed.
    pub(super) fn check_container(&mut self, path: &Path) {
        let logs = self.settings.roots.logs();
        let Some(directory) = self.directories.get_mut(path).filter(|directory| !directory.vanished) else {
            return;
        };
        let asked = directory.ask(logs, path, Instant::now());
        self.news |= asked.grew;
        let spare = self.settings.descriptors.has_spare();
        let changed = asked.list || (asked.grew && !Seen::now(&logs.join(path)).is_same(&directory.seen));
        if changed || !directory.seen.sure || (spare && directory.lacks_descriptors()) {
            return self.scan_container(path);
        }
        if asked.grew && std::mem::take(&mut directory.watched) {
            // No hint came of this: the watch is lost, or slow.
            self.watches.remove(path);
        }
        directory.drop_finished();
    }

    /// The logs in a directory, and whether that is all there is to know of it until it changes.
    fn list_container(&mut self, root: OwnedFd, path: &Path) -> io::Result<(Vec<Entry>, bool)> {
        let mut fd = root;
        for component in path {
            fd = beneath::directory(&fd, component.to_str().unwrap_or_default())?;
        }
        let mut names = logs_in(&fd)?;
        for _ in 0..LISTINGS {
            let (mut entries, mut complete) = (Vec::new(), true);
            for (name, file) in &names {
                let full = path.join(file);
                match self.entry(&fd, file, name.clone(), full.clone()) {
                    Ok(entry) => entries.push(entry),
                    Err(error) => {
                        complete = false;
                        if !is_gone(&error) {
                            self.tell_unreadable(&full, &error);
                        }
                    }
                }
            }
            // Where a file was rotated in between, its name is the next one's, which must not be read before it.
            let again = logs_in(&fd)?;
            if again == names {
                return Ok((entries, complete));
            }
            names = again;
        }
        Err(io::Error::new(io::ErrorKind::ResourceBusy, "its files change faster than they can be looked at"))
    }

    fn entry(&self, parent: &OwnedFd, file: &str, name: LogName, path: PathBuf) -> io::Result<Entry> {
        let wanted = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
        let mut stat = statx(parent, file, AtFlags::SYMLINK_NOFOLLOW, wanted)?;
        let linked = FileType::from_raw_mode(stat.stx_mode.into()) == FileType::Symlink;
        if linked {
            let target = self.settings.roots.open_link(&path)?;
            stat = statx(&target, "", AtFlags::EMPTY_PATH, wanted)?;
        }
        if FileType::from_raw_mode(stat.stx_mode.into()) != FileType::RegularFile {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
        }
        let modified = nanos(&stat.stx_mtime);
        Ok(Entry { name, path, stamp: stamp(&stat), size: stat.stx_size, modified, linked })
    }

    /// Brings a known file up to date; true if it has grown.
    fn update(&mut self, file: &LogFile, entry: &Entry) -> bool {
        let mut place = file.place();
        place.path.clone_from(&entry.path);
        place.linked = entry.linked;
        if !place.is_safe() && file.is_wanted() && self.settings.descriptors.has_spare() {
            // There was no descriptor for it when it was found.
            let opened = place.open(&self.settings.roots);
            place.held = opened.ok().and_then(|file| self.settings.descriptors.hold(file));
        }
        let grew = !place.packed && entry.size > file.size();
        drop(place);
        if grew {
            file.set_size(entry.size);
        }
        grew
    }

    /// Takes in a file that has not been seen under this stamp: a new one, or a known one that was compressed. True if
    /// it is new. Where its name leads to another one by now, those behind it must wait for it.
    fn take_in(
        &mut self,
        directory: &mut Directory,
        entry: &Entry,
        all: &[Entry],
        newest: Newest,
        listed: &mut Vec<bool>,
    ) -> Result<bool, Replaced> {
        let mut place = Place {
            path: entry.path.clone(),
            stamp: entry.stamp,
            linked: entry.linked,
            packed: entry.name.packed,
            held: None,
            kept: None,
        };
        let left = newest.follows(&entry.name);
        // Left, and long enough ago that no write to it is still under way: then half a line is its first line.
        let ended = left && (i128::from(unix_nanos()) - entry.modified).abs() > SETTLING.as_nanos() as i128;
        let opened = open_place(&self.settings.roots, &place).and_then(|file| {
            if stamp_of(&file)? != entry.stamp {
                return Err(io::ErrorKind::NotFound.into());
            }
            let (key, size) = self.key_of(&directory.container, entry, &file, ended)?;
            Ok((key, size, Arc::new(file)))
        });
        let (mut key, size, opened) = match opened {
            Ok((Some(key), size, file)) => (key, size, file),
            Ok((None, ..)) => {
                if left && !ended {
                    directory.list_again_at(Instant::now() + SETTLING);
                }
                directory.unkeyed.push((entry.path.clone(), entry.size));
                return Ok(false);
            }
            Err(error) => {
                directory.seen.sure = false;
                if is_gone(&error) {
                    return Err(Replaced);
                }
                self.tell_unreadable(&entry.path, &error);
                return Ok(false);
            }
        };
        if let Some(at) = directory.files.iter().position(|known| known.file.key == key) {
            let known = &directory.files[at].file;
            if known.is_gone() {
                directory.list_again_at(Instant::now() + SETTLING);
                return Ok(false);
            }
            let other_is_there =
                all.iter().any(|e| !e.name.packed && e.path != entry.path && e.stamp == known.place().stamp);
            if entry.name.packed || !other_is_there {
                // The same bytes in another file: compressed, or copied. What is held open is read on; else this.
                listed[at] = true;
                let mut old = known.place();
                let plain_is_there = entry.name.packed && other_is_there;
                if !(old.is_safe() || plain_is_there) {
                    *old = place;
                }
                drop(old);
                // A line whose write had begun before the rotation may end after the file was taken for settled.
                if entry.name.packed && !known.name.packed && size > known.size() {
                    known.set_size(size);
                    self.news = true;
                }
                return Ok(false);
            }
            key = key.salted(entry.stamp);
            if directory.files.iter().any(|known| known.file.key == key) {
                return Ok(false);
            }
        }
        place.held = self.settings.descriptors.hold(opened);
        if place.held.is_none() && !std::mem::replace(&mut self.told.descriptors, true) {
            tracing::warn!(
                limit = self.settings.descriptors.limit(),
                "too many log files to hold open: the rest is opened at each turn, and what is deleted unread is lost (raise the limit of open files)"
            );
        }
        self.sequence += 1;
        let live = all.iter().find(|other| other.name.restart == entry.name.restart && other.name.is_live());
        let found = Found {
            key,
            origin: directory.origin.clone(),
            framing: Framing::Runtime,
            roots: self.settings.roots.clone(),
            name: directory.order_of(&entry.name, live.map(|live| live.stamp)),
            sequence: self.sequence,
            at_start: !self.started,
            past: None,
            begins: 0,
            size,
            place,
        };
        let file = Arc::new(LogFile::new(self.settings.outputs, found));
        if ended {
            // Known to be at its end from the first: its reader has done with it at once, as with most of a large tree.
            file.settle();
        }
        for subscriber in &self.subscribers {
            let _ = subscriber.files.send(file.clone());
        }
        if let Some(retention) = self.settings.retention.as_ref().filter(|_| self.started) {
            retention.keep(file.clone());
        }
        (directory.active_at, directory.speaks) = (Instant::now(), self.started);
        directory.files.push(Known { file, replaced_since: None, missed: false });
        listed.push(true);
        Ok(true)
    }

    fn key_of(
        &self,
        container: &Container,
        entry: &Entry,
        file: &std::fs::File,
        ended: bool,
    ) -> io::Result<(Option<FileKey>, u64)> {
        let keys = &self.settings.keys;
        if entry.name.packed {
            let inflated = flate2::read::MultiGzDecoder::new(io::BufReader::new(ReadAt { file, offset: 0 }));
            let key = keys.key(container, entry.name.restart, inflated, true)?;
            Ok((key, packed_size(file, entry.size)?))
        } else {
            let key = keys.key(container, entry.name.restart, ReadAt { file, offset: 0 }, ended)?;
            Ok((key, file.metadata()?.len()))
        }
    }

    /// Marks files that nothing more will be written to; true if there are new ones.
    fn settle(&mut self, directory: &mut Directory, newest: Newest) -> bool {
        let mut settled = false;
        let mut next = None;
        for known in &mut directory.files {
            if known.file.is_settled() {
                continue;
            }
            let place = known.file.place();
            let name = place.path.file_name().and_then(|n| n.to_str()).and_then(LogName::parse);
            drop(place);
            if !name.is_some_and(|name| newest.follows(&name)) {
                known.replaced_since = None;
                continue;
            }
            let settles = *known.replaced_since.get_or_insert_with(Instant::now) + SETTLING;
            if settles <= Instant::now() {
                known.look(self.settings.roots.logs());
                known.file.settle();
                settled = true;
            } else {
                next = Some(next.map_or(settles, |at: Instant| at.min(settles)));
            }
        }
        if let Some(at) = next {
            directory.list_again_at(at);
        }
        settled
    }

    fn mark_gone(&mut self, file: &LogFile) -> bool {
        if file.is_gone() {
            return false;
        }
        // Its last lines may have come between the last look and its deletion.
        if !file.is_packed()
            && let Ok(stat) = file.bytes().and_then(|opened| opened.metadata())
        {
            file.set_size(stat.len().max(file.size()));
        }
        file.set_gone(true);
        file.settle();
        true
    }

    /// Somebody has cut the file shorter: what was in it is gone, and what comes is another file's.
    fn mark_cut(&mut self, file: &LogFile, path: &Path) {
        tracing::warn!(path = %path.display(), "somebody cut a log file short: what had not been read of it is lost");
        if let (Some(kept), Some(retention)) = (file.give_up(LossReason::Cut), &self.settings.retention) {
            retention.discard(kept);
        }
    }

    /// The directory is gone; what is held open of it is kept until it has been read.
    pub(super) fn forget_directory(&mut self, path: &Path) {
        let Some(mut directory) = self.directories.remove(path) else { return };
        for known in &directory.files {
            self.news |= self.mark_gone(&known.file);
        }
        self.watches.remove(path);
        directory.drop_finished();
        if !directory.files.is_empty() {
            (directory.vanished, directory.watched) = (true, false);
            self.directories.insert(path.to_owned(), directory);
        }
    }
}

/// The logs in a directory, oldest first.
fn logs_in(fd: &OwnedFd) -> io::Result<Vec<(LogName, String)>> {
    let named = |file: String| LogName::parse(&file).map(|name| (name, file));
    let mut logs: Vec<_> = list(fd)?.into_iter().filter_map(named).collect();
    logs.sort();
    Ok(logs)
}

/// Whether a file of the listing is one that is known.
fn is_same(known: &LogFile, entry: &Entry) -> bool {
    let place = known.place();
    // A descriptor that is held keeps the inode from being used again; without one the birth time tells, or else the
    // size: nothing but another file is shorter.
    place.stamp == entry.stamp
        && (place.is_safe()
            || entry.stamp.born != 0
            || (place.path == entry.path && (entry.name.packed || entry.size >= known.size())))
}

/// Reads a file from a place of its own.
struct ReadAt<'a> {
    file: &'a std::fs::File,
    offset: u64,
}

impl io::Read for ReadAt<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}

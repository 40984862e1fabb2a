//! Listing directories: what is new, what was renamed, compressed or deleted.
//!
//! In: directory entries. Out: changes to the [`Scanner`]'s picture, and each new file to the subscribers. An error
//! that is not "it is gone" changes nothing: what cannot be seen is not taken for deleted.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, Dir, FileType, StatxFlags, statx};

use super::file::{Container, LogFile, Place, open_place};
use super::name::{LogName, PodName};
use super::{Directory, Scanner, Stamp, beneath, changed_at, stamp, stamp_of};

/// After a rename, the runtime may still be in the middle of a write to the old file when the new one appears.
const SETTLING: Duration = Duration::from_secs(1);

/// How close to now a directory's time of change may be and yet be trusted: file systems keep it in steps of a
/// clock tick, so that a second change within the same step would not show.
const CLOCK_STEP_NANOS: i128 = 20_000_000;

/// Which pods to list.
pub(super) enum Which {
    /// Each: the rescan.
    All,
    /// Those that were hinted at, and new ones.
    Changed(HashSet<PathBuf>),
}

/// A file in the picture.
#[derive(Debug)]
pub(super) struct Known {
    pub file: Arc<LogFile>,
    /// Since when it has been renamed and has a successor.
    replaced_since: Option<Instant>,
}

/// A file of a listing.
struct Entry {
    name: LogName,
    path: PathBuf,
    stamp: Stamp,
    size: u64,
    linked: bool,
}

impl Known {
    /// Looks whether the file has grown, by its open descriptor; remembers and returns it.
    pub fn look_for_growth(&mut self) -> bool {
        if self.file.is_settled() {
            return false;
        }
        let size = match &self.file.place().held {
            Some(file) => rustix::fs::fstat(file).map_or(0, |stat| stat.st_size as u64),
            None => return false,
        };
        let grew = size > self.file.size();
        if grew {
            self.file.set_size(size);
        }
        grew
    }
}

impl Scanner {
    /// Lists the root; of the pods below it, those that `which` says.
    pub(super) fn scan_root(&mut self, which: Which) {
        let listing = self.settings.roots.open().and_then(|root| Ok((list(&root)?, root)));
        let (entries, root) = match listing {
            Ok(listed) => listed,
            Err(error) => {
                let path = self.settings.roots.logs().to_owned();
                if self.tell_once("root") {
                    tracing::warn!(path = %path.display(), %error, "cannot list the pod logs; trying again at every rescan");
                }
                return;
            }
        };
        self.told.remove("root");
        self.watches.add(Path::new(""));
        let mut known: HashSet<PathBuf> = HashSet::new();
        for (path, directory) in &mut self.directories {
            directory.present = false;
            known.extend(path.parent().map(Path::to_owned));
        }
        for pod in entries {
            if PodName::parse(&pod).is_none() {
                continue;
            }
            let wanted = match &which {
                Which::All => true,
                Which::Changed(pods) => pods.contains(Path::new(&pod)) || !known.contains(Path::new(&pod)),
            };
            if wanted {
                self.scan_pod(&root, &pod);
            } else {
                self.keep_pod(&pod);
            }
        }
        let vanished: Vec<PathBuf> =
            self.directories.iter().filter(|(_, d)| !d.present).map(|(path, _)| path.clone()).collect();
        for path in vanished {
            self.forget_directory(&path);
        }
    }

    fn scan_pod(&mut self, root: &OwnedFd, pod: &str) {
        // The watch comes before the listing, so that nothing falls between the two.
        self.watches.add(Path::new(pod));
        let listing = beneath::directory(root, pod).and_then(|fd| list(&fd));
        let containers = match listing {
            Ok(containers) => containers,
            Err(error) if is_gone(&error) => return,
            Err(error) => {
                self.tell_unreadable(Path::new(pod), &error);
                return self.keep_pod(pod);
            }
        };
        for container in containers {
            let path = Path::new(pod).join(&container);
            if !self.directories.contains_key(&path) {
                let Some(name) = PodName::parse(pod) else { return };
                let directory = Directory {
                    container: Arc::new(Container {
                        namespace: name.namespace.to_owned(),
                        pod: name.pod.to_owned(),
                        uid: name.uid.to_owned(),
                        name: container.clone(),
                    }),
                    files: Vec::new(),
                    changed: None,
                    unkeyed: false,
                    settle_at: None,
                    watched: false,
                    active_at: Instant::now(),
                    present: true,
                };
                self.directories.insert(path.clone(), directory);
            }
            self.scan_container(&path);
        }
    }

    /// Leaves what is known of a pod as it is.
    fn keep_pod(&mut self, pod: &str) {
        self.directories.iter_mut().filter(|(p, _)| p.starts_with(pod)).for_each(|(_, d)| d.present = true);
    }

    /// Lists one container's directory and brings its files up to date.
    pub(super) fn scan_container(&mut self, path: &Path) {
        let changed = changed_at(&self.settings.roots.logs().join(path));
        let entries = match self.list_container(path) {
            Ok(entries) => entries,
            Err(error) if is_gone(&error) => return self.forget_directory(path),
            Err(error) => {
                self.tell_unreadable(path, &error);
                if let Some(directory) = self.directories.get_mut(path) {
                    directory.present = true;
                }
                return;
            }
        };
        let Some(mut directory) = self.directories.remove(path) else { return };
        directory.present = true;
        directory.changed = changed.filter(|&at| now_nanos() - at > CLOCK_STEP_NANOS);
        directory.unkeyed = false;
        let mut seen = vec![false; directory.files.len()];
        for entry in &entries {
            match directory.files.iter().position(|known| self.is_same(&known.file, entry)) {
                Some(at) => {
                    seen[at] = true;
                    self.update(&directory.files[at].file, entry);
                }
                None => self.take_in(&mut directory, entry, &entries, &mut seen),
            }
        }
        for (known, seen) in directory.files.iter().zip(&seen) {
            if !seen {
                self.mark_gone(&known.file);
            } else {
                known.file.set_gone(false);
            }
        }
        self.settle(&mut directory, &entries);
        self.drop_finished(&mut directory);
        self.directories.insert(path.to_owned(), directory);
    }

    fn list_container(&mut self, path: &Path) -> io::Result<Vec<Entry>> {
        let mut fd = self.settings.roots.open()?;
        for component in path {
            fd = beneath::directory(&fd, component.to_str().unwrap_or_default())?;
        }
        let mut entries = Vec::new();
        for file in list(&fd)? {
            let Some(name) = LogName::parse(&file) else { continue };
            let full = path.join(&file);
            match self.entry(&fd, &file, name, full.clone()) {
                Ok(entry) => entries.push(entry),
                Err(error) if is_gone(&error) => {}
                Err(error) => self.tell_unreadable(&full, &error),
            }
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
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
        Ok(Entry { name, path, stamp: stamp(&stat), size: stat.stx_size, linked })
    }

    /// Whether a file of the listing is one that is known.
    fn is_same(&self, known: &LogFile, entry: &Entry) -> bool {
        let place = known.place();
        // A descriptor that is held keeps the inode from being used again; without one the birth time tells. One
        // that shrank has been written anew.
        place.stamp == entry.stamp
            && (place.held.is_some() || entry.stamp.born != 0 || place.path == entry.path)
            && (entry.name.packed || entry.size >= known.size())
    }

    fn update(&mut self, file: &LogFile, entry: &Entry) {
        let mut place = file.place();
        place.path.clone_from(&entry.path);
        place.linked = entry.linked;
        if place.packed {
            return;
        }
        drop(place);
        if entry.size > file.size() {
            file.set_size(entry.size);
            self.news = true;
        }
    }

    /// Takes in a file that has not been seen under this stamp: a new one, or a known one that was compressed.
    fn take_in(&mut self, directory: &mut Directory, entry: &Entry, all: &[Entry], seen: &mut Vec<bool>) {
        let mut place = Place {
            path: entry.path.clone(),
            stamp: entry.stamp,
            linked: entry.linked,
            packed: entry.name.packed,
            held: None,
        };
        let opened = open_place(&self.settings.roots, &place).and_then(|file| {
            let ended = has_successor(&entry.name, all);
            place.stamp = stamp_of(&file)?;
            let (key, size) = self.key_of(&directory.container, entry, &file, ended)?;
            Ok((key, size, Arc::new(file)))
        });
        let (key, size, opened) = match opened {
            Ok((Some(key), size, file)) => (key, size, file),
            Ok((None, ..)) => {
                directory.unkeyed |= entry.name.is_live();
                return;
            }
            Err(error) if is_gone(&error) => return,
            Err(error) => {
                self.tell_unreadable(&entry.path, &error);
                return;
            }
        };
        let mut key = key;
        if let Some(at) = directory.files.iter().position(|known| known.file.key == key) {
            let known = &directory.files[at].file;
            let other_is_there =
                all.iter().any(|e| !e.name.packed && e.path != entry.path && e.stamp == known.place().stamp);
            if entry.name.packed || !other_is_there {
                // The same bytes in another file: compressed, or copied. What is held open is read on; else this.
                seen[at] = true;
                let mut old = known.place();
                if old.held.is_none() && !(entry.name.packed && other_is_there) {
                    *old = place;
                }
                return;
            }
            key = key.salted(entry.stamp);
            if directory.files.iter().any(|known| known.file.key == key) {
                return;
            }
        }
        if self.held < self.settings.descriptors {
            place.held = Some(opened);
            self.held += 1;
        } else if self.tell_once("descriptors") {
            tracing::warn!(
                limit = self.settings.descriptors,
                "too many log files to hold open: the rest is opened at each turn, and what is deleted unread is lost (raise the limit of open files)"
            );
        }
        self.sequence += 1;
        let file = Arc::new(LogFile::new(
            key,
            directory.container.clone(),
            entry.name.clone(),
            self.sequence,
            !self.started,
            size,
            self.settings.outputs,
            place,
        ));
        for subscriber in &self.subscribers {
            let _ = subscriber.files.send(file.clone());
        }
        self.news = true;
        directory.active_at = Instant::now();
        directory.files.push(Known { file, replaced_since: None });
        seen.push(true);
    }

    fn key_of(
        &self,
        container: &Container,
        entry: &Entry,
        file: &std::fs::File,
        ended: bool,
    ) -> io::Result<(Option<super::file::FileKey>, u64)> {
        let keys = &self.settings.keys;
        if entry.name.packed {
            let inflated = flate2::read::MultiGzDecoder::new(io::BufReader::new(ReadAt { file, offset: 0 }));
            let key = keys.key(container, entry.name.restart, inflated, true)?;
            // What the trailer says of the size (RFC 1952: the last four bytes); only the lag is told by it.
            let mut trailer = [0; 4];
            file.read_exact_at(&mut trailer, entry.size.saturating_sub(4))?;
            Ok((key, u64::from(u32::from_le_bytes(trailer))))
        } else {
            let key = keys.key(container, entry.name.restart, ReadAt { file, offset: 0 }, ended)?;
            Ok((key, file.metadata()?.len()))
        }
    }

    /// Marks files that nothing more will be written to.
    fn settle(&mut self, directory: &mut Directory, entries: &[Entry]) {
        directory.settle_at = None;
        for known in &mut directory.files {
            if known.file.is_settled() {
                continue;
            }
            let place = known.file.place();
            let name = place.path.file_name().and_then(|n| n.to_str()).and_then(LogName::parse);
            drop(place);
            if !name.is_some_and(|name| has_successor(&name, entries)) {
                known.replaced_since = None;
                continue;
            }
            let settles = *known.replaced_since.get_or_insert_with(Instant::now) + SETTLING;
            if settles <= Instant::now() {
                known.look_for_growth();
                known.file.settle();
                self.news = true;
            } else {
                directory.settle_at = Some(directory.settle_at.map_or(settles, |at| at.min(settles)));
            }
        }
    }

    fn mark_gone(&mut self, file: &LogFile) {
        if file.is_gone() {
            return;
        }
        if let Some(held) = &file.place().held {
            // Its last lines may have come between the last look and its deletion.
            if let (false, Ok(stat)) = (file.name.packed, held.metadata()) {
                file.set_size(stat.len().max(file.size()));
            }
        }
        file.set_gone(true);
        file.settle();
        self.news = true;
    }

    /// Lets go of descriptors that nobody needs, and of files that are gone and read.
    fn drop_finished(&mut self, directory: &mut Directory) {
        for known in &directory.files {
            if !known.file.is_wanted() && known.file.place().held.take().is_some() {
                self.held -= 1;
            }
        }
        directory.files.retain(|known| !known.file.is_gone() || known.file.is_wanted());
    }

    fn forget_directory(&mut self, path: &Path) {
        let Some(mut directory) = self.directories.remove(path) else { return };
        for known in &directory.files {
            self.mark_gone(&known.file);
        }
        self.watches.remove(path);
        directory.watched = false;
        self.drop_finished(&mut directory);
        if directory.files.is_empty() {
            if let Some(pod) = path.parent() {
                if !self.directories.keys().any(|p| p.starts_with(pod)) {
                    self.watches.remove(pod);
                }
            }
        } else {
            // Somebody still reads from a descriptor of it.
            directory.present = false;
            directory.settle_at = None;
            directory.unkeyed = false;
            self.directories.insert(path.to_owned(), directory);
        }
    }

    fn tell_unreadable(&mut self, path: &Path, error: &io::Error) {
        if self.tell_once(path.to_string_lossy()) {
            tracing::warn!(path = %path.display(), %error, "cannot read a log; trying again at every rescan");
        }
    }
}

/// Whether another file of the listing shows that the runtime has left this one: the container was started again,
/// or the kubelet rotated it and the runtime has opened the next.
fn has_successor(name: &LogName, entries: &[Entry]) -> bool {
    entries.iter().any(|e| {
        e.name.restart > name.restart || (!name.is_live() && e.name.restart == name.restart && e.name.is_live())
    })
}

/// The names in a directory.
fn list(fd: impl AsFd) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(fd)? {
        if let Ok(name) = entry?.file_name().to_str() {
            if name != "." && name != ".." {
                names.push(name.to_owned());
            }
        }
    }
    Ok(names)
}

fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

fn now_nanos() -> i128 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as i128)
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

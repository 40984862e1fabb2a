//! One log file: its key, what the catalog knows of it, and how its bytes are had.
//!
//! A [`LogFile`] is shared between the catalog, which alone learns about the disk, and the outputs, each of which
//! reads it by positioned reads from its own place. Nothing here parses content, but for the first line that the
//! key is made of.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::SystemTime;

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use flate2::read::MultiGzDecoder;

use super::beneath::Roots;
use super::name::LogName;
use super::origin::{Container, Origin};
use super::place::{Descriptors, Place};
use crate::read::Framing;
use crate::stats::LossReason;

/// How much of a first line goes into a key. A longer "line" is no log's; the bound keeps one binary file from
/// being read whole.
const FIRST_LINE_LIMIT: usize = 1 << 20;

/// Bytes kept of what has just been inflated.
const BEHIND: usize = 64 << 10;

/// The identity of a log file: 128 bits of a hash over cluster, node, pod uid, container, restart and the whole
/// first line. The same before and after a rotation, a compression and a restart of the agent; names, inodes and
/// times of modification are none of that. Cryptographic, since tenants choose what they write: nobody can make a
/// line that takes another's key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileKey([u8; 16]);

impl FileKey {
    /// Characters of a key as text.
    pub const TEXT_LEN: usize = 22;

    /// The key made of these parts.
    pub(super) fn of(parts: &[&[u8]]) -> FileKey {
        let mut context = digest::Context::new(&digest::SHA256);
        for part in parts {
            // With its length, so that no two lists of parts are the same bytes.
            context.update(&(part.len() as u64).to_le_bytes());
            context.update(part);
        }
        let mut key = [0; 16];
        key.copy_from_slice(&context.finish().as_ref()[..16]);
        FileKey(key)
    }

    /// The key of another file that begins with the same line: only files that are no container runtime's, whose
    /// lines carry a time, can meet so. What tells them apart is then all there is, the inode.
    pub(super) fn salted(self, stamp: Stamp) -> FileKey {
        FileKey::of(&[&self.0, &stamp.inode.to_le_bytes(), &stamp.born.to_le_bytes()])
    }

    /// Reads the text form back.
    pub fn parse(text: &str) -> Option<FileKey> {
        URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok().map(FileKey)
    }
}

impl fmt::Display for FileKey {
    /// 22 characters of `[A-Za-z0-9_-]`: a form that `_id` takes and stores compactly.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for FileKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileKey({self})")
    }
}

/// What the disk says of a file at a moment; tells apart files that are in the catalog, never names one in a
/// position or an `_id`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Stamp {
    pub device: u64,
    pub inode: u64,
    /// Birth time in nanoseconds, where the file system keeps one; else 0.
    pub born: i128,
}

/// Makes keys: the parts of them that are the same for all files of a node.
#[derive(Debug, Clone)]
pub struct KeyMaker {
    /// Name of the cluster.
    pub cluster: String,
    /// Name of the node.
    pub node: String,
}

impl KeyMaker {
    /// The key of a file, or `None` while its first line is not complete. `ended`: nothing will be added to it any
    /// more, so that what is there is the first line.
    pub fn key(
        &self,
        container: &Container,
        restart: u32,
        reader: impl Read,
        ended: bool,
    ) -> io::Result<Option<FileKey>> {
        let Some(line) = first_line(reader, ended)? else { return Ok(None) };
        Ok(Some(FileKey::of(&[
            self.cluster.as_bytes(),
            self.node.as_bytes(),
            container.uid.as_bytes(),
            container.name.as_bytes(),
            &restart.to_le_bytes(),
            &line,
        ])))
    }
}

fn first_line(mut reader: impl Read, ended: bool) -> io::Result<Option<Vec<u8>>> {
    let (mut line, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        let read = match reader.read(&mut chunk) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other?,
        };
        if let Some(end) = memchr::memchr(b'\n', &chunk[..read]) {
            line.extend_from_slice(&chunk[..end]);
            return Ok(Some(line));
        }
        line.extend_from_slice(&chunk[..read]);
        if line.len() >= FIRST_LINE_LIMIT {
            line.truncate(FIRST_LINE_LIMIT);
            return Ok(Some(line));
        }
        if read == 0 {
            return Ok((ended && !line.is_empty()).then_some(line));
        }
    }
}

/// A log file that the catalog has found and keyed.
#[derive(Debug)]
pub struct LogFile {
    /// Its identity.
    pub key: FileKey,
    /// Whose log it is.
    pub origin: Arc<Origin>,
    /// How its lines are framed.
    pub framing: Framing,
    /// The name it was found under, which orders the files of a container; it may bear another by now.
    pub name: LogName,
    /// Counts files in the order of their finding: the second key of the order of reading.
    pub sequence: u64,
    /// Whether it was there when the agent started: an earlier process may have sent some of it.
    pub at_start: bool,
    /// Of a host file that was there at start: what an output that begins later passes over.
    pub past: Option<Past>,
    /// Offset of the first byte that is to be had: of a copy, only what was unread was copied.
    pub begins: u64,
    roots: Arc<Roots>,
    /// How often its bytes have moved: what was opened before is of no use.
    moves: AtomicU32,
    size: AtomicU64,
    settled: AtomicBool,
    gone: AtomicBool,
    /// Why its bytes are to be had no more, where somebody decided that.
    loss: OnceLock<LossReason>,
    /// How many outputs have not read it to its end.
    readers: AtomicUsize,
    place: Mutex<Place>,
}

/// What was in a file when the agent started, for lines that bear no time of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Past {
    /// When it was last written to: nanoseconds since the epoch.
    pub modified: i64,
    /// Where its last whole line ended.
    pub end: u64,
}

/// What the catalog knows of a file when it finds it: see the fields of [`LogFile`].
#[derive(Debug)]
pub(super) struct Found {
    pub key: FileKey,
    pub origin: Arc<Origin>,
    pub framing: Framing,
    pub roots: Arc<Roots>,
    pub name: LogName,
    pub sequence: u64,
    pub at_start: bool,
    pub past: Option<Past>,
    pub begins: u64,
    pub size: u64,
    pub place: Place,
}

/// An open file, as a cursor reads it.
#[derive(Debug)]
pub enum Source {
    /// A plain file: read at any offset, shared by all outputs.
    Plain(Arc<File>),
    /// A compressed one: inflated in order; its offsets are those of the inflated bytes. Going back begins anew.
    Packed {
        /// The inflating reader.
        decoder: Box<MultiGzDecoder<Positioned>>,
        /// Offset of the next inflated byte.
        next: u64,
        /// The last bytes before `next`: a reader begins each turn at the line that the turn before left unfinished,
        /// and everything would be inflated again for it.
        behind: Vec<u8>,
        /// What kept the rest from being inflated: the file ends, for us, where it is damaged.
        damage: Option<String>,
    },
}

/// A reader with a place of its own in a file that others read too.
#[derive(Debug)]
pub struct Positioned {
    file: Arc<File>,
    offset: u64,
}

impl Read for Positioned {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}

impl LogFile {
    /// A file that has been found, and that `readers` outputs will read.
    pub(super) fn new(readers: usize, found: Found) -> LogFile {
        LogFile {
            key: found.key,
            origin: found.origin,
            framing: found.framing,
            roots: found.roots,
            settled: AtomicBool::new(found.name.packed),
            name: found.name,
            sequence: found.sequence,
            at_start: found.at_start,
            past: found.past,
            begins: found.begins,
            moves: AtomicU32::new(0),
            size: AtomicU64::new(found.size),
            gone: AtomicBool::new(false),
            loss: OnceLock::new(),
            readers: AtomicUsize::new(readers),
            place: Mutex::new(found.place),
        }
    }

    /// The same file for the catalog that follows in this process, which did not find it: gone, and read to its end.
    pub(super) fn carried(&self, readers: usize, descriptors: &Descriptors) -> LogFile {
        let file = self.carried_as(self.origin.clone(), readers, descriptors);
        file.set_gone(true);
        file.settle();
        file
    }

    /// The same file for a catalog that follows, of this origin and read by so many outputs.
    pub(super) fn carried_as(
        &self,
        origin: Arc<Origin>,
        readers: usize,
        descriptors: &Descriptors,
    ) -> LogFile {
        let old = self.place();
        // Its last lines may have come after the last look; of one that is settled, the end has been read as such.
        let now = old.held.as_ref().filter(|_| !self.is_settled()).and_then(|held| held.file.metadata().ok());
        let size = now.map_or(0, |found| found.len()).max(self.size());
        // A name that tells of a rotation orders it before what was written since.
        let name = old.path.file_name().and_then(|name| name.to_str()).and_then(LogName::parse);
        let place = Place {
            path: old.path.clone(),
            stamp: old.stamp,
            linked: old.linked,
            packed: old.packed,
            held: old.held.as_ref().map(|held| descriptors.keep(held.file.clone())),
            kept: old.kept.clone(),
        };
        drop(old);
        let file = LogFile::new(
            readers,
            Found {
                key: self.key,
                origin,
                framing: self.framing,
                roots: self.roots.clone(),
                name: name.unwrap_or_else(|| self.name.clone()),
                sequence: self.sequence,
                at_start: true,
                past: self.past,
                begins: self.begins,
                size,
                place,
            },
        );
        if let Some(reason) = self.loss() {
            file.give_up(reason);
        }
        file.set_gone(self.is_gone());
        if self.is_settled() {
            file.settle();
        }
        file
    }

    /// Where it was seen last.
    pub(super) fn path(&self) -> PathBuf {
        self.roots.logs().join(&self.place().path)
    }

    /// When it was last written to; nothing where it is not on disk under its name any more.
    pub fn modified(&self) -> Option<SystemTime> {
        self.path().symlink_metadata().and_then(|metadata| metadata.modified()).ok()
    }

    /// Bytes to read, as last seen; for a compressed file the inflated size that its trailer claims.
    pub fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    pub(super) fn set_size(&self, size: u64) {
        self.size.store(size, Ordering::Release);
    }

    /// Whether nothing more will be written to it: its end is its end.
    pub fn is_settled(&self) -> bool {
        self.settled.load(Ordering::Acquire)
    }

    pub(super) fn settle(&self) {
        self.settled.store(true, Ordering::Release);
    }

    /// Whether it is no longer on disk under any name; an open descriptor may still reach it.
    pub fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    pub(super) fn set_gone(&self, gone: bool) {
        self.gone.store(gone, Ordering::Release);
    }

    /// An output has read a settled file to its end and holds an acknowledgement for all of it.
    pub fn release(&self) {
        self.readers.fetch_sub(1, Ordering::AcqRel);
    }

    /// Takes a [`release`](Self::release) back: the file grew after all.
    pub fn claim(&self) {
        self.readers.fetch_add(1, Ordering::AcqRel);
    }

    /// Whether some output has yet to read it.
    pub(crate) fn is_wanted(&self) -> bool {
        !self.is_settled() || self.readers.load(Ordering::Acquire) > 0
    }

    /// How often its bytes have moved. A file that was opened before the last time holds something else by now.
    pub fn moves(&self) -> u32 {
        self.moves.load(Ordering::Acquire)
    }

    /// The same bytes are had elsewhere from now on, all of them.
    pub(super) fn move_to(&self, place: Place, size: u64) {
        *self.place() = place;
        self.set_size(size);
        self.moves.fetch_add(1, Ordering::AcqRel);
        self.settle();
    }

    /// Its bytes are to be had no more. Nobody may take for them what comes to lie under its path: the stamp is no
    /// file's, so that opening it fails from now on. Returns our own name of it, which is to be removed.
    pub(crate) fn give_up(&self, reason: LossReason) -> Option<PathBuf> {
        // A second reason counts no more.
        let _ = self.loss.set(reason);
        self.set_gone(true);
        self.settle();
        self.set_adrift()
    }

    /// Whether somebody has cut a file shorter that nobody writes to any more.
    pub(crate) fn is_truncated(&self) -> bool {
        let is_shorter = |found: std::fs::Metadata| found.len() < self.size();
        self.is_settled()
            && !self.is_packed()
            && self.bytes().and_then(|file| file.metadata()).is_ok_and(is_shorter)
    }

    /// Why its bytes are to be had no more.
    pub fn loss(&self) -> Option<LossReason> {
        self.loss.get().copied()
    }

    /// The file as it lies on the disk, compressed or not, whether there is a descriptor for it or not.
    pub(crate) fn bytes(&self) -> io::Result<Arc<File>> {
        self.place().open(&self.roots)
    }

    /// Whether it is compressed.
    pub(crate) fn is_packed(&self) -> bool {
        self.place().packed
    }

    /// Our own name of it.
    pub(crate) fn kept(&self) -> Option<PathBuf> {
        self.place().kept.clone()
    }

    /// It has a name of our own from now on, which leads to the same file. False if that is another file by now.
    pub(crate) fn keep(&self, kept: PathBuf, linked: &File) -> io::Result<bool> {
        let stamp = super::stamp_of(linked)?;
        let mut place = self.place();
        let same = place.stamp == stamp;
        if same {
            place.kept = Some(kept);
        }
        Ok(same)
    }

    /// Its bytes are had from a copy of ours from now on.
    pub(crate) fn keep_copy(&self, kept: PathBuf, copy: &File) -> io::Result<()> {
        let stamp = super::stamp_of(copy)?;
        let mut place = self.place();
        (place.stamp, place.held, place.kept) = (stamp, None, Some(kept));
        drop(place);
        self.moves.fetch_add(1, Ordering::AcqRel);
        Ok(())
    }

    /// It is there under another name as well, which the catalog is to look for. Returns our own name of it, which is to
    /// be removed.
    pub(crate) fn set_adrift(&self) -> Option<PathBuf> {
        let mut place = self.place();
        place.stamp.inode = 0;
        place.held = None;
        let kept = place.kept.take();
        drop(place);
        self.moves.fetch_add(1, Ordering::AcqRel);
        kept
    }

    /// Whether nobody knows where its bytes are: no file has the inode 0.
    pub(super) fn is_adrift(&self) -> bool {
        self.place().stamp.inode == 0 && !self.is_gone()
    }

    /// The disk that it lies on.
    pub(crate) fn device(&self) -> u64 {
        self.place().stamp.device
    }

    /// Our own name of it is gone.
    pub(crate) fn forget_kept(&self) -> Option<PathBuf> {
        self.place().kept.take()
    }

    pub(super) fn place(&self) -> std::sync::MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens the file for reading.
    ///
    /// # Errors
    /// Of kind `NotFound` when its bytes are not to be had any more.
    pub fn open(&self) -> io::Result<Source> {
        let place = self.place();
        let file = place.open(&self.roots)?;
        Ok(if place.packed { Source::packed(file) } else { Source::Plain(file) })
    }
}

impl Source {
    fn packed(file: Arc<File>) -> Source {
        Source::Packed {
            decoder: Box::new(MultiGzDecoder::new(Positioned { file, offset: 0 })),
            next: 0,
            behind: Vec::new(),
            damage: None,
        }
    }

    /// Reads at `offset` until `buffer` is full or the file ends; returns the number of bytes read.
    pub fn read_at(&mut self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            let rest = &mut buffer[filled..];
            let read = match self {
                Source::Plain(file) => file.read_at(rest, offset + filled as u64),
                Source::Packed { decoder, next, behind, damage } => {
                    inflate_at(decoder, next, behind, rest, offset + filled as u64).or_else(|error| {
                        // What the disk could not read may be read later; what is not gzip is never.
                        if !matches!(
                            error.kind(),
                            io::ErrorKind::InvalidData
                                | io::ErrorKind::InvalidInput
                                | io::ErrorKind::UnexpectedEof
                        ) {
                            return Err(error);
                        }
                        *damage = Some(error.to_string());
                        Ok(0)
                    })
                }
            };
            match read {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }
}

fn inflate_at(
    decoder: &mut MultiGzDecoder<Positioned>,
    next: &mut u64,
    behind: &mut Vec<u8>,
    buffer: &mut [u8],
    offset: u64,
) -> io::Result<usize> {
    let kept = *next - behind.len() as u64;
    if (kept..*next).contains(&offset) {
        let bytes = &behind[(offset - kept) as usize..];
        let read = bytes.len().min(buffer.len());
        buffer[..read].copy_from_slice(&bytes[..read]);
        return Ok(read);
    }
    if offset != *next {
        behind.clear();
    }
    if offset < *next {
        let file = decoder.get_ref().file.clone();
        *decoder = MultiGzDecoder::new(Positioned { file, offset: 0 });
        *next = 0;
    }
    if offset > *next {
        *next += io::copy(&mut decoder.by_ref().take(offset - *next), &mut io::sink())?;
        if offset > *next {
            return Ok(0);
        }
    }
    let read = decoder.read(buffer)?;
    *next += read as u64;
    let fresh = &buffer[read.saturating_sub(BEHIND)..read];
    behind.drain(..(behind.len() + fresh.len()).saturating_sub(BEHIND));
    behind.extend_from_slice(fresh);
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_key_needs_a_whole_first_line_and_nothing_else() {
        let maker = KeyMaker { cluster: "c".into(), node: "n".into() };
        let container =
            Container { namespace: "a".into(), pod: "b".into(), uid: "u".into(), name: "app".into() };
        let key = |content: &str, ended| maker.key(&container, 0, content.as_bytes(), ended).unwrap();
        assert_eq!(key("", true), None);
        assert_eq!(key("half a li", false), None);
        assert_eq!(key("half a li", true), key("half a li\n", false));
        assert_eq!(key("one\ntwo\n", false), key("one\nthree\n", false));
        assert_ne!(key("one\n", false), key("two\n", false));
        assert_ne!(key("one\n", false), maker.key(&container, 1, &b"one\n"[..], false).unwrap());
        let text = key("one\n", false).unwrap().to_string();
        assert_eq!((text.len(), FileKey::parse(&text)), (FileKey::TEXT_LEN, key("one\n", false)));
    }

    #[test]
    fn a_compressed_file_is_read_at_inflated_offsets_forwards_and_back() {
        let content: Vec<u8> = (0..200_000u32).flat_map(|n| n.to_le_bytes()).collect();
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(&content).unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&packed.finish().unwrap()).unwrap();
        let mut source = Source::packed(Arc::new(file));
        let mut buffer = [0; 1000];
        for offset in [5000, 6000, 5500, 400_000, 399_000, 10, 799_500, 700_000, 799_900, 800_000, 900_000, 0]
        {
            let read = source.read_at(&mut buffer, offset as u64).unwrap();
            let expected = content.get(offset..).unwrap_or_default();
            assert_eq!(&buffer[..read], &expected[..expected.len().min(1000)], "at {offset}");
        }
    }
}

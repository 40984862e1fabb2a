//! One container's log, written as containerd writes it and rotated as kubelet rotates it. Comes in: lines
//! that a program printed. Goes out: `<n>.log` in the container's folder, its rotated and compressed
//! predecessors, and a tally that others may read at any time. It never deletes a file of which a line is not
//! yet delivered.
//!
//! Kubelet is not so kind: it deletes the oldest file whether anyone has read it or not, and what an agent
//! missed is gone. The demo wants to end in a count that is exact for every line ever written, with any rate
//! and any output, even one that is down for a minute. So a file that kubelet would delete is doomed first,
//! and goes when it has been delivered.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::clock::Moment;
use super::programs::Line;

/// containerd's buffer: a longer line is written in pieces of this size, cut wherever it falls, even within a
/// letter.
pub const PIECE_BYTES: usize = 16 * 1024;

/// Files that kubelet keeps of a running container: the one being written and four rotated
/// (`containerLogMaxFiles`).
const KEEP_FILES: usize = 5;

/// What a container has written so far and how much of it is known to be delivered. Written by the little
/// node and by the command's loop, read by the table.
#[derive(Debug, Default)]
pub struct Tally {
    /// Namespace of the pod.
    pub namespace: &'static str,
    /// Name of the pod.
    pub pod: String,
    /// The pod's uid, new in every run.
    pub uid: String,
    /// Name of the container.
    pub container: &'static str,
    /// Records written: a line in pieces is one.
    pub lines: AtomicU64,
    /// Bytes written to log files, before any compression.
    pub bytes: AtomicU64,
    /// Records that the agent has said it delivered.
    pub delivered: AtomicU64,
}

impl Tally {
    /// Records written so far.
    pub fn lines(&self) -> u64 {
        self.lines.load(Ordering::Relaxed)
    }

    /// Bytes written so far.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Records known to be delivered.
    pub fn delivered(&self) -> u64 {
        self.delivered.load(Ordering::Relaxed)
    }

    /// Notes that the agent has delivered `records` of this container. A count that falls, as when the agent
    /// has forgotten a deleted file, is not believed.
    pub fn note_delivered(&self, records: u64) {
        self.delivered.fetch_max(records, Ordering::Relaxed);
    }
}

/// The log files of one container.
#[derive(Debug)]
pub struct Log {
    dir: PathBuf,
    restart: u32,
    file: File,
    /// Bytes in the file being written.
    size: u64,
    /// Size in bytes at which a file is rotated.
    limit: u64,
    /// Where the file being written was moved to, until the runtime is told to open a new one.
    moved: Option<PathBuf>,
    /// Suffix of the last rotation: kubelet's names hold a second, so there is one rotation a second at most.
    last_suffix: String,
    /// Rotated files of this instance, the oldest first.
    rotated: VecDeque<Old>,
    /// Files of the instance before this one: kubelet keeps those of one dead instance.
    dead: Vec<Old>,
    /// Files that kubelet would have deleted.
    doomed: Vec<Old>,
    buffer: Vec<u8>,
}

/// A file that is written to no more.
#[derive(Debug)]
struct Old {
    path: PathBuf,
    /// How many records the container had written when the file was closed: it is delivered when so many are.
    lines: u64,
}

impl Log {
    /// Makes the folder `dir` and opens `0.log` in it. Files are rotated when they are larger than `limit`
    /// bytes.
    pub fn create(dir: PathBuf, limit: u64) -> io::Result<Log> {
        fs::create_dir_all(&dir)?;
        let file = open(&dir, 0)?;
        Ok(Log {
            dir,
            restart: 0,
            file,
            size: 0,
            limit,
            moved: None,
            last_suffix: String::new(),
            rotated: VecDeque::new(),
            dead: Vec::new(),
            doomed: Vec::new(),
            buffer: Vec::new(),
        })
    }

    /// Takes the lines of one turn. Of two long lines on different streams the pieces are written in turn, as
    /// the runtime does that copies both pipes at once.
    pub fn append(&mut self, lines: &[Line]) {
        if let [first, second] = lines
            && first.stream != second.stream
            && first.text.len().min(second.text.len()) > PIECE_BYTES
        {
            let (mut left, mut right) = (pieces(first), pieces(second));
            loop {
                let (a, b) = (left.next(), right.next());
                if a.is_none() && b.is_none() {
                    return;
                }
                for (line, piece) in [(first, a), (second, b)] {
                    if let Some((tag, text)) = piece {
                        self.piece(line, tag, text);
                    }
                }
            }
        }
        for line in lines {
            for (tag, text) in pieces(line) {
                self.piece(line, tag, text);
            }
        }
    }

    fn piece(&mut self, line: &Line, tag: &str, text: &[u8]) {
        // Writing to a Vec cannot fail.
        let _ = write!(self.buffer, "{} {} {tag} ", Moment::now(), line.stream.name());
        self.buffer.extend_from_slice(text);
        self.buffer.push(b'\n');
    }

    /// Writes what was appended, then rotates if the file has grown too large. Returns the bytes written and
    /// whether a rotation was completed. `tally` must count all that was appended.
    ///
    /// A rotation takes two calls, for kubelet renames the file first and tells the runtime afterwards: what
    /// is written in between lands in the renamed file. Records are never divided between two files.
    pub fn flush(&mut self, tally: &Tally) -> io::Result<(u64, bool)> {
        let written = self.buffer.len() as u64;
        self.file.write_all(&self.buffer)?;
        self.buffer.clear();
        self.size += written;
        if self.reopen(tally)? {
            return Ok((written, true));
        }
        if self.size > self.limit {
            self.rename()?;
        }
        Ok((written, false))
    }

    /// Completes a rotation, if one was begun: opens a new file in place of the renamed one. Returns whether
    /// it did.
    pub fn reopen(&mut self, tally: &Tally) -> io::Result<bool> {
        let Some(path) = self.moved.take() else { return Ok(false) };
        self.file = open(&self.dir, self.restart)?;
        self.size = 0;
        self.rotated.push_back(Old { path, lines: tally.lines() });
        Ok(true)
    }

    /// kubelet's order: delete the excess, compress what was rotated before, rename the newest.
    fn rename(&mut self) -> io::Result<()> {
        let suffix = Moment::now().rotation_suffix();
        if suffix == self.last_suffix {
            return Ok(());
        }
        while self.rotated.len() > KEEP_FILES - 2 {
            self.doomed.extend(self.rotated.pop_front());
        }
        for old in &mut self.rotated {
            if old.path.extension().is_none_or(|extension| extension != "gz") {
                old.path = compress(&old.path)?;
            }
        }
        let path = self.dir.join(format!("{}.log.{suffix}", self.restart));
        fs::rename(self.dir.join(format!("{}.log", self.restart)), &path)?;
        self.last_suffix = suffix;
        self.moved = Some(path);
        Ok(())
    }

    /// Ends this instance of the container and begins the next, which writes to `<n + 1>.log`. The files of
    /// the instance before the one that ended are doomed.
    pub fn restart(&mut self, tally: &Tally) -> io::Result<()> {
        self.doomed.append(&mut self.dead);
        self.dead.extend(self.rotated.drain(..));
        let last = self.moved.take().unwrap_or_else(|| self.dir.join(format!("{}.log", self.restart)));
        self.dead.push(Old { path: last, lines: tally.lines() });
        self.restart += 1;
        self.file = open(&self.dir, self.restart)?;
        self.size = 0;
        Ok(())
    }

    /// Deletes the doomed files that have been delivered.
    pub fn sweep(&mut self, tally: &Tally) -> io::Result<()> {
        let delivered = tally.delivered();
        let (gone, left) = self.doomed.drain(..).partition::<Vec<_>, _>(|old| old.lines <= delivered);
        self.doomed = left;
        gone.iter().try_for_each(|old| fs::remove_file(&old.path))
    }
}

/// Opens the log of the container's `restart`-th instance for appending.
fn open(dir: &Path, restart: u32) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(dir.join(format!("{restart}.log")))
}

/// The pieces that the runtime writes of a line: all but the last are tagged `P`, the last `F`.
fn pieces(line: &Line) -> impl Iterator<Item = (&'static str, &[u8])> {
    let count = line.text.len().div_ceil(PIECE_BYTES);
    line.text
        .as_bytes()
        .chunks(PIECE_BYTES)
        .zip(1..)
        .map(move |(text, n)| (if n == count { "F" } else { "P" }, text))
}

/// Compresses a rotated file as kubelet does: into `.tmp`, which is renamed to `.gz` when complete. Returns
/// the new path.
fn compress(path: &Path) -> io::Result<PathBuf> {
    let with = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let (temporary, compressed) = (with(".tmp"), with(".gz"));
    let mut encoder = GzEncoder::new(File::create(&temporary)?, Compression::default());
    io::copy(&mut File::open(path)?, &mut encoder)?;
    encoder.finish()?;
    fs::rename(&temporary, &compressed)?;
    fs::remove_file(path)?;
    Ok(compressed)
}

#[cfg(test)]
mod tests {
    use super::super::programs::Stream;
    use super::*;

    fn line(stream: Stream, text: &str) -> Line {
        Line { stream, text: text.to_owned() }
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn long_lines_on_both_streams_are_written_in_pieces_between_one_another() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = Log::create(folder.path().join("c"), u64::MAX).unwrap();
        let (out, err) = ("o".repeat(2 * PIECE_BYTES), "é".repeat(PIECE_BYTES + 1));
        log.append(&[line(Stream::Stdout, &out), line(Stream::Stderr, &err)]);
        log.flush(&Tally::default()).unwrap();
        let bytes = fs::read(folder.path().join("c/0.log")).unwrap();
        let seen: Vec<_> = bytes
            .split(|&b| b == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| {
                let words: Vec<_> = line.splitn(4, |&b| b == b' ').collect();
                (String::from_utf8_lossy(words[1]), String::from_utf8_lossy(words[2]), words[3].len())
            })
            .collect();
        let expected = [
            ("stdout", "P", PIECE_BYTES),
            ("stderr", "P", PIECE_BYTES),
            ("stdout", "F", PIECE_BYTES),
            ("stderr", "P", PIECE_BYTES),
            ("stderr", "F", 2),
        ];
        assert_eq!(seen, expected.map(|(stream, tag, length)| (stream.into(), tag.into(), length)));
    }

    #[test]
    fn what_is_written_between_rename_and_reopening_lands_in_the_renamed_file() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = Log::create(folder.path().join("c"), 10).unwrap();
        let tally = Tally::default();
        log.append(&[line(Stream::Stdout, "first")]);
        assert!(!log.flush(&tally).unwrap().1);
        log.append(&[line(Stream::Stdout, "second")]);
        assert!(log.flush(&tally).unwrap().1);
        log.append(&[line(Stream::Stdout, "third")]);
        log.flush(&tally).unwrap();
        let names = names(&log.dir);
        assert_eq!(names.len(), 2);
        let old = fs::read_to_string(log.dir.join(&names[1])).unwrap();
        assert!(old.contains("first") && old.contains("second") && !old.contains("third"), "{old}");
    }

    #[test]
    fn a_doomed_file_stays_until_it_is_delivered() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = Log::create(folder.path().join("c"), u64::MAX).unwrap();
        let tally = Tally::default();
        for n in 1..=3 {
            log.append(&[line(Stream::Stdout, "text")]);
            tally.lines.fetch_add(1, Ordering::Relaxed);
            log.flush(&tally).unwrap();
            log.restart(&tally).unwrap();
            log.sweep(&tally).unwrap();
            assert_eq!(names(&log.dir).len(), n + 1);
        }
        tally.note_delivered(1);
        log.sweep(&tally).unwrap();
        assert_eq!(names(&log.dir), ["1.log", "2.log", "3.log"]);
    }
}

//! The `file` output: NDJSON files, rotated by size, exactly once.
//!
//! In: sealed batches. Out: appended lines. The length of each file is part of the output's state and is saved together
//! with the positions, after the bytes are on disk; a restart cuts each file back to the length that was saved, so that
//! what is read again is not written twice. Rotation keeps to that: `x.ndjson` becomes `x.ndjson.1`, the next one
//! `x.ndjson.2`, and a rotation that was not saved is undone.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::batch::Sealed;
use crate::position::{Ledger, State, Written};

/// Files that are being written, by path.
#[derive(Debug)]
pub struct Files {
    ledger: Arc<Ledger>,
    max_size: u64,
    keep: usize,
    open: HashMap<PathBuf, (Arc<File>, Written)>,
    /// Bytes of the batch in hand that have been written, should the rest have to be tried again.
    done: usize,
}

impl Files {
    /// Brings the files of an earlier run back to what was saved.
    pub fn recover(ledger: Arc<Ledger>, max_size: u64, keep: usize) -> io::Result<Files> {
        for (path, mut written) in ledger.read(|state| state.written.clone()) {
            written.length = undo(&path, &written)?;
            ledger.change(|state| state.written.insert(path, written));
        }
        Ok(Files { ledger, max_size, keep, open: HashMap::new(), done: 0 })
    }

    /// Writes a batch, or what is left of it after an error.
    pub fn write(&mut self, sealed: &Sealed) -> io::Result<()> {
        for segment in &sealed.segments {
            let path = Path::new(&segment.path);
            while self.done < segment.end {
                self.make_room(path)?;
                let (max_size, bytes) = (self.max_size, &sealed.body[self.done..segment.end]);
                let (file, written) = self.opened(path)?;
                let part = &bytes[..lines_within(bytes, max_size.saturating_sub(written.length))];
                // At the known length, so that what an error left half written is written over.
                file.write_all_at(part, written.length)?;
                written.length += part.len() as u64;
                self.done += part.len();
            }
        }
        self.done = 0;
        Ok(())
    }

    /// Enters what has been written into the state that the acknowledgement of the batch is part of.
    pub fn note(&self, state: &mut State) {
        for (path, (file, written)) in &self.open {
            if state.written.get(path) != Some(written) {
                state.written.insert(path.clone(), written.clone());
                state.sync_first(file.clone());
            }
        }
    }

    fn opened(&mut self, path: &Path) -> io::Result<&mut (Arc<File>, Written)> {
        if !self.open.contains_key(path) {
            if let Some(directory) = path.parent() {
                fs::create_dir_all(directory)?;
            }
            // 0640: logs may hold what not everyone should read.
            let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o640).open(path)?;
            let written = match self.ledger.read(|state| state.written.get(path).cloned()) {
                Some(written) => written,
                None => {
                    // Saved before the first byte is written: should we be killed after it, it is cut back to this.
                    let written = Written { length: file.metadata()?.len(), rotations: newest(path)? };
                    self.ledger.change(|state| state.written.insert(path.to_owned(), written.clone()));
                    self.ledger.save()?;
                    written
                }
            };
            self.open.insert(path.to_owned(), (Arc::new(file), written));
        }
        self.open.get_mut(path).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn make_room(&mut self, path: &Path) -> io::Result<()> {
        let max_size = self.max_size.max(1);
        let (file, written) = self.opened(path)?;
        if written.length < max_size {
            return Ok(());
        }
        let (file, written) = (file.clone(), written.clone());
        file.set_len(written.length)?;
        self.ledger.save()?;
        let number = written.rotations + 1;
        fs::rename(path, numbered(path, number))?;
        self.open.remove(path);
        let fresh = OpenOptions::new().create_new(true).write(true).mode(0o640).open(path)?;
        self.open.insert(path.to_owned(), (Arc::new(fresh), Written { length: 0, rotations: number }));
        // The renamed file's bytes must be on disk before a state that says so.
        self.ledger.change(|state| state.sync_first(file));
        if let Some(old) = number.checked_sub(self.keep as u64).filter(|old| *old > 0) {
            match fs::remove_file(numbered(path, old)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

/// How many bytes the whole lines take that fit into `room`; one line at least.
fn lines_within(bytes: &[u8], room: u64) -> usize {
    let room = bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX));
    let fitting = memchr::memrchr(b'\n', &bytes[..room]);
    fitting.or_else(|| memchr::memchr(b'\n', bytes)).map_or(bytes.len(), |newline| newline + 1)
}

fn numbered(path: &Path, number: u64) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

/// The highest number that a rotated file of `path` has, from runs whose state is gone.
fn newest(path: &Path) -> io::Result<u64> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str())) else {
        return Ok(0);
    };
    let mut newest = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?.file_name();
        let number = entry.to_str().and_then(|e| e.strip_prefix(name)?.strip_prefix('.')?.parse().ok());
        newest = newest.max(number.unwrap_or(0));
    }
    Ok(newest)
}

/// Takes back rotations that came after `written` was saved, and cuts the file to the saved length; returns its length.
fn undo(path: &Path, written: &Written) -> io::Result<u64> {
    let mut later = written.rotations + 1;
    if numbered(path, later).exists() {
        fs::rename(numbered(path, later), path)?;
        loop {
            later += 1;
            match fs::remove_file(numbered(path, later)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                other => other?,
            }
        }
    }
    let file = match OpenOptions::new().write(true).open(path) {
        Ok(file) => file,
        // Somebody took the file away with what was in it: that is theirs to do.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    let length = file.metadata()?.len();
    if length > written.length {
        file.set_len(written.length)?;
    } else if length < written.length {
        tracing::warn!(path = %path.display(), expected = written.length, found = length,
            "somebody shortened an output file: going on at its end");
    }
    Ok(length.min(written.length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Segment;

    fn batch(parts: &[(&Path, &str)]) -> Sealed {
        let mut sealed = Sealed {
            body: Vec::new(),
            compressed: false,
            plain_bytes: 0,
            runs: Vec::new(),
            segments: Vec::new(),
            items: 0,
        };
        for (path, text) in parts {
            sealed.body.extend_from_slice(text.as_bytes());
            sealed.segments.push(Segment { path: path.display().to_string(), end: sealed.body.len() });
        }
        sealed
    }

    struct World {
        state: tempfile::TempDir,
        out: tempfile::TempDir,
    }

    impl World {
        fn start(&self) -> (Arc<Ledger>, Files) {
            let ledger = Arc::new(Ledger::open(self.state.path(), "o").unwrap());
            let files = Files::recover(ledger.clone(), 10, 2).unwrap();
            (ledger, files)
        }
    }

    fn world() -> World {
        World { state: tempfile::tempdir().unwrap(), out: tempfile::tempdir().unwrap() }
    }

    #[test]
    fn what_was_not_saved_is_cut_off_after_a_crash() {
        let world = world();
        let (a, b) = (world.out.path().join("a"), world.out.path().join("b/c"));
        fs::write(&a, "old\n").unwrap();
        let (ledger, mut files) = world.start();
        files.write(&batch(&[(&a, "1\n"), (&b, "2\n")])).unwrap();
        ledger.change(|state| files.note(state));
        ledger.save().unwrap();
        files.write(&batch(&[(&a, "3\n"), (&b, "4\n")])).unwrap();
        ledger.change(|state| files.note(state));
        // Killed here: the last change was never saved.
        let (_, mut files) = world.start();
        assert_eq!(fs::read_to_string(&a).unwrap(), "old\n1\n");
        files.write(&batch(&[(&a, "5\n")])).unwrap();
        assert_eq!(fs::read_to_string(&a).unwrap(), "old\n1\n5\n");
        assert_eq!(fs::read_to_string(&b).unwrap(), "2\n");
    }

    #[test]
    fn a_rotation_that_was_not_saved_is_undone() {
        let world = world();
        let a = world.out.path().join("a");
        let (ledger, mut files) = world.start();
        files.write(&batch(&[(&a, "0123456789\n")])).unwrap();
        ledger.change(|state| files.note(state));
        ledger.save().unwrap();
        for text in ["second file\n", "third file\n"] {
            files.write(&batch(&[(&a, text)])).unwrap();
        }
        assert_eq!(fs::read_to_string(numbered(&a, 2)).unwrap(), "second file\n");
        let (_, _files) = world.start();
        assert_eq!(fs::read_to_string(&a).unwrap(), "0123456789\n");
        assert!(!numbered(&a, 1).exists() && !numbered(&a, 2).exists());
    }

    #[test]
    fn one_batch_may_fill_several_files_each_with_whole_lines() {
        let world = world();
        let a = world.out.path().join("a");
        let (_, mut files) = world.start();
        files.write(&batch(&[(&a, "1234\n1234\n123456789012\n12\n")])).unwrap();
        let read = |path: &Path| fs::read_to_string(path).unwrap();
        assert_eq!(read(&numbered(&a, 1)), "1234\n1234\n");
        assert_eq!(read(&numbered(&a, 2)), "123456789012\n");
        assert_eq!(read(&a), "12\n");
    }

    #[test]
    fn only_as_many_rotated_files_as_wished_are_kept() {
        let world = world();
        let a = world.out.path().join("a");
        let (ledger, mut files) = world.start();
        for n in 0..5 {
            files.write(&batch(&[(&a, &format!("{n} is ten or more\n"))])).unwrap();
            ledger.change(|state| files.note(state));
        }
        assert_eq!(fs::read_to_string(&a).unwrap(), "4 is ten or more\n");
        assert_eq!(fs::read_to_string(numbered(&a, 3)).unwrap(), "2 is ten or more\n");
        assert!(!numbered(&a, 2).exists() && numbered(&a, 4).exists());
    }
}

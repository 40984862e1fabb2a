//! The register of host files: which file on disk bears which key, over restarts of the agent.
//!
//! In: what the disk says of a file (its inode and birth time) and its first bytes. Out: its key, and whether the file is
//! still the one that the key was given to. A file that was cut short and written anew (`copytruncate`) has the
//! same inode and is another log: its generation is counted up, and it gets another key. Saved before a key is used, so
//! that a crash cannot give it to something else. Never reads a file.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::super::Stamp;
use super::super::file::{FileKey, KeyMaker};
use crate::clock::EvenClock;
use crate::position::replace;

/// How long a file that is nowhere to be seen is remembered, in seconds: as long as its position.
const KEEP_SECONDS: u64 = 24 * 3600;

/// Bytes from a file's beginning that tell it from another.
pub const PRINT_BYTES: usize = 1024;

/// A beginning must have so many bytes to be taken for that of a copied file.
const TELLING_BYTES: usize = 64;

/// Which file it is on its disk. The device counts only where the file system keeps no birth times: its number may be
/// another after the next boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Mark {
    inode: u64,
    born: i64,
    device: u64,
}

impl From<Stamp> for Mark {
    fn from(stamp: Stamp) -> Mark {
        let device = if stamp.born == 0 { stamp.device } else { 0 };
        Mark { inode: stamp.inode, born: i64::try_from(stamp.born).unwrap_or(0), device }
    }
}

/// How a file begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Print {
    /// How many bytes were taken, at most [`PRINT_BYTES`].
    pub length: usize,
    digest: String,
}

impl Print {
    /// Of these bytes.
    pub fn of(bytes: &[u8]) -> Print {
        let hash = digest::digest(&digest::SHA256, bytes);
        Print { length: bytes.len(), digest: URL_SAFE_NO_PAD.encode(&hash.as_ref()[..16]) }
    }

    /// Whether it is long enough to tell that one file is a copy of another.
    pub fn is_telling(&self) -> bool {
        self.length >= TELLING_BYTES
    }
}

/// What is kept of a file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Entry {
    #[serde(flatten)]
    mark: Mark,
    generation: u32,
    key: String,
    /// How it begins.
    pub print: Print,
    /// The largest size that was seen.
    pub size: u64,
    /// Where it was seen, but for renames by rotation.
    pub path: PathBuf,
    /// When that was, in seconds since the epoch.
    seen: u64,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Saved {
    taffrail_host_files: u32,
    /// Part of every key, so that keys that are given out after the register was lost are new ones.
    salt: String,
    files: Vec<Entry>,
}

/// All host files that have a key.
#[derive(Debug)]
pub struct Register {
    path: PathBuf,
    maker: KeyMaker,
    salt: String,
    entries: HashMap<Mark, Entry>,
    changed: bool,
    clock: EvenClock,
}

impl Register {
    /// Opens the register in the state directory. A damaged one is set aside: the files are then read anew.
    pub fn open(state_dir: &Path, maker: KeyMaker) -> io::Result<Register> {
        let path = state_dir.join("host-files.json");
        let saved = match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).or_else(|error| {
                let aside = path.with_extension("damaged");
                fs::rename(&path, &aside)?;
                tracing::error!(file = %path.display(), %error, kept = %aside.display(),
                    "the register of host files was damaged: they are read anew, and what had been sent of them is sent again");
                Ok::<Saved, io::Error>(Saved::default())
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Saved::default(),
            Err(error) => return Err(error),
        };
        let clock = EvenClock::new();
        let now = clock.now();
        // What was deleted while no agent ran is kept for a while from now on.
        let entries =
            saved.files.into_iter().map(|entry| (entry.mark, Entry { seen: now, ..entry })).collect();
        let mut register = Register { path, maker, salt: saved.salt, entries, changed: false, clock };
        if register.salt.is_empty() {
            let mut salt = [0; 16];
            aws_lc_rs::rand::fill(&mut salt).map_err(io::Error::other)?;
            register.salt = URL_SAFE_NO_PAD.encode(salt);
            register.changed = true;
        }
        Ok(register)
    }

    /// What is kept of a file.
    pub fn entry(&self, mark: Mark) -> Option<&Entry> {
        self.entries.get(&mark)
    }

    /// Gives a file its key: the one it has, unless it is `renewed`, which is another log in the same file.
    pub fn enter(&mut self, mark: Mark, print: Print, size: u64, path: &Path, renewed: bool) -> FileKey {
        let generation = match self.entries.get(&mark) {
            Some(entry) if !renewed => {
                if let Some(key) = FileKey::parse(&entry.key) {
                    return key;
                }
                entry.generation + 1
            }
            Some(entry) => entry.generation + 1,
            None => 0,
        };
        let key = FileKey::of(&[
            b"host file",
            self.maker.cluster.as_bytes(),
            self.maker.node.as_bytes(),
            self.salt.as_bytes(),
            &mark.inode.to_le_bytes(),
            &mark.born.to_le_bytes(),
            &mark.device.to_le_bytes(),
            &generation.to_le_bytes(),
        ]);
        let entry = Entry {
            mark,
            generation,
            key: key.to_string(),
            print,
            size,
            path: path.to_owned(),
            seen: self.clock.now(),
        };
        self.entries.insert(mark, entry);
        self.changed = true;
        key
    }

    /// A file turned out to be a copy of another: it bears its key too, and is looked for by its name.
    pub fn enter_copy(&mut self, mark: Mark, of: &Entry) {
        let entry = Entry { mark, seen: self.clock.now(), ..of.clone() };
        self.entries.insert(mark, entry);
        self.changed = true;
    }

    /// The files that one called so may be a copy of: `app.log.1` of `app.log` beside it.
    pub fn originals_of(&self, mark: Mark, path: &Path) -> Vec<&Entry> {
        let may_be = |entry: &&Entry| entry.mark != mark && is_name_of_copy(path, &entry.path);
        self.entries.values().filter(may_be).collect()
    }

    /// All that is kept.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// The file is there, and this large by now. A longer beginning of it replaces a shorter one.
    pub fn saw(&mut self, mark: Mark, size: u64, path: &Path, print: Option<Print>) {
        let Some(entry) = self.entries.get_mut(&mark) else { return };
        entry.seen = self.clock.now();
        // What rotation has renamed is looked for by its first name.
        let moved = entry.path != path && !is_name_of_copy(path, &entry.path);
        self.changed |= size > entry.size || moved || print.is_some();
        entry.size = entry.size.max(size);
        if moved {
            path.clone_into(&mut entry.path);
        }
        if let Some(print) = print {
            entry.print = print;
        }
    }

    /// Saves what has changed. On return it is on disk.
    pub fn save(&mut self) -> io::Result<()> {
        if !self.changed {
            return Ok(());
        }
        let oldest = self.clock.now().saturating_sub(KEEP_SECONDS);
        self.entries.retain(|_, entry| entry.seen >= oldest);
        let files = self.entries.values().cloned().collect();
        let saved = Saved { taffrail_host_files: 1, salt: self.salt.clone(), files };
        let mut text = serde_json::to_vec(&saved)?;
        text.push(b'\n');
        replace(&self.path, &text)?;
        self.changed = false;
        Ok(())
    }
}

impl Entry {
    /// Which file it is.
    pub fn mark(&self) -> Mark {
        self.mark
    }

    /// The key that it bears.
    pub fn key(&self) -> Option<FileKey> {
        FileKey::parse(&self.key)
    }
}

/// Whether a file's name is that of a copy as rotation makes it: the original's, and more.
pub fn is_name_of_copy(path: &Path, original: &Path) -> bool {
    let (Some(name), Some(whole)) = (path.file_name(), original.file_name()) else { return false };
    let (name, whole) = (name.as_encoded_bytes(), whole.as_encoded_bytes());
    path.parent() == original.parent()
        && name.len() > whole.len()
        && name.starts_with(whole)
        && !name[whole.len()].is_ascii_alphanumeric()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn register(folder: &Path) -> Register {
        Register::open(folder, KeyMaker { cluster: "c".into(), node: "n".into() }).unwrap()
    }

    fn mark(inode: u64) -> Mark {
        Stamp { device: 1, inode, born: 1_700_000_000_000_000_000 }.into()
    }

    #[test]
    fn a_key_outlives_the_agent_and_is_given_once_for_each_generation() {
        let folder = tempfile::tempdir().unwrap();
        let (print, path) = (Print::of(b"one\n"), Path::new("/var/log/app.log"));
        let mut before = register(folder.path());
        let first = before.enter(mark(1), print.clone(), 4, path, false);
        let other = before.enter(mark(2), print.clone(), 4, path, false);
        before.save().unwrap();

        let mut after = register(folder.path());
        assert_eq!(after.enter(mark(1), print.clone(), 9, path, false), first);
        assert_eq!(after.entry(mark(1)).unwrap().size, 4);
        let renewed = after.enter(mark(1), print.clone(), 2, path, true);
        assert_ne!(first, other);
        assert_ne!(renewed, first);
        assert_eq!(after.enter(mark(1), print.clone(), 2, path, false), renewed);
        // A register that was lost never gives out a key that was used.
        fs::write(folder.path().join("host-files.json"), "{").unwrap();
        assert_ne!(register(folder.path()).enter(mark(1), print, 4, path, false), first);
        assert!(folder.path().join("host-files.damaged").exists());
    }

    #[test]
    fn a_copys_name_is_the_originals_and_more() {
        let is_copy = |path: &str| is_name_of_copy(Path::new(path), Path::new("/l/app.log"));
        assert!(is_copy("/l/app.log.1") && is_copy("/l/app.log-20261123"));
        assert!(
            !is_copy("/l/app.logs")
                && !is_copy("/l/other.log")
                && !is_copy("/m/app.log.1")
                && !is_copy("/l/app.log")
        );
    }
}

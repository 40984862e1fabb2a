//! Checkpoints: how far each shard of a Kinesis stream has been carried on.
//!
//! In: sequence numbers of records that are settled. Out: the same after a restart: one file for a stream in the state
//! directory, replaced whole, which one process holds at a time. Never ahead of what is settled.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::position;

/// How far one shard is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reached {
    /// The last record that is settled, and all before it; none yet if empty.
    #[serde(default)]
    pub sequence: String,
    /// The shard is closed, and all of it is settled.
    #[serde(default)]
    pub finished: bool,
}

/// What the file holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Content {
    stream: String,
    /// When the stream was first read, in milliseconds since the epoch.
    since: u64,
    shards: BTreeMap<String, Reached>,
}

/// The checkpoints of one stream.
#[derive(Debug)]
pub struct Checkpoints {
    path: PathBuf,
    content: Mutex<Content>,
    _lock: File,
}

impl Checkpoints {
    /// Those of a stream, below the state directory.
    ///
    /// # Errors
    /// The directory cannot be written, or another process has it.
    pub fn open(state_dir: &Path, stream: &str) -> io::Result<Checkpoints> {
        let folder = state_dir.join("forward");
        fs::create_dir_all(&folder)?;
        let is_plain = |character: char| character.is_ascii_alphanumeric() || "_-".contains(character);
        let name: String = stream.chars().map(|c| if is_plain(c) { c } else { '_' }).collect();
        let lock = File::create(folder.join(format!("{name}.lock")))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| io::Error::other("another `taffrail forward` has the state directory"))?;
        let path = folder.join(format!("{name}.json"));
        let content = match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
                Content { stream: stream.to_owned(), since: now.as_millis() as u64, shards: BTreeMap::new() }
            }
            Err(error) => return Err(error),
        };
        let checkpoints = Checkpoints { path, content: Mutex::new(content), _lock: lock };
        // The time of the first start is part of it.
        checkpoints.change(|_| {})?;
        Ok(checkpoints)
    }

    /// When the stream was first read.
    pub fn since(&self) -> u64 {
        self.lock().since
    }

    /// How far a shard is.
    pub fn of(&self, shard: &str) -> Reached {
        self.lock().shards.get(shard).cloned().unwrap_or_default()
    }

    /// Enters how far a shard is; on return it is on disk.
    ///
    /// # Errors
    /// It could not be written.
    pub fn reach(&self, shard: &str, reached: Reached) -> io::Result<()> {
        self.change(|content| {
            content.shards.insert(shard.to_owned(), reached);
        })
    }

    /// Forgets finished shards that the stream does not list any more.
    ///
    /// # Errors
    /// It could not be written.
    pub fn keep_only(&self, listed: &[&str]) -> io::Result<()> {
        let is_kept = |name: &String, reached: &Reached| !reached.finished || listed.contains(&name.as_str());
        if self.lock().shards.iter().all(|(name, reached)| is_kept(name, reached)) {
            return Ok(());
        }
        self.change(|content| content.shards.retain(|name, reached| is_kept(name, reached)))
    }

    fn change(&self, change: impl FnOnce(&mut Content)) -> io::Result<()> {
        let mut content = self.lock();
        change(&mut content);
        position::replace(&self.path, &serde_json::to_vec(&*content)?)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_reached_is_known_to_the_next_process_and_to_one_at_a_time() {
        let state = tempfile::tempdir().unwrap();
        let first = Checkpoints::open(state.path(), "logs.a").unwrap();
        assert!(Checkpoints::open(state.path(), "logs.a").is_err());
        let reached = Reached { sequence: "17".into(), finished: false };
        first.reach("shard-0", reached.clone()).unwrap();
        first.reach("shard-1", Reached { finished: true, ..reached.clone() }).unwrap();
        let since = first.since();
        drop(first);
        let second = Checkpoints::open(state.path(), "logs.a").unwrap();
        assert_eq!((second.of("shard-0"), second.since()), (reached, since));
        second.keep_only(&["shard-0"]).unwrap();
        assert_eq!(second.of("shard-1"), Reached::default());
        assert_eq!(Checkpoints::open(state.path(), "logs.b").unwrap().of("shard-0"), Reached::default());
    }
}

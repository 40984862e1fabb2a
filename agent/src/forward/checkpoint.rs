//! Checkpoints: how far each shard of a Kinesis stream has been carried on.
//!
//! In: sequence numbers of records that are settled. Out: the same after a restart: one file for a stream in the state
//! directory, replaced whole, which one process holds at a time. Never ahead of what is settled.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::clock::unix_millis;
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
    /// The shard's first sequence number: shards of a stream that was made again under its name have the ids of before, not
    /// this. `None` in files of a version that did not write it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begins: Option<String>,
}

impl Reached {
    /// Whether this is of another shard than the one that begins so.
    pub fn is_of_another(&self, begins: Option<&str>) -> bool {
        matches!((self.begins.as_deref(), begins), (Some(mine), Some(its)) if mine != its)
    }
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
            Ok(text) => serde_json::from_slice::<Content>(&text)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Content { stream: stream.to_owned(), since: unix_millis(), shards: BTreeMap::new() }
            }
            Err(error) => return Err(error),
        };
        if content.stream != stream {
            // `logs.a` and `logs_a` have one file.
            let what = format!(
                "{} is of the stream {}: give {stream} another `state_dir`",
                path.display(),
                content.stream
            );
            return Err(io::Error::other(what));
        }
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

    /// Enters how far a shard is; on return it is on disk. What is of another shard of that id by now stays.
    ///
    /// # Errors
    /// It could not be written.
    pub fn reach(&self, shard: &str, reached: Reached) -> io::Result<()> {
        self.change(|content| {
            let held = content.shards.get(shard);
            if !held.is_some_and(|held| held.is_of_another(reached.begins.as_deref())) {
                content.shards.insert(shard.to_owned(), reached);
            }
        })
    }

    /// Brings the entries into line with the shards that the stream lists, each with its first sequence number: forgets
    /// finished ones that are not listed any more, and begins anew with those that were made again. Returns the latter.
    ///
    /// # Errors
    /// It could not be written.
    pub fn align(&self, listed: &[(&str, Option<&str>)]) -> io::Result<Vec<String>> {
        let listed: BTreeMap<&str, Option<&str>> = listed.iter().copied().collect();
        let (mut shards, mut anew) = (self.lock().shards.clone(), Vec::new());
        let before = shards.clone();
        shards.retain(|name, reached| !reached.finished || listed.contains_key(name.as_str()));
        for (name, reached) in &mut shards {
            let Some(Some(begins)) = listed.get(name.as_str()) else { continue };
            if reached.is_of_another(Some(begins)) {
                *reached = Reached::default();
                anew.push(name.clone());
            }
            // What an older version wrote is believed.
            reached.begins = Some((*begins).to_owned());
        }
        if shards != before {
            // Shards that are entered meanwhile are their readers' own affair.
            self.change(|content| {
                content.shards.retain(|name, _| shards.contains_key(name) || !before.contains_key(name));
                for (name, reached) in shards {
                    if content.shards.get(&name) == before.get(&name) {
                        content.shards.insert(name, reached);
                    }
                }
            })?;
        }
        Ok(anew)
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
        let reached = Reached { sequence: "17".into(), ..Reached::default() };
        first.reach("shard-0", reached.clone()).unwrap();
        first.reach("shard-1", Reached { finished: true, ..reached.clone() }).unwrap();
        let since = first.since();
        drop(first);
        let second = Checkpoints::open(state.path(), "logs.a").unwrap();
        assert_eq!((second.of("shard-0"), second.since()), (reached, since));
        second.align(&[("shard-0", None)]).unwrap();
        assert_eq!(second.of("shard-1"), Reached::default());
        assert_eq!(Checkpoints::open(state.path(), "logs.b").unwrap().of("shard-0"), Reached::default());
    }
    #[test]
    fn shards_of_a_stream_that_was_made_again_are_begun_anew() {
        let state = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::open(state.path(), "logs").unwrap();
        let old = Reached { sequence: "17".into(), finished: true, begins: Some("1".into()) };
        checkpoints.reach("shard-0", old.clone()).unwrap();
        checkpoints.reach("shard-1", Reached { begins: None, ..old.clone() }).unwrap();
        let listed = |begins| [("shard-0", Some(begins)), ("shard-1", Some(begins))];
        assert!(checkpoints.align(&listed("1")).unwrap().is_empty());
        assert_eq!((checkpoints.of("shard-0"), checkpoints.of("shard-1")), (old.clone(), old.clone()));
        assert_eq!(checkpoints.align(&listed("50")).unwrap(), ["shard-0", "shard-1"]);
        let anew = Reached { begins: Some("50".into()), ..Reached::default() };
        assert_eq!(checkpoints.of("shard-0"), anew);
        checkpoints.reach("shard-0", old).unwrap();
        assert_eq!(checkpoints.of("shard-0"), anew, "the old shard's reader comes too late");
    }

    #[test]
    fn two_streams_whose_names_make_one_file_are_told_apart() {
        let state = tempfile::tempdir().unwrap();
        drop(Checkpoints::open(state.path(), "logs.a").unwrap());
        let error = Checkpoints::open(state.path(), "logs_a").unwrap_err().to_string();
        assert!(error.contains("is of the stream logs.a"), "{error}");
        Checkpoints::open(state.path(), "logs.a").unwrap();
    }
}

//! Who keeps the checkpoints of a stream, and says which of its shards are this process's to read.
//!
//! In: the shards that the stream lists, and how far each is. Out: the same after a restart, or for the next replica. A
//! file where one process reads all of it; Leases where several share it.

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use super::checkpoint::{Checkpoints, Reached};
use super::leases::{Leases, Listed};

/// Where checkpoints are kept.
#[derive(Debug)]
pub enum Keeper {
    /// In the state directory: all shards are this process's.
    File(Checkpoints),
    /// With the Kubernetes API: some of them.
    Leases(Box<Leases>),
}

impl Keeper {
    /// When the stream was first read, in milliseconds since the epoch.
    pub fn since(&self) -> u64 {
        match self {
            Keeper::File(checkpoints) => checkpoints.since(),
            Keeper::Leases(leases) => leases.since(),
        }
    }

    /// How far a shard is.
    pub fn of(&self, shard: &str) -> Reached {
        match self {
            Keeper::File(checkpoints) => checkpoints.of(shard),
            Keeper::Leases(leases) => leases.of(shard),
        }
    }

    /// Whether a shard may be read (on) by this process.
    pub fn may_read(&self, shard: &str) -> bool {
        match self {
            Keeper::File(_) => true,
            Keeper::Leases(leases) => leases.may_read(shard),
        }
    }

    /// Enters how far a shard is; false if it is another's by now.
    ///
    /// # Errors
    /// It could not be written.
    pub fn reach(&self, shard: &str, reached: Reached) -> io::Result<bool> {
        match self {
            Keeper::File(checkpoints) => checkpoints.reach(shard, reached).map(|()| true),
            Keeper::Leases(leases) => Ok(leases.reach(shard, reached)),
        }
    }

    /// Takes in what the stream lists, while these shards are being read.
    ///
    /// # Errors
    /// What is in the way, for people. Of a file nothing is to be begun then; what is held by Leases may be read nevertheless.
    pub async fn turn(
        &self,
        stream: &str,
        shards: &[Listed],
        reading: &BTreeSet<String>,
    ) -> Result<(), String> {
        let checkpoints = match self {
            Keeper::Leases(leases) => return leases.turn(shards, reading).await,
            Keeper::File(checkpoints) => checkpoints,
        };
        let begun: Vec<_> = shards.iter().map(|shard| (shard.id.as_str(), shard.begins.as_deref())).collect();
        let anew = checkpoints.align(&begun).map_err(|error| format!("cannot save checkpoints: {error}"))?;
        for shard in anew {
            tracing::warn!(stream, shard, "the stream was made again: its shard is begun anew");
        }
        Ok(())
    }

    /// How often to take a turn, where the stream is asked for new shards so often.
    pub fn every(&self, discover: Duration) -> Duration {
        match self {
            Keeper::File(_) => discover,
            Keeper::Leases(leases) => discover.min(leases.every()),
        }
    }

    /// Whether there may be others.
    pub fn is_shared(&self) -> bool {
        matches!(self, Keeper::Leases(_))
    }

    /// How long the stream's answer may be waited for between turns.
    pub fn patience(&self) -> Duration {
        match self {
            Keeper::File(_) => Duration::MAX,
            Keeper::Leases(leases) => leases.every(),
        }
    }

    /// For the end, when nothing is read any more.
    ///
    /// # Errors
    /// What is in the way, for people. Others find out by themselves, later.
    pub async fn leave(&self) -> Result<(), String> {
        match self {
            Keeper::File(_) => Ok(()),
            Keeper::Leases(leases) => leases.leave().await,
        }
    }
}

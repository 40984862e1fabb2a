//! Outputs: where batches go.
//!
//! In: sealed batches from an output's worker. Out: [`Settled`], the only way in which a position may move: it says of
//! each run whether the destination has taken it. Never decides what to read.

pub mod backoff;
pub mod cloudwatch;
pub mod credit;
pub mod dead_letter;
pub mod elasticsearch;
pub mod file;
pub mod http;
pub mod load;
pub mod refused;
pub mod reply;
pub mod rollover;
pub mod stdout;

use crate::batch::Run;
use crate::stats::{Loss, LossReason};

/// The end of a batch's way.
#[derive(Debug)]
pub struct Settled {
    /// The runs of the batch, each with what became of it.
    pub runs: Vec<(Run, Fate)>,
    /// The body's memory, for the next batch.
    pub spare: Vec<u8>,
    /// What the destination will never have, by the cursor that it was read by.
    pub lost: Vec<(u64, LossReason, Loss)>,
}

/// What became of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// The destination holds its records, or has refused them for good.
    Acknowledged,
    /// The destination does not take some of them for now: read again later, other containers go on.
    Parked,
    /// The agent stops, or wanted to: nothing is known of it.
    Abandoned,
}

/// How long outputs go on with what they have under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Until it is settled.
    No,
    /// Until it is settled where the destination may have some of it; what it certainly has not is given up.
    Unsent,
    /// No longer.
    Now,
}

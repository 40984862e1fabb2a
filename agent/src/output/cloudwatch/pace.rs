//! How often this node may call: its share of what the account may, less where the service says that it is too much.
//!
//! In: the account's quota, the number of nodes, and what became of each call. Out: how long to wait before a call, and
//! how long batches should linger so that the calls of all streams stay within the share. Reads no clock: the time is the
//! caller's, so that a fleet can be simulated.

use std::time::{Duration, Instant};

/// Of its share a node uses so much at most: the quota's seconds are not ours.
const USED: f64 = 0.9;

/// And plans to use so much: the rest is for full batches.
const PLANNED: f64 = 0.8;

/// What a call that went through makes of a rate that was lowered: it doubles in some 35 calls, so that nodes that know
/// nothing of each other share a quota within minutes.
const RAISE: f64 = 1.02;

/// However often the service says no, a call in five seconds is tried.
const LEAST: f64 = 0.2;

/// No batch lingers longer than this, whatever the quota: then calls wait for each other.
pub const LONGEST_LINGER: Duration = Duration::from_secs(300);

/// The rate is lowered at most so often: calls that were under way together fail together.
const LOWER_EVERY: Duration = Duration::from_secs(1);

/// Calls that may be made at once after a pause, in seconds of the rate; one at least.
const BURST: f64 = 0.2;

/// A node's rate of calls.
#[derive(Debug)]
pub struct Pace {
    /// Calls a second, at most and at least.
    share: f64,
    least: f64,
    rate: f64,
    /// Calls that could be made now; negative where some have been granted for later.
    tokens: f64,
    at: Instant,
    lowered: Option<Instant>,
    /// Streams that a batch has lately had.
    streams: f64,
    /// What the next batch's linger is stretched by, drawn anew for each: nodes that were started together drift apart.
    stretch: f64,
}

impl Pace {
    /// A share of so many calls a second.
    pub fn new(share: f64, now: Instant) -> Pace {
        let share = share * USED;
        let (least, tokens) = (LEAST.min(share), (share * BURST).max(1.0));
        Pace { share, least, rate: share, tokens, at: now, lowered: None, streams: 0.0, stretch: 1.0 }
    }

    /// Takes the next place: how long to wait for it.
    pub fn take(&mut self, now: Instant) -> Duration {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = self.at.max(now);
        self.tokens = (self.tokens + passed * self.rate).min((self.rate * BURST).max(1.0)) - 1.0;
        Duration::from_secs_f64((-self.tokens / self.rate).max(0.0))
    }

    /// The service said that there were too many calls.
    pub fn throttled(&mut self, now: Instant) {
        if self.lowered.is_none_or(|at| now.saturating_duration_since(at) >= LOWER_EVERY) {
            self.lowered = Some(now);
            self.rate = (self.rate / 2.0).max(self.least);
        }
    }

    /// A call went through: the rate comes back, slowly.
    pub fn passed(&mut self) {
        self.rate = (self.rate * RAISE).min(self.share);
    }

    /// A batch had so many streams, each of which takes a call.
    pub fn batch_of(&mut self, streams: usize) {
        // A smaller batch need not mean fewer streams: some are closed early, being full.
        self.streams = (streams as f64).max(self.streams * 0.9);
        self.stretch = 0.8 + 0.4 * fastrand::f64();
    }

    /// How long a batch should linger, at least `configured`.
    pub fn linger(&self, configured: Duration) -> Duration {
        let needed = Duration::try_from_secs_f64(self.stretch * self.streams / (self.rate / USED * PLANNED));
        configured.max(needed.unwrap_or(LONGEST_LINGER).min(LONGEST_LINGER))
    }
}

#[cfg(test)]
#[path = "pace_tests.rs"]
mod tests;

//! The pulse of a thread: whether it gets on with its work, hangs in it, or has ended.
//!
//! In: a beat at each turn of the thread's loop, a word before it waits. Out: how long it has been at one turn, for whoever
//! is asked whether the agent is well. A thread that waits, with an end to that, cannot hang: so nobody is woken to be seen
//! alive. Never a lock.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// At rest: no turn is under way.
const RESTS: u64 = 0;

/// See the module.
#[derive(Debug, Default)]
pub struct Pulse {
    /// When the turn that is under way began, in milliseconds of our own clock; [`RESTS`] for none.
    busy_since: AtomicU64,
    begun: AtomicBool,
    ended: AtomicBool,
}

impl Pulse {
    /// A turn begins, and so the one before has ended.
    pub fn beat(&self) {
        self.busy_since.store(now(), Ordering::Relaxed);
    }

    /// Nothing is under way until the next [`beat`](Self::beat).
    pub fn rest(&self) {
        self.busy_since.store(RESTS, Ordering::Relaxed);
    }

    /// What a thread does once, before its loop, is done.
    pub fn has_begun(&self) {
        self.begun.store(true, Ordering::Release);
    }

    /// The thread is no more.
    pub fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }

    /// Whether what is done once is done.
    pub fn is_begun(&self) -> bool {
        self.begun.load(Ordering::Acquire)
    }

    /// Whether the thread is no more.
    pub fn is_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// How long the turn that is under way has taken so far.
    pub fn busy(&self) -> Duration {
        match self.busy_since.load(Ordering::Relaxed) {
            RESTS => Duration::ZERO,
            since => Duration::from_millis(now().saturating_sub(since)),
        }
    }
}

/// Milliseconds since the first pulse of this process, and never [`RESTS`].
fn now() -> u64 {
    static FIRST: OnceLock<Instant> = OnceLock::new();
    FIRST.get_or_init(Instant::now).elapsed().as_millis() as u64 + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_busy_from_its_beat_until_it_rests() {
        let pulse = Pulse::default();
        assert_eq!(pulse.busy(), Duration::ZERO);
        pulse.busy_since.store(now(), Ordering::Relaxed);
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(3) {
            std::thread::yield_now();
        }
        assert!(pulse.busy() > Duration::ZERO);
        pulse.rest();
        assert_eq!(pulse.busy(), Duration::ZERO);
        assert!(!pulse.is_begun() && !pulse.is_ended());
        pulse.has_begun();
        pulse.end();
        assert!(pulse.is_begun() && pulse.is_ended());
    }
}

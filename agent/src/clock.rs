//! A clock for what is kept for a day or so, over restarts: it begins with the wall clock's time and then runs evenly.
//!
//! In: nothing. Out: seconds since the epoch, roughly. The wall clock itself jumps, on a machine that boots without one by
//! decades, and whatever is kept for a day would be thrown away in that moment.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// See the module.
#[derive(Debug, Clone, Copy)]
pub struct EvenClock {
    began_at: u64,
    began: Instant,
}

impl EvenClock {
    /// A clock that begins now.
    pub fn new() -> EvenClock {
        let began_at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        EvenClock { began_at, began: Instant::now() }
    }

    /// Seconds since the epoch.
    pub fn now(&self) -> u64 {
        self.began_at + self.began.elapsed().as_secs()
    }
}

impl Default for EvenClock {
    fn default() -> EvenClock {
        EvenClock::new()
    }
}

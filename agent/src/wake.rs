//! A wake-up that is never lost: a flag that one thread waits for and any other sets.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Set by [`wake`](Wake::wake), waited for and cleared by [`wait`](Wake::wait).
#[derive(Debug, Default)]
pub struct Wake {
    woken: Mutex<bool>,
    changed: Condvar,
}

impl Wake {
    /// Wakes the waiting thread, or lets its next wait return at once.
    pub fn wake(&self) {
        *self.woken.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_one();
    }

    /// Waits until woken, or until `timeout` has passed.
    pub fn wait(&self, timeout: Duration) {
        let woken = self.woken.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut woken, _) = self
            .changed
            .wait_timeout_while(woken, timeout, |woken| !*woken)
            .unwrap_or_else(PoisonError::into_inner);
        *woken = false;
    }
}

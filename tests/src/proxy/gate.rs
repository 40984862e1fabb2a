//! A gate that all exchanges with the server go through, and that can be closed between them.
//!
//! What comes in: requests that are to be passed on. What goes out: the same, at once or when the gate is open again. It
//! never stops what is on its way.

use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

#[derive(Default)]
struct State {
    /// What is no bulk request waits.
    holds_looks: bool,
    /// And so does what is one.
    holds_bulks: bool,
    /// Requests that are on their way.
    inside: usize,
    last_look: Option<Instant>,
}

/// The gate.
#[derive(Default)]
pub(super) struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

/// Nothing is on its way, and nothing goes, until this value does.
pub struct Standstill<'g>(&'g Gate);

/// A request is on its way until this value goes.
pub(super) struct Inside<'g>(&'g Gate);

impl Gate {
    /// Waits until a request may go on its way.
    pub fn passes(&self, is_bulk: bool) -> Inside<'_> {
        let waits = |state: &mut State| if is_bulk { state.holds_bulks } else { state.holds_looks };
        let mut state = self.changed.wait_while(self.lock(), waits).expect("no thread panicked");
        state.inside += 1;
        if !is_bulk {
            state.last_look = Some(Instant::now());
        }
        Inside(self)
    }

    /// Closes it: to bulk requests when nobody has looked for so long.
    pub fn closes(&self, quiet: Duration) -> Standstill<'_> {
        let wait = |state, until: fn(&State) -> bool| {
            self.changed.wait_while(state, |state| !until(state)).expect("no thread panicked")
        };
        // One at a time.
        let mut state = wait(self.lock(), |state| !state.holds_looks);
        state.holds_looks = true;
        while let Some(left) = state.last_look.and_then(|last| quiet.checked_sub(last.elapsed())) {
            state = self.changed.wait_timeout(state, left).expect("no thread panicked").0;
        }
        state.holds_bulks = true;
        drop(wait(state, |state| state.inside == 0));
        Standstill(self)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread panicked")
    }
}

impl Drop for Standstill<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        (state.holds_looks, state.holds_bulks) = (false, false);
        self.0.changed.notify_all();
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.lock().inside -= 1;
        self.0.changed.notify_all();
    }
}

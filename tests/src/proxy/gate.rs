//! A gate that all exchanges with the server go through, and that can be closed between them.
//!
//! What comes in: requests that are to be passed on. What goes out: the same, at once or when the gate is open again. It
//! never stops what is on its way.

use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

#[derive(Default)]
struct State {
    /// Who begins to look waits.
    holds_looks: bool,
    /// And so does everybody.
    holds_all: bool,
    /// Requests that are on their way.
    inside: usize,
    /// Of these, the ones that are no bulk requests.
    looking: usize,
    /// When somebody was last told what he had looked for.
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
pub(super) struct Inside<'g> {
    gate: &'g Gate,
    is_bulk: bool,
}

impl Gate {
    /// Waits until a request may go on its way. A look begins with a GET.
    pub fn passes(&self, is_bulk: bool, is_get: bool) -> Inside<'_> {
        let waits = |state: &mut State| state.holds_all || (is_get && state.holds_looks);
        let mut state = self.changed.wait_while(self.lock(), waits).expect("no thread panicked");
        state.inside += 1;
        state.looking += usize::from(!is_bulk);
        Inside { gate: self, is_bulk }
    }

    /// Closes it: to those who begin to look at once, to all when nobody has looked for so long.
    pub fn closes(&self, quiet: Duration) -> Standstill<'_> {
        let wait = |state, until: fn(&State) -> bool| {
            self.changed.wait_while(state, |state| !until(state)).expect("no thread panicked")
        };
        // One at a time.
        let mut state = wait(self.lock(), |state| !state.holds_looks);
        state.holds_looks = true;
        // Who waits for an answer has yet to send.
        loop {
            let left = state.last_look.map_or(Duration::ZERO, |last| quiet.saturating_sub(last.elapsed()));
            if state.looking == 0 && left.is_zero() {
                break;
            }
            let pause = left.max(Duration::from_millis(1));
            state = self.changed.wait_timeout(state, pause).expect("no thread panicked").0;
        }
        state.holds_all = true;
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
        (state.holds_looks, state.holds_all) = (false, false);
        self.0.changed.notify_all();
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        let mut state = self.gate.lock();
        state.inside -= 1;
        if !self.is_bulk {
            state.last_look = Some(Instant::now());
            state.looking -= 1;
        }
        self.gate.changed.notify_all();
    }
}

//! Credit: how much of an output's share may be under way at once.
//!
//! In: batches that are sent, and what they give back before their end. Out: whether another may be sent. A batch of which
//! the server has taken nearly all must not keep its place while the rest waits to be tried again: a server that refuses one
//! record in a hundred would slow its output to a small part of its speed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::wake::Wake;

/// At most so many batches are beyond the configured number of requests in flight, with little left of each.
pub const MOST_REMAINDERS: usize = 32;

/// What the batches that are under way have given back early.
#[derive(Debug, Default)]
pub struct Early {
    batches: AtomicUsize,
    bytes: AtomicU64,
}

impl Early {
    /// How many batches keep no place among the requests in flight.
    pub fn batches(&self) -> usize {
        self.batches.load(Ordering::Acquire).min(MOST_REMAINDERS)
    }

    /// Bytes that they do not hold any more.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Acquire)
    }
}

/// The credit of one batch; all that it holds goes back when it is dropped.
#[derive(Debug)]
pub struct Credit {
    early: Arc<Early>,
    wake: Arc<Wake>,
    bytes: u64,
    given: Option<u64>,
}

impl Credit {
    /// The credit of a batch of `bytes`; `wake` is told when some of it is given back.
    pub fn new(early: Arc<Early>, wake: Arc<Wake>, bytes: u64) -> Credit {
        Credit { early, wake, bytes, given: None }
    }

    /// Gives back the place among the requests in flight, and all but `bytes`. Only once.
    pub fn keep_only(&mut self, bytes: u64) {
        if self.given.is_some() {
            return;
        }
        let given = self.bytes.saturating_sub(bytes);
        self.given = Some(given);
        self.early.bytes.fetch_add(given, Ordering::Release);
        self.early.batches.fetch_add(1, Ordering::Release);
        self.wake.wake();
    }
}

impl Drop for Credit {
    fn drop(&mut self) {
        if let Some(given) = self.given {
            self.early.bytes.fetch_sub(given, Ordering::Release);
            self.early.batches.fetch_sub(1, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_back_early_counts_until_the_end_and_once() {
        let early: Arc<Early> = Arc::default();
        let mut credit = Credit::new(early.clone(), Arc::default(), 100);
        assert_eq!((early.batches(), early.bytes()), (0, 0));
        credit.keep_only(30);
        credit.keep_only(10);
        assert_eq!((early.batches(), early.bytes()), (1, 70));
        let more: Vec<Credit> = (0..MOST_REMAINDERS)
            .map(|_| {
                let mut credit = Credit::new(early.clone(), Arc::default(), 2);
                credit.keep_only(1);
                credit
            })
            .collect();
        assert_eq!((early.batches(), early.bytes()), (MOST_REMAINDERS, 70 + MOST_REMAINDERS as u64));
        drop((credit, more));
        assert_eq!((early.batches(), early.bytes()), (0, 0));
    }
}

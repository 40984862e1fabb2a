//! Whose turn it is: round robin in bytes, so that the size of its lines gains a container nothing.
//!
//! In: containers that have something to read, and what each turn took. Out: the one that has had the least. One that
//! was silent has had as much as the one whose turn it is: it comes next, before all that have a backlog, and has
//! saved up nothing. On a node that is going away, those whose oldest log was last written longest ago come before all
//! others. So a line waits for one turn of a flood, and not for a round of everyone's. Never looks at a file.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::catalog::origin::Origin;

/// A turn that a full batch broke off goes on in the next one until it has had this much: what compression finds its
/// repeats in is the run of one container.
pub(super) const LEAST_TURN: u64 = 64 << 10;

/// How often, at most, all containers are looked at for one that has something to read while others have.
const LOOK: Duration = Duration::from_millis(10);

/// And so many times what a look takes: 5% of a core, however many containers there are.
const REST: u32 = 19;

/// What is written to within this time is as old: of logs that are written to now, none comes first.
pub(super) const WRITTEN_TOGETHER: Duration = Duration::from_secs(10);

/// The containers that have something to read.
#[derive(Debug)]
pub(super) struct Queue {
    waiting: BTreeMap<Rank, Arc<Origin>>,
    /// What the one whose turn it is has had.
    level: u64,
    turns: u64,
    arrivals: u64,
    looked: Instant,
    look_took: Duration,
}

/// The order of turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    /// When what it has to read was last written to, where that comes first.
    written: u64,
    had: u64,
    /// Among equals, one that was silent is first, or whose turn was broken off,
    backlog: bool,
    /// then whose last turn is longest ago,
    turn: u64,
    /// then who came first.
    arrival: u64,
}

/// What one container has had, in bytes; it only ever matters in comparison.
#[derive(Debug, Default)]
pub(super) struct Share {
    /// On a node that is going away: when what it has to read was last written to, in [`WRITTEN_TOGETHER`].
    pub written: Option<u64>,
    had: u64,
    /// Of a turn that was broken off.
    unfinished: u64,
    /// Whether it had something left after its last turn, and the number of that.
    backlog: bool,
    turn: u64,
    arrival: u64,
    queued: bool,
}

impl Share {
    /// Whether the container waits for its turn already.
    pub fn is_queued(&self) -> bool {
        self.queued
    }

    /// Takes note of a turn. `more`: the container has something left to read.
    pub fn charge(&mut self, queue: &mut Queue, bytes: u64, more: bool) {
        self.unfinished += bytes;
        if self.unfinished < LEAST_TURN && more {
            self.backlog = false;
            return;
        }
        queue.turns += 1;
        self.turn = queue.turns;
        self.backlog = more;
        self.had += std::mem::take(&mut self.unfinished);
    }
}

impl Queue {
    /// Nobody waits.
    pub fn new() -> Queue {
        let (looked, look_took) = (Instant::now(), Duration::ZERO);
        Queue { waiting: BTreeMap::new(), level: 0, turns: 0, arrivals: 0, looked, look_took }
    }

    /// Whether it is time to look for containers that have come to have something to read.
    pub fn is_look_due(&self) -> bool {
        self.waiting.is_empty() || self.looked.elapsed() >= LOOK.max(self.look_took * REST)
    }

    /// A look that began then is done.
    pub fn looked(&mut self, begun: Instant) {
        self.looked = Instant::now();
        self.look_took = self.looked - begun;
    }

    /// The container has something to read.
    pub fn add(&mut self, origin: &Arc<Origin>, share: &mut Share) {
        if !std::mem::replace(&mut share.queued, true) {
            share.had = share.had.max(self.level);
            if share.unfinished == 0 {
                self.arrivals += 1;
                share.arrival = self.arrivals;
            }
            let Share { written, had, backlog, turn, arrival, .. } = *share;
            let written = written.unwrap_or_default();
            self.waiting.insert(Rank { written, had, backlog, turn, arrival }, origin.clone());
        }
    }

    /// Whose turn it is. Its share is to be taken [`out`](Self::out).
    pub fn next(&mut self) -> Option<Arc<Origin>> {
        let (rank, origin) = self.waiting.pop_first()?;
        self.level = rank.had;
        Some(origin)
    }

    /// The container of this share waits no more.
    pub fn out(share: &mut Share) {
        share.queued = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::origin::Container;
    use proptest::prelude::*;

    /// Containers, what each has left to read and how much a turn of it takes, and what each has read.
    struct World {
        queue: Queue,
        containers: Vec<(Arc<Origin>, Share, u64, u64, u64)>,
    }

    impl World {
        fn of(sizes: &[(u64, u64)]) -> World {
            let container = |number: usize| Container {
                namespace: String::new(),
                pod: number.to_string(),
                uid: String::new(),
                name: String::new(),
            };
            let origin = |number| Arc::new(Origin::Container(container(number)));
            let all = sizes.iter().enumerate();
            let containers =
                all.map(|(n, (left, turn))| (origin(n), Share::default(), *left, *turn, 0)).collect();
            World { queue: Queue::new(), containers }
        }

        fn look(&mut self) {
            for (origin, share, left, ..) in &mut self.containers {
                if *left > 0 {
                    self.queue.add(origin, share);
                }
            }
        }

        /// One turn; whose it was.
        fn turn(&mut self) -> Option<usize> {
            let next = self.queue.next()?;
            let at = self.containers.iter().position(|c| c.0 == next).unwrap();
            let (origin, share, left, turn, read) = &mut self.containers[at];
            Queue::out(share);
            let bytes = (*turn).min(*left);
            (*left, *read) = (*left - bytes, *read + bytes);
            share.charge(&mut self.queue, bytes, *left > 0);
            if *left > 0 {
                self.queue.add(origin, share);
            }
            Some(at)
        }
    }

    #[test]
    fn long_lines_gain_a_container_nothing() {
        let mut world = World::of(&[(1 << 30, 1 << 20), (1 << 30, 256 << 10), (1 << 30, 64 << 10)]);
        world.look();
        while world.containers[0].4 < 100 << 20 {
            world.turn();
        }
        let read: Vec<u64> = world.containers.iter().map(|c| c.4 >> 20).collect();
        assert!(read.iter().all(|mib| (98..=101).contains(mib)), "{read:?}");
    }

    #[test]
    fn a_line_of_a_quiet_container_waits_for_a_turn_or_two_however_many_have_a_backlog() {
        // No two turns are of one length, since they end with a line.
        let mut sizes: Vec<(u64, u64)> = (0..1000).map(|n| (1 << 40, (256 << 10) - 97 * n)).collect();
        sizes.push((0, 1));
        let mut world = World::of(&sizes);
        world.containers[1000].3 = 256 << 10;
        world.look();
        (0..5000).for_each(|_| assert_ne!(world.turn(), Some(1000)));
        for _ in 0..100 {
            world.containers[1000].2 = 100;
            world.look();
            let waited = std::iter::from_fn(|| world.turn()).take_while(|at| *at != 1000).count();
            assert!(waited <= 2, "{waited} turns");
        }
    }

    #[test]
    fn on_a_node_that_is_going_away_the_oldest_log_comes_first_and_equals_take_turns() {
        let mut world = World::of(&[(1 << 20, 256 << 10), (1 << 20, 256 << 10), (1 << 20, 256 << 10)]);
        for (at, written) in [7, 3, 7].into_iter().enumerate() {
            world.containers[at].1.written = Some(written);
        }
        world.look();
        let turns: Vec<usize> = std::iter::from_fn(|| world.turn()).collect();
        assert_eq!(turns, [1, 1, 1, 1, 0, 2, 0, 2, 0, 2, 0, 2]);
    }

    #[test]
    fn silence_is_not_saved_up() {
        let mut world = World::of(&[(1 << 40, 256 << 10), (0, 256 << 10)]);
        world.look();
        (0..1000).for_each(|_| assert_eq!(world.turn(), Some(0)));
        world.containers[1].2 = 1 << 40;
        world.look();
        let turns: Vec<usize> = (0..6).filter_map(|_| world.turn()).collect();
        assert_eq!(turns, [1, 0, 1, 0, 1, 0]);
    }

    #[test]
    fn a_turn_that_was_broken_off_goes_on_before_anyone_elses() {
        let mut world = World::of(&[(1 << 20, 20 << 10), (1 << 20, 256 << 10)]);
        world.look();
        let turns: Vec<usize> = (0..5).filter_map(|_| world.turn()).collect();
        assert_eq!(turns, [0, 0, 0, 0, 1]);
    }

    #[test]
    fn of_two_that_may_have_one_turn_now_and_then_both_have_theirs() {
        // As where a namespace has tokens for one turn at a time, of which the same one could have all.
        let mut world = World::of(&[(10 << 20, 64 << 10), (10 << 20, 64 << 10)]);
        let mut turns = Vec::new();
        for _ in 0..6 {
            world.look();
            turns.extend(world.turn());
            while world.queue.next().is_some() {}
            world.containers.iter_mut().for_each(|c| Queue::out(&mut c.1));
        }
        assert_eq!(turns, [0, 1, 0, 1, 0, 1]);
    }

    proptest! {
        #[test]
        fn nobody_that_has_something_is_left_behind(
            sizes in prop::collection::vec((0u64..4 << 20, 1u64..1 << 20), 1..20),
            arrivals in prop::collection::vec((0usize..20, 1u64..1 << 20), 0..200),
        ) {
            let mut world = World::of(&sizes);
            let mut arrivals = arrivals.into_iter();
            loop {
                if let Some((at, bytes)) = arrivals.next() {
                    let count = world.containers.len();
                    world.containers[at % count].2 += bytes;
                }
                world.look();
                if world.turn().is_none() && arrivals.len() == 0 {
                    break;
                }
            }
            prop_assert!(world.containers.iter().all(|c| c.2 == 0));
        }
    }
}

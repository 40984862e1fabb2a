//! What happens when: the events of a torture, a pure function of its seed.
//!
//! What comes in: a seed and a length. What goes out: who lives, and a list of events in the order of their times. It
//! never looks at a clock or at what the agent does, so that a run can be repeated.

use super::lines::Form;
use super::mood::{Mood, Moods};
use crate::node::{PIECE, Packing};
use fastrand::Rng;
use std::time::Duration;

/// What a schedule is made of.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Where all choices come from.
    pub seed: u64,
    /// How long things happen; what comes after is patience.
    pub length: Duration,
    /// Whether the server is ours to kill.
    pub server_dies: bool,
}

/// Two outputs that go over the network.
pub const SERVED: usize = 2;

/// Pods at a time.
const SLOTS: usize = 6;

/// Namespaces, and so data streams.
pub const NAMESPACES: [&str; 3] = ["shop", "bank", "misc"];

/// A container of a pod, from its start to its end.
#[derive(Debug, Clone, Copy)]
pub struct Life {
    /// The pod's place among those of its time: pods of one place bear the same name, one after the other.
    pub slot: usize,
    /// How many pods had the place before.
    pub generation: usize,
    /// Which of the pod's containers.
    pub container: usize,
}

/// One event.
#[derive(Debug, Clone)]
pub struct Event {
    /// When, from the beginning.
    pub at: Duration,
    /// What.
    pub what: What,
}

/// What happens. Containers are named by their place in the list of lives.
#[derive(Debug, Clone)]
pub enum What {
    /// A container begins to live.
    Begin(usize),
    /// It writes so many lines of this length, to stdout or (true) stderr.
    Write(usize, u32, Form, usize, bool),
    /// It writes so many pieces of a long line, and does not end it yet.
    Open(usize, usize, bool),
    /// It writes so many more, and ends it if so said.
    GoOn(usize, usize, bool, bool),
    /// Its oldest plain rotated log is compressed, a step of it.
    Pack(usize, Packing),
    /// Its log is renamed; it still writes to it.
    Rename(usize),
    /// It goes on in a new file.
    Reopen(usize),
    /// It dies and is started again.
    Restart(usize),
    /// By its clock it is a moment before midnight.
    NewDay(usize),
    /// It writes no more. Its pod is deleted once all of its containers' lines are delivered.
    End(usize),
    /// The agent is started.
    Start,
    /// The agent is killed.
    Kill,
    /// The agent is asked to end.
    Terminate,
    /// The way to a server changes.
    Way(usize, Moods),
    /// The data stream of a namespace is rolled over.
    RollOver(usize),
    /// The agent's state directory is full (true), or has room again.
    FillState(bool),
    /// The same of the disk that the file output writes to.
    FillOutput(bool),
    /// The server is killed, and started again on its data.
    ServerDies,
}

/// Who lives, and what happens, in the order of time.
pub fn schedule(plan: &Plan) -> (Vec<Life>, Vec<Event>) {
    let mut random = Rng::with_seed(plan.seed);
    let mut make = Making { end: plan.length, lives: Vec::new(), events: Vec::new() };
    make.agents(&mut random.fork());
    (0..SERVED).for_each(|output| make.ways(output, &mut random.fork()));
    make.rollovers(&mut random.fork());
    make.full_disks(What::FillState, &mut random.fork());
    make.full_disks(What::FillOutput, &mut random.fork());
    if plan.server_dies {
        make.dying_servers(&mut random.fork());
    }
    (0..SLOTS).for_each(|slot| make.pods(slot, &mut random.fork()));
    // Stable: events of one time stay in the order of their making, which is that of their sense.
    make.events.sort_by_key(|event| event.at);
    (make.lives, make.events)
}

struct Making {
    end: Duration,
    lives: Vec<Life>,
    events: Vec<Event>,
}

fn millis(random: &mut Rng, range: std::ops::Range<u64>) -> Duration {
    Duration::from_millis(random.u64(range))
}

fn chance(random: &mut Rng, percent: u32) -> bool {
    random.u32(..100) < percent
}

impl Making {
    fn add(&mut self, at: Duration, what: What) {
        if at < self.end {
            self.events.push(Event { at, what });
        }
    }

    fn agents(&mut self, random: &mut Rng) {
        let mut at = millis(random, 0..500);
        while at < self.end {
            self.add(at, What::Start);
            // Some die in their first breath.
            at += if chance(random, 20) { millis(random, 0..400) } else { millis(random, 500..9_000) };
            self.add(at, if chance(random, 75) { What::Kill } else { What::Terminate });
            at += if chance(random, 30) { Duration::ZERO } else { millis(random, 0..2_500) };
        }
    }

    fn ways(&mut self, output: usize, random: &mut Rng) {
        let mut at = millis(random, 0..3_000);
        while at < self.end {
            let mood = random.choice(Mood::ALL).unwrap_or(Mood::Calm);
            let percent = if chance(random, 30) { 100 } else { random.u32(10..80) };
            self.add(at, What::Way(output, Moods { mood, percent }));
            at += millis(random, 300..3_500);
            self.add(at, What::Way(output, Moods::CALM));
            at += millis(random, 500..3_500);
        }
    }

    fn rollovers(&mut self, random: &mut Rng) {
        let mut at = millis(random, 1_000..5_000);
        while at < self.end {
            self.add(at, What::RollOver(random.usize(..NAMESPACES.len())));
            at += millis(random, 500..7_000);
        }
    }

    fn full_disks(&mut self, fill: fn(bool) -> What, random: &mut Rng) {
        let mut at = millis(random, 4_000..15_000);
        while at < self.end {
            self.add(at, fill(true));
            at += millis(random, 200..6_000);
            self.add(at, fill(false));
            at += millis(random, 3_000..20_000);
        }
    }

    fn dying_servers(&mut self, random: &mut Rng) {
        let mut at = millis(random, 20_000..60_000);
        while at < self.end {
            self.add(at, What::ServerDies);
            at += millis(random, 40_000..150_000);
        }
    }

    fn pods(&mut self, slot: usize, random: &mut Rng) {
        let mut at = millis(random, 0..2_000);
        for generation in 0.. {
            let ends = at + millis(random, 6_000..40_000);
            let containers = 1 + usize::from(chance(random, 30));
            for container in 0..containers {
                let life = self.lives.len();
                self.lives.push(Life { slot, generation, container });
                self.add(at, What::Begin(life));
                self.container(life, at, ends, random);
                self.add(ends, What::End(life));
            }
            at = ends + millis(random, 100..3_000);
            if at >= self.end {
                return;
            }
        }
    }

    fn container(&mut self, life: usize, begins: Duration, ends: Duration, random: &mut Rng) {
        let mut at = begins;
        // A busy one, a quiet one, and all between.
        let pace = random.u64(100..900);
        // Lines of stdout and of stderr that wait for their ends.
        let mut open = [false; 2];
        let mut rotated = begins;
        loop {
            at += millis(random, 1..2 * pace);
            if at >= ends {
                return;
            }
            let mut stderr = chance(random, 25);
            let dice = random.u32(..100);
            if open[usize::from(stderr)] {
                let (pieces, is_end) = (random.usize(..3), chance(random, 70));
                self.add(at, What::GoOn(life, pieces, stderr, is_end));
                open[usize::from(stderr)] = !is_end;
                continue;
            }
            match dice {
                ..8 => {
                    self.add(at, What::Open(life, random.usize(1..4), stderr));
                    open[usize::from(stderr)] = true;
                    // Its end may come at once, about when it is given up, or long after.
                    at += [0, 0, 300, 700, 1_500][random.usize(..5)] * Duration::from_millis(1);
                }
                8..15 => {
                    let most = if chance(random, 30) { 12 * PIECE } else { 3 * PIECE };
                    let long = PIECE / 2 + random.usize(..most);
                    let form = if random.bool() { Form::Json } else { Form::Text };
                    self.add(at, What::Write(life, 1, form, long, stderr));
                }
                15..24 if at > rotated => rotated = self.rotation(life, at, ends, random),
                24..27 if at > rotated => {
                    self.add(at, What::Restart(life));
                    open = [false; 2];
                }
                27..29 => self.add(at, What::NewDay(life)),
                _ => {
                    let lines = 1 + random.u32(..24) * random.u32(..24) / 24;
                    let lines = if chance(random, 2) { 300 } else { lines };
                    let form = [Form::Json, Form::Json, Form::Text, Form::Odd][random.usize(..4)];
                    // Lines of one burst go to one stream, which must not be in the middle of another line.
                    stderr &= form != Form::Json;
                    if open[usize::from(stderr)] {
                        continue;
                    }
                    let length = if chance(random, 30) { random.usize(..2_000) } else { 0 };
                    self.add(at, What::Write(life, lines, form, length, stderr));
                }
            }
        }
    }

    /// Kubelet's rotation beside what is written; gives when it is over.
    fn rotation(&mut self, life: usize, mut at: Duration, ends: Duration, random: &mut Rng) -> Duration {
        let steps = [
            What::Pack(life, Packing::Write),
            What::Pack(life, Packing::Name),
            What::Pack(life, Packing::Remove),
            What::Rename(life),
            What::Reopen(life),
        ];
        for what in steps {
            if at < ends {
                self.add(at, what);
            }
            at += if chance(random, 50) { Duration::ZERO } else { millis(random, 0..400) };
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(seed: u64) -> Plan {
        Plan { seed, length: Duration::from_secs(60), server_dies: true }
    }

    #[test]
    fn a_seed_gives_the_same_events_each_time_and_another_gives_others() {
        let text = |seed| format!("{:?}", schedule(&plan(seed)));
        assert_eq!(text(1), text(1));
        assert_ne!(text(1), text(2));
    }

    #[test]
    fn everything_that_can_happen_does_within_a_few_minutes() {
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..5 {
            let (lives, events) = schedule(&plan(seed));
            assert!(events.is_sorted_by_key(|event| event.at));
            assert!(lives.len() > SLOTS, "pods are born again");
            seen.extend(events.iter().map(|event| {
                let text = format!("{:?}", event.what);
                text.split('(').next().unwrap_or_default().to_owned()
            }));
        }
        assert_eq!(seen.len(), 18, "{seen:?}");
    }
}

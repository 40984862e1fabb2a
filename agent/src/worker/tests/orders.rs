//! Whatever the order of writes, rotations, settlements, faults and pauses: the worker gets on, and every line is held by
//! the destination once, or counted as left out.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::config::{BulkOp, ByteSize, LimitAction, Rate, RateLimitConfig};
use crate::stats::Loss;

/// What happens.
#[derive(Debug, Clone)]
enum Event {
    /// A container writes some lines, every third in two pieces.
    Write(usize, usize),
    /// Its file is renamed, and a new one begun.
    Rotate(usize),
    /// The catalog looks round, and the worker hears of it.
    Look,
    /// The worker does something.
    Step(usize),
    /// A batch comes back; of which runs it is not taken, by the bits; in which case some of what it holds was.
    Settle(usize, u8),
    /// The delivery of a batch fails by a fault; what it held was taken, or not.
    Fail(usize, bool),
    /// The worker itself fails and begins again.
    BeginAgain,
    /// Whatever waits for its time has waited for it.
    TimePasses,
}

/// What is left out.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Mode {
    Nothing,
    OverLimit,
    WaitsForLimit,
    Lagging,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0usize..3, 1usize..30).prop_map(|(who, lines)| Event::Write(who, lines)),
        1 => (0usize..3).prop_map(Event::Rotate),
        4 => Just(Event::Look),
        6 => (1usize..4).prop_map(Event::Step),
        4 => (0usize..4, 0u8..8).prop_map(|(which, parked)| Event::Settle(which, parked.saturating_sub(4))),
        1 => (0usize..4, any::<bool>()).prop_map(|(which, taken)| Event::Fail(which, taken)),
        1 => Just(Event::BeginAgain),
        3 => Just(Event::TimePasses),
    ]
}

/// A worker, the logs that it reads and what its destination holds.
struct Trial {
    world: World,
    worker: Worker,
    /// Each line that was written and its bytes.
    written: BTreeMap<String, u64>,
    rotations: usize,
    /// By `_id`.
    held: BTreeMap<String, String>,
    /// Something may have been taken and read again,
    in_doubt: bool,
    /// by a worker that had forgotten what it decided.
    forgotten: bool,
}

const CONTAINERS: [&str; 3] = ["shop_a_u/app", "shop_b_u/app", "bank_c_u/app"];

impl Trial {
    fn new(mode: Mode, linger: bool) -> Trial {
        let world = World::with(&[("empty_e_u/app/0.log", "")]);
        let mut worker = world.worker();
        let rate = |lines| Some(Rate { bytes: None, lines: Some(lines) });
        let action = if mode == Mode::OverLimit { LimitAction::Drop } else { LimitAction::Wait };
        let limits = RateLimitConfig {
            container: Some(Rate { bytes: Some(ByteSize::new(2000)), lines: Some(40) }),
            namespace: rate(60),
            burst: Duration::from_secs(1),
            action,
        };
        let limited = matches!(mode, Mode::OverLimit | Mode::WaitsForLimit);
        worker.settings = Settings {
            format: Format::Bulk { op: BulkOp::Create, ids: true },
            batch: 3000,
            in_flight: 3,
            in_flight_bytes: 7000,
            linger: Duration::from_secs(if linger { 3600 } else { 0 }),
            rules: Rules { join_gap: Duration::from_secs(3600), ..worker.settings.rules },
            limits: limited.then(|| Arc::new(RateLimits::new(limits))),
            max_lag: (mode == Mode::Lagging).then_some(1500),
            target: None,
            ..worker.settings
        };
        worker.batch = Batch::new(worker.settings.format, None);
        worker.sink = Sink::Kept(Vec::new());
        let (written, held) = (BTreeMap::new(), BTreeMap::new());
        Trial { world, worker, written, rotations: 0, held, in_doubt: false, forgotten: false }
    }

    fn happens(&mut self, event: &Event) {
        match *event {
            Event::Write(who, lines) => self.write(who, lines),
            Event::Rotate(who) => {
                let folder = self.world.log(CONTAINERS[who]);
                self.rotations += 1;
                // There may be nothing yet.
                let rotated = folder.join(format!("0.log.20261123-{:06}", 100_000 + self.rotations));
                let _ = fs::rename(folder.join("0.log"), rotated);
            }
            Event::Look => {
                self.world.catalog.refresh(soon());
                self.worker.take_news();
                self.worker.tell_lag();
            }
            Event::Step(times) => {
                for _ in 0..times {
                    self.worker.step();
                }
                self.check();
            }
            Event::Settle(which, parked) => {
                let fate = |at: usize| {
                    let refused = parked >> (at % 2) & 1 == 1;
                    if refused { Fate::Parked } else { Fate::Acknowledged }
                };
                self.settle(which, fate);
            }
            Event::Fail(which, taken) => {
                let Some(sealed) = self.kept(which) else { return };
                if taken {
                    self.hold(&sealed, |_| true);
                }
                self.in_doubt = true;
                self.worker.land(Landed { settled: None, bytes: sealed.body.len() as u64 });
            }
            Event::BeginAgain => {
                (self.in_doubt, self.forgotten) = (true, true);
                self.worker.begin_again().unwrap();
            }
            Event::TimePasses => {
                let now = Instant::now();
                let long_ago = now - Duration::from_secs(4000);
                for reading in &mut self.worker.containers {
                    reading.parked = reading.parked.map(|_| now);
                    reading.limited = reading.limited.map(|_| now);
                    reading.limit.iter_mut().for_each(|limit| limit.age(Duration::from_millis(300)));
                }
                self.worker.batch.opened = self.worker.batch.opened.map(|_| long_ago);
                self.worker.lag_looked = long_ago;
            }
        }
    }

    fn write(&mut self, who: usize, lines: usize) {
        let folder = self.world.log(CONTAINERS[who]);
        fs::create_dir_all(&folder).unwrap();
        let mut text = String::new();
        for _ in 0..lines {
            let number = self.written.len();
            let begin = text.len();
            let stream = if number.is_multiple_of(5) { "stderr" } else { "stdout" };
            if number.is_multiple_of(3) {
                text += &format!("2026-11-23T10:00:00Z {stream} P {number}-\n");
                text += &format!("2026-11-23T10:00:00Z {stream} F end\n");
            } else {
                text += &format!("2026-11-23T10:00:00Z {stream} F {number}-end\n");
            }
            self.written.insert(format!("{number}-end"), (text.len() - begin) as u64);
        }
        let mut log = fs::OpenOptions::new().create(true).append(true).open(folder.join("0.log")).unwrap();
        std::io::Write::write_all(&mut log, text.as_bytes()).unwrap();
    }

    /// One of the batches in flight.
    fn kept(&mut self, which: usize) -> Option<Sealed> {
        let Sink::Kept(kept) = &mut self.worker.sink else { unreachable!() };
        (!kept.is_empty()).then(|| kept.remove(which % kept.len()))
    }

    fn settle(&mut self, which: usize, fate: impl Fn(usize) -> Fate) {
        let Some(sealed) = self.kept(which) else { return };
        let taken = |run: usize| fate(run) == Fate::Acknowledged;
        self.hold(&sealed, taken);
        self.in_doubt |= (0..sealed.runs.len()).any(|run| !taken(run));
        let runs = sealed.runs.into_iter().enumerate().map(|(at, run)| (run, fate(at))).collect();
        let settled = Some(Settled { runs, spare: Vec::new(), lost: Vec::new() });
        self.worker.land(Landed { settled, bytes: sealed.body.len() as u64 });
    }

    /// The destination takes what is in a batch: of runs that are parked every second record.
    fn hold(&mut self, sealed: &Sealed, taken: impl Fn(usize) -> bool) {
        let text = std::str::from_utf8(&sealed.body).unwrap();
        let mut lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        for (at, run) in sealed.runs.iter().enumerate() {
            for item in 0..run.items {
                let (action, document) = (lines.next().unwrap(), lines.next().unwrap());
                if taken(at) || item % 2 == 0 {
                    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
                    let (id, message) = (text(&action["create"]["_id"]), text(&document["message"]));
                    let before = self.held.insert(id, message.clone());
                    assert!(before.is_none_or(|before| before == message), "an _id for two records");
                }
            }
        }
        assert!(lines.next().is_none());
    }

    /// Credit is kept to, and a worker that stands still knows what it waits for.
    fn check(&mut self) {
        let Sink::Kept(kept) = &self.worker.sink else { unreachable!() };
        assert_eq!(self.worker.in_flight, kept.len());
        let bytes: u64 = kept.iter().map(|sealed| sealed.body.len() as u64).sum();
        assert_eq!(self.worker.in_flight_bytes, bytes);
        // A batch is closed by the record that fills it, and goes if there is credit for one more.
        let most = self.worker.settings.batch + 500;
        assert!(kept.len() <= 3 && bytes <= 7000 + most, "{bytes}");
        assert!(self.worker.batch.plain_bytes() <= most);
    }

    /// Everything that can happen happens until nothing is left to do.
    fn ends(&mut self) {
        for _ in 0..2000 {
            self.happens(&Event::Look);
            while self.worker.step() {
                self.check();
            }
            let Sink::Kept(kept) = &self.worker.sink else { unreachable!() };
            let left = self.worker.has_set_aside()
                || !self.worker.batch.is_empty()
                || self.worker.containers.iter().any(|c| c.has_readable() || c.stats.lag_bytes.get() > 0);
            if kept.is_empty() {
                if !left {
                    return;
                }
                // Nobody will wake it: it must know by itself when to go on.
                assert!(
                    self.worker.next_event() < LONGEST_WAIT || self.worker.settings.linger > LONGEST_WAIT
                );
            }
            self.settle(0, |_| Fate::Acknowledged);
            self.happens(&Event::TimePasses);
        }
        panic!("it does not get on: {:?}", self.worker);
    }

    /// Every line is held once, or counted as left out.
    fn adds_up(&self, mode: Mode) {
        let messages: BTreeSet<&String> = self.held.values().collect();
        assert_eq!(messages.len(), self.held.len(), "a line has two ids");
        let missing: Vec<_> = self.written.iter().filter(|(line, _)| !messages.contains(line)).collect();
        assert!(messages.iter().all(|line| self.written.contains_key(*line)), "a line that nobody wrote");
        let missed =
            Loss { records: missing.len() as u64, bytes: missing.iter().map(|(_, bytes)| **bytes).sum() };
        let losses = &self.worker.stats.losses;
        let (lost, dropped) = (losses.lost(), losses.dropped());
        match mode {
            Mode::Nothing | Mode::WaitsForLimit => {
                assert_eq!((missing, lost.bytes, dropped.bytes), (Vec::new(), 0, 0))
            }
            // What was taken but not acknowledged, and then decided anew, counts though it is there.
            Mode::OverLimit if self.forgotten => {
                assert!(dropped.records >= missed.records && lost.bytes == 0)
            }
            Mode::OverLimit => assert_eq!((dropped.records, lost.bytes), (missed.records, 0)),
            Mode::Lagging if self.in_doubt => assert!(lost.bytes >= missed.bytes && dropped.bytes == 0),
            Mode::Lagging => assert_eq!((lost.bytes, dropped.bytes), (missed.bytes, 0)),
        }
    }
}

fn holds(events: &[Event], mode: Mode, linger: bool) {
    let mut trial = Trial::new(mode, linger);
    events.iter().for_each(|event| trial.happens(event));
    trial.ends();
    trial.adds_up(mode);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, max_shrink_iters: 400, ..ProptestConfig::default() })]

    #[test]
    fn no_order_of_events_stops_a_worker_and_every_line_is_held_once(
        events in prop::collection::vec(event(), 1..60),
        linger: bool,
    ) {
        holds(&events, Mode::Nothing, linger);
    }

    #[test]
    fn what_rate_limits_drop_is_what_is_missing(events in prop::collection::vec(event(), 1..60), linger: bool) {
        holds(&events, Mode::OverLimit, linger);
    }

    #[test]
    fn what_waits_for_its_rate_limit_comes(events in prop::collection::vec(event(), 1..60), linger: bool) {
        holds(&events, Mode::WaitsForLimit, linger);
    }

    #[test]
    fn what_an_output_that_lags_passes_over_is_what_is_missing(
        events in prop::collection::vec(event(), 1..60),
        linger: bool,
    ) {
        holds(&events, Mode::Lagging, linger);
    }
}

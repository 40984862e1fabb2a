//! A fleet in virtual time: nodes with streams that write now and then, and one account with a quota.

use super::*;

/// What came of a simulation.
#[derive(Debug)]
struct Outcome {
    /// The most calls that were made within any one second, after the first minutes.
    peak: usize,
    /// Calls that the account refused, of all, after the first minutes.
    refused: usize,
    calls: usize,
    /// The linger that nodes came to.
    linger: Duration,
}

/// A node: when its batch was opened, which of its streams have something in it, and calls that wait for their time.
struct Node {
    pace: Pace,
    opened: Option<u64>,
    waiting: Vec<bool>,
    /// Milliseconds at which calls will be made.
    calls: Vec<u64>,
}

/// `nodes` nodes of `streams` streams, each of which writes once in `every` on average, for ten minutes; every node is
/// told that it shares `quota` with `told` nodes.
fn simulate(nodes: usize, streams: usize, every: Duration, quota: u32, told: u32) -> Outcome {
    const STEP: u64 = 100;
    const SETTLED: u64 = 180_000;
    const END: u64 = 600_000;
    let mut random = fastrand::Rng::with_seed(7);
    let zero = Instant::now();
    let at = |millis: u64| zero + Duration::from_millis(millis);
    let configured = Duration::from_secs(5);
    let node = |_| Node {
        pace: Pace::new(f64::from(quota) / f64::from(told), zero),
        opened: None,
        waiting: vec![false; streams],
        calls: Vec::new(),
    };
    let mut fleet: Vec<Node> = (0..nodes).map(node).collect();
    let mut seconds = vec![0; (END / 1000) as usize + 1];
    let (mut refused, mut calls) = (0, 0);
    let writes = streams as f64 * STEP as f64 / every.as_millis() as f64;
    for now in (0..END).step_by(STEP as usize) {
        for node in &mut fleet {
            // As many streams write as chance has it.
            let count = writes as usize + usize::from(random.f64() < writes.fract());
            for _ in 0..count {
                node.waiting[random.usize(..streams)] = true;
                node.opened.get_or_insert(now);
            }
            let linger = node.pace.linger(configured);
            // One batch at a time is lingering; the one before it must be on its way.
            if node.opened.is_some_and(|opened| at(now) >= at(opened) + linger)
                && node.calls.len() < 4 * streams
            {
                let targets = node
                    .waiting
                    .iter_mut()
                    .filter_map(|waiting| std::mem::take(waiting).then_some(()))
                    .count();
                node.opened = None;
                node.pace.batch_of(targets);
                for _ in 0..targets {
                    let wait = node.pace.take(at(now));
                    node.calls.push(now + wait.as_millis() as u64);
                }
            }
            let mut again = Vec::new();
            node.calls.retain(|&due| {
                if due > now {
                    return true;
                }
                let second = &mut seconds[(now / 1000) as usize];
                *second += 1;
                let settled = usize::from(now > SETTLED);
                calls += settled;
                if *second > quota {
                    refused += settled;
                    node.pace.throttled(at(now));
                    again.push(now + node.pace.take(at(now)).as_millis() as u64 + random.u64(..4000));
                } else {
                    node.pace.passed();
                }
                false
            });
            node.calls.extend(again);
        }
    }
    let peak = seconds.iter().skip((SETTLED / 1000) as usize).copied().max().unwrap_or(0) as usize;
    Outcome { peak, refused, calls, linger: fleet[0].pace.linger(configured) }
}

#[test]
fn two_thousand_nodes_stay_within_the_accounts_quota() {
    // Forty streams a node that write every two seconds would be 16,000 calls a second with a linger of five.
    let outcome = simulate(2_000, 40, Duration::from_secs(2), 5_000, 2_000);
    assert_eq!(outcome.refused, 0, "{outcome:?}");
    assert!(outcome.peak <= 5_000 && outcome.calls > 400 * 1_000, "{outcome:?}");
    assert!((15..30).contains(&outcome.linger.as_secs()), "{outcome:?}");
}

#[test]
fn a_small_fleet_lingers_as_configured() {
    let outcome = simulate(10, 40, Duration::from_secs(2), 5_000, 10);
    assert_eq!((outcome.refused, outcome.linger), (0, Duration::from_secs(5)), "{outcome:?}");
}

#[test]
fn one_stream_a_node_needs_no_longer_linger_in_a_large_fleet() {
    let outcome = simulate(2_000, 1, Duration::from_millis(500), 5_000, 2_000);
    assert_eq!((outcome.refused, outcome.linger), (0, Duration::from_secs(5)), "{outcome:?}");
}

#[test]
fn a_fleet_that_was_told_nothing_learns_it_from_the_service() {
    let outcome = simulate(2_000, 40, Duration::from_secs(2), 5_000, 1);
    assert!(outcome.refused * 4 < outcome.calls, "{outcome:?}");
}

#[test]
fn calls_are_spread_and_a_pause_earns_no_more_than_a_moment() {
    let zero = Instant::now();
    let mut pace = Pace::new(10.0 / USED, zero);
    let waits = |pace: &mut Pace, at| (0..20).map(|_| pace.take(at).as_millis()).collect::<Vec<_>>();
    let first = waits(&mut pace, zero);
    assert_eq!((first[1], first[2], first[19]), (0, 100, 1800));
    let later = waits(&mut pace, zero + Duration::from_secs(60));
    assert_eq!((later[1], later[19]), (0, 1800));
    pace.throttled(zero + Duration::from_secs(61));
    pace.throttled(zero + Duration::from_secs(61));
    assert!((pace.rate - 5.0).abs() < 0.001, "once for calls that failed together");
    (0..1000).for_each(|_| pace.passed());
    assert!((pace.rate - 10.0).abs() < 0.001);
}

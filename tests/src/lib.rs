//! The kit of the black-box tests: a node's log files, the built agent, real search servers, and what must hold between.
//!
//! What comes in: the path of a built `taffrail` binary (env `TAFFRAIL_BIN`, else the one beside the running test). What
//! goes out: worlds that a test builds in about five lines, and judgements of what was delivered. It never links the
//! agent's library: it knows the agent by its command line, its configuration and its documents only.
//!
//! ```no_run
//! use taffrail_tests::{agent::Agent, node::Node, seconds, verify};
//!
//! let node = Node::new();
//! let mut web = node.pod("web").namespace("shop").container("app");
//! web.writes(1_000).rotate();
//! let agent = Agent::start(&node.to_file(), &node);
//! verify::exactly_once(seconds(30), || node.delivered(), &[&web]);
//! assert_eq!(agent.terminate().code, Some(0));
//! ```
//!
//! Waiting is for a condition with a deadline ([`eventually`]), never for a time that is hoped to be enough.
#![forbid(unsafe_code)]

pub mod agent;
pub mod arguments;
pub mod browser;
pub mod clock;
pub mod cloudwatch;
pub mod config_map;
pub mod corpus;
pub mod disk;
pub mod docker;
pub mod fake_clock;
pub mod http;
pub mod kibana;
pub mod kinesis;
pub mod kubernetes;
pub mod lambda;
pub mod lies;
pub mod listeners;
pub mod manifests;
pub mod moto;
pub mod node;
pub mod programs;
pub mod proxy;
pub mod real_node;
pub mod server;
pub mod sigv4;
pub mod space;
pub mod terminal;
pub mod torture;
pub mod verify;
pub mod wire;

use std::time::{Duration, Instant};

/// How often [`eventually`] looks. Short enough that a test loses nothing by it, long enough that a server, which
/// shares two cores with the agent, is not kept busy by our questions.
const POLL: Duration = Duration::from_millis(40);

/// So many seconds, for deadlines.
pub const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Calls `check` until it answers `Ok`, and gives that.
///
/// `what` names what is waited for; the `Err` of `check` says how far it has come.
///
/// # Panics
/// When `deadline` passes first: with `what` and the last `Err`.
#[track_caller]
pub fn eventually<T>(deadline: Duration, what: &str, mut check: impl FnMut() -> Result<T, String>) -> T {
    let start = Instant::now();
    loop {
        match check() {
            Ok(answer) => return answer,
            Err(state) if start.elapsed() >= deadline => {
                panic!("waited {deadline:?} in vain for {what}; at the end: {state}")
            }
            Err(_) => std::thread::sleep(POLL),
        }
    }
}

/// Lets a length of time go by where time itself is the subject: the random moment of a kill, a writer's pace. Whoever
/// waits for something to happen wants [`eventually`].
pub fn let_pass(time: Duration) {
    std::thread::sleep(time);
}

/// A seed for a test's random choices: env `TAFFRAIL_SEED` if set (to repeat a run that failed), else a new one. It is
/// printed, and the runner shows it when the test fails.
///
/// # Panics
/// When `TAFFRAIL_SEED` is not a number.
pub fn seed() -> u64 {
    let seed = match std::env::var("TAFFRAIL_SEED") {
        Ok(text) => text.parse().expect("TAFFRAIL_SEED is a number"),
        Err(_) => fastrand::u64(..),
    };
    println!("seed: TAFFRAIL_SEED={seed}");
    seed
}

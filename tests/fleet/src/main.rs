//! Restarts a fleet of agents at once, with and without chance in their pauses, and says what the API server had of it.
//!
//!     cargo run --release -p taffrail-fleet -- 1000 5     # agents, pods of each

use std::process::ExitCode;
use taffrail_fleet::{Fleet, Restart};

fn main() -> ExitCode {
    let numbers: Vec<usize> = std::env::args().skip(1).filter_map(|text| text.parse().ok()).collect();
    let [agents, pods] = numbers[..] else {
        eprintln!("usage: taffrail-fleet AGENTS PODS_OF_EACH");
        return ExitCode::from(2);
    };
    let fleet = Fleet::new(agents, pods);
    for how in [Restart::Known, Restart::Unknown, Restart::InStep] {
        let outcome = fleet.restart(how);
        println!(
            "{agents} agents of {pods} pods, {how:?}: {} requests in the worst second, {} in all, {} failed; half knew their pods after {:.1} s, all after {:.1} s",
            outcome.peak,
            outcome.requests,
            outcome.failures,
            outcome.half.as_secs_f64(),
            outcome.all.as_secs_f64()
        );
    }
    ExitCode::SUCCESS
}

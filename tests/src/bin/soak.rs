//! `tests/node soak`: runs one soak of the agent on the real node, and exits 0 only if every line came once.

use std::process::ExitCode;
use std::time::Duration;

use taffrail_tests::arguments::Arguments;
use taffrail_tests::real_node::schedule::schedule;
use taffrail_tests::real_node::soak::{Options, run};

const USAGE: &str = "usage: tests/node soak [--seed N] [--minutes M] [--schedule]

  --seed N      what all is drawn from; a new one if it is not given
  --minutes M   how long things happen (default 30); then the agent catches up
  --schedule    prints what would happen when, and does nothing

The last line counts. Env TAFFRAIL_IMAGE: an image to use instead of one that is built.";

fn main() -> ExitCode {
    let Some(arguments) = Arguments::read(Duration::from_secs(1_800), &[]) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let options = Options { seed: arguments.seed, length: arguments.length };
    let events = schedule(options.seed, options.length);
    if arguments.only_schedule {
        events.iter().for_each(|event| println!("{:7.1} s: {:?}", event.at.as_secs_f64(), event.what));
        return ExitCode::SUCCESS;
    }
    println!("seed {}: {} events", options.seed, events.len());
    let outcome = run(&options);
    if outcome.failed {
        println!("kept: {}", outcome.folder.display());
    }
    println!("{}", outcome.line);
    if outcome.failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

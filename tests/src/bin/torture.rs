//! `tests/torture`: runs one torture of the agent, and exits 0 only if nothing was missing, doubled or wrong.

use std::process::ExitCode;
use std::time::Duration;
use taffrail_tests::arguments::Arguments;
use taffrail_tests::server::{Kind, Server};
use taffrail_tests::torture::{Options, events, run};

const USAGE: &str = "usage: tests/torture [--seed N] [--minutes M] [--any-time] [--schedule]

  --seed N      what all is drawn from; a new one if it is not given
  --minutes M   how long things happen (default 1); then the agent catches up
  --any-time    logs are removed and pods deleted unread, once the agent has seen them, also while it is down
  --schedule    prints what would happen when, and does nothing

The last line counts. What failed is above it, with the folder of what is left. Env TMPDIR: where the world is made.";

fn main() -> ExitCode {
    let Some(arguments) = Arguments::read(Duration::from_secs(60), &["--any-time"]) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let options = Options {
        seed: arguments.seed,
        length: arguments.length,
        any_time: arguments.flags.contains(&"--any-time"),
        server_dies: true,
    };
    if arguments.only_schedule {
        events(&options).iter().for_each(|event| println!("{event}"));
        return ExitCode::SUCCESS;
    }
    println!("seed {}: {} events", options.seed, events(&options).len());
    let server = Server::start(Kind::OpenSearch, &[]);
    let outcome = run(&options, &server);
    outcome.faults.iter().for_each(|fault| println!("{fault}"));
    if let Some(folder) = &outcome.kept {
        println!("kept: {}", folder.display());
    }
    println!("{}", outcome.line);
    if outcome.failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

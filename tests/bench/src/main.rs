//! Measures the agent from outside: what it takes, never what it says of itself.
//!
//! Build the agent first (`cargo build --release -p taffrail`), then:
//!
//! ```text
//! cargo run --release -p taffrail-bench -- catch-up             # 1 GiB at rest: records per CPU second, RSS, bytes
//! cargo run --release -p taffrail-bench -- catch-up --compression gzip --size 256MiB --repetitions 5
//! cargo run --release -p taffrail-bench -- catch-up --verify-ids --repetitions 1      # also that no _id came twice
//! cargo run --release -p taffrail-bench -- compare --plot docs/benchmark.svg    # other agents, in turns, over the same files
//! tests/node compare                                            # Taffrail and vlagent as DaemonSets at once, on a real node
//! cargo run --release -p taffrail-bench -- scale                # records per CPU second from 10 to 2,000 containers, 1 to 4 outputs
//! cargo run --release -p taffrail-bench -- idle                 # 500 silent files for 30 s
//! cargo run --release -p taffrail-bench -- wakeups              # 50,000 writes a second against the same in batches
//! cargo run --release -p taffrail-bench -- steady --rate 10000  # delay p50 and p99, share of a core; --server: metadata watch on
//! cargo run --release -p taffrail-bench -- flood                # a quiet container's delay beside one of 50 MB/s
//! cargo run --release -p taffrail-bench -- beside               # an output's rate beside one that nobody answers
//! cargo run --release -p taffrail-bench -- forward              # the forwarder: events per CPU second
//! cargo run --release -p taffrail-bench -- outage               # memory: 1,000 containers' backlog, the server away
//! cargo run --release -p taffrail-bench -- cloudwatch           # CloudWatch Logs: 1,000 streams, records per CPU second, RSS
//! ```
//!
//! Progress goes to stderr; a Markdown table with the command that made it goes to stdout. A run in which a record
//! is missing, doubled or malformed ends with exit code 1 and no table. `--set` and `--set-output` try other settings.

#![forbid(unsafe_code)]

mod agent;
mod beside;
mod bulk;
mod catch_up;
mod clock;
mod cloudwatch;
mod compare;
mod corpus;
mod daemon_sets;
mod events;
mod fake;
mod flood;
mod forward;
mod idle;
mod lines;
mod live;
mod measure;
mod metadata;
mod node;
mod outage;
mod peers;
mod plot;
mod protocols;
mod report;
mod scale;
mod sink;
mod tls;

use agent::{Agent, Compression, Metadata};
use catch_up::Way;
use clap::{Args, Parser, Subcommand};
use corpus::Plan;
use live::Request;
use measure::{Bench, Cores};
use sink::Presence;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// What a fallible step gives; errors are sentences for the person at the terminal.
pub type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

#[derive(Parser)]
#[command(about = "Measures the agent from outside", version)]
struct Arguments {
    #[command(subcommand)]
    scenario: Scenario,
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
struct Common {
    /// The agent's program [default: `taffrail` beside this program]
    #[arg(long, global = true)]
    agent: Option<PathBuf>,
    /// Where corpora are kept [default: taffrail-bench in $XDG_CACHE_HOME or ~/.cache]
    #[arg(long, global = true)]
    cache: Option<PathBuf>,
    /// A line of TOML for the top of the agent's configuration
    #[arg(long, global = true, value_name = "KEY = VALUE")]
    set: Vec<String>,
    /// A line of TOML for the agent's output
    #[arg(long, global = true, value_name = "KEY = VALUE")]
    set_output: Vec<String>,
    /// Enrich, as if an API server had told of every pod: labels, owners, images
    #[arg(long, global = true)]
    metadata: bool,
    /// Seconds without a new record after which a run has failed
    #[arg(long, global = true, default_value_t = 60)]
    stall: u64,
    /// Same seed, same logs
    #[arg(long, global = true, default_value_t = 1)]
    seed: u64,
    /// Keep every _id (100 bytes each) and fail if one comes twice
    #[arg(long, global = true)]
    verify_ids: bool,
}

#[derive(Subcommand)]
enum Scenario {
    /// Ship a corpus at rest: records per CPU second, peak RSS, bytes on the wire
    CatchUp {
        /// Size of the corpus, in bytes or with KiB, MiB, GiB
        #[arg(long, default_value = "1GiB", value_parser = size)]
        size: u64,
        /// Containers it is spread over
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
        containers: u64,
        /// Which to measure, in turns
        #[arg(long, value_delimiter = ',', default_value = "none,gzip")]
        compression: Vec<Compression>,
        /// Each also by TLS
        #[arg(long)]
        tls: bool,
        /// Each also to a sink that refuses so many of a hundred documents for now
        #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=50))]
        refused: u32,
        /// Each also to a sink that says of so many of a hundred that it holds them already
        #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=50))]
        held: u32,
        /// Every record is a line of 20 to 60 KB, in pieces of 16 KiB as the runtime cuts it
        #[arg(long)]
        long: bool,
        /// Records that the agent makes of the lines, where routes join or drop some [default: one of each line]
        #[arg(long)]
        records: Option<u64>,
        /// Runs of each
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
        repetitions: u32,
    },
    /// Ship a corpus at rest by ours and by other agents, in turns; their pods are known to a real API server
    Compare {
        /// Size of the corpus, in bytes or with KiB, MiB, GiB
        #[arg(long, default_value = "256MiB", value_parser = size)]
        size: u64,
        /// Containers it is spread over
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
        containers: u64,
        /// The others
        #[arg(long, value_delimiter = ',', default_value = "vlagent,otelcol,rsyslog,rsyslog-kubernetes")]
        peers: Vec<peers::Kind>,
        /// Runs of each
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
        repetitions: u32,
        /// Write an SVG of the records per CPU second to this file
        #[arg(long)]
        plot: Option<PathBuf>,
    },
    /// Ship corpora of one size that are spread over few and many containers, to one and more outputs
    Scale {
        /// Size of each corpus, in bytes or with KiB, MiB, GiB
        #[arg(long, default_value = "256MiB", value_parser = size)]
        size: u64,
        /// Containers it is spread over, in turns
        #[arg(long, value_delimiter = ',', default_value = "10,100,500,2000")]
        containers: Vec<u64>,
        /// Outputs that the corpus of the first number of containers is also sent to
        #[arg(long, value_delimiter = ',', default_value = "2,4")]
        outputs: Vec<u64>,
        /// How to send
        #[arg(long, default_value = "gzip")]
        compression: Compression,
        /// Runs of each
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
        repetitions: u32,
    },
    /// Do nothing over many silent files
    Idle {
        /// Files, each of its own container and pod
        #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..))]
        files: u64,
        /// Seconds measured
        #[arg(long, default_value_t = 30)]
        seconds: u64,
        /// Runs
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
        repetitions: u32,
    },
    /// What the number of writes costs: lines one by one against the same in batches of 10 ms
    Wakeups(Live),
    /// An even load: delay from the line's time to the sink, and the share of a core
    Steady(Live),
    /// The delay of quiet containers beside one that writes as fast as it can
    Flood {
        /// Bytes a second of the flood, or with KiB, MiB
        #[arg(long, default_value = "50000000", value_parser = size)]
        rate: u64,
        /// Containers that it comes from
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
        floods: u64,
        /// Quiet containers, each with 10 lines a second
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1000))]
        quiet: u64,
        /// Seconds measured, after a warm-up
        #[arg(long, default_value_t = 15)]
        seconds: u64,
        /// How to send
        #[arg(long, default_value = "gzip")]
        compression: Compression,
        /// Runs of each
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
        repetitions: u32,
    },
    /// The rate of an output alone, and beside one whose server accepts and never answers
    Beside {
        /// Size of the corpus, in bytes or with KiB, MiB, GiB
        #[arg(long, default_value = "256MiB", value_parser = size)]
        size: u64,
        /// Containers it is spread over
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
        containers: u64,
        /// How to send
        #[arg(long, default_value = "gzip")]
        compression: Compression,
        /// Runs of each
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
        repetitions: u32,
    },
    /// Events per CPU second of the forwarder over a full Kinesis stream
    Forward {
        /// How many
        #[arg(long, default_value_t = 500_000, value_parser = clap::value_parser!(u64).range(1..))]
        events: u64,
        /// What wrote them, in turns
        #[arg(long, value_delimiter = ',', default_value = "json,compact,foreign")]
        format: Vec<forward::Format>,
        /// How to send
        #[arg(long, default_value = "gzip")]
        compression: Compression,
        /// Runs of each
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
        repetitions: u32,
    },
    /// Memory over a backlog of many containers with a server that is away for long and then back
    Outage {
        /// Size of the backlog, in bytes or with KiB, MiB, GiB; lines of 1 MiB come on top
        #[arg(long, default_value = "1GiB", value_parser = size)]
        size: u64,
        /// Containers it is spread over
        #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
        containers: u64,
        /// Every so many containers has two lines of 1 MiB
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
        long_every: u64,
        /// Seconds that the server is away
        #[arg(long, default_value_t = 60)]
        away: u64,
        /// What it does meanwhile
        #[arg(long, default_value = "silent")]
        presence: Presence,
        /// How to send
        #[arg(long, default_value = "gzip")]
        compression: Compression,
        /// Runs
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
        repetitions: u32,
    },
    /// Ship a corpus at rest to CloudWatch Logs, a stream for each container
    Cloudwatch {
        /// Size of the corpus, in bytes or with KiB, MiB, GiB
        #[arg(long, default_value = "1GiB", value_parser = size)]
        size: u64,
        /// Log streams, each of a container
        #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
        streams: u64,
        /// What events hold, in turns
        #[arg(long, value_delimiter = ',', default_value = "raw,json,compact")]
        format: Vec<cloudwatch::Format>,
        /// Runs of each
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
        repetitions: u32,
    },
    /// Taffrail and vlagent over the same pods of a real node, as DaemonSets at once (by `tests/node compare`)
    DaemonSets {
        /// Pods that write
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
        pods: u64,
        /// Lines a second of each
        #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..))]
        rate: u64,
        /// Seconds that they write
        #[arg(long, default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..))]
        seconds: u64,
    },
    /// Be the stand-in agent that proves the bench
    #[command(hide = true)]
    Run {
        /// A configuration as the bench writes it
        #[arg(long)]
        config: PathBuf,
    },
}

/// A load that is written while the agent is measured.
#[derive(Args)]
struct Live {
    /// Lines a second [default: wakeups 50000, steady 10000]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    rate: Option<u64>,
    /// Files they are spread over [default: wakeups 10, steady 20]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    files: Option<u64>,
    /// Seconds measured, after a warm-up [default: wakeups 15, steady 30]
    #[arg(long)]
    seconds: Option<u64>,
    /// How to send [default: wakeups none, steady gzip]
    #[arg(long)]
    compression: Option<Compression>,
    /// The pods are known to a real API server, which needs Go to be built (steady)
    #[arg(long)]
    server: bool,
    /// Runs of each
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    repetitions: u32,
}

impl Live {
    /// What is asked for, with the scenario's defaults where nothing is said.
    fn request(&self, rate: u64, files: u64, seconds: u64, compression: Compression) -> Request {
        Request {
            rate: self.rate.unwrap_or(rate),
            files: self.files.unwrap_or(files),
            time: Duration::from_secs(self.seconds.unwrap_or(seconds)),
            compression: self.compression.unwrap_or(compression),
            repetitions: self.repetitions,
            server: self.server,
        }
    }
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("failed: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Outcome<()> {
    if let Scenario::Run { config } = &arguments.scenario {
        return fake::run(config);
    }
    if let Scenario::DaemonSets { pods, rate, seconds } = arguments.scenario {
        let stall = Duration::from_secs(arguments.common.stall);
        return daemon_sets::run(&daemon_sets::Request { pods, rate, seconds, stall });
    }
    if cfg!(debug_assertions) {
        eprintln!("warning: not a release build: the sink is slow, and the agent beside it may be too");
    }
    let common = arguments.common;
    let seed = common.seed;
    let cache = match common.cache {
        Some(cache) => std::path::absolute(cache)?,
        None => default_cache()?,
    };
    let binary = match common.agent {
        Some(binary) => binary,
        None => std::env::current_exe()?.with_file_name("taffrail"),
    };
    let agent = Agent::Taffrail {
        binary,
        settings: common.set,
        output_settings: common.set_output,
        metadata: if common.metadata { Metadata::Cached } else { Metadata::Path },
    };
    // A corpus is made on all cores, so before they are divided.
    if let Scenario::CatchUp { size, containers, long, .. } = &arguments.scenario {
        corpus::prepare(&cache, &Plan { bytes: *size, containers: *containers, seed, long: *long })?;
    }
    if let Scenario::Cloudwatch { size, streams: containers, .. }
    | Scenario::Compare { size, containers, .. } = &arguments.scenario
    {
        corpus::prepare(&cache, &Plan { bytes: *size, containers: *containers, seed, long: false })?;
    }
    if let Scenario::Scale { size, containers, .. } = &arguments.scenario {
        for containers in containers {
            corpus::prepare(&cache, &Plan { bytes: *size, containers: *containers, seed, long: false })?;
        }
    }
    let stall = Duration::from_secs(common.stall);
    let mut bench =
        Bench { agent, cores: Cores::divide()?, cache, stall, seed, verify_ids: common.verify_ids };
    match arguments.scenario {
        Scenario::CatchUp {
            size,
            containers,
            compression,
            tls,
            refused,
            held,
            long,
            records,
            repetitions,
        } => {
            let ways: Vec<Way> = compression
                .into_iter()
                .flat_map(|compression| Way::all(compression, tls, refused, held))
                .collect();
            catch_up::run(&bench, &Plan { bytes: size, containers, seed, long }, &ways, records, repetitions)
        }
        Scenario::Compare { size, containers, peers, repetitions, plot } => {
            let plan = Plan { bytes: size, containers, seed, long: false };
            compare::run(&mut bench, &compare::Request { plan, peers, repetitions, plot })
        }
        Scenario::Scale { size, containers, outputs, compression, repetitions } => {
            let ways = scale::Way::all(&containers, &outputs);
            scale::run(&mut bench, (size, seed), &ways, compression, repetitions)
        }
        Scenario::Idle { files, seconds, repetitions } => {
            idle::run(&bench, files, Duration::from_secs(seconds), repetitions)
        }
        Scenario::Wakeups(live) => live::wakeups(&bench, live.request(50_000, 10, 15, Compression::None)),
        Scenario::Steady(live) => live::steady(&mut bench, live.request(10_000, 20, 30, Compression::Gzip)),
        Scenario::Flood { rate, floods, quiet, seconds, compression, repetitions } => {
            let time = Duration::from_secs(seconds);
            flood::run(&bench, flood::Request { rate, floods, quiet, time, compression, repetitions })
        }
        Scenario::Beside { size, containers, compression, repetitions } => beside::run(
            &mut bench,
            &Plan { bytes: size, containers, seed, long: false },
            compression,
            repetitions,
        ),
        Scenario::Forward { events, format, compression, repetitions } => {
            forward::run(&bench, &forward::Request { events, formats: format, compression, repetitions })
        }
        Scenario::Outage { size, containers, long_every, away, presence, compression, repetitions } => {
            let plan = Plan { bytes: size, containers, seed, long: false };
            let away = Duration::from_secs(away);
            outage::run(
                &bench,
                &outage::Request { plan, long_every, away, presence, compression, repetitions },
            )
        }
        Scenario::Cloudwatch { size, streams, format, repetitions } => {
            let plan = Plan { bytes: size, containers: streams, seed, long: false };
            cloudwatch::run(&bench, &plan, &format, repetitions)
        }
        Scenario::Run { .. } | Scenario::DaemonSets { .. } => unreachable!("handled above"),
    }
}

fn default_cache() -> Outcome<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")));
    Ok(base.ok_or("neither XDG_CACHE_HOME nor HOME is set: give --cache")?.join("taffrail-bench"))
}

/// Bytes from text such as `256MiB`.
fn size(text: &str) -> Result<u64, String> {
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let unit = match unit {
        "" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(format!("unknown unit {unit:?}: use KiB, MiB or GiB")),
    };
    let number: u64 = digits.parse().map_err(|_| format!("{text:?} is not a size, such as 256MiB"))?;
    number.checked_mul(unit).filter(|bytes| *bytes > 0).ok_or_else(|| format!("{text:?} is out of range"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        assert_eq!(size("4096"), Ok(4096));
        assert_eq!(size("1GiB"), Ok(1 << 30));
        for wrong in ["", "MiB", "1GB", "-1", "0", "99999999999GiB"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }
}

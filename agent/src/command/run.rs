//! `taffrail run`: the agent, until SIGTERM or ctrl-C.

use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::config::{Config, LogConfig, LogFormat};
use crate::pipeline::{Agent, StartError};

/// How long before the end of the grace period the agent gives up catching up: what saving takes, and more.
const BEFORE_KILL: Duration = Duration::from_secs(5);

/// The exit code for a configuration that cannot be.
const BAD_CONFIGURATION: u8 = 2;

/// Runs the agent by the configuration in `path`, or by the defaults.
pub fn run(path: Option<&Path>) -> ExitCode {
    let config = match path.map_or_else(|| Ok(Config::default()), Config::load) {
        Ok(config) => config,
        Err(diagnostics) => {
            eprintln!("{diagnostics}");
            return ExitCode::from(BAD_CONFIGURATION);
        }
    };
    start_log(&config.log);
    if path.is_none() {
        tracing::info!(
            "no configuration given (--config FILE): the pod logs of this node go to standard output"
        );
    }
    // Listening before anything runs: a signal during the start is heeded as well.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error),
    };
    runtime.block_on(async {
        let (Ok(mut terminate), Ok(mut interrupt)) =
            (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
        else {
            return fail(&"cannot listen for signals");
        };
        let grace = config.grace - BEFORE_KILL.min(config.grace / 2);
        let outputs: Vec<String> = config.outputs.keys().cloned().collect();
        let pod_logs = config.pod_logs.clone();
        let agent = match Agent::start(config) {
            Ok(agent) => agent,
            Err(error @ StartError::Memory(_)) => {
                fail(&error);
                return ExitCode::from(BAD_CONFIGURATION);
            }
            Err(error @ StartError::State { .. }) if path.is_none() => {
                fail(&error);
                eprintln!("  for a trial without any rights: taffrail demo");
                return ExitCode::FAILURE;
            }
            Err(error) => return fail(&error),
        };
        tracing::info!(version = env!("CARGO_PKG_VERSION"), pod_logs = %pod_logs.display(), outputs = outputs.join(","), "started");
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        let begun = Instant::now();
        tracing::info!(seconds = grace.as_secs_f32(), "stopping: reading on until everything is delivered, or that long");
        let (stats, hasten) = (agent.stats().to_vec(), agent.hasten());
        // A thread that nobody joins: if the disk hangs, a third signal still ends the process.
        let (done, mut stopped) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || done.send(agent.stop(begun + grace)));
        let mut signals = 1;
        let outcome = loop {
            tokio::select! {
                outcome = &mut stopped => break outcome,
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            signals += 1;
            if signals > 2 {
                return fail(&"ended by a third signal; positions may not be saved, and some records will be sent again");
            }
            tracing::info!("stopping at once, by a second signal: what is not delivered yet comes with the next start");
            hasten.now();
        };
        for (output, stats) in stats {
            tracing::info!(
                output,
                delivered = stats.records_delivered.get(),
                duplicates = stats.duplicates.get(),
                refused = stats.refused.get(),
                too_old = stats.records_too_old.get(),
                lost_bytes = stats.losses.lost().bytes,
                dropped = stats.losses.dropped().records,
                lost = %stats.losses,
                in_doubt = stats.in_doubt.get(),
                retries = stats.retries.get(),
                "stopped"
            );
        }
        match outcome {
            Ok(outcome) => {
                tracing::info!(caught_up = outcome.caught_up, seconds = begun.elapsed().as_secs_f32(), "ended");
                ExitCode::SUCCESS
            }
            Err(_) => fail(&"stopping failed; this is a bug in Taffrail"),
        }
    })
}

fn fail(error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("error: {error}");
    ExitCode::FAILURE
}

/// The agent's own log on standard error; `RUST_LOG` overrides the level.
fn start_log(config: &LogConfig) {
    let filter = EnvFilter::builder()
        .with_default_directive(config.level.as_str().parse().unwrap_or_default())
        .from_env_lossy();
    let log =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    // A second call, in one process, keeps the first.
    let _ = match config.format {
        LogFormat::Json => log.json().flatten_event(true).try_init(),
        LogFormat::Text => log.with_ansi(std::io::stderr().is_terminal()).try_init(),
    };
}

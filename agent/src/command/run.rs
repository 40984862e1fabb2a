//! `taffrail run`: the agent, until SIGTERM or ctrl-C.

use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::config::{Config, LogConfig, LogFormat};
use crate::pipeline::Agent;

/// How long before the end of the grace period the agent gives up catching up: what saving takes, and more.
const BEFORE_KILL: Duration = Duration::from_secs(5);

/// Runs the agent by the configuration in `path`, or by the defaults.
pub fn run(path: Option<&Path>) -> ExitCode {
    let config = match path.map_or_else(|| Ok(Config::default()), Config::load) {
        Ok(config) => config,
        Err(diagnostics) => {
            eprintln!("{diagnostics}");
            return ExitCode::from(2);
        }
    };
    start_log(&config.log);
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
        let grace = config.grace.saturating_sub(BEFORE_KILL).max(Duration::from_secs(1));
        let outputs: Vec<String> = config.outputs.keys().cloned().collect();
        let pod_logs = config.pod_logs.clone();
        let agent = match Agent::start(config) {
            Ok(agent) => agent,
            Err(error) => return fail(&error),
        };
        tracing::info!(version = env!("CARGO_PKG_VERSION"), pod_logs = %pod_logs.display(), outputs = outputs.join(","), "started");
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        let begun = Instant::now();
        let stats = agent.stats().to_vec();
        let stopped = tokio::task::spawn_blocking(move || agent.stop(begun + grace));
        // A second signal means: now.
        let outcome = tokio::select! {
            outcome = stopped => outcome,
            _ = interrupt.recv() => return ExitCode::FAILURE,
        };
        for (output, stats) in stats {
            tracing::info!(
                output,
                delivered = stats.records_delivered.get(),
                duplicates = stats.duplicates.get(),
                refused = stats.refused.get(),
                too_old = stats.records_too_old.get(),
                lost_bytes = stats.lost_bytes.get(),
                retries = stats.retries.get(),
                "stopped"
            );
        }
        match outcome {
            Ok(outcome) => {
                tracing::info!(caught_up = outcome.caught_up, seconds = begun.elapsed().as_secs_f32(), "ended");
                ExitCode::SUCCESS
            }
            Err(error) => fail(&error),
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
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    // A second call, in one process, keeps the first.
    let _ = match config.format {
        LogFormat::Json => log.json().flatten_event(true).try_init(),
        LogFormat::Text => log.with_ansi(std::io::stderr().is_terminal()).try_init(),
    };
}

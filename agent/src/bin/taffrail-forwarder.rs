//! `taffrail-forwarder`: the forwarder as a Lambda function.
//!
//! In: events of CloudWatch Logs or of Kinesis, by the Lambda runtime API. Out: see [`taffrail::forward::lambda`]. The
//! configuration is TOML: `TAFFRAIL_FORWARDER_CONFIG` holds it, or its path; else `taffrail-forwarder.toml` beside the
//! function's code. It must name a place for dead letters: a function has no disk that lasts.

#![forbid(unsafe_code)]

use std::fmt::Display;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use lambda_runtime::{LambdaEvent, service_fn};
use taffrail::config::Config;
use taffrail::forward::Forwarder;
use taffrail::forward::lambda::Event;

/// What is left of a call's time when what is under way is given up: enough to answer.
const LEAST_LEFT: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn start() -> Result<(), String> {
    let config = config()?;
    if config.forward.dead_letters.is_none() {
        return Err(told("`forward.dead_letters` is missing: a function has no disk that lasts"));
    }
    let level = config.log.level.as_str();
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| level.into());
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_writer(std::io::stderr)
        .with_env_filter(filter)
        .init();
    let state = std::env::temp_dir().join("taffrail");
    let forwarder = Arc::new(Forwarder::new(&config, &state).map_err(told)?);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(told)?;
    let handler = service_fn(move |call: LambdaEvent<Event>| {
        let forwarder = forwarder.clone();
        async move {
            let left = call.context.deadline().duration_since(SystemTime::now()).unwrap_or_default();
            let within = left.saturating_sub(LEAST_LEFT.max(left / 10));
            // On the heap: within the runtime's own futures its type nests deeper than the compiler goes.
            let handled = Box::pin(forwarder.handle(&call.payload, within));
            handled.await.map_err(lambda_runtime::Error::from)
        }
    });
    runtime.block_on(lambda_runtime::run(handler)).map_err(told)
}

/// An error as the terminal has it. Those of a configuration are so already.
fn told(error: impl Display) -> String {
    format!("error: {error}")
}

fn config() -> Result<Config, String> {
    let given = std::env::var("TAFFRAIL_FORWARDER_CONFIG").ok().filter(|given| !given.trim().is_empty());
    let read = match given {
        // A path holds no such sign, and a configuration cannot do without.
        Some(text) if text.contains('=') => Config::parse(&text, "TAFFRAIL_FORWARDER_CONFIG"),
        Some(path) => Config::load(&PathBuf::from(path)),
        None => {
            let folder = std::env::var_os("LAMBDA_TASK_ROOT").map(PathBuf::from).unwrap_or_default();
            Config::load(&folder.join("taffrail-forwarder.toml"))
        }
    };
    read.map_err(|problems| problems.to_string())
}

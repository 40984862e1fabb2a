//! `taffrail forward`: from CloudWatch Logs' subscription on to Elasticsearch or OpenSearch.
//!
//! In: a configuration, and a Kinesis stream or a place in S3. Out: the stream's records carried on until SIGTERM, or the
//! place's brought back once. The Lambda function of the same core is `taffrail-forwarder`.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::run::log::Log;
use super::{BAD_CONFIGURATION, configured};
use crate::config::{Config, LettersAway};
use crate::forward::Forwarder;
use crate::forward::checkpoint::Checkpoints;
use crate::forward::keeper::Keeper;
use crate::forward::kinesis::Reader;
use crate::forward::leases::Leases;
use crate::output::Stop;

/// What is left of the grace period when what is under way is given up.
const BEFORE_KILL: Duration = Duration::from_secs(5);

/// What to forward.
#[derive(Debug, Clone, Args)]
#[group(required = true, multiple = false)]
pub struct ForwardArgs {
    /// Read this Kinesis stream (its name or ARN) until SIGTERM
    #[arg(long, value_name = "STREAM")]
    kinesis: Option<String>,
    /// Bring back the dead letters, and what a function has failed on, that lie below s3://BUCKET/PREFIX
    #[arg(long, value_name = "URL")]
    replay: Option<String>,
}

/// Forwards by the configuration in `path`.
pub fn forward(path: Option<&Path>, args: &ForwardArgs) -> ExitCode {
    let Some(path) = path else {
        eprintln!("error: say where documents go: --config FILE");
        return ExitCode::from(BAD_CONFIGURATION);
    };
    let config = match configured(Some(path)) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let _log = Log::start(&config.log);
    let forwarder = match Forwarder::new(&config, &config.state_dir) {
        Ok(forwarder) => Arc::new(forwarder),
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(BAD_CONFIGURATION);
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error),
    };
    let done = match (&args.kinesis, &args.replay) {
        (Some(stream), _) => runtime.block_on(follow(&config, &forwarder, stream)),
        (None, Some(place)) => runtime.block_on(replay(&forwarder, place)),
        (None, None) => return ExitCode::from(BAD_CONFIGURATION),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

async fn follow(config: &Config, forwarder: &Arc<Forwarder>, stream: &str) -> Result<(), String> {
    let keeper = match &config.forward.leases {
        Some(leases) => Keeper::Leases(Box::new(Leases::open(leases, &config.metadata, stream).await?)),
        None => Keeper::File(
            Checkpoints::open(&config.state_dir, stream)
                .map_err(|error| format!("the checkpoints in {}: {error}", config.state_dir.display()))?,
        ),
    };
    let (stopping, stop) = watch::channel(false);
    let heard = |kind| signal(kind).map_err(|error| format!("cannot listen for signals: {error}"));
    let (mut terminate, mut interrupt) = (heard(SignalKind::terminate())?, heard(SignalKind::interrupt())?);
    let reader = Reader::new(forwarder.clone(), stream, keeper, stop).await;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), stream, "started");
    let mut reading = tokio::spawn(reader.run());
    let ended = tokio::select! {
        ended = &mut reading => Some(ended),
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            tracing::info!("stopping: what is under way is brought to its end");
            stopping.send_replace(true);
            // What the destination certainly has not comes with the next start.
            forwarder.stop(Stop::Unsent);
            let patience = config.grace - BEFORE_KILL.min(config.grace / 2);
            match tokio::time::timeout(patience, &mut reading).await {
                Ok(ended) => ended,
                Err(_) => {
                    forwarder.stop(Stop::Now);
                    reading.await
                }
            }
        }
    };
    let stats = &forwarder.stats;
    tracing::info!(
        records = stats.records.get(),
        control = stats.control.get(),
        unreadable = stats.unreadable.get(),
        events = stats.events.get(),
        own = stats.own.get(),
        metas = stats.metas.get(),
        foreign = stats.foreign.get(),
        unresolved = stats.unresolved.get(),
        delivered = forwarder.output_stats.records_delivered.get(),
        duplicates = forwarder.output_stats.duplicates.get(),
        refused = forwarder.output_stats.refused.get(),
        dead_letters_dropped = forwarder.output_stats.dead_letters_dropped.get(),
        retries = forwarder.output_stats.retries.get(),
        "stopped"
    );
    ended.map_err(|error| format!("reading failed; this is a bug in Taffrail: {error}"))?
}

async fn replay(forwarder: &Forwarder, place: &str) -> Result<(), String> {
    let Ok(LettersAway::S3 { bucket, prefix }) = LettersAway::parse(place) else {
        return Err(format!("{place}: write it as s3://BUCKET/PREFIX"));
    };
    let replayed = forwarder.replay(&bucket, &prefix).await?;
    println!(
        "{} objects brought back: {} dead letters and {} events, {} refused once more; {} objects left alone",
        replayed.objects,
        replayed.letters,
        replayed.events,
        forwarder.output_stats.refused.get() + forwarder.stats.unreadable.get(),
        replayed.left
    );
    Ok(())
}

fn fail(error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("error: {error}");
    ExitCode::FAILURE
}

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

use super::progress::Progress;
use super::run::log::Log;
use super::terminal::{age, grouped};
use super::{BAD_CONFIGURATION, configured};
use crate::config::{Config, LettersAway};
use crate::forward::checkpoint::Checkpoints;
use crate::forward::keeper::Keeper;
use crate::forward::kinesis::Reader;
use crate::forward::leases::Leases;
use crate::forward::{ForwardStats, Forwarder};
use crate::output::Stop;

/// What is left of the grace period when what is under way is given up.
const BEFORE_KILL: Duration = Duration::from_secs(5);

/// How often it is looked how far it is, where somebody looks on.
const LOOK: Duration = Duration::from_millis(250);

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
    let progress = Progress::of_records();
    let _log = Log::start(&config.log, progress.clone());
    let forwarder = match Forwarder::new(&config, &config.state_dir) {
        Ok(forwarder) => Arc::new(forwarder),
        Err(error) => {
            progress.ends();
            eprintln!("error: {error}");
            return ExitCode::from(BAD_CONFIGURATION);
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            progress.ends();
            return fail(&error);
        }
    };
    let work = async {
        match (&args.kinesis, &args.replay) {
            (Some(stream), _) => follow(&config, &forwarder, stream).await.map(|()| None),
            (None, Some(place)) => replay(&forwarder, place).await.map(Some),
            (None, None) => Err("say what to forward: --kinesis or --replay".to_owned()),
        }
    };
    let done = runtime.block_on(watched(&progress, &forwarder, work));
    progress.ends();
    match done {
        Ok(said) => {
            said.iter().for_each(|said| println!("{said}"));
            ExitCode::SUCCESS
        }
        Err(error) => fail(&error),
    }
}

/// Works, and shows how far it is.
async fn watched<T>(progress: &Progress, forwarder: &Forwarder, work: impl Future<Output = T>) -> T {
    if !progress.is_shown() {
        return work.await;
    }
    tokio::pin!(work);
    let mut looks = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            done = &mut work => return done,
            _ = looks.tick() => {
                progress.reaches(forwarder.output_stats.records_delivered.get());
                progress.says(&how_far(&forwarder.stats));
            }
        }
    }
}

/// What is left to be done, behind how much is done.
fn how_far(stats: &ForwardStats) -> String {
    match (stats.objects.get(), stats.behind()) {
        (0, None) => String::new(),
        (0, Some(behind)) if behind.is_zero() => ", not behind".to_owned(),
        (0, Some(behind)) => format!(", {} behind", age(behind.as_secs_f64())),
        (objects, _) => {
            format!(", {} of {} objects done", grouped(stats.objects_done.get()), grouped(objects))
        }
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

/// Says what it has done.
async fn replay(forwarder: &Forwarder, place: &str) -> Result<String, String> {
    let Ok(LettersAway::S3 { bucket, prefix }) = LettersAway::parse(place) else {
        return Err(format!("{place}: write it as s3://BUCKET/PREFIX"));
    };
    let replayed = forwarder.replay(&bucket, &prefix).await?;
    Ok(format!(
        "{} objects brought back: {} dead letters and {} events, {} refused once more; {} objects left alone",
        replayed.objects,
        replayed.letters,
        replayed.events,
        forwarder.output_stats.refused.get() + forwarder.stats.unreadable.get(),
        replayed.left
    ))
}

fn fail(error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("error: {error}");
    ExitCode::FAILURE
}

//! The agent's own log on standard error.
//!
//! In: `[log]`, again at each reload. Out: lines or JSON; `RUST_LOG` overrides the level. Whatever the level, warnings and
//! their ends are kept for the page. Never written to by the way of a record for each record.

use std::io::IsTerminal;
use std::sync::Arc;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload::{self, Handle};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt};

use crate::admin::told::{Listening, Told};
use crate::command::progress::Progress;
use crate::config::{LogConfig, LogFormat};

type Lines = Box<dyn Layer<Registry> + Send + Sync>;

/// The log, whose form and level can be changed.
pub struct Log {
    lines: Handle<Lines, Registry>,
    filter: Handle<EnvFilter, Registry>,
    progress: Progress,
    /// The last warnings and errors in it.
    pub told: Arc<Told>,
}

impl Log {
    /// Starts it, above the line that tells of progress. A second call, in one process, changes nothing.
    pub fn start(config: &LogConfig, progress: Progress) -> Log {
        let (lines, lines_handle) = reload::Layer::new(lines(config.format, &progress));
        let (filter, filter_handle) = reload::Layer::new(filter(config));
        let told = Arc::<Told>::default();
        let listening = Listening(told.clone()).with_filter(heard());
        let _ = tracing_subscriber::registry().with(lines.with_filter(filter)).with(listening).try_init();
        Log { lines: lines_handle, filter: filter_handle, progress, told }
    }

    /// Goes on as `[log]` says now.
    pub fn apply(&self, config: &LogConfig) {
        // Refused only when the log is gone, with the process.
        let _ = self.lines.reload(lines(config.format, &self.progress));
        let _ = self.filter.reload(filter(config));
    }
}

fn lines(format: LogFormat, progress: &Progress) -> Lines {
    let lines = fmt::layer().with_writer(progress.clone()).with_target(false);
    match format {
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).boxed(),
    }
}

/// What the page may hear of: warnings, and that one is over, which is said at level info.
fn heard() -> Targets {
    Targets::new().with_default(LevelFilter::INFO).with_target("kube_client", LevelFilter::OFF)
}

fn filter(config: &LogConfig) -> EnvFilter {
    // What `kube` has to say of a server that went away is said by us: once, and what to do.
    let default = format!("{},kube_client=off", config.level.as_str());
    let given = std::env::var(EnvFilter::DEFAULT_ENV).ok().filter(|given| !given.is_empty());
    EnvFilter::builder().parse_lossy(given.unwrap_or(default))
}

//! The agent's own listeners: how it is, for whoever asks.
//!
//! In: what of the running agent may be looked at ([`View`]), and warnings ([`told`]). Out: metrics and health for machines
//! (`metrics_listen`), a page, its JSON and live tails for people of this node (`listen`). [`server`] answers, [`guard`]
//! turns away what a browser was tricked into asking, [`metrics`], [`health`], [`status`] and [`history`] say what there is
//! to say. One thread of its own, asleep while nobody asks but for a sample a minute; it never changes anything, never
//! tells a secret, and neither the way of a record nor the agent's start or end waits for it.

pub mod guard;
pub mod health;
pub mod history;
pub mod metrics;
pub(crate) mod process;
mod server;
pub mod status;
mod tail;
pub mod told;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use serde_json::json;
use tokio::sync::watch;

use crate::config::{Config, Listen, OutputConfig};
use crate::pipeline::View;
use crate::stats::Reloads;
use history::History;
use server::Door;
use status::Rates;
use told::Told;

/// Where the addresses stand that are really listened at, in the state directory: for ports that the system chose.
pub const ADDRESSES: &str = "listen.json";

/// How far the agent is, as its listeners know it.
#[derive(Debug, Clone)]
pub enum Life {
    /// It starts.
    Starting,
    /// It runs.
    Running(Arc<Shown>),
    /// Another configuration takes the place of the one that ran.
    Changing,
    /// Neither could be started.
    Down,
    /// It was asked to end.
    Stopping,
}

/// A running agent, as it is shown.
#[derive(Debug)]
pub struct Shown {
    /// Its numbers.
    pub view: View,
    /// The cluster's name.
    pub cluster: String,
    /// The node's.
    pub node: String,
    /// Each output's type, and where it sends to: without secrets.
    pub outputs: BTreeMap<String, (&'static str, String)>,
}

/// What the listeners answer from.
#[derive(Debug)]
pub struct Shared {
    life: Mutex<Life>,
    bound: Mutex<Bound>,
    told: Arc<Told>,
    reloads: Arc<Reloads>,
    history: History,
    rates: Rates,
    /// Path of the configuration.
    config: Option<PathBuf>,
    started: (Instant, SystemTime),
}

/// What is listened at.
#[derive(Debug, Default)]
struct Bound {
    page: Option<SocketAddr>,
    metrics: Option<SocketAddr>,
    /// Known once the state directory is ours.
    state_dir: Option<PathBuf>,
}

/// The listeners. They end with the process.
#[derive(Debug)]
pub struct Admin {
    shared: Arc<Shared>,
    page: watch::Sender<Listen>,
    metrics: watch::Sender<Listen>,
}

impl Admin {
    /// Starts listening. A port that cannot be had is told, and tried again: it ends nothing.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn start(
        config: &Config,
        path: Option<&Path>,
        told: Arc<Told>,
        reloads: Arc<Reloads>,
    ) -> io::Result<Admin> {
        let shared = Arc::new(Shared {
            life: Mutex::new(Life::Starting),
            bound: Mutex::default(),
            told,
            reloads,
            history: History::default(),
            rates: Rates::default(),
            config: path.map(Path::to_owned),
            started: (Instant::now(), SystemTime::now()),
        });
        let (page, page_wanted) = watch::channel(config.listen);
        let (metrics, metrics_wanted) = watch::channel(config.metrics_listen);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let of_thread = shared.clone();
        std::thread::Builder::new().name("admin".into()).spawn(move || {
            runtime.block_on(async {
                tokio::join!(
                    server::keep_open(Door::Page, page_wanted, of_thread.clone()),
                    server::keep_open(Door::Metrics, metrics_wanted, of_thread.clone()),
                    history::keep(of_thread.clone()),
                )
            })
        })?;
        Ok(Admin { shared, page, metrics })
    }

    /// This agent runs now, by this configuration; the listeners move where that says.
    pub fn shows(&self, view: View, config: &Config) {
        let outputs =
            config.outputs.iter().map(|(name, output)| (name.clone(), (output.kind(), destination(output))));
        let shown = Shown {
            view,
            cluster: config.cluster.clone(),
            node: config.node.clone(),
            outputs: outputs.collect(),
        };
        self.set(Life::Running(Arc::new(shown)));
        self.listens(config);
        self.shared.bound(|bound| bound.state_dir = Some(config.state_dir.clone()));
    }

    /// The listeners move where this says.
    pub fn listens(&self, config: &Config) {
        for (door, wanted) in [(&self.page, config.listen), (&self.metrics, config.metrics_listen)] {
            door.send_if_modified(|now| std::mem::replace(now, wanted) != wanted);
        }
    }

    /// The agent is no longer, or not yet, the one that was shown.
    pub fn set(&self, life: Life) {
        *self.shared.life.lock().unwrap_or_else(PoisonError::into_inner) = life;
    }
}

impl Shared {
    /// How far the agent is.
    pub fn life(&self) -> Life {
        self.life.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The agent that runs, if one does.
    pub fn shown(&self) -> Option<Arc<Shown>> {
        match self.life() {
            Life::Running(shown) => Some(shown),
            Life::Starting | Life::Changing | Life::Down | Life::Stopping => None,
        }
    }

    /// Something has changed of what is listened at; it is noted where it can be found.
    fn bound(&self, change: impl FnOnce(&mut Bound)) {
        let mut bound: MutexGuard<'_, Bound> = self.bound.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut bound);
        let Some(state_dir) = &bound.state_dir else { return };
        let text =
            |address: Option<SocketAddr>| address.map_or("off".to_owned(), |address| address.to_string());
        let addresses = json!({ "listen": text(bound.page), "metrics_listen": text(bound.metrics) });
        let path = state_dir.join(ADDRESSES);
        if let Err(error) = crate::position::replace(&path, format!("{addresses}\n").as_bytes()) {
            tracing::warn!(path = %path.display(), %error, "cannot note which addresses are listened at");
        }
    }
}

/// Where an output sends to, for people. Endpoints hold no credentials: the configuration refuses them.
fn destination(output: &OutputConfig) -> String {
    match output {
        OutputConfig::Elasticsearch(output) => {
            let endpoints: Vec<&str> =
                output.endpoints.iter().map(|url| url.as_str().trim_end_matches('/')).collect();
            format!("{} {}", endpoints.join(", "), output.target.template())
        }
        OutputConfig::CloudWatch(output) => format!("{} {}", output.log_group, output.log_stream),
        OutputConfig::File(output) => output.path.to_string(),
        OutputConfig::Stdout(_) => "standard output".to_owned(),
    }
}

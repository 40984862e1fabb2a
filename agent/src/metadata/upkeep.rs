//! Upkeep: what the watch does not bring, what may be forgotten, and what must be on disk.
//!
//! In: the table. Out: namespaces and the node, asked for where they are wanted and no oftener than they change; a table
//! without the pods that nobody needs; and the cache, saved while things change. Nothing of it begins before the watch has
//! seen everything once, so that its pause at the start spreads these requests too.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::api;
use super::cache;
use super::connection::{Connection, Failure};
use super::facts::{NamespaceFacts, NodeLabels};
use super::table::Table;

/// How often the cache is saved at most.
const SAVE_EVERY: Duration = Duration::from_secs(10);

/// How often it is looked for pods to forget.
const PRUNE_EVERY: Duration = Duration::from_secs(60);

/// When what could not be asked for is asked for again.
const RETRY: Duration = Duration::from_secs(30);

/// The cache's file, written by one at a time.
#[derive(Debug)]
pub struct Keeper {
    path: PathBuf,
    table: Arc<Table>,
    /// Whether it has been told that it cannot be written.
    told: Mutex<bool>,
}

impl Keeper {
    /// Keeps a table in a file.
    pub fn new(path: PathBuf, table: Arc<Table>) -> Keeper {
        Keeper { path, table, told: Mutex::new(false) }
    }

    /// Saves everything now. What cannot be saved is told once, and is no obstacle.
    pub fn save(&self) {
        // Held while it is written: two writers would make one broken file.
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        match cache::save(&self.path, self.table.save()) {
            Ok(()) => *told = false,
            Err(error) if !std::mem::replace(&mut *told, true) => {
                tracing::warn!(file = %self.path.display(), %error,
                    "cannot save what is known of pods: after a restart it must come from the API server first");
            }
            Err(_) => {}
        }
    }
}

/// The upkeep's own state.
pub struct Upkeep {
    connection: Arc<Connection>,
    table: Arc<Table>,
    keeper: Arc<Keeper>,
    node: String,
    /// When the node may be asked for again.
    node_due: Instant,
    told_forbidden: bool,
    told_nobody: bool,
}

impl Upkeep {
    /// The upkeep of a table on `node`.
    pub fn new(connection: Arc<Connection>, table: Arc<Table>, keeper: Arc<Keeper>, node: String) -> Upkeep {
        let node_due = Instant::now();
        Upkeep { connection, table, keeper, node, node_due, told_forbidden: false, told_nobody: false }
    }

    /// Goes on until it is dropped.
    pub async fn run(mut self) {
        let mut unsaved = false;
        let (mut save_due, mut prune_due) = (Instant::now(), Instant::now() + PRUNE_EVERY);
        loop {
            let mut next = prune_due;
            if self.table.is_complete() {
                next = next.min(self.look_up().await);
            }
            if Instant::now() >= prune_due {
                self.table.prune(SystemTime::now());
                self.tell_nobody();
                prune_due = Instant::now() + PRUNE_EVERY;
            }
            if unsaved && Instant::now() >= save_due {
                let keeper = self.keeper.clone();
                // An error is a panic there, which has been reported where it happened.
                let _ = tokio::task::spawn_blocking(move || keeper.save()).await;
                (unsaved, save_due) = (false, Instant::now() + SAVE_EVERY);
            }
            if unsaved {
                next = next.min(save_due);
            }
            tokio::select! {
                () = self.table.changed.notified() => unsaved = true,
                () = tokio::time::sleep_until(next.into()) => {}
            }
        }
    }

    /// Asks for what is wanted and due; when the next is.
    async fn look_up(&mut self) -> Instant {
        let (due, next) = self.table.namespaces_due(Instant::now());
        let retry = || Instant::now() + RETRY.mul_f64(0.5 + fastrand::f64());
        let mut next = next.unwrap_or_else(|| Instant::now() + PRUNE_EVERY);
        for name in due {
            match self.connection.get::<api::Namespace>("/api/v1/namespaces", &name).await {
                Ok(namespace) => {
                    let facts = NamespaceFacts::new(namespace, self.table.config());
                    self.table.set_namespace(&name, facts);
                }
                Err(failure) if self.is_final(&failure, "namespaces", "`namespace_labels`") => {
                    self.table.set_namespace(&name, NamespaceFacts::default());
                }
                Err(_) => {
                    let again = retry();
                    self.table.put_off_namespace(&name, again);
                    next = next.min(again);
                }
            }
        }
        if self.table.lacks_node() && Instant::now() >= self.node_due {
            match self.connection.get::<api::Node>("/api/v1/nodes", &self.node).await {
                Ok(node) => self.table.set_node(NodeLabels::new(node, self.table.config())),
                Err(failure) if self.is_final(&failure, "nodes", "`node_labels`") => {
                    self.table.set_node(NodeLabels::default());
                }
                Err(_) => self.node_due = retry(),
            }
        }
        if self.table.lacks_node() { next.min(self.node_due) } else { next }
    }

    /// Whether a failure is an answer: there is nothing, or it is not to be had. Then nobody waits for it.
    fn is_final(&mut self, failure: &Failure, what: &str, key: &str) -> bool {
        match failure {
            Failure::NotFound(_) => true,
            Failure::Forbidden(said) => {
                if !std::mem::replace(&mut self.told_forbidden, true) {
                    tracing::warn!(
                        error = said,
                        "the API server forbids to look at {what}: let the agent's service account `get` them, or leave out {key}"
                    );
                }
                true
            }
            failure => {
                tracing::debug!(error = %failure, what, "could not be asked for");
                false
            }
        }
    }

    fn tell_nobody(&mut self) {
        if self.table.is_complete()
            && self.table.knows_nobody()
            && !std::mem::replace(&mut self.told_nobody, true)
        {
            tracing::warn!(
                node = self.node,
                "the API server knows no pods of this node, though there are logs of some: set `node`, or NODE_NAME in the environment, to the node's name there"
            );
        }
    }
}

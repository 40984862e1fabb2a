//! What is known of a container beyond its log: of its pod, the pod's namespace and owners, and the node.
//!
//! In: the API server's word on the pods of this node ([`watch`], [`upkeep`], over a [`connection`]), and what an
//! earlier process saved of it ([`cache`]). Out: a [`table`] of [`facts`] that a reader asks for the price of one load while
//! nothing changes, and the bytes that every document of a container carries ([`encode`]), made once per container and
//! revision. Where there is no API server, the path of a log says what there is to say.
//!
//! Never on a record's way, and waited for by no container but the one that lacks it: how long, the reader decides.

pub mod api;
pub mod cache;
pub mod complaints;
pub mod connection;
pub mod encode;
pub mod facts;
pub mod insights;
pub mod leaving;
pub mod owners;
pub mod table;
pub mod upkeep;
pub mod watch;
pub mod wishes;

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::config::{Config, FieldNames, MetadataConfig};
use complaints::Complaints;
use connection::Connection;
use facts::Known;
use leaving::Leaving;
use table::{Saved, Table};
use upkeep::{Keeper, Upkeep};
use watch::Watch;

/// What is the same for every container of this node.
#[derive(Debug, Clone)]
pub struct NodeFacts {
    /// `orchestrator.cluster.name`.
    pub cluster: String,
    /// `kubernetes.node.name`.
    pub node: String,
    /// What fields are called.
    pub names: FieldNames,
}

/// How much is known of the pod that a container belongs to.
#[derive(Debug, Clone, Copy)]
pub enum Extent<'a> {
    /// What the path of its log says, and nobody is asked for more.
    Path,
    /// That too: more was waited for in vain.
    Missing,
    /// What the API server says.
    Known(&'a MetadataConfig, &'a Known),
}

/// The room, at work: it keeps its table up to date until it is stopped.
#[derive(Debug)]
pub struct Room {
    table: Arc<Table>,
    keeper: Arc<Keeper>,
    tasks: Vec<JoinHandle<()>>,
}

impl Room {
    /// Begins to ask the API server, on `runtime`; `None` where there is none, or none is wanted. Waits for nothing: what
    /// the agent before this one knew is in the table, the rest comes. Of another process, that is what it saved.
    pub fn start(config: &Config, runtime: &Handle, known: Option<Saved>) -> Option<Room> {
        let Some(access) = connection::access(&config.metadata) else {
            if config.drain.enabled {
                tracing::warn!("there is no API server to ask: whether this node is going away is not known");
            }
            return None;
        };
        let path = cache::path(&config.state_dir);
        let saved = known.unwrap_or_else(|| cache::load(&path));
        let table = Arc::new(Table::new(config.metadata.clone(), saved));
        let keeper = Arc::new(Keeper::new(path, table.clone()));
        let connection = Arc::new(Connection::new(access, config.metadata.timeout, table.stats.clone()));
        let watch = Watch::new(connection.clone(), table.clone(), config.node.clone());
        let upkeep = Upkeep::new(connection.clone(), table.clone(), keeper.clone(), config.node.clone());
        let events = config.annotations.report_events;
        let complaints = Complaints::new(connection.clone(), table.clone(), config.node.clone(), events);
        let mut tasks =
            vec![runtime.spawn(watch.run()), runtime.spawn(upkeep.run()), runtime.spawn(complaints.run())];
        if config.drain.enabled {
            let leaving = Leaving::new(connection, table.clone(), config.node.clone());
            tasks.push(runtime.spawn(leaving.run()));
        }
        Some(Room { table, keeper, tasks })
    }

    /// Where readers ask.
    pub fn table(&self) -> Arc<Table> {
        self.table.clone()
    }

    /// Ends for another to go on with what is known.
    pub fn give_way(self) -> Saved {
        self.tasks.iter().for_each(JoinHandle::abort);
        self.table.save()
    }

    /// Ends, and saves what is known.
    pub fn stop(self) {
        self.tasks.iter().for_each(JoinHandle::abort);
        self.keeper.save();
    }
}

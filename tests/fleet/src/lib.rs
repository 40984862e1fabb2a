//! What an API server bears when many agents restart at once.
//!
//! What comes in: a number of agents, and how they restart. What goes out: the requests of their worst second, and when
//! they knew their pods again. An agent is here its watch, its connection and its table, by the agent's own code; it reads
//! no log. The server is a real one, whose pods are of the size that real ones have.

use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, Instant};
use taffrail::catalog::origin::Container;
use taffrail::config::MetadataConfig;
use taffrail::metadata::connection::{Access, Connection};
use taffrail::metadata::table::{Claim, Saved, Table};
use taffrail::metadata::watch::Watch;
use taffrail_tests::kubernetes::Kubernetes;

/// How often the agents are looked at, and how many looks make a second.
const LOOK: Duration = Duration::from_millis(50);
const LOOKS: usize = 20;

/// Agents that do not know their pods by then never will.
const PATIENCE: Duration = Duration::from_secs(300);

/// Requests that make the world, at a time.
const MAKERS: usize = 4;

/// How the agents restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    /// With what was known before on disk: nobody waits for an answer.
    Known,
    /// For the first time, with logs to be read of which nothing is known.
    Unknown,
    /// Without any chance in their pauses.
    InStep,
}

/// What came of it.
#[derive(Debug, Clone, Copy)]
pub struct Outcome {
    /// Requests in the worst second.
    pub peak: u64,
    /// Requests in all, and those that failed.
    pub requests: u64,
    /// See there.
    pub failures: u64,
    /// When half of the agents knew their pods.
    pub half: Duration,
    /// When the last one did.
    pub all: Duration,
}

/// An API server with a cluster's pods.
pub struct Fleet {
    cluster: Kubernetes,
    agents: usize,
}

impl Fleet {
    /// So many nodes with so many pods each.
    ///
    /// # Panics
    /// When there can be no API server.
    pub fn new(agents: usize, pods: usize) -> Fleet {
        let cluster = Kubernetes::start(&[]);
        let namespace = cluster.namespace();
        std::thread::scope(|scope| {
            for maker in 0..MAKERS {
                let (cluster, namespace) = (&cluster, &namespace);
                scope.spawn(move || {
                    for n in (maker..agents * pods).step_by(MAKERS) {
                        let target = format!("/api/v1/namespaces/{namespace}/pods");
                        cluster.send("POST", &target, &pod(n, &node(n % agents)));
                    }
                });
            }
        });
        Fleet { cluster, agents }
    }

    /// Restarts all agents in one moment.
    ///
    /// # Panics
    /// When they do not come to know their pods.
    pub fn restart(&self, how: Restart) -> Outcome {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let begun = Instant::now();
        let agents: Vec<(Arc<Table>, Option<Claim>)> = (0..self.agents)
            .map(|n| {
                let table = Arc::new(Table::new(MetadataConfig::default(), Saved::default()));
                let access = Access::Kubeconfig(self.cluster.kubeconfig().into_os_string());
                let connection =
                    Arc::new(Connection::new(access, table.config().timeout, table.stats.clone()));
                let watch = Watch::new(connection, table.clone(), node(n));
                runtime.spawn(if how == Restart::InStep { watch.in_step() } else { watch }.run());
                let claim = (how == Restart::Unknown).then(|| table.claim(&unknown()));
                (table, claim)
            })
            .collect();
        let sum = |of: fn(&Table) -> u64| agents.iter().map(|(table, _)| of(table)).sum::<u64>();
        let (mut counts, mut half) = (vec![0], None);
        loop {
            std::thread::sleep(LOOK);
            counts.push(sum(|table| table.stats.requests.get()));
            let complete = agents.iter().filter(|(table, _)| table.is_complete()).count();
            if complete * 2 >= self.agents {
                half.get_or_insert_with(|| begun.elapsed());
            }
            if complete == self.agents {
                break;
            }
            assert!(begun.elapsed() < PATIENCE, "{complete} of {} agents know their pods", self.agents);
        }
        let all = begun.elapsed();
        let since = |at: usize| counts[at] - counts[at.saturating_sub(LOOKS)];
        let outcome = Outcome {
            peak: (0..counts.len()).map(since).max().unwrap_or_default(),
            requests: sum(|table| table.stats.requests.get()),
            failures: sum(|table| table.stats.failures.get()),
            half: half.unwrap_or(all),
            all,
        };
        runtime.shutdown_timeout(Duration::from_secs(10));
        outcome
    }
}

fn node(n: usize) -> String {
    format!("fleet-{n}")
}

/// A container of which no server knows anything.
fn unknown() -> Container {
    let text = |text: &str| text.to_owned();
    Container { namespace: text("shop"), pod: text("web"), uid: text("u"), name: text("app") }
}

/// A pod of some 5 KB.
fn pod(n: usize, node: &str) -> serde_json::Value {
    let environment: Vec<_> =
        (0..40).map(|i| json!({ "name": format!("SOME_SETTING_{i}"), "value": "x".repeat(40) })).collect();
    json!({
        "metadata": { "name": format!("web-{n}"), "labels": { "app": "web", "pod-template-hash": "7d4b9c6f5d" } },
        "spec": { "nodeName": node, "containers": [
            { "name": "app", "image": "registry.example/shop/web:v1.42.0", "env": environment }] },
    })
}

//! Whether the node is going away.
//!
//! In: the node's own object, watched at the API server. Out: a word to the table, which readers and those who stop the
//! agent ask: what a node has not sent goes with its disk. Of several marks one is enough; once all are gone, the node
//! stays after all. While the API server is away, what it last said holds.

use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use kube::api::WatchEvent;

use super::api::Node;
use super::connection::{Connection, Failure};
use super::table::Table;
use super::watch::{LEAST_PAUSE, LEAST_TIME, LONGEST_PAUSE, WATCH_TIME};
use crate::output::backoff::Backoff;

/// Taints of those who take nodes away. Not among them: candidates, recommendations, and `unschedulable`, by which an
/// operator may only want peace.
const TAINTS: [&str; 9] = [
    "karpenter.sh/disrupted",
    // Karpenter before its version 1.
    "karpenter.sh/disruption",
    "ToBeDeletedByClusterAutoscaler",
    "aws-node-termination-handler/spot-itn",
    "aws-node-termination-handler/scheduled-maintenance",
    "aws-node-termination-handler/asg-lifecycle-termination",
    "cloud.google.com/impending-node-termination",
    "node.cloudprovider.kubernetes.io/shutdown",
    "node.kubernetes.io/out-of-service",
];

/// What kubelet says of a node that is no longer ready because its machine is being shut down.
const SHUTTING_DOWN: &str = "node is shutting down";

/// The watch over the node.
pub struct Leaving {
    connection: Arc<Connection>,
    table: Arc<Table>,
    node: String,
    told: bool,
}

/// By which mark a node is going away, if it is.
pub fn mark_of(node: &Node) -> Option<&str> {
    let taint = node.spec.taints.iter().find(|taint| TAINTS.contains(&taint.key.as_str()));
    let ready = |kind: &str, status: &str| kind == "Ready" && status != "True";
    let shut = node.status.conditions.iter().any(|condition| {
        ready(&condition.kind, &condition.status) && condition.message.contains(SHUTTING_DOWN)
    });
    taint.map(|taint| taint.key.as_str()).or(shut.then_some(SHUTTING_DOWN)).or(node
        .metadata
        .deletion_timestamp
        .is_some()
        .then_some("deleted"))
}

impl Leaving {
    /// A watch over `node`.
    pub fn new(connection: Arc<Connection>, table: Arc<Table>, node: String) -> Leaving {
        Leaving { connection, table, node, told: false }
    }

    /// Watches until it is dropped.
    pub async fn run(mut self) {
        // Its own pause spreads the first watch of many agents; this one comes behind it.
        tokio::select! {
            () = self.table.completed.notified() => {}
            () = tokio::time::sleep(LONGEST_PAUSE.mul_f64(fastrand::f64())) => {}
        }
        let mut backoff = Backoff::new(LEAST_PAUSE, LONGEST_PAUSE);
        loop {
            let begun = Instant::now();
            let ended = self.attempt().await;
            if begun.elapsed() >= LEAST_TIME {
                backoff.reset();
                if ended.is_ok() {
                    continue;
                }
            }
            if let Err(failure) = ended {
                self.tell(&failure);
            }
            tokio::time::sleep(backoff.next(None)).await;
        }
    }

    /// One request. It begins with the node as it is, out of the server's cache.
    async fn attempt(&mut self) -> Result<(), Failure> {
        let time = WATCH_TIME.mul_f64(1.0 + 0.2 * fastrand::f64());
        let mut events = pin!(self.connection.watch_node(&self.node, time).await?);
        while let Some(event) = self.connection.next(&mut events).await? {
            self.enter(&event?)?;
        }
        Ok(())
    }

    fn enter(&mut self, event: &WatchEvent<Node>) -> Result<(), Failure> {
        let mark = match event {
            WatchEvent::Added(node) | WatchEvent::Modified(node) => mark_of(node),
            WatchEvent::Deleted(_) => Some("deleted"),
            WatchEvent::Bookmark(_) => return Ok(()),
            WatchEvent::Error(status) => return Err(Failure::of_status(status)),
        };
        if self.table.set_leaving(mark.is_some()) {
            match mark {
                Some(mark) => tracing::info!(
                    mark,
                    "the node is going away: records wait for no fuller batches, and the oldest are read first"
                ),
                None => tracing::info!("the node stays after all"),
            }
        }
        self.told = false;
        Ok(())
    }

    fn tell(&mut self, failure: &Failure) {
        if std::mem::replace(&mut self.told, true) {
            return tracing::debug!(error = %failure, "the node cannot be watched");
        }
        let advice = match failure {
            Failure::Forbidden(_) => {
                "; let the agent's service account `watch` nodes, or leave out `[drain]`"
            }
            _ => "",
        };
        tracing::warn!(
            error = format_args!("{failure}{advice}"),
            "the node cannot be watched: whether it is going away is not known"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_node_is_going_away_by_any_mark_and_not_by_a_cordon() {
        let ready = |status: &str, message: &str| {
            json!({ "status": { "conditions": [
            { "type": "Ready", "status": status, "message": message }] } })
        };
        for (node, mark) in [
            (json!({}), None),
            (
                json!({ "spec": { "unschedulable": true,
                "taints": [{ "key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule" }] } }),
                None,
            ),
            (json!({ "spec": { "taints": [{ "key": "DeletionCandidateOfClusterAutoscaler" }] } }), None),
            (
                json!({ "spec": { "taints": [{ "key": "a" }, { "key": "karpenter.sh/disrupted" }] } }),
                Some("karpenter.sh/disrupted"),
            ),
            (
                json!({ "spec": { "taints": [{ "key": "aws-node-termination-handler/spot-itn", "value": "x" }] } }),
                Some("aws-node-termination-handler/spot-itn"),
            ),
            (ready("True", "kubelet is posting ready status"), None),
            (ready("False", "container runtime is down"), None),
            (ready("False", "[container runtime is down, node is shutting down]"), Some(SHUTTING_DOWN)),
            (json!({ "metadata": { "deletionTimestamp": "2026-11-24T00:00:00Z" } }), Some("deleted")),
        ] {
            let read: Node = serde_json::from_value(node.clone()).unwrap();
            assert_eq!(mark_of(&read), mark, "{node}");
        }
    }
}

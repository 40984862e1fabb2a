//! Complaints: what is written wrong in annotations of pods is told, once.
//!
//! In: mistakes that the table has met. Out: a line in the agent's own log for each mistake of a namespace, and, if that is
//! wanted, a Kubernetes Event on each pod, where its owner sees it. Never asks again, and nobody waits for it.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::{Value, json};

use super::connection::Connection;
use super::table::Table;
use crate::output::dead_letter;

/// So many mistakes are remembered as told; then it begins anew.
const REMEMBERED: usize = 10_000;

/// A mistake in a pod's annotations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The pod's namespace.
    pub namespace: String,
    /// Its name.
    pub pod: String,
    /// Its uid at the API server.
    pub uid: String,
    /// What is wrong, for people.
    pub what: String,
}

/// Who tells of them.
#[derive(Debug)]
pub struct Complaints {
    connection: Arc<Connection>,
    table: Arc<Table>,
    node: String,
    events: bool,
    told: HashSet<(String, String)>,
    failed: bool,
}

impl Complaints {
    /// Of the mistakes in `table`; with `events`, on the pods too.
    pub fn new(connection: Arc<Connection>, table: Arc<Table>, node: String, events: bool) -> Complaints {
        Complaints { connection, table, node, events, told: HashSet::new(), failed: false }
    }

    /// Tells until it is dropped.
    pub async fn run(mut self) {
        loop {
            for mistake in self.table.take_mistakes() {
                self.tell(&mistake).await;
            }
            self.table.mistaken.notified().await;
        }
    }

    async fn tell(&mut self, mistake: &Mistake) {
        if self.told.len() >= REMEMBERED {
            self.told.clear();
        }
        let Mistake { namespace, pod, what, .. } = mistake;
        if self.told.insert((namespace.clone(), what.clone())) {
            tracing::warn!(
                namespace,
                pod,
                mistake = what,
                "an annotation of a pod is not understood, and changes nothing"
            );
        }
        if !self.events {
            return;
        }
        let (collection, event) = (format!("/api/v1/namespaces/{namespace}/events"), self.event(mistake));
        if let Err(error) = self.connection.create::<Value>(&collection, &event).await
            && !std::mem::replace(&mut self.failed, true)
        {
            tracing::warn!(%error, namespace, pod,
                "cannot report on pods what of their annotations is not understood (`report_events`); the agent needs the \
                 right to `create` events");
        }
    }

    /// As `kubectl describe pod` shows it.
    fn event(&self, mistake: &Mistake) -> Value {
        let Mistake { namespace, pod, uid, what } = mistake;
        let now = dead_letter::now();
        json!({
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": { "generateName": "taffrail-", "namespace": namespace },
            "involvedObject": { "apiVersion": "v1", "kind": "Pod", "namespace": namespace, "name": pod, "uid": uid },
            "type": "Warning",
            "reason": "LogAnnotationNotUnderstood",
            // The API allows 1,024 bytes.
            "message": what.chars().take(250).collect::<String>(),
            "source": { "component": "taffrail", "host": self.node },
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        })
    }
}

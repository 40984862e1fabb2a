//! Metadata from a real Kubernetes API server.

mod annotations;
mod away;
mod drain;
mod kit;
mod labels;
mod owners;
mod pods;
mod rights;
mod routes;
mod size;

use serde_json::{Value, json};
use taffrail_tests::agent::Agent;
use taffrail_tests::kubernetes::{self, Kubernetes};
use taffrail_tests::node::Node;
use taffrail_tests::verify::Document;
use taffrail_tests::{eventually, seconds};

/// A pod `name` in `namespace` with these labels, as [`Kubernetes::pod`] wants it.
fn named(name: &str, namespace: &str, labels: Value) -> Value {
    json!({ "metadata": { "name": name, "namespace": namespace, "labels": labels } })
}

/// An agent that asks this server, delivering to files, with further lines of configuration.
fn agent(cluster: &Kubernetes, node: &Node, more: &str) -> Agent {
    let config = format!("{}\n{more}", node.to_file());
    Agent::start_by(&kubernetes::with(&cluster.kubeconfig()), &config, node)
}

/// Waits for the document with this message, and gives it.
#[track_caller]
fn document(node: &Node, message: &str) -> Document {
    eventually(seconds(40), &format!("the document {message:?}"), || {
        let documents = node.delivered()?;
        let found = documents.iter().find(|document| document.message() == message).cloned();
        found.ok_or_else(|| format!("{} others", documents.len()))
    })
}

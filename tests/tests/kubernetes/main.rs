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
use std::time::Duration;
use taffrail_tests::agent::Agent;
use taffrail_tests::kubernetes::{self, Kubernetes};
use taffrail_tests::node::{Container, Node, Pod};
use taffrail_tests::verify::Document;
use taffrail_tests::{eventually, seconds};

/// A pod `name` in `namespace` with these labels, as [`Kubernetes::pod`] wants it.
fn named(name: &str, namespace: &str, labels: Value) -> Value {
    json!({ "metadata": { "name": name, "namespace": namespace, "labels": labels } })
}

/// A running pod `web` with the label `v` of `1`, of one container, `app`.
fn web(cluster: &Kubernetes, node: &Node, namespace: &str) -> Pod {
    let web = cluster.pod(node, named("web", namespace, json!({ "v": "1" })));
    cluster.runs(&web, &[("app", 0, "c0")]);
    web
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

/// Writes lines until one comes with this value of the label `v`, and gives its document: the watch and the log are two
/// ways, so that what is written at once may still be told the old one.
#[track_caller]
fn follows(app: &mut Container, node: &Node, version: &str, time: Duration) -> Document {
    let mut n = 0;
    eventually(time, &format!("the label {version}"), || {
        n += 1;
        app.writes_line(&format!("{version} {n}"));
        let last = document(node, &format!("{version} {n}"));
        if last.text("kubernetes.labels.v") == version { Ok(last) } else { Err(last.source.to_string()) }
    })
}

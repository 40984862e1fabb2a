//! An API server that is away, slow, silent, or has forgotten everything.

use std::time::Duration;

use serde_json::json;
use taffrail_tests::agent::Agent;
use taffrail_tests::kubernetes::{self, Kubernetes};
use taffrail_tests::wire::{Mood, Wire};
use taffrail_tests::{eventually, seconds};

use super::{agent, document, follows, named, web};

#[test]
fn an_api_server_that_was_killed_and_came_back_is_followed_on() {
    let cluster = Kubernetes::start(&[]);
    let (node, shop) = (cluster.node(), cluster.namespace());
    let web = cluster.pod(&node, named("web", &shop, json!({ "v": "1" })));
    let gone = cluster.pod(&node, named("gone", &shop, json!({ "v": "1" })));
    for pod in [&web, &gone] {
        cluster.runs(pod, &[("app", 0, "c0")]);
    }
    let (mut app, mut old) = (web.container("app"), gone.container("app"));
    app.writes_line("before");
    let agent = agent(&cluster, &node, "");
    document(&node, "before");
    cluster.kill9();
    agent.has_said("no metadata from the API server", 1);
    // What is known stays in use.
    app.writes_line("meanwhile");
    assert_eq!(document(&node, "meanwhile").text("kubernetes.labels.v"), "1");
    cluster.returns();
    // Its watch cache begins now: where the agent was is forgotten (410).
    cluster.patch(&web, json!({ "metadata": { "labels": { "v": "2" } } }));
    cluster.delete(&gone);
    let new = cluster.pod(&node, named("new", &shop, json!({ "v": "3" })));
    cluster.runs(&new, &[("app", 0, "c1")]);
    agent.has_said("metadata comes from the API server again", 1);
    new.container("app").writes_line("of a new pod");
    assert_eq!(document(&node, "of a new pod").text("kubernetes.labels.v"), "3");
    follows(&mut app, &node, "2", seconds(20));
    old.writes_line("of a deleted pod");
    assert_eq!(document(&node, "of a deleted pod").text("kubernetes.labels.v"), "1");
    let said = agent.terminate().stderr;
    assert_eq!(said.matches("no metadata from the API server").count(), 1, "told once: {said}");
}

#[test]
fn an_api_server_that_is_away_at_the_start_is_not_missed_where_the_cache_knows() {
    let cluster = Kubernetes::shared();
    let (node, shop) = (cluster.node(), cluster.namespace());
    let web = web(cluster, &node, &shop);
    let mut app = web.container("app");
    app.writes_line("first");
    let wire = Wire::to(cluster.address());
    let way = kubernetes::with(&cluster.kubeconfig_by(wire.address()));
    let start = || Agent::start_by(&way, &format!("{}\n[metadata]\nwait = \"5m\"", node.to_file()), &node);
    let agent = start();
    document(&node, "first");
    assert_eq!(agent.terminate().code, Some(0));
    wire.becomes(Mood::Cut);
    app.writes_line("second");
    // Kubelet goes on without the server, too.
    let mut new = node.pod("new").namespace(&shop).container("app");
    new.writes_line("of nobody knows whom");
    let agent = start();
    let second = document(&node, "second");
    assert_eq!((second.text("kubernetes.labels.v"), second.text("container.id")), ("1", "c0"));
    assert!(
        !node.delivered().unwrap().iter().any(|document| document.message().contains("nobody")),
        "it waits"
    );
    drop(agent);
}

#[test]
fn an_api_server_that_is_away_at_the_start_delays_nothing_for_longer_than_wait() {
    let cluster = Kubernetes::shared();
    let (node, shop) = (cluster.node(), cluster.namespace());
    let web = web(cluster, &node, &shop);
    let mut app = web.container("app");
    app.writes(500);
    let wire = Wire::to(cluster.address());
    wire.becomes(Mood::Silent);
    let way = kubernetes::with(&cluster.kubeconfig_by(wire.address()));
    let config = format!("{}\n[metadata]\nwait = \"1s\"\ntimeout = \"2s\"", node.to_file());
    let agent = Agent::start_by(&way, &config, &node);
    let documents = taffrail_tests::verify::exactly_once(seconds(40), || node.delivered(), &[&app]);
    assert!(documents.iter().all(|document| document.text("taffrail.metadata") == "path"));
    agent.has_said("no metadata from the API server", 1);
    wire.becomes(Mood::Carries);
    agent.has_said("metadata comes from the API server again", 1);
    app.writes_line("and now");
    let now = document(&node, "and now");
    assert_eq!((now.text("kubernetes.labels.v"), now.get("taffrail.metadata")), ("1", None));
}

#[test]
fn a_connection_that_is_half_open_is_given_up_and_a_slow_one_is_borne() {
    let cluster = Kubernetes::shared();
    let (node, shop) = (cluster.node(), cluster.namespace());
    let web = web(cluster, &node, &shop);
    let mut app = web.container("app");
    let wire = Wire::to(cluster.address());
    // So slow that a list of everything takes seconds, though never silent.
    wire.becomes(Mood::Slow(256, Duration::from_millis(20)));
    let way = kubernetes::with(&cluster.kubeconfig_by(wire.address()));
    let config = format!("{}\n[metadata]\ntimeout = \"3s\"\nwait = \"60s\"", node.to_file());
    let _agent = Agent::start_by(&way, &config, &node);
    app.writes_line("slowly");
    assert_eq!(document(&node, "slowly").text("kubernetes.labels.v"), "1");
    wire.becomes(Mood::Carries);
    let taken = wire.taken();
    // No end of the connection is ever seen: nothing comes, that is all.
    wire.becomes(Mood::Silent);
    cluster.patch(&web, json!({ "metadata": { "labels": { "v": "2" } } }));
    eventually(seconds(30), "the agent to connect anew", || {
        if wire.taken() > taken { Ok(()) } else { Err(format!("{taken} connections")) }
    });
    wire.becomes(Mood::Carries);
    follows(&mut app, &node, "2", seconds(40));
}

#[test]
fn a_reload_keeps_what_is_known_though_the_server_is_away() {
    let cluster = Kubernetes::shared();
    let (node, shop) = (cluster.node(), cluster.namespace());
    let web = cluster.pod(&node, named("web", &shop, json!({ "v": "1", "team": "a" })));
    cluster.runs(&web, &[("app", 0, "c0")]);
    let mut app = web.container("app");
    app.writes_line("before");
    let wire = Wire::to(cluster.address());
    let way = kubernetes::with(&cluster.kubeconfig_by(wire.address()));
    let config = node.path().join("taffrail.toml");
    std::fs::write(&config, node.to_file() + "\n[metadata]\nlabels = [\"v\"]\n").unwrap();
    let agent = Agent::start_at(&way, &config, &node);
    assert_eq!(document(&node, "before").source["kubernetes"]["labels"], json!({ "v": "1" }));
    wire.becomes(Mood::Cut);
    // A label that was not sent before now decides where records go: it was known all the same.
    let by_team = node.to_file().replace("{namespace}", "{label:team}");
    std::fs::write(&config, by_team + "\n[metadata]\nwait = \"5m\"\n").unwrap();
    agent.hang_up();
    agent.has_said("reloaded the configuration", 1);
    app.writes_line("after");
    assert_eq!(document(&node, "after").source["kubernetes"]["labels"], json!({ "v": "1", "team": "a" }));
    assert!(std::fs::read_to_string(node.path().join("out/a.ndjson")).unwrap().contains("after"));
    assert_eq!(agent.terminate().code, Some(0));
}

//! A node that is going away, as its object at the API server says.

use std::fs;

use serde_json::{Value, json};
use taffrail_tests::agent::Agent;
use taffrail_tests::kubernetes::{self, Kubernetes};
use taffrail_tests::node::Node;
use taffrail_tests::server::{Kind, Server};
use taffrail_tests::wire::{Mood, Wire};
use taffrail_tests::{eventually, let_pass, seconds};

use super::{agent, document, named};

const DRAIN: &str = "\n[drain]\nenabled = true\n";

/// Changes the node's object; `status`: what others than kubelet may not.
fn patch(cluster: &Kubernetes, node: &Node, patch: Value) {
    let status = if patch.get("status").is_some() { "/status" } else { "" };
    cluster.send("PATCH", &format!("/api/v1/nodes/{}{status}", node.name), &patch);
}

fn tainted(keys: &[&str]) -> Value {
    let taint = |key: &&str| json!({ "key": key, "effect": "NoSchedule" });
    json!({ "spec": { "taints": keys.iter().map(taint).collect::<Vec<_>>() } })
}

fn ready(status: &str, message: &str) -> Value {
    json!({ "status": { "conditions": [
        { "type": "Ready", "status": status, "reason": "KubeletNotReady", "message": message }] } })
}

#[test]
fn records_wait_for_no_fuller_batch_while_the_node_is_going_away_by_whatever_mark() {
    let cluster = Kubernetes::shared();
    let (node, shop) = (cluster.node(), cluster.namespace());
    let web = cluster.pod(&node, named("web", &shop, json!({})));
    cluster.runs(&web, &[("app", 0, "c0")]);
    let mut app = web.container("app");
    let config = node.to_file() + "linger = \"5m\"\n" + DRAIN;
    let way = kubernetes::with(&cluster.kubeconfig());
    let agent = Agent::start_by(&way, &config, &node);
    for (times, (mark, none)) in (1..).zip([
        (tainted(&["node.kubernetes.io/unschedulable", "karpenter.sh/disrupted"]), tainted(&[])),
        (ready("False", "node is shutting down"), ready("True", "kubelet is posting ready status")),
        (tainted(&["aws-node-termination-handler/spot-itn"]), tainted(&["node.kubernetes.io/unschedulable"])),
    ]) {
        app.writes_line(&format!("before mark {times}"));
        patch(cluster, &node, mark);
        document(&node, &format!("before mark {times}"));
        agent.has_said("the node is going away", times);
        app.writes_line(&format!("after mark {times}"));
        document(&node, &format!("after mark {times}"));
        patch(cluster, &node, none);
        agent.has_said("the node stays after all", times);
    }
    patch(cluster, &node, tainted(&["ToBeDeletedByClusterAutoscaler"]));
    cluster.send("DELETE", &format!("/api/v1/nodes/{}", node.name), &Value::Null);
    app.writes_line("the last");
    document(&node, "the last");
    assert_eq!(agent.terminate().code, Some(0));
}

/// A node with a container whose output does not take anything until [`clear`].
fn blocked(cluster: &Kubernetes) -> (Node, taffrail_tests::node::Container) {
    let (node, shop) = (cluster.node(), cluster.namespace());
    fs::write(node.path().join("out"), "").expect("a file in the way");
    let web = cluster.pod(&node, named("web", &shop, json!({})));
    cluster.runs(&web, &[("app", 0, "c0")]);
    let mut app = web.container("app");
    app.writes(100);
    (node, app)
}

fn clear(node: &Node) {
    fs::remove_file(node.path().join("out")).expect("to clear the way");
}

fn start(cluster: &Kubernetes, node: &Node) -> Agent {
    let config = "grace = \"4s\"\n".to_owned() + &node.to_file() + DRAIN;
    Agent::start_by(&kubernetes::with(&cluster.kubeconfig()), &config, node)
}

#[test]
fn at_its_end_on_a_node_that_is_going_away_it_reads_on_for_longer_and_what_is_written_meanwhile_too() {
    let cluster = Kubernetes::shared();
    let (node, mut app) = blocked(cluster);
    let mut agent = start(cluster, &node);
    patch(cluster, &node, tainted(&["karpenter.sh/disrupted"]));
    agent.has_said("the node is going away", 1);
    agent.ask_to_end();
    agent.has_said("stopping: reading on", 1);
    // Longer than the grace period of a plain update.
    let_pass(seconds(6));
    assert!(agent.runs(), "{}", agent.stderr());
    app.writes_line("written after SIGTERM");
    clear(&node);
    let ended = agent.ends();
    assert_eq!(ended.code, Some(0));
    assert!(ended.stderr.contains("caught_up=true"), "{}", ended.stderr);
    let delivered = node.delivered().unwrap();
    assert_eq!(delivered.len(), 101);
    assert!(delivered.iter().any(|document| document.message() == "written after SIGTERM"));
}

#[test]
fn a_plain_update_of_the_agent_ends_it_within_its_grace_period() {
    let cluster = Kubernetes::shared();
    let (node, _app) = blocked(cluster);
    let agent = start(cluster, &node);
    // A cordon is no farewell.
    patch(cluster, &node, tainted(&["node.kubernetes.io/unschedulable"]));
    eventually(seconds(60), "the node to be watched", || {
        let asked = cluster.requests("nodes", "WATCH");
        if asked > 0 || agent.stderr().contains("started") { Ok(()) } else { Err(agent.stderr()) }
    });
    let begun = std::time::Instant::now();
    let ended = agent.terminate();
    assert!(begun.elapsed() < seconds(20), "{:?}: {}", begun.elapsed(), ended.stderr);
    assert!(ended.stderr.contains("caught_up=false"), "{}", ended.stderr);
    // Nothing is lost by it: the next one goes on.
    clear(&node);
    let _agent = start(cluster, &node);
    eventually(seconds(60), "all lines", || {
        let count = node.delivered()?.len();
        if count == 100 { Ok(()) } else { Err(format!("{count}")) }
    });
}

#[test]
fn an_agent_that_may_not_watch_its_node_says_so_once_and_works() {
    let cluster = Kubernetes::shared();
    let (node, shop) = (cluster.node(), cluster.namespace());
    let account =
        cluster.account(json!([{ "apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"] }]));
    let web = cluster.pod(&node, named("web", &shop, json!({})));
    cluster.runs(&web, &[("app", 0, "c0")]);
    web.container("app").writes_line("hello");
    let config = node.to_file() + DRAIN;
    let agent = Agent::start_by(&kubernetes::with(&account.kubeconfig()), &config, &node);
    document(&node, "hello");
    agent.has_said("let the agent's service account `watch` nodes", 1);
    drop(agent);
    assert!(!self::agent(cluster, &node, "").stderr().contains("watch` nodes"));
}

#[test]
fn a_mark_that_is_set_while_the_connection_is_dead_is_heard_of() {
    let cluster = Kubernetes::shared();
    let (node, shop) = (cluster.node(), cluster.namespace());
    let web = cluster.pod(&node, named("web", &shop, json!({})));
    cluster.runs(&web, &[("app", 0, "c0")]);
    web.container("app").writes_line("hello");
    let wire = Wire::to(cluster.address());
    let config = node.to_file() + DRAIN + "\n[metadata]\ntimeout = \"3s\"\n";
    let way = kubernetes::with(&cluster.kubeconfig_by(wire.address()));
    let agent = Agent::start_by(&way, &config, &node);
    assert!(document(&node, "hello").get("kubernetes.labels").is_none());
    wire.becomes(Mood::Silent);
    patch(cluster, &node, tainted(&["ToBeDeletedByClusterAutoscaler"]));
    agent.has_said("the node cannot be watched", 1);
    assert!(!agent.stderr().contains("going away:"));
    wire.becomes(Mood::Carries);
    agent.has_said("the node is going away", 1);
}

#[test]
fn at_the_end_what_an_output_cannot_deliver_goes_to_the_fallback_in_opensearch() {
    let cluster = Kubernetes::shared();
    let (node, shop) = (cluster.node(), cluster.namespace());
    let web = cluster.pod(&node, named("web", &shop, json!({})));
    cluster.runs(&web, &[("app", 0, "c0")]);
    let mut app = web.container("app");
    app.writes(200);
    let space = Server::shared(Kind::OpenSearch).space().takes_indices();
    // The fallback's own part of the logs is empty: whatever is there was another's.
    let config = space.dated(&node)
        + "\n[outputs.away]\ntype = \"elasticsearch\"\nendpoints = [\"http://127.0.0.1:9\"]\nindex = \"x-{date}\"\n\
           [[routes]]\noutputs = [\"away\"]\n[drain]\nenabled = true\ndeadline = \"16s\"\nfallback = \"search\"\n";
    let agent = Agent::start_by(
        &kubernetes::with(&cluster.kubeconfig()),
        &("grace = \"4s\"\n".to_owned() + &config),
        &node,
    );
    agent.has_said("cannot deliver", 1);
    patch(cluster, &node, tainted(&["karpenter.sh/disrupted"]));
    agent.has_said("the node is going away", 1);
    agent.ask_to_end();
    let ended = agent.ends();
    assert!(
        ended.stderr.contains("goes to the fallback") && ended.stderr.contains("caught_up=true"),
        "{}",
        ended.stderr
    );
    taffrail_tests::verify::exactly_once(seconds(60), || space.documents(), &[&app]);
}

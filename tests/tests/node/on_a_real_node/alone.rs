//! Scenarios that need the node for themselves: they stop or replace the agent, parts of the node, or all of it.

use serde_json::json;
use taffrail_tests::real_node::RealNode;
use taffrail_tests::real_node::pods::{workload, workload_with, writes};
use taffrail_tests::real_node::usage::Group;
use taffrail_tests::real_node::witness::Witness;
use taffrail_tests::real_node::world::{AGENT, kill9};
use taffrail_tests::{eventually, seconds};

use crate::kit::alone;

/// A node that takes no pods, until the value goes.
struct Cordoned<'n>(&'n RealNode);

impl Drop for Cordoned<'_> {
    fn drop(&mut self) {
        let _ = self.0.try_kubectl(&["uncordon", "node-1"]);
    }
}

#[test]
fn everything_that_pods_wrote_before_a_drain_arrives() {
    let world = alone();
    let ns = &world.namespace("many-drained");
    let witness = Witness::of(&world.node.logs(), &[ns]);
    let two = json!({ "replicas": 2 });
    world.node.apply(&workload_with("Deployment", ns, "web", writes("web", 1_000_000, 500, None), two));
    world.node.apply(&workload("StatefulSet", ns, "db", writes("db", 1_000_000, 500, None)));
    world.node.rolled_out(ns, "deployment/web");
    world.node.rolled_out(ns, "statefulset/db");
    let agent = world.agent();
    let cordoned = Cordoned(&world.node);
    world.node.kubectl(&[
        "drain",
        "node-1",
        "--ignore-daemonsets",
        "--delete-emptydir-data",
        "--force",
        "--timeout=100s",
    ]);
    let left = world.node.pods(ns).iter().filter(|pod| pod["status"]["phase"] == "Running").count();
    assert_eq!(left, 0, "drained");
    assert_eq!(world.agent(), agent, "a DaemonSet's pod stays");
    world.as_witnessed("the node is drained", &[ns], &witness);
    assert_eq!(witness.seen().lives.len(), 3, "two pods of web and one of db");
    drop(cordoned);
}

#[test]
fn an_agent_that_runs_out_of_memory_is_started_again_and_goes_on_where_it_was() {
    let world = alone();
    let ns = &world.namespace("memory");
    world.node.kubectl(&["-n", AGENT, "rollout", "restart", "daemonset/taffrail"]);
    world.node.rolled_out(AGENT, "daemonset/taffrail");
    let pod = world.agent();
    // One that has had nothing to do yet has little; what is written then is more than it may have.
    Group::of_container(world.process()).expect("its control group").squeezes();
    world.node.apply(&workload("Deployment", ns, "burst", writes("burst", 5_000, 0, None)));
    world.node.apply(&workload("Deployment", ns, "steady", writes("steady", 2_000, 200, None)));
    let reason = "jsonpath={.status.containerStatuses[0].lastState.terminated.reason}";
    eventually(seconds(120), "the agent to be OOMKilled and started again", || {
        let reason = world.node.try_kubectl(&["-n", AGENT, "get", "pod", &pod, "-o", reason])?;
        if reason == "OOMKilled" { Ok(()) } else { Err(reason) }
    });
    assert_eq!(world.agent(), pod);
    world.exactly_once("the agent is OOMKilled", ns, &[("burst", 5_000, 1), ("steady", 2_000, 1)]);
}

#[test]
fn an_agent_that_is_evicted_is_followed_by_one_that_goes_on() {
    let world = alone();
    let ns = &world.namespace("many-evicted");
    world.node.apply(&workload("Deployment", ns, "steady", writes("steady", 20_000, 1_000, None)));
    world.node.rolled_out(ns, "deployment/steady");
    let before = world.agent();
    world.node.evicts(AGENT, &before);
    eventually(seconds(120), "another agent", || {
        let now = world.agent();
        if now != before { Ok(()) } else { Err("still the same".into()) }
    });
    world.exactly_once("the agent's pod is evicted", ns, &[("steady", 20_000, 1)]);
}

#[test]
fn a_reboot_of_the_node_loses_and_doubles_nothing() {
    let world = alone();
    let ns = &world.namespace("reboot");
    let witness = Witness::of(&world.node.logs(), &[ns]);
    world.node.apply(&workload("Deployment", ns, "web", writes("web", 2_000, 200, None)));
    world.node.apply(&workload("StatefulSet", ns, "db", writes("db", 2_000, 200, None)));
    world.node.rolled_out(ns, "deployment/web");
    world.node.rolled_out(ns, "statefulset/db");
    eventually(seconds(60), "lines to be written", || {
        let lines = witness.seen().lines();
        if lines > 500 { Ok(()) } else { Err(format!("{lines} lines")) }
    });
    world.node.reboots();
    eventually(seconds(180), "the pods to be there again, and to have written everything", || {
        let seen = witness.seen();
        let whole = |name: &str| seen.of_writer(name).any(|numbers| numbers.len() == 2_000);
        if whole("web") && whole("db") { Ok(()) } else { Err(seen.to_string()) }
    });
    world.as_witnessed("the node is rebooted", &[ns], &witness);
    assert_eq!(witness.seen().lives.len(), 4, "two lives each");
}

#[test]
fn a_rolling_update_of_the_agent_loses_and_doubles_nothing() {
    let world = alone();
    let ns = &world.namespace("many-update");
    for name in ["one", "two", "three"] {
        world.node.apply(&workload("Deployment", ns, name, writes(name, 30_000, 2_000, None)));
        world.node.rolled_out(ns, &format!("deployment/{name}"));
    }
    let before = world.agent();
    world.node.kubectl(&["-n", AGENT, "rollout", "restart", "daemonset/taffrail"]);
    world.node.rolled_out(AGENT, "daemonset/taffrail");
    assert_ne!(world.agent(), before);
    let writers = ["one", "two", "three"].map(|name| (name, 30_000, 1));
    world.exactly_once("a rolling update of the agent", ns, &writers);
}

#[test]
fn an_agent_that_is_killed_goes_on_where_it_was() {
    let world = alone();
    let ns = &world.namespace("killed");
    world.node.apply(&workload("Deployment", ns, "steady", writes("steady", 4_000, 400, None)));
    world.node.rolled_out(ns, "deployment/steady");
    let pod = world.agent();
    let restarts = || world.node.restarts(AGENT, &pod);
    for _ in 0..2 {
        let before = restarts().unwrap();
        assert!(kill9(world.process()));
        eventually(seconds(120), "kubelet to start it again", || {
            let now = restarts()?;
            if now > before { Ok(()) } else { Err(format!("{now} restarts")) }
        });
        assert_eq!(world.agent(), pod);
    }
    world.exactly_once("the agent is killed twice", ns, &[("steady", 4_000, 1)]);
}

#[test]
fn kubelet_containerd_and_the_api_server_may_go_and_come_back() {
    let world = alone();
    let ns = &world.namespace("many-away");
    world.node.apply(&workload("Deployment", ns, "steady", writes("steady", 40_000, 2_000, None)));
    world.node.rolled_out(ns, "deployment/steady");
    for part in ["kubelet", "containerd", "server"] {
        world.node.stop(part);
        world.node.start(part);
    }
    eventually(seconds(120), "the API server", || world.node.try_kubectl(&["get", "nodes"]));
    world.exactly_once("kubelet, containerd and API server are restarted", ns, &[("steady", 40_000, 1)]);
}

#[test]
fn another_configuration_counts_from_then_on() {
    let world = alone();
    let ns = &world.namespace("changes");
    world.node.apply(&workload("Deployment", ns, "before", writes("before", 200, 0, None)));
    world.exactly_once("before another configuration", ns, &[("before", 200, 1)]);
    // The overlay's ConfigMap has another name then, and the DaemonSet rolls over to it.
    world.configure("[metadata]\nlabel_fields = [\"app\"]");
    world.node.rolled_out(AGENT, "daemonset/taffrail");
    world.node.apply(&workload("Deployment", ns, "after", writes("after", 200, 0, None)));
    world.exactly_once("another configuration", ns, &[("before", 200, 1), ("after", 200, 1)]);
    let found = world.delivered(ns).unwrap();
    let labelled = found.iter().filter(|document| document.text("labels.app") == "after").count();
    assert_eq!(labelled, 200);
    world.configure("");
    world.node.rolled_out(AGENT, "daemonset/taffrail");
}

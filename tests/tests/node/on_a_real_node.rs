//! Scenarios, each of which ends in a count.

mod changes;
mod disturbances;
mod programs;
mod workloads;

use std::fs;

use taffrail_tests::real_node::pods::{workload, writes};
use taffrail_tests::real_node::world::{AGENT, kill9};
use taffrail_tests::{eventually, seconds};

use crate::kit::{alone, world};

#[test]
fn logs_that_kubelet_rotates_under_a_quick_writer_arrive_whole() {
    let world = world();
    let ns = &world.namespace("many-rotation");
    // 5 MB/s for 12 s, against 1 MiB that kubelet allows and looks at each 3 s.
    world.node.apply(&workload("Deployment", ns, "quick", writes("quick", 300_000, 25_000, None)));
    world.exactly_once("kubelet's rotation under 5 MB/s", ns, &[("quick", 300_000, 1)]);
}

#[test]
fn a_job_that_lives_for_a_moment_leaves_all_of_its_lines_with_its_owner() {
    let world = world();
    let ns = &world.namespace("moment");
    world.node.apply(&workload("Job", ns, "moment", writes("moment", 50, 0, Some(0))));
    world.exactly_once("a Job that lives for a moment", ns, &[("moment", 50, 1)]);
    let found = world.delivered(ns).unwrap();
    let of = |name: &str| found[0].text(name).to_owned();
    assert_eq!((of("kubernetes.job.name"), of("kubernetes.node.name")), ("moment".into(), "node-1".into()));
    assert!(found[0].text("container.image.name").starts_with("localhost/play"), "{:?}", found[0]);
}

#[test]
fn each_life_of_a_container_that_crashes_again_and_again_is_delivered() {
    let world = world();
    let ns = &world.namespace("crashes");
    world.node.apply(&workload("Deployment", ns, "crash", writes("crash", 100, 0, Some(1))));
    world.node.comes_to(ns, "pods", "{.items[0].status.containerStatuses[0].restartCount}", "2");
    world.node.kubectl(&["-n", ns, "scale", "deployment/crash", "--replicas=0"]);
    // kubelet keeps the logs of the last life and the one before; whoever is away does not see the others.
    world.exactly_once("a crash loop of three lives", ns, &[("crash", 100, 3)]);
}

#[test]
fn a_pod_of_a_stateful_set_is_not_mixed_up_with_the_one_before_it() {
    let world = world();
    let ns = &world.namespace("reborn");
    world.node.apply(&workload("StatefulSet", ns, "set", writes("set", 500, 0, None)));
    world.node.rolled_out(ns, "statefulset/set");
    let first = world.node.pods(ns)[0]["metadata"]["uid"].clone();
    world.node.kubectl(&["-n", ns, "delete", "pod", "set-0"]);
    world.node.rolled_out(ns, "statefulset/set");
    let second = world.node.pods(ns)[0]["metadata"]["uid"].clone();
    world.exactly_once("a pod of a StatefulSet, twice", ns, &[("set", 500, 2)]);
    let found = world.delivered(ns).unwrap();
    for uid in [first, second] {
        let of = found.iter().filter(|document| document.get("kubernetes.pod.uid") == Some(&uid)).count();
        assert_eq!(of, 500, "{uid}");
    }
    assert!(found.iter().all(|document| document.text("kubernetes.statefulset.name") == "set"));
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
fn the_agent_runs_with_the_rights_that_the_manifests_give() {
    let world = world();
    let pid = world.process();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    for line in ["CapEff:\t0000000000000000", "CapPrm:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"] {
        assert!(status.contains(line), "{line}: {status}");
    }
    let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    let root = mounts.lines().find(|line| line.split(' ').nth(4) == Some("/")).expect("its root");
    assert!(root.split(' ').nth(5).is_some_and(|options| options.starts_with("ro")), "{root}");
}

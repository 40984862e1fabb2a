//! Lives of containers and of their logs: rotated, short, repeated; and the same in CloudWatch Logs.

use serde_json::json;
use taffrail_tests::moto::Moto;
use taffrail_tests::real_node::pods::{workload, workload_with, writes};
use taffrail_tests::real_node::world::note;
use taffrail_tests::{eventually, seconds};

use crate::kit::{GROUP, cloud, world};

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
fn cloudwatch_logs_holds_every_line_once() {
    let world = world();
    let ns = &world.namespace("cloud");
    world.node.apply(&workload_with(
        "Deployment",
        ns,
        "web",
        writes("web", 1_500, 500, None),
        json!({ "replicas": 2 }),
    ));
    world.node.rolled_out(ns, "deployment/web");
    let pods = world.node.pods(ns);
    let names: Vec<&str> = pods.iter().filter_map(|pod| pod["metadata"]["name"].as_str()).collect();
    assert_eq!(names.len(), 2);
    let numbers = |pod: &str| -> Vec<u64> {
        let events = Moto::shared().events(GROUP, &format!("{}/{pod}/app", &**ns));
        events.iter().filter_map(|event| event.message.split(' ').nth(1)?.parse().ok()).collect()
    };
    for pod in &names {
        eventually(seconds(120), "every line in its stream", || {
            let found = numbers(pod).len();
            if found >= 1_500 { Ok(()) } else { Err(format!("{found} events")) }
        });
        let found = numbers(pod);
        assert!(found.iter().copied().eq(1..=1_500), "in its order, and once: {found:?}");
    }
    let seen = cloud().seen();
    assert_eq!(seen.violations, [""; 0]);
    let delivered: usize = names.iter().map(|pod| numbers(pod).len()).sum();
    note("to CloudWatch Logs", 3_000, delivered as u64, delivered as u64 - 3_000);
}

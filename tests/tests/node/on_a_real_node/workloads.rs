//! Workloads of every kind, and pods that are unlike others: chatty, silent, without memory.

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};
use taffrail_tests::real_node::pods::{pod, runs, silent, workload, workload_with, writer, writes};
use taffrail_tests::real_node::world::folder;
use taffrail_tests::verify::Document;
use taffrail_tests::{clock, eventually, seconds};

use crate::kit::world;

#[test]
fn workloads_of_every_kind_in_several_namespaces_deliver_under_their_own_names() {
    let world = world();
    let (shop, bank) = (&world.namespace("shop"), &world.namespace("bank"));
    let mut web = pod(vec![writer("app", "web", 500, 0, None)]);
    web["initContainers"] = json!([writer("prepare", "prepare", 100, 0, Some(0))]);
    let two = || json!({ "replicas": 2 });
    world.node.apply(&workload_with("Deployment", shop, "web", web, two()));
    world.node.apply(&workload_with("StatefulSet", bank, "db", writes("db", 500, 0, None), two()));
    let three = json!({ "completions": 3, "parallelism": 3 });
    world.node.apply(&workload_with("Job", bank, "batch", writes("batch", 200, 0, Some(0)), three));
    world.node.apply(&workload("CronJob", shop, "nightly", writes("nightly", 100, 0, Some(0))));
    // Called as the controller calls it, by the minute: so it is known for a CronJob's.
    let due = format!("nightly-{}", clock::now() / 60_000_000_000);
    world.node.kubectl(&["-n", shop, "create", "job", "--from=cronjob/nightly", &due]);
    let of_shop = [("prepare", 100, 2), ("web", 500, 2), ("nightly", 100, 1)];
    world.exactly_once("a Deployment with init containers, and a CronJob", shop, &of_shop);
    world.exactly_once("a StatefulSet and a Job of three pods", bank, &[("db", 500, 2), ("batch", 200, 3)]);
    let found = [world.delivered(shop).unwrap(), world.delivered(bank).unwrap()].concat();
    let values = |writer: &str, field: &str| -> BTreeSet<String> {
        let is_of = |document: &&Document| document.message().split('@').next() == Some(writer);
        found.iter().filter(is_of).map(|document| document.text(field).to_owned()).collect()
    };
    for (writer, field, expected) in [
        ("prepare", "kubernetes.container.name", &["prepare"][..]),
        ("prepare", "kubernetes.deployment.name", &["web"]),
        ("web", "kubernetes.container.name", &["app"]),
        ("web", "kubernetes.deployment.name", &["web"]),
        ("nightly", "kubernetes.cronjob.name", &["nightly"]),
        ("nightly", "kubernetes.job.name", &[&due]),
        ("db", "kubernetes.statefulset.name", &["db"]),
        ("db", "kubernetes.pod.name", &["db-0", "db-1"]),
        ("batch", "kubernetes.job.name", &["batch"]),
    ] {
        let expected = expected.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(values(writer, field), expected, "{writer}: {field}");
    }
}

#[test]
fn a_silent_pod_beside_a_chatty_one_costs_nothing_and_says_nothing() {
    let world = world();
    let ns = &world.namespace("many-unlike");
    world.node.apply(&workload("Deployment", ns, "silent", silent()));
    world.node.rolled_out(ns, "deployment/silent");
    world.node.apply(&workload("Deployment", ns, "chatty", writes("chatty", 100_000, 10_000, None)));
    world.exactly_once("a chatty pod beside a silent one", ns, &[("chatty", 100_000, 1)]);
    let found = world.delivered(ns).unwrap();
    assert!(found.iter().all(|document| document.text("kubernetes.pod.name").starts_with("chatty")));
    let pods = world.node.pods(ns);
    let silent = pods.iter().find(|pod| pod["metadata"]["labels"]["app"] == "silent");
    let silent = silent.and_then(|pod| pod["metadata"]["uid"].as_str()).unwrap();
    let agent = world.process();
    let open = fs::read_dir(format!("/proc/{agent}/fd")).unwrap().flatten();
    let open: Vec<String> =
        open.filter_map(|fd| Some(fs::read_link(fd.path()).ok()?.to_string_lossy().into_owned())).collect();
    assert!(!open.iter().any(|path| path.contains(silent)), "{open:#?}");
}

#[test]
fn lines_of_a_container_that_ran_out_of_memory_arrive_up_to_its_end() {
    let world = world();
    let ns = &world.namespace("greedy");
    let folder = folder("node-greedy");
    // As the tests' own program writes, and then ever more memory.
    let program = "import time\nlife = 'greedy@%d' % time.time_ns()\nfor n in range(1, 401):\n    \
                   print(('%s %09d ' % (life, n)).ljust(199, 'x'), flush=True)\nheld = []\nwhile True:\n    \
                   held.append(bytearray(1 << 20))\n";
    fs::write(folder.join("greedy.py"), program).unwrap();
    let mut greedy = runs("app", "exec python3 greedy.py", &folder);
    greedy["containers"][0]["resources"] = json!({ "limits": { "memory": "48Mi" } });
    world.node.apply(&workload("Job", ns, "greedy", greedy));
    eventually(seconds(120), "the container to be OOMKilled", || {
        let pods = world.node.pods(ns);
        let state = pods.first().map(|pod| pod["status"]["containerStatuses"][0]["state"].clone());
        let state = state.unwrap_or(Value::Null);
        if state["terminated"]["reason"] == "OOMKilled" { Ok(()) } else { Err(state.to_string()) }
    });
    world.exactly_once("a container is OOMKilled", ns, &[("greedy", 400, 1)]);
}

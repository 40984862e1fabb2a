//! What is asked of the agent or changed while it runs: its rights, its page and metrics, pods' annotations.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;
use taffrail_tests::http::{self, Request};
use taffrail_tests::real_node::pods::{runs, workload, writes};
use taffrail_tests::real_node::witness::Witness;
use taffrail_tests::real_node::world::{AGENT, folder, note};
use taffrail_tests::{eventually, seconds};

use crate::kit::world;

#[test]
fn metrics_and_health_are_reached_through_the_api_server() {
    let world = world();
    let pod = world.agent();
    let of = |path: &str| {
        let target = format!("/api/v1/namespaces/{AGENT}/pods/{pod}:9601/proxy/{path}");
        world.node.get(&target).unwrap()
    };
    of("readyz");
    of("healthz");
    let metrics = of("metrics");
    assert!(metrics.contains("taffrail_lag_bytes{output=\"search\"}"), "{metrics}");
}

#[test]
fn the_page_is_reached_by_a_port_forward_and_by_no_other_name() {
    let world = world();
    let pod = world.agent();
    let forward = world.node.port_forward(AGENT, &pod, 9600);
    let page = http::send(forward.address, "GET", "/", b"").unwrap();
    let text = String::from_utf8_lossy(&page.body).into_owned();
    assert!(page.status == 200 && text.contains("<html"), "{}: {text}", page.status);
    // What a page of another's could have a browser ask.
    let headers = vec![("origin".to_owned(), "http://elsewhere.example".to_owned())];
    let asked = Request { method: "GET".into(), target: "/".into(), headers, body: Vec::new() };
    assert_eq!(http::forward(forward.address, &asked).unwrap().status, 403);
    // It is on the pod's own loopback: the API server does not get there.
    let through = format!("/api/v1/namespaces/{AGENT}/pods/{pod}:9600/proxy/");
    let refused = world.node.get(&through).unwrap_err();
    assert!(refused.contains("connection refused"), "{refused}");
}

#[test]
fn a_pod_is_excluded_by_an_annotation_and_taken_in_again_while_it_writes() {
    let world = world();
    let ns = &world.namespace("annotated");
    let witness = Witness::of(&world.node.logs(), &[ns]);
    world.node.apply(&workload("Deployment", ns, "steady", writes("steady", 1_000_000, 100, None)));
    world.node.rolled_out(ns, "deployment/steady");
    let pod = world.node.pods(ns)[0]["metadata"]["name"].as_str().unwrap().to_owned();
    let annotate = |what: &str| world.node.kubectl(&["-n", ns, "annotate", "pod", &pod, what]);
    let numbers = || -> Result<BTreeSet<u64>, String> {
        let delivered = world.delivered(ns)?;
        Ok(delivered.iter().filter_map(|found| found.message().split(' ').nth(1)?.parse().ok()).collect())
    };
    let written = || witness.seen().lines();
    let delivered_from = |from: u64| {
        eventually(seconds(120), "further lines to be delivered", || {
            let last = numbers()?.last().copied().unwrap_or_default();
            if last > from { Ok(()) } else { Err(format!("{last} of {}", written())) }
        });
    };
    delivered_from(100);
    annotate("taffrail.io/exclude=true");
    // Of what is under way some still comes; then further lines are written, and none comes.
    let mut since = (0, 0);
    eventually(seconds(120), "lines to be left out", || {
        let last = numbers()?.last().copied().unwrap_or_default();
        if last != since.0 {
            since = (last, written());
        }
        let further = written() - since.1;
        if further > 500 { Ok(()) } else { Err(format!("{further} lines after number {last}")) }
    });
    let until = written();
    annotate("taffrail.io/exclude-");
    // What is still on the disk comes, too.
    delivered_from(until);
    world.node.kubectl(&["-n", ns, "scale", "deployment/steady", "--replicas=0"]);
    world.node.comes_to(ns, "pods", "{.items}", "[]");
    world.as_witnessed("a pod is excluded by an annotation, and taken in again", &[ns], &witness);
}

#[test]
fn an_annotation_that_says_how_json_is_read_counts_from_then_on() {
    let world = world();
    let ns = &world.namespace("spoken");
    let folder = folder("node-spoken");
    let program = "import itertools, json, time\nfor n in itertools.count(1):\n    \
                   print(json.dumps({'n': n, 'msg': 'line'}), flush=True)\n    time.sleep(0.02)\n";
    fs::write(folder.join("lines.py"), program).unwrap();
    world.node.apply(&workload("Deployment", ns, "spoken", runs("app", "exec python3 lines.py", &folder)));
    world.node.rolled_out(ns, "deployment/spoken");
    let pod = world.node.pods(ns)[0]["metadata"]["name"].as_str().unwrap().to_owned();
    // By number: whether it came as fields, or as the text that it is.
    let found = || -> Result<Vec<(u64, bool)>, String> {
        let mut all = Vec::new();
        for document in world.delivered(ns)? {
            let text: Value = serde_json::from_str(&document.message()).unwrap_or_default();
            let nested = document.get("app.n").and_then(Value::as_u64);
            let number = nested.or(text["n"].as_u64()).ok_or(format!("{document:?}"))?;
            all.push((number, nested.is_some()));
        }
        all.sort_unstable();
        Ok(all)
    };
    let comes_as = |nested: bool| {
        eventually(seconds(120), &format!("lines with fields {nested}"), || {
            let all = found()?;
            let enough = all.iter().filter(|(_, is)| *is == nested).count() >= 50;
            if enough { Ok(()) } else { Err(format!("{} lines", all.len())) }
        });
    };
    comes_as(true);
    world.node.kubectl(&["-n", ns, "annotate", "pod", &pod, "taffrail.io/json=text"]);
    comes_as(false);
    let all = found().unwrap();
    assert!(all.iter().map(|(number, _)| *number).eq(1..=all.len() as u64), "a line is missing or doubled");
    // Nested up to a line, text from then on.
    assert!(all.iter().map(|(_, nested)| !nested).is_sorted(), "not at once: {all:?}");
    note("how a pod's JSON is read changes by an annotation", all.len() as u64, all.len() as u64, 0);
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

//! What the agent asks of an API server, and what that costs. At the size of a real cluster it takes a quarter of an hour:
//!
//!     TAFFRAIL_PODS=5000 cargo test -p taffrail-tests --test kubernetes -- --nocapture at_size

use std::time::Duration;

use serde_json::json;
use taffrail_tests::agent::Agent;
use taffrail_tests::kubernetes::{self, Kubernetes};
use taffrail_tests::node::Node;
use taffrail_tests::wire::Wire;
use taffrail_tests::{eventually, let_pass, seconds};

/// Pods in the cluster where env `TAFFRAIL_PODS` says nothing; a twentieth of them are on this node.
const PODS: usize = 100;
const NODES: usize = 20;

/// From here on the agent is watched for ten minutes.
const LARGE: usize = 5_000;

/// Bytes on the wire at the start for each pod of the node, which is of 7 KB at the API server: with its status, as JSON,
/// compressed or not. And for all together: TLS, and what a watch says of itself.
const BYTES_OF_POD: usize = 16 << 10;
const BYTES: usize = 64 << 10;

/// A pod as a Helm chart's Deployment has it, padded to the 7 KB that real ones have on average.
fn object(n: usize, namespace: &str, node: &str) -> serde_json::Value {
    let name = format!("web-{n}");
    let environment: Vec<_> =
        (0..60).map(|i| json!({ "name": format!("SOME_SETTING_{i}"), "value": "x".repeat(40) })).collect();
    json!({
        "metadata": { "name": name, "namespace": namespace, "labels": {
            "app.kubernetes.io/component": "server", "app.kubernetes.io/instance": name,
            "app.kubernetes.io/managed-by": "Helm", "app.kubernetes.io/name": name,
            "app.kubernetes.io/part-of": "shop", "app.kubernetes.io/version": "1.42.0",
            "helm.sh/chart": format!("{name}-3.1.4"), "pod-template-hash": "7d4b9c6f5d" },
            "annotations": { "checksum/config": "0".repeat(64) } },
        "spec": { "nodeName": node, "containers": [
            { "name": "app", "image": "registry.example/shop/web:v1.42.0", "env": environment },
            { "name": "proxy", "image": "registry.example/mesh/proxy:v1.20.0" }] },
    })
}

fn resident(agent: &Agent, which: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", agent.pid)).expect("a running agent");
    let line = status.lines().find(|line| line.starts_with(which)).expect("a line of the status");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok()).expect("a number") / 1024.0
}

#[test]
fn requests_bytes_and_memory_at_size() {
    let pods = std::env::var("TAFFRAIL_PODS").map_or(PODS, |pods| pods.parse().expect("a number"));
    let here = pods / NODES;
    // Of its own: all that it is asked is this agent's.
    let cluster = &Kubernetes::start(&[]);
    let (node, namespace) = (cluster.node(), cluster.namespace());
    let others: Vec<Node> = (1..NODES).map(|_| cluster.node()).collect();
    let (mut ours, begun) = (Vec::new(), std::time::Instant::now());
    for n in 0..pods {
        let on = if n < here { &node } else { &others[n % others.len()] };
        let pod = cluster.pod(on, object(n, &namespace, &on.name));
        if n < here {
            cluster.runs(&pod, &[("app", 0, &"a".repeat(64)), ("proxy", 0, &"b".repeat(64))]);
            ours.push(pod);
        }
    }
    println!("{pods} pods made in {:.0} s", begun.elapsed().as_secs_f64());
    for pod in &ours {
        pod.container("app").writes(20);
        pod.container("proxy").writes(20);
    }
    let wire = Wire::to(cluster.address());
    let measure = |name: &str, way: &[String]| {
        let agent = Agent::start_by(way, &node.to_file(), &node);
        eventually(seconds(120), "every line", || {
            let count = node.delivered()?.len();
            if count == here * 40 { Ok(()) } else { Err(format!("{count}")) }
        });
        let_pass(seconds(5));
        println!(
            "{name}: resident {:.1} MiB, at most {:.1} MiB",
            resident(&agent, "VmRSS:"),
            resident(&agent, "VmHWM:")
        );
        agent
    };
    drop(measure("by the path", &[]));
    for folder in ["state", "out"] {
        std::fs::remove_dir_all(node.path().join(folder)).expect("the agent's folder");
    }
    let asked = |verb| cluster.requests("pods", verb);
    let before = [asked("LIST"), asked("WATCH"), asked("GET")];
    let agent = measure("with metadata", &kubernetes::with(&cluster.kubeconfig_by(wire.address())));
    let delivered = node.delivered().expect("documents");
    assert!(delivered.iter().all(|document| document.get("kubernetes.labels").is_some()), "all with labels");
    let start = wire.carried();
    println!("at the start: {} connections, {:.1} KiB", wire.taken(), start as f64 / 1024.0);
    assert!(start < BYTES + here * BYTES_OF_POD, "{start} bytes for {here} pods");
    if pods >= LARGE {
        let_pass(Duration::from_secs(600));
        println!(
            "in ten minutes: {:.1} KiB more; resident {:.1} MiB",
            (wire.carried() - start) as f64 / 1024.0,
            resident(&agent, "VmRSS:")
        );
    }
    assert_eq!(agent.terminate().code, Some(0));
    // A watch is counted when it ends.
    let counts = eventually(seconds(30), "the watch to be counted", || {
        let counts: Vec<u64> =
            ["LIST", "WATCH", "GET"].iter().zip(before).map(|(verb, before)| asked(verb) - before).collect();
        if counts[1] > 0 { Ok(counts) } else { Err(format!("{counts:?}")) }
    });
    println!("LIST, WATCH, GET of pods: {counts:?}; {} connections", wire.taken());
    if pods < LARGE {
        assert_eq!((counts, wire.taken()), (vec![0, 1, 0], 1), "one streaming list, on one connection");
    }
}

//! Scenario `daemon-sets`: Taffrail and vlagent as DaemonSets at once, over the same pods of a real node.
//!
//! In: how many pods write how much. Out: a table of what each DaemonSet's container took by the kernel's count, what arrived of
//! what was written, and how late. Ours is the shipped manifests with their defaults, vlagent as its documentation has it for
//! Kubernetes; each has a sink of its own that answers at once. Both are asked for the writers' namespace only.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use taffrail_tests::real_node::RealNode;
use taffrail_tests::real_node::pods::{runs, workload_with, writes};
use taffrail_tests::real_node::usage::Group;
use taffrail_tests::real_node::world::{AGENT, COMMAND, apply_agent, folder, image};

use crate::Outcome;
use crate::live::percentile;
use crate::peers::{Kind, Peer};
use crate::report::{Samples, command_line, machine, number, table};
use crate::sink::{Options, Sink};

const MIB: f64 = 1_048_576.0;

/// The namespace of the writers, and of vlagent.
const LOAD: &str = "node-load";
const VLAGENT: &str = "node-vlagent";

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// Pods that write.
    pub pods: u64,
    /// Lines a second of each.
    pub rate: u64,
    /// How long they write.
    pub seconds: u64,
    /// How long nothing may arrive before what is missing counts as missing.
    pub stall: Duration,
}

/// One of the two.
struct Contender {
    name: &'static str,
    work: &'static str,
    sink: Sink,
    group: Group,
    /// Seconds of processor time before anything was written.
    before: f64,
    /// MiB, each second.
    memory: Samples,
    /// Microseconds, a line each.
    delays: Vec<u32>,
}

/// Runs it once, and prints the table.
pub fn run(request: &Request) -> Outcome<()> {
    let node = RealNode::up();
    for namespace in [LOAD, VLAGENT] {
        node.kubectl(&["delete", "namespace", namespace, "--ignore-not-found"]);
        node.namespace(namespace);
    }
    let mut contenders = [ours(&node)?, vlagent(&node)?];
    let written = request.pods * request.rate * request.seconds;
    eprintln!("{} pods write {} lines a second each for {} s", request.pods, request.rate, request.seconds);
    for contender in &mut contenders {
        contender.before = contender.group.cpu_seconds().ok_or("a control group has gone")?;
    }
    let writer = writes("load", request.rate * request.seconds, request.rate, None);
    node.apply(&workload_with("Deployment", LOAD, "load", writer, json!({ "replicas": request.pods })));
    let (mut last, mut moved) = (0, Instant::now());
    loop {
        thread::sleep(Duration::from_secs(1));
        let mut all = 0;
        for contender in &mut contenders {
            contender.delays.append(&mut contender.sink.take_delays());
            let memory = contender.group.working_set().ok_or("a container has ended; its log says why")?;
            contender.memory.push(memory as f64 / MIB);
            all += contender.delays.len();
        }
        if all != last {
            (last, moved) = (all, Instant::now());
        }
        let is_there = contenders.iter().all(|contender| contender.delays.len() as u64 >= written);
        if is_there || moved.elapsed() >= request.stall {
            break;
        }
    }
    print(request, written, &mut contenders)?;
    for namespace in [LOAD, VLAGENT] {
        node.kubectl(&["delete", "namespace", namespace, "--wait=false"]);
    }
    contenders.iter().try_for_each(|contender| contender.sink.check())
}

/// A sink, and where pods find it.
fn sink(node: &RealNode) -> Outcome<(Sink, String)> {
    let sink = Sink::start(Options { delays: true, ..Options::default() }, 1)?;
    sink.delays_only_of(vec![b"load@".to_vec()]);
    let address = node.reaches(SocketAddr::from((Ipv4Addr::LOCALHOST, sink.port())));
    Ok((sink, address))
}

/// The one process of the node's pods whose command line begins so, once its DaemonSet is there.
fn group(node: &RealNode, namespace: &str, name: &str, command: &str) -> Outcome<Group> {
    node.rolled_out(namespace, &format!("daemonset/{name}"));
    let [process] = node.processes(command)[..] else { return Err(format!("not one {command}").into()) };
    Ok(Group::of_container(process).ok_or("a process without a control group")?)
}

fn contender(name: &'static str, work: &'static str, sink: Sink, group: Group) -> Contender {
    Contender { name, work, sink, group, before: 0.0, memory: Samples::default(), delays: Vec::new() }
}

fn ours(node: &RealNode) -> Outcome<Contender> {
    node.import(&image());
    let (sink, address) = sink(node)?;
    let config = format!(
        "cluster = \"tests\"\n[outputs.search]\ntype = \"elasticsearch\"\nendpoints = [\"http://{address}\"]\n\
         data_stream = \"logs-{{namespace}}\"\n[[routes]]\nmatch = {{ namespace = \"{LOAD}\" }}\noutputs = [\"search\"]\n"
    );
    apply_agent(node, &folder("node-compare"), &config, &[]);
    let group = group(node, AGENT, "taffrail", COMMAND)?;
    Ok(contender("Taffrail", "bulk with `_id`s, gzip; acknowledged before positions are saved", sink, group))
}

fn vlagent(node: &RealNode) -> Outcome<Contender> {
    let peer = Peer::get(Kind::Vlagent, Path::new(""))?;
    let (sink, address) = sink(node)?;
    // Of the machine it sees libraries and its own folder, and, as ours does, the logs.
    let home = peer.built().parent().ok_or("no folder of vlagent's")?;
    let filter = format!("kubernetes.pod_namespace:!={LOAD}");
    let script = format!(
        "exec ./vlagent -remoteWrite.url=http://{address}/insert/jsonline -remoteWrite.format=jsonline \
         -tmpDataPath=/var/lib/vlagent -kubernetesCollector '-kubernetesCollector.excludeFilter={filter}'"
    );
    let mut pod = runs("vlagent", &script, home);
    pod["serviceAccountName"] = json!("vlagent");
    let mounts = pod["containers"][0]["volumeMounts"].as_array_mut().ok_or("mounts")?;
    mounts.push(json!({ "name": "logs", "mountPath": "/var/log", "readOnly": true }));
    mounts.push(json!({ "name": "state", "mountPath": "/var/lib/vlagent" }));
    let volumes = pod["volumes"].as_array_mut().ok_or("volumes")?;
    volumes.push(json!({ "name": "logs", "hostPath": { "path": "/var/log" } }));
    volumes.push(json!({ "name": "state", "emptyDir": {} }));
    node.apply(&rights().to_string());
    node.apply(&workload_with("DaemonSet", VLAGENT, "vlagent", pod, json!({})));
    let group = group(node, VLAGENT, "vlagent", "./vlagent")?;
    Ok(contender(
        peer.name(),
        "lines of JSON, zstd; no ids, positions are saved before the server has answered",
        sink,
        group,
    ))
}

/// What vlagent may ask the API server.
fn rights() -> Value {
    let group = "rbac.authorization.k8s.io";
    json!({ "apiVersion": "v1", "kind": "List", "items": [
        { "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "vlagent", "namespace": VLAGENT } },
        { "apiVersion": format!("{group}/v1"), "kind": "ClusterRole", "metadata": { "name": "vlagent-tests" },
          "rules": [{ "apiGroups": [""], "resources": ["pods", "nodes", "namespaces"], "verbs": ["get", "list", "watch"] }] },
        { "apiVersion": format!("{group}/v1"), "kind": "ClusterRoleBinding", "metadata": { "name": "vlagent-tests" },
          "roleRef": { "apiGroup": group, "kind": "ClusterRole", "name": "vlagent-tests" },
          "subjects": [{ "kind": "ServiceAccount", "name": "vlagent", "namespace": VLAGENT }] },
    ]})
}

fn print(request: &Request, written: u64, contenders: &mut [Contender]) -> Outcome<()> {
    let head = [
        "agent",
        "what it sends",
        "CPU s",
        "working set MiB",
        "lines delivered",
        "delay p50 ms",
        "p99 ms",
        "wire MiB",
    ];
    let mut rows = Vec::new();
    for contender in contenders {
        let cpu = contender.group.cpu_seconds().ok_or("a control group has gone")? - contender.before;
        contender.delays.sort_unstable();
        let delay = |part| number(percentile(&contender.delays, part) / 1_000.0, 0);
        rows.push(vec![
            contender.name.to_owned(),
            contender.work.to_owned(),
            number(cpu, 1),
            contender.memory.show(1),
            number(contender.delays.len() as f64, 0),
            delay(0.5),
            delay(0.99),
            number(contender.sink.totals().wire as f64 / MIB, 1),
        ]);
    }
    println!("{}", table(&head, &rows));
    println!(
        "{} lines of 200 bytes, {} a second of each of {} pods for {} s, on a real node: kubelet, containerd, rotation at 1 MiB; both at \
         once. By control group; working set: median (lowest–highest) of a look each second; {}.\n",
        number(written as f64, 0),
        request.rate,
        request.pods,
        request.seconds,
        machine()
    );
    println!("    tests/node compare{}", command_line().split("daemon-sets").nth(1).unwrap_or_default());
    Ok(())
}

//! Where labels decide: names of indices and files, and what else is asked for because the configuration wants it.

use serde_json::json;
use taffrail_tests::agent::Agent;
use taffrail_tests::kubernetes::{self, Kubernetes};
use taffrail_tests::node::Node;
use taffrail_tests::wire::{Mood, Wire};
use taffrail_tests::{eventually, let_pass, seconds};

use super::{agent, document, named};

fn by_team(node: &Node) -> String {
    let path = node.path().join("out/{label:team}.ndjson");
    node.config(&format!("[outputs.local]\ntype = \"file\"\npath = \"{}\"", path.display()))
}

fn file(node: &Node, team: &str) -> String {
    std::fs::read_to_string(node.path().join(format!("out/{team}.ndjson"))).unwrap_or_default()
}

#[test]
fn a_label_names_the_file_and_nothing_goes_anywhere_before_it_is_known() {
    let cluster = Kubernetes::shared();
    let (node, shop) = (cluster.node(), cluster.namespace());
    let web = cluster.pod(&node, named("web", &shop, json!({ "team": "payments" })));
    let none = cluster.pod(&node, named("none", &shop, json!({})));
    for pod in [&web, &none] {
        cluster.runs(pod, &[("app", 0, "c0")]);
        pod.container("app").writes(100);
    }
    let wire = Wire::to(cluster.address());
    wire.becomes(Mood::Cut);
    let way = kubernetes::with(&cluster.kubeconfig_by(wire.address()));
    let config = by_team(&node) + "\n[metadata]\nlabels = []\nwait = \"100ms\"\n";
    let agent = Agent::start_by(&way, &config, &node);
    agent.has_said("no metadata from the API server", 1);
    agent.has_said("containers wait for the labels of their pods", 1);
    // A host file needs no pod, and waits for none.
    assert!(!node.path().join("out").exists(), "something was delivered");
    wire.becomes(Mood::Carries);
    eventually(seconds(60), "everything in the files of the teams", || {
        let lines = [file(&node, "payments"), file(&node, "none")].map(|text| text.lines().count());
        if lines == [100, 100] { Ok(()) } else { Err(format!("{lines:?}")) }
    });
    // The label was not to be sent: it is known for the name alone.
    assert!(!file(&node, "payments").contains("labels"));
    agent.has_said("metadata comes from the API server again", 1);
    assert_eq!(agent.terminate().code, Some(0));
}

#[test]
fn an_agent_that_still_waits_for_labels_ends_at_once_and_loses_nothing() {
    let cluster = Kubernetes::shared();
    let (node, shop) = (cluster.node(), cluster.namespace());
    let web = cluster.pod(&node, named("web", &shop, json!({ "team": "a" })));
    cluster.runs(&web, &[("app", 0, "c0")]);
    web.container("app").writes(100);
    let wire = Wire::to(cluster.address());
    wire.becomes(Mood::Cut);
    let way = kubernetes::with(&cluster.kubeconfig_by(wire.address()));
    let agent = Agent::start_by(&way, &by_team(&node), &node);
    agent.has_said("containers wait for the labels", 1);
    let begun = std::time::Instant::now();
    let ended = agent.terminate();
    assert!(ended.code == Some(0) && begun.elapsed() < seconds(10), "{:?}", begun.elapsed());
    assert!(ended.stderr.contains("caught_up=false"), "{}", ended.stderr);
    wire.becomes(Mood::Carries);
    let _agent = Agent::start_by(&way, &by_team(&node), &node);
    eventually(seconds(40), "every line", || {
        let lines = file(&node, "a").lines().count();
        if lines == 100 { Ok(()) } else { Err(format!("{lines} lines")) }
    });
}

#[test]
fn labels_of_the_namespace_and_the_node_come_where_they_are_wanted() {
    let cluster = Kubernetes::shared();
    let (node, shop) = (cluster.node(), cluster.namespace());
    let meta =
        json!({ "metadata": { "labels": { "cost": "17" }, "annotations": { "owner": "me", "x": "y" } } });
    cluster.send("PATCH", &format!("/api/v1/namespaces/{shop}"), &meta);
    let labels = json!({ "topology.kubernetes.io/region": "r1", "topology.kubernetes.io/zone": "r1a", "pool": "blue" });
    let object = json!({ "metadata": { "labels": labels }, "spec": { "providerID": "aws:///r1a/i-0abc" } });
    cluster.send("PATCH", &format!("/api/v1/nodes/{}", node.name), &object);
    let web = cluster.pod(&node, named("web", &shop, json!({})));
    cluster.runs(&web, &[("app", 0, "c0")]);
    web.container("app").writes_line("hello");
    let wanted = "[metadata]\nnamespace_labels = [\"cost\"]\nnamespace_annotations = [\"owner\"]\nnode_labels = [\"pool\"]";
    let _agent = agent(cluster, &node, wanted);
    let document = document(&node, "hello");
    let kubernetes = &document.source["kubernetes"];
    assert_eq!(kubernetes["namespace_labels"], json!({ "cost": "17" }));
    assert_eq!(kubernetes["namespace_annotations"], json!({ "owner": "me" }));
    assert_eq!(kubernetes["node"]["labels"], json!({ "pool": "blue" }));
    let cloud = json!({ "region": "r1", "availability_zone": "r1a", "provider": "aws", "instance": { "id": "i-0abc" } });
    assert_eq!(document.source["cloud"], cloud);
}

#[test]
fn nobody_is_asked_where_only_the_path_is_wanted() {
    let cluster = Kubernetes::shared();
    let node = cluster.node();
    let web = cluster.pod(&node, named("web", &cluster.namespace(), json!({ "app": "web" })));
    web.container("app").writes_line("hello");
    let wire = Wire::to(cluster.address());
    let way = kubernetes::with(&cluster.kubeconfig_by(wire.address()));
    let config = node.to_file() + "\n[metadata]\nsource = \"path\"\n";
    let agent = Agent::start_by(&way, &config, &node);
    let document = document(&node, "hello");
    assert_eq!((document.get("kubernetes.labels"), document.get("taffrail.metadata")), (None, None));
    let_pass(seconds(1));
    assert_eq!(agent.terminate().code, Some(0));
    assert_eq!(wire.taken(), 0);
}

#[test]
fn what_each_team_writes_is_told_in_health_records_also_of_pods_that_came_and_went() {
    let cluster = Kubernetes::shared();
    let (node, shop) = (cluster.node(), cluster.namespace());
    let mut written = std::collections::BTreeMap::new();
    let more = "[metadata]\nlabel_fields = [\"team\"]\n[health]\ninterval = \"2s\"\noutputs = [\"local\"]\n";
    let agent = agent(cluster, &node, more);
    for (name, team, lines) in [("web", "blue", 100), ("job", "red", 30), ("cart", "blue", 7)] {
        let pod = cluster.pod(&node, named(name, &shop, json!({ "team": team })));
        cluster.runs(&pod, &[("app", 0, "c0")]);
        let mut app = pod.container("app");
        app.writes(lines);
        *written.entry(team.to_owned()).or_insert(0) += lines;
        if name == "job" {
            eventually(seconds(40), "the job's lines", || {
                let found = node.delivered()?.iter().filter(|document| document.is_of(&app)).count();
                if found == 30 { Ok(()) } else { Err(format!("{found} lines")) }
            });
            app.delete();
        }
    }
    eventually(seconds(40), "the volumes of both teams", || {
        let mut told = std::collections::BTreeMap::new();
        for document in node.delivered()?.iter().filter(|document| {
            document.text("taffrail.health.kind") == "volume"
                && document.text("taffrail.health.namespace") == shop
        }) {
            let records = document.get("taffrail.health.records").and_then(|value| value.as_u64()).unwrap();
            *told.entry(document.text("labels.team").to_owned()).or_insert(0) += records;
        }
        if told == written { Ok(()) } else { Err(format!("{told:?} of {written:?}")) }
    });
    assert_eq!(agent.terminate().code, Some(0));
}

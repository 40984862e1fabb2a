//! Routes that depend on what the API server knows of a pod.

use serde_json::{Value, json};
use taffrail_tests::agent::Agent;
use taffrail_tests::kubernetes::{self, Kubernetes};
use taffrail_tests::node::Node;
use taffrail_tests::verify::{self, Document};
use taffrail_tests::wire::{Mood, Wire};
use taffrail_tests::{eventually, seconds};

use super::named;

/// A configuration with the outputs `one` and `two`, and these routes.
fn with(node: &Node, routes: &str) -> String {
    let output = |name: &str| {
        let path = node.path().join(name).join("{namespace}.ndjson");
        format!("[outputs.{name}]\ntype = \"file\"\npath = \"{}\"\n", path.display())
    };
    node.config(&format!("{}{}{routes}", output("one"), output("two")))
}

fn messages(node: &Node, output: &str) -> Vec<String> {
    let documents = verify::read_ndjson(&node.path().join(output)).unwrap();
    documents.iter().map(Document::message).collect()
}

#[track_caller]
fn holds(node: &Node, output: &str, wanted: &[&str]) {
    eventually(seconds(40), &format!("{wanted:?} in {output}"), || {
        let found = messages(node, output);
        if found == wanted { Ok(()) } else { Err(format!("{found:?}")) }
    });
}

#[test]
fn with_the_api_server_away_at_boot_nothing_leaves_unredacted_and_others_do_not_wait() {
    let cluster = Kubernetes::shared();
    let (node, shop) = (cluster.node(), cluster.namespace());
    let secret = cluster.pod(&node, named("secret", &shop, json!({ "pci": "yes" })));
    let open = cluster.pod(&node, named("open", &shop, json!({})));
    for pod in [&secret, &open] {
        cluster.runs(pod, &[("app", 0, "c0")]);
    }
    let (mut secret, mut open) = (secret.container("app"), open.container("app"));
    let mut system = node.pod("system").namespace("kube-system").container("app");
    for n in 0..100 {
        secret.writes_line(&format!("{n} paid with 4111111111111111"));
        secret.writes_line(&format!("{{\"msg\":\"{n} by jane@example.com\",\"card\":4111111111111111}}"));
    }
    secret.rotate().writes_line("last 4111111111111111");
    open.writes_line("order 4111111111111111");
    system.writes_line("of the system");
    let wire = Wire::to(cluster.address());
    wire.becomes(Mood::Cut);
    let way = kubernetes::with(&cluster.kubeconfig_by(wire.address()));
    let routes = "
        [[routes]]
        match = { namespace = \"!kube-*\", labels.pci = \"yes\" }
        redact = [\"card\", \"email\"]
        outputs = [\"one\"]
        [[routes]]
        outputs = [\"one\"]
        [metadata]
        wait = \"100ms\"
    ";
    let start = || Agent::start_by(&way, &with(&node, routes), &node);
    let agent = start();
    agent.has_said("containers wait for the labels of their pods", 1);
    // What no label can change goes on.
    holds(&node, "one", &["of the system"]);
    // Whatever happens to the agent meanwhile.
    agent.kill9();
    let agent = start();
    agent.has_said("containers wait for the labels of their pods", 1);
    let ended = agent.terminate();
    assert!(ended.stderr.contains("caught_up=false"), "{}", ended.stderr);
    holds(&node, "one", &["of the system"]);
    let agent = start();
    agent.has_said("containers wait for the labels of their pods", 1);
    wire.becomes(Mood::Carries);
    let documents = eventually(seconds(60), "everything", || {
        let documents = verify::read_ndjson(&node.path().join("one"))?;
        if documents.len() == 203 { Ok(documents) } else { Err(format!("{} documents", documents.len())) }
    });
    for document in documents {
        // What a program wrote: a time, or a pod's uid, may have such digits too.
        let text = format!("{} {:?}", document.message(), document.get("app"));
        let is_secret = document.text("kubernetes.pod.name") == "secret";
        assert_eq!(text.contains("4111"), document.text("kubernetes.pod.name") == "open", "{text}");
        assert!(!is_secret || text.contains("[card]") && !text.contains("jane"), "{text}");
        assert_eq!(document.text("kubernetes.labels.pci"), if is_secret { "yes" } else { "" });
    }
    assert_eq!(agent.terminate().code, Some(0));
}

#[test]
fn a_label_that_changes_moves_a_container_to_another_route() {
    let cluster = Kubernetes::shared();
    let (node, shop) = (cluster.node(), cluster.namespace());
    let web = cluster.pod(&node, named("web", &shop, json!({ "team": "a" })));
    cluster.runs(&web, &[("app", 0, "c0")]);
    let mut app = web.container("app");
    let routes = "
        [[routes]]
        match = { labels.team = \"a\" }
        outputs = [\"one\"]
        [[routes]]
        match = { labels.team = \"b\" }
        outputs = [\"two\"]
        [[routes]]
        outputs = []
    ";
    let way = kubernetes::with(&cluster.kubeconfig());
    let start = || Agent::start_by(&way, &with(&node, routes), &node);
    let agent = start();
    app.writes_line("1");
    holds(&node, "one", &["1"]);
    let team = |team: Value| cluster.patch(&web, json!({ "metadata": { "labels": { "team": team } } }));
    team(json!("b"));
    // It begins with what is there.
    holds(&node, "two", &["1"]);
    app.writes_line("2");
    holds(&node, "two", &["1", "2"]);
    assert_eq!(messages(&node, "one"), ["1"]);
    // The other way round while no agent looks, and it goes on where it had stopped.
    assert_eq!(agent.terminate().code, Some(0));
    team(json!("a"));
    let agent = start();
    holds(&node, "one", &["1", "2"]);
    app.writes_line("3");
    holds(&node, "one", &["1", "2", "3"]);
    assert_eq!(messages(&node, "two"), ["1", "2"]);
    assert_eq!(agent.terminate().code, Some(0));
}

#[test]
fn image_owner_and_annotations_are_matched_and_an_annotation_that_is_asked_for_is_not_sent() {
    let cluster = Kubernetes::shared();
    let (node, shop) = (cluster.node(), cluster.namespace());
    let pod = |name: &str, annotations: Value, owner: Value| {
        let object = json!({ "metadata": { "name": name, "namespace": shop, "annotations": annotations, "ownerReferences": owner } });
        let pod = cluster.pod(&node, object);
        cluster.runs(&pod, &[("app", 0, "c0")]);
        pod.container("app").writes_line(name);
        pod
    };
    let owner = json!([{ "apiVersion": "apps/v1", "kind": "StatefulSet", "name": "db", "uid": "u", "controller": true }]);
    pod("noted", json!({ "log/route": "two", "other": "x" }), json!([]));
    pod("owned", json!({}), owner);
    pod("rest", json!({}), json!([]));
    let routes = "
        [[routes]]
        match = { annotations.\"log/route\" = \"two\" }
        outputs = [\"two\"]
        [[routes]]
        match = { workload = \"statefulset/*\" }
        outputs = []
        [[routes]]
        match = { image = \"*\", pod = \"rest\" }
        outputs = [\"one\"]
    ";
    let _agent = Agent::start_by(&kubernetes::with(&cluster.kubeconfig()), &with(&node, routes), &node);
    holds(&node, "two", &["noted"]);
    holds(&node, "one", &["rest"]);
    let noted = verify::read_ndjson(&node.path().join("two")).unwrap().remove(0);
    assert_eq!(noted.get("kubernetes.annotations"), None);
    assert_eq!(messages(&node, "two"), ["noted"]);
}

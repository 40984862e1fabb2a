//! What documents say of pods, whatever becomes of them.

use serde_json::json;
use taffrail_tests::kubernetes::{self, Kubernetes};
use taffrail_tests::node::Node;
use taffrail_tests::server::{Kind, Server};
use taffrail_tests::space::Target;
use taffrail_tests::verify::Document;
use taffrail_tests::{seconds, verify};

use super::{agent, document, follows, named, web};

#[test]
fn a_document_says_of_its_pod_what_the_api_server_says() {
    let cluster = Kubernetes::shared();
    let (node, shop) = (cluster.node(), cluster.namespace());
    let mut object =
        named("web-0", &shop, json!({ "app": "web", "app.kubernetes.io/name": "web", "team": "a" }));
    object["metadata"]["annotations"] = json!({ "note": "one\n\"two\"", "secret": "s" });
    object["metadata"]["ownerReferences"] = json!([{ "apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web",
        "uid": "0", "controller": true }]);
    object["spec"]["initContainers"] = json!([{ "name": "init", "image": "init:2" }]);
    let web = cluster.pod(&node, object);
    cluster.runs(&web, &[("app", 0, "c0ffee")]);
    let (mut app, mut init) = (web.container("app"), web.container("init"));
    let mut unknown = node.pod("unknown").namespace(&shop).container("app");
    app.writes(2);
    init.writes_line("ready");
    unknown.writes_line("who am I");
    let agent = agent(cluster, &node, "[metadata]\nannotations = [\"note\"]");
    let expected = json!({
        "namespace": shop,
        "pod": { "name": "web-0", "uid": web.uid, "ip": "10.1.2.3" },
        "container": { "name": "app" },
        "node": { "name": node.name },
        "labels": { "app": "web", "app.kubernetes.io/name": "web", "team": "a" },
        "annotations": { "note": "one\n\"two\"" },
        "statefulset": { "name": "web" },
    });
    for document in
        verify::exactly_once(seconds(40), || node.delivered(), &[&app]).iter().filter(|d| d.is_of(&app))
    {
        assert_eq!(document.source["kubernetes"], expected);
        let container =
            json!({ "id": "c0ffee", "runtime": "containerd", "image": { "name": "registry.example/app:1" } });
        assert_eq!(document.source["container"], container);
        assert_eq!(document.get("taffrail.metadata"), None);
    }
    // Its status says nothing of this one: the labels are the pod's all the same.
    let init = document(&node, "ready");
    assert_eq!(init.source["container"], json!({ "image": { "name": "init:2" } }));
    assert_eq!((init.text("kubernetes.labels.team"), init.get("taffrail.metadata")), ("a", None));
    // A pod that the server does not know goes with what the path says, after `wait`, and says so.
    let unknown = document(&node, "who am I");
    assert_eq!((unknown.text("taffrail.metadata"), unknown.get("kubernetes.labels")), ("path", None));
    assert_eq!(agent.terminate().code, Some(0));
}

#[test]
fn a_label_that_changes_is_the_new_one_from_then_on() {
    let cluster = Kubernetes::shared();
    let (node, shop) = (cluster.node(), cluster.namespace());
    let web = web(cluster, &node, &shop);
    let mut app = web.container("app");
    app.writes_line("first");
    let _agent = agent(cluster, &node, "");
    assert_eq!(document(&node, "first").text("kubernetes.labels.v"), "1");
    cluster.patch(&web, json!({ "metadata": { "labels": { "v": "2", "new": "x" } } }));
    // The watch and the log are two ways: what is written at once may still be told the old label.
    let changed = follows(&mut app, &node, "2", seconds(20));
    assert_eq!(changed.text("kubernetes.labels.new"), "x");
    app.writes_line("last");
    assert_eq!(document(&node, "last").text("kubernetes.labels.v"), "2", "it never goes back");
}

#[test]
fn a_pod_reborn_under_the_same_name_keeps_its_own_labels() {
    let cluster = Kubernetes::shared();
    let (node, shop) = (cluster.node(), cluster.namespace());
    let agent = agent(cluster, &node, "");
    // From here on the agent watches.
    let first = cluster.pod(&node, named("first", &shop, json!({ "v": "1" })));
    cluster.runs(&first, &[("app", 0, "c0")]);
    first.container("app").writes_line("begun");
    document(&node, "begun");
    let mut pods = Vec::new();
    for generation in ["1", "2", "3"] {
        let db = cluster.pod(&node, named("db-0", &shop, json!({ "generation": generation })));
        cluster.runs(&db, &[("app", 0, &format!("c{generation}"))]);
        let mut app = db.container("app");
        app.writes(2_000);
        cluster.delete(&db);
        pods.push((app, generation));
    }
    let containers: Vec<_> = pods.iter().map(|(app, _)| app).collect();
    let documents = verify::exactly_once(seconds(60), || node.delivered(), &containers);
    for (app, generation) in &pods {
        for document in documents.iter().filter(|document| document.is_of(app)) {
            assert_eq!(document.text("kubernetes.labels.generation"), *generation);
            assert_eq!(document.text("container.id"), format!("c{generation}"));
        }
    }
    assert_eq!(agent.terminate().code, Some(0));
}

#[test]
fn a_static_pod_is_known_by_the_hash_that_its_directory_carries() {
    let cluster = Kubernetes::shared();
    let (node, namespace) = (cluster.node(), cluster.namespace());
    let hash = "0123456789abcdef0123456789abcdef";
    let mut object = named("etcd", &namespace, json!({ "tier": "control-plane" }));
    object["metadata"]["annotations"] =
        json!({ "kubernetes.io/config.mirror": hash, "kubernetes.io/config.hash": hash });
    let mirror = cluster.pod(&node, object);
    cluster.runs(&mirror, &[("app", 0, "e7cd")]);
    let mut on_disk = mirror.clone();
    on_disk.uid = hash.into();
    let mut app = on_disk.container("app");
    app.writes_line("elected");
    let _agent = agent(cluster, &node, "");
    let document = document(&node, "elected");
    assert_eq!(document.text("kubernetes.labels.tier"), "control-plane");
    assert_eq!((document.text("kubernetes.pod.uid"), document.text("container.id")), (hash, "e7cd"));
}

#[test]
fn a_pod_deleted_before_its_log_was_read_is_told_of_all_the_same() {
    let cluster = Kubernetes::shared();
    let (node, shop) = (cluster.node(), cluster.namespace());
    let first = cluster.pod(&node, named("first", &shop, json!({ "v": "1" })));
    cluster.runs(&first, &[("app", 0, "c1")]);
    first.container("app").writes_line("before");
    let agent = agent(cluster, &node, "");
    document(&node, "before");
    // A job that is over in a moment: kubelet's folder comes when the server knows the pod no more.
    let job = cluster.pod(&node, named("job", &shop, json!({ "v": "2" })));
    cluster.runs(&job, &[("app", 0, "c2")]);
    cluster.pod(&node, named("later", &shop, json!({})));
    let seen = |name: &str| {
        let text = std::fs::read_to_string(node.state().join("kubernetes.metadata.json")).unwrap_or_default();
        if text.contains(&format!("{shop}_{name}_")) { Ok(()) } else { Err(text) }
    };
    taffrail_tests::eventually(seconds(30), "the agent to have heard of it", || seen("later"));
    cluster.delete(&job);
    cluster.pod(&node, named("last", &shop, json!({})));
    taffrail_tests::eventually(seconds(30), "the agent to have heard of its end", || seen("last"));
    job.container("app").writes_line("done");
    assert_eq!(document(&node, "done").text("kubernetes.labels.v"), "2");
    // And after a restart, when only the cache knows it.
    assert_eq!(agent.terminate().code, Some(0));
    let mut app = job.container("late");
    let _agent = super::agent(cluster, &node, "");
    app.writes_line("done again");
    assert_eq!(document(&node, "done again").text("kubernetes.labels.v"), "2");
}

#[test]
fn a_container_that_was_started_again_says_of_each_run_its_own_id() {
    let cluster = Kubernetes::shared();
    let (node, shop) = (cluster.node(), cluster.namespace());
    let web = cluster.pod(&node, named("web", &shop, json!({})));
    cluster.runs(&web, &[("app", 0, "run0")]);
    let mut app = web.container("app");
    app.writes_line("of the first");
    let _agent = agent(cluster, &node, "");
    assert_eq!(document(&node, "of the first").text("container.id"), "run0");
    app.writes_line("still of the first");
    app.restart();
    cluster.runs(&web, &[("app", 1, "run1")]);
    app.writes_line("of the second");
    assert_eq!(document(&node, "still of the first").text("container.id"), "run0");
    // Kubelet reports a run a moment after it has begun.
    let mut n = 0;
    taffrail_tests::eventually(seconds(20), "the second run's id", || {
        n += 1;
        app.writes_line(&format!("line {n}"));
        let last = document(&node, &format!("line {n}"));
        if last.text("container.id") == "run1" { Ok(()) } else { Err(last.source.to_string()) }
    });
}

#[test]
fn pods_of_other_nodes_are_not_asked_for() {
    let cluster = Kubernetes::shared();
    let (node, other, shop) = (cluster.node(), cluster.node(), cluster.namespace());
    let web = cluster.pod(&node, named("web", &shop, json!({})));
    cluster.runs(&web, &[("app", 0, "c0")]);
    cluster.pod(&other, named("elsewhere", &shop, json!({})));
    web.container("app").writes_line("here");
    let agent = agent(cluster, &node, "");
    document(&node, "here");
    assert_eq!(agent.terminate().code, Some(0));
    let cache = std::fs::read_to_string(node.state().join("kubernetes.metadata.json")).unwrap();
    assert!(cache.contains("_web_") && !cache.contains("elsewhere"), "{cache}");
}

/// All of this test's documents, once as many as there are lines are there.
fn found(space: &taffrail_tests::space::Space<'_>, lines: usize) -> Vec<Document> {
    taffrail_tests::eventually(seconds(60), "every document", || {
        let documents = space.documents()?;
        if documents.len() == lines { Ok(documents) } else { Err(format!("{} documents", documents.len())) }
    })
}

fn two_pods(cluster: &Kubernetes, node: &Node) {
    let shop = cluster.namespace();
    for (name, labels) in [
        ("old", json!({ "app": "old", "v": "1" })),
        (
            "new",
            json!({ "app": "new", "app.kubernetes.io/name": "new", "app.kubernetes.io/part-of": "shop" }),
        ),
    ] {
        let pod = cluster.pod(node, named(name, &shop, labels));
        cluster.runs(&pod, &[("app", 0, "c0")]);
        pod.container("app").writes(20).writes_text(20);
    }
}

#[test]
fn labels_in_opensearch_are_one_field_that_is_searched_by_key() {
    let cluster = Kubernetes::shared();
    let node = cluster.node();
    two_pods(cluster, &node);
    let space = Server::shared(Kind::OpenSearch).space();
    let labels = json!({ "type": Kind::OpenSearch.flat_type() });
    let space = space.takes(Target::Indices, json!({ "kubernetes": { "properties": { "labels": labels } } }));
    let _agent = taffrail_tests::agent::Agent::start_by(
        &kubernetes::with(&cluster.kubeconfig()),
        &space.dated(&node),
        &node,
    );
    let documents = found(&space, 80);
    assert!(documents.iter().all(|document| document.get("taffrail").is_none()), "none was refused at first");
    let by = |key: &str, value: &str| {
        space.count(json!({ "term": { (format!("kubernetes.labels.{key}")): { "value": value } } }))
    };
    assert_eq!((by("app", "old"), by("app.kubernetes.io/name", "new"), by("v", "1")), (40, 40, 40));
}

#[test]
fn labels_in_opensearch_that_no_template_maps_lose_their_dots_and_no_document() {
    let cluster = Kubernetes::shared();
    let node = cluster.node();
    two_pods(cluster, &node);
    let space = Server::shared(Kind::OpenSearch).space().takes_indices();
    let agent = taffrail_tests::agent::Agent::start_by(
        &kubernetes::with(&cluster.kubeconfig()),
        &space.dated(&node),
        &node,
    );
    let documents = found(&space, 80);
    let new = |document: &&Document| document.text("kubernetes.pod.name") == "new";
    for document in documents.iter().filter(new) {
        let labels =
            json!({ "app": "new", "app_kubernetes_io/name": "new", "app_kubernetes_io/part-of": "shop" });
        assert_eq!(document.source["kubernetes"]["labels"], labels, "{}", document.source);
    }
    assert_eq!(documents.iter().filter(new).count(), 40);
    let ended = agent.terminate();
    assert!(ended.stderr.contains("refused=0"), "{}", ended.stderr);
}

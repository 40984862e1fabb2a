//! With each overlay's service account, everything of that overlay works, and every other verb is refused.

use crate::cluster;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use taffrail_tests::kubernetes::Kubernetes;
use taffrail_tests::manifests::{apply, as_account, chart, kustomize, kustomize_with, names, path};
use taffrail_tests::{eventually, seconds};

/// What every service account may do without a role of ours: ask who it is and what it may do, and whom to trust.
const EVERYONE: [&str; 6] = [
    "create authentication.k8s.io/selfsubjectreviews",
    "create authorization.k8s.io/selfsubjectaccessreviews",
    "create authorization.k8s.io/selfsubjectrulesreviews",
    "get certificates.k8s.io/clustertrustbundles",
    "list certificates.k8s.io/clustertrustbundles",
    "watch certificates.k8s.io/clustertrustbundles",
];

const BASE: [&str; 4] = ["get /namespaces", "get /pods", "list /pods", "watch /pods"];

#[test]
fn each_service_account_may_do_what_its_overlay_needs_and_nothing_else() {
    let cluster = cluster();
    let resources = resources(cluster);
    assert!(resources.iter().any(|(_, name)| name == "nodes/proxy"), "{resources:?}");
    let mut overlays: Vec<(String, Vec<Value>, Vec<&str>)> = vec![("base".into(), kustomize("base"), vec![])];
    for name in names("overlays") {
        overlays.push((name.clone(), kustomize(&format!("overlays/{name}")), vec![]));
    }
    let with = |names: &[&str]| kustomize_with("overlays/cloudwatch", names);
    overlays.push(("node-labels".into(), with(&["node-labels"]), vec!["get /nodes"]));
    overlays.push(("drain".into(), with(&["drain"]), vec!["watch /nodes"]));
    overlays.push(("report-events".into(), with(&["report-events"]), vec!["create /events"]));
    overlays.push(("chart".into(), chart(json!({})).unwrap(), vec![]));
    let all = chart(json!({ "rbac": { "nodes": true, "drain": true, "events": true } })).unwrap();
    overlays.push(("chart with all".into(), all, vec!["get /nodes", "watch /nodes", "create /events"]));

    // Overlays whose rights are the same to the letter are asked about once.
    let mut asked: BTreeMap<String, String> = BTreeMap::new();
    for (name, objects, more) in overlays {
        let rights: Vec<Value> = objects.into_iter().filter(is_right).collect();
        if asked.insert(json!(rights).to_string(), name.clone()).is_some() {
            continue;
        }
        for object in &rights {
            apply(cluster, object, false).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        let wanted: BTreeSet<String> =
            EVERYONE.iter().chain(&BASE).chain(&more).map(|&right| right.to_owned()).collect();
        // The server sees roles through a cache of its own.
        eventually(seconds(30), &format!("the rights of {name} to be in force"), || {
            let missing: Vec<&String> = wanted.iter().filter(|right| !may(cluster, right)).collect();
            if missing.is_empty() { Ok(()) } else { Err(format!("{missing:?}")) }
        });
        let mut found = BTreeSet::new();
        for (group, resource) in &resources {
            for verb in ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"] {
                let right = format!("{verb} {group}/{resource}");
                if may(cluster, &right) {
                    found.insert(right);
                }
            }
        }
        assert_eq!(found, wanted, "{name}");
        call(cluster, &name, more.contains(&"get /nodes"), more.contains(&"create /events"));
        for object in rights.iter().rev() {
            cluster.send("DELETE", &path(object), &Value::Null);
        }
        eventually(seconds(30), "the rights to be gone", || {
            if may(cluster, "list /pods") { Err("pods can still be listed".to_owned()) } else { Ok(()) }
        });
    }
    // The overlays differ in no right; only components and the chart bring others.
    assert_eq!(asked.len(), 6, "{:?}", asked.values());
}

/// The same by what the agent truly asks, and by what it never should.
fn call(cluster: &Kubernetes, name: &str, nodes: bool, events: bool) {
    let pod =
        json!({ "metadata": { "name": "p" }, "spec": { "containers": [{ "name": "c", "image": "i" }] } });
    let about = json!({ "kind": "Pod", "name": "p", "namespace": "default", "uid": "u" });
    let event = json!({ "metadata": { "generateName": "p." }, "involvedObject": about, "type": "Warning" });
    let none = Value::Null;
    let node = cluster.node().name;
    let pods = "/api/v1/pods?fieldSelector=spec.nodeName%3Dn1&resourceVersion=0";
    let watch = format!("{pods}&watch=1&timeoutSeconds=1");
    let one_node = format!("/api/v1/nodes/{node}");
    let proxy = format!("{one_node}/proxy/logs/");
    let of_node = if nodes { 200 } else { 403 };
    let of_event = if events { 201 } else { 403 };
    for (method, target, body, status) in [
        ("GET", pods, &none, 200),
        ("GET", &watch, &none, 200),
        ("GET", "/api/v1/namespaces/default?resourceVersion=0", &none, 200),
        ("GET", &one_node, &none, of_node),
        ("POST", "/api/v1/namespaces/default/events", &event, of_event),
        ("GET", "/api/v1/namespaces", &none, 403),
        ("GET", "/api/v1/nodes", &none, 403),
        ("GET", &proxy, &none, 403),
        ("GET", "/api/v1/secrets", &none, 403),
        ("GET", "/api/v1/namespaces/taffrail/configmaps", &none, 403),
        ("GET", "/api/v1/namespaces/default/pods/p/log", &none, 403),
        ("POST", "/api/v1/namespaces/default/pods/p/exec?command=sh", &none, 403),
        ("POST", "/api/v1/namespaces/default/pods", &pod, 403),
        ("DELETE", "/api/v1/namespaces/default/pods/p", &none, 403),
        ("POST", "/api/v1/namespaces/taffrail/serviceaccounts/taffrail/token", &json!({}), 403),
    ] {
        let reply = as_account(cluster, method, target, body);
        assert_eq!(
            reply.status,
            status,
            "{name}: {method} {target}: {}",
            String::from_utf8_lossy(&reply.body)
        );
    }
}

fn is_right(object: &Value) -> bool {
    let kind = object["kind"].as_str().unwrap_or_default();
    kind.contains("Role")
}

/// Whether the account has a right such as `get apps/daemonsets/status`, in every namespace: asked in its name.
fn may(cluster: &Kubernetes, right: &str) -> bool {
    let (verb, rest) = right.split_once(' ').expect("a verb");
    let (group, resource) = rest.split_once('/').expect("a group");
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let review = json!({ "kind": "SelfSubjectAccessReview", "apiVersion": "authorization.k8s.io/v1",
        "spec": { "resourceAttributes": {
            "verb": verb, "group": group, "resource": resource, "subresource": subresource } } });
    let target = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let reply = as_account(cluster, "POST", target, &review);
    let text = String::from_utf8_lossy(&reply.body);
    let answer: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    answer["status"]["allowed"].as_bool().unwrap_or_else(|| panic!("{right}: {text}"))
}

/// Every resource and subresource that the server has, with its group.
fn resources(cluster: &Kubernetes) -> Vec<(String, String)> {
    let groups = cluster.send("GET", "/apis", &Value::Null);
    let versions = groups["groups"].as_array().expect("groups").iter().map(|group| {
        let version = group["preferredVersion"]["groupVersion"].as_str().expect("a version");
        (group["name"].as_str().expect("a name").to_owned(), format!("/apis/{version}"))
    });
    let mut found = Vec::new();
    for (group, target) in versions.chain([(String::new(), "/api/v1".to_owned())]) {
        let list = cluster.send("GET", &target, &Value::Null);
        for resource in list["resources"].as_array().expect("resources") {
            found.push((group.clone(), resource["name"].as_str().expect("a name").to_owned()));
        }
    }
    found
}

//! The forwarder as a Deployment: what is applied is taken by a real API server, its pods by the strictest standard, and its
//! service account may do what it must and no more.

use crate::cluster;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use taffrail_tests::manifests::{apply, as_account_of, kustomize, one, path};
use taffrail_tests::node::Node;
use taffrail_tests::{agent, eventually, seconds};

const NAME: &str = "taffrail-forwarder";

#[test]
fn it_is_taken_and_its_pods_are_within_the_strictest_standard() {
    let (cluster, objects) = (cluster(), kustomize("forwarder"));
    apply(cluster, one(&objects, "Namespace"), false).unwrap();
    for object in &objects {
        apply(cluster, object, true).unwrap_or_else(|error| panic!("{error}"));
    }
    // A pod as the Deployment's controller would make it, by the namespace's own standard, which is `restricted`.
    apply(cluster, one(&objects, "ServiceAccount"), false).unwrap();
    let mut pod = one(&objects, "Deployment")["spec"]["template"].clone();
    pod["metadata"]["name"] = json!("x");
    let target = format!("/api/v1/namespaces/{NAME}/pods?dryRun=All");
    let reply = cluster.try_send("POST", &target, &pod).unwrap();
    assert_eq!(reply.status, 201, "{}", String::from_utf8_lossy(&reply.body));
}

#[test]
fn its_configuration_is_right_and_the_disk_is_where_that_says() {
    let objects = kustomize("forwarder");
    let text = one(&objects, "ConfigMap")["data"]["taffrail.toml"].as_str().expect("a configuration");
    let checked = agent::check(text, &Node::new());
    assert_eq!(checked.code, Some(0), "{}", checked.stderr);
    let container = &one(&objects, "Deployment")["spec"]["template"]["spec"]["containers"][0];
    let state = container["volumeMounts"].as_array().expect("mounts").iter().find(|m| m["name"] == "state");
    let state = state.expect("a disk")["mountPath"].as_str().expect("a path");
    assert!(text.contains(&format!("state_dir = \"{state}\"")), "{text}");
    assert!(text.contains("[forward.leases]"), "{text}");
}

#[test]
fn its_service_account_has_leases_of_its_namespace_and_nothing_else() {
    let (cluster, objects) = (cluster(), kustomize("forwarder"));
    for kind in ["Namespace", "ServiceAccount", "Role", "RoleBinding"] {
        apply(cluster, one(&objects, kind), false).unwrap_or_else(|error| panic!("{error}"));
    }
    assert_eq!(path(one(&objects, "Role")).matches(NAME).count(), 2, "no rights beyond its namespace");
    let may = |namespace: &str, group: &str, resource: &str, verb: &str| {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let review = json!({ "kind": "SelfSubjectAccessReview", "apiVersion": "authorization.k8s.io/v1",
            "spec": { "resourceAttributes": { "namespace": namespace, "verb": verb, "group": group,
                "resource": resource, "subresource": subresource } } });
        let target = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        let reply = as_account_of(cluster, (NAME, NAME), "POST", target, &review);
        let answer: Value = serde_json::from_slice(&reply.body).expect("an answer");
        answer["status"]["allowed"].as_bool().expect("a yes or no")
    };
    // The server sees roles through a cache of its own.
    eventually(seconds(30), "the rights to be in force", || {
        if may(NAME, "coordination.k8s.io", "leases", "list") { Ok(()) } else { Err("not yet".to_owned()) }
    });
    let wanted: BTreeSet<String> =
        ["list", "create", "update", "delete"].map(|verb| format!("{verb} leases")).into();
    for (namespace, wanted) in [(NAME, wanted), ("default", BTreeSet::new()), ("", BTreeSet::new())] {
        let mut found = BTreeSet::new();
        for (group, resource) in [
            ("coordination.k8s.io", "leases"),
            ("", "pods"),
            ("", "pods/log"),
            ("", "pods/exec"),
            ("", "secrets"),
            ("", "configmaps"),
            ("", "namespaces"),
            ("", "nodes"),
            ("", "nodes/proxy"),
            ("", "events"),
            ("", "serviceaccounts/token"),
            ("apps", "deployments"),
            ("rbac.authorization.k8s.io", "roles"),
        ] {
            for verb in ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"] {
                if may(namespace, group, resource, verb) {
                    found.insert(format!("{verb} {resource}"));
                }
            }
        }
        assert_eq!(found, wanted, "in {namespace:?}");
    }
}

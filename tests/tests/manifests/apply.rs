//! A real API server takes what is rendered, and its admission finds what the manifests say of themselves.

use crate::{cluster, everything};
use serde_json::{Value, json};
use taffrail_tests::manifests::{NAMESPACE, apply, chart, kustomize, one};
use taffrail_tests::{eventually, seconds};

#[test]
fn the_api_server_takes_every_overlay_every_component_and_the_chart() {
    let cluster = cluster();
    // The Prometheus operator's: only that there are such kinds.
    let schema = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
    for (kind, plural) in [("ServiceMonitor", "servicemonitors"), ("PrometheusRule", "prometheusrules")] {
        let definition = json!({ "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": { "name": format!("{plural}.monitoring.coreos.com") },
            "spec": { "group": "monitoring.coreos.com", "scope": "Namespaced",
                "names": { "kind": kind, "plural": plural },
                "versions": [{ "name": "v1", "served": true, "storage": true, "schema": { "openAPIV3Schema": schema } }] } });
        apply(cluster, &definition, false).unwrap();
        eventually(seconds(30), "them to be served", || {
            let target = format!("/apis/monitoring.coreos.com/v1/namespaces/{NAMESPACE}/{plural}");
            let reply = cluster.try_send("GET", &target, &Value::Null)?;
            if reply.status == 200 { Ok(()) } else { Err(reply.status.to_string()) }
        });
    }
    for (name, objects) in everything() {
        for object in &objects {
            apply(cluster, object, true).unwrap_or_else(|error| panic!("{name}: {error}\n{object}"));
        }
    }
}

#[test]
fn in_a_restricted_namespace_the_pods_miss_exactly_what_is_said_of_them() {
    let cluster = cluster();
    let labels = json!({ "pod-security.kubernetes.io/enforce": "restricted" });
    let namespace = json!({ "metadata": { "name": "restricted", "labels": labels } });
    cluster.send("POST", "/api/v1/namespaces", &namespace);
    let volume = "restricted volume types (volume \"logs\" uses restricted volume type \"hostPath\")";
    let volumes =
        "restricted volume types (volumes \"state\", \"logs\" use restricted volume type \"hostPath\")";
    let root = "runAsNonRoot != true (pod or container \"taffrail\" must set securityContext.runAsNonRoot=true), \
        runAsUser=0 (container \"taffrail\" must not set runAsUser=0)";
    let uid_0 = &*format!("{volume}, {root}");
    let uid_0_and_state = &*format!("{volumes}, {root}");
    // Of the container that gives the state directory away, too.
    let non_root = &*format!(
        "unrestricted capabilities (container \"taffrail\" must not include \"DAC_READ_SEARCH\" in \
         securityContext.capabilities.add), {volumes}, runAsNonRoot != true (pod or container \"state\" must set \
         securityContext.runAsNonRoot=true), runAsUser=0 (container \"state\" must not set runAsUser=0)"
    );
    for (folder, violations) in [
        ("base", uid_0),
        ("overlays/elasticsearch", uid_0),
        ("overlays/cloudwatch", uid_0),
        ("overlays/both", uid_0),
        ("overlays/eks-irsa", uid_0),
        ("overlays/eks-pod-identity", uid_0),
        ("overlays/logs-read-only", uid_0_and_state),
        ("overlays/non-root", non_root),
    ] {
        refused_for(folder, &kustomize(folder), violations);
    }
    let objects = chart(json!({ "preset": "both", "nonRoot": true, "prepareState": false })).unwrap();
    let least = "unrestricted capabilities (container \"taffrail\" must not include \"DAC_READ_SEARCH\" in \
        securityContext.capabilities.add), restricted volume types (volumes \"logs\", \"state\" use restricted volume type \
        \"hostPath\")";
    refused_for("the chart without the init container", &objects, least);
}

/// A pod of these objects is refused in the restricted namespace, for exactly these reasons.
#[track_caller]
fn refused_for(name: &str, objects: &[Value], violations: &str) {
    let target = "/api/v1/namespaces/restricted/pods?dryRun=All";
    let reply = cluster().try_send("POST", target, &pod(objects, "restricted")).unwrap();
    let reply: Value = serde_json::from_slice(&reply.body).unwrap();
    let message = reply["message"].as_str().unwrap_or_default();
    let said = message.split_once("violates PodSecurity \"restricted:latest\": ").unwrap_or((message, "")).1;
    assert_eq!(said, violations, "{name}: {message}");
}
#[test]
fn where_system_node_critical_is_limited_the_agents_own_quota_lets_it_in() {
    let cluster = cluster();
    let (objects, name) = (kustomize("base"), cluster.namespace());
    let target = format!("/api/v1/namespaces/{name}/pods?dryRun=All");
    let refused = cluster.try_send("POST", &target, &pod(&objects, &name)).unwrap();
    let refused = String::from_utf8_lossy(&refused.body);
    assert!(refused.contains("insufficient quota to match these scopes"), "{refused}");

    let mut quota = one(&objects, "ResourceQuota").clone();
    quota["metadata"]["namespace"] = json!(name);
    let made = apply(cluster, &quota, false).unwrap();
    // What the quota controller would do, which does not run here.
    let status = json!({ "status": { "hard": made["spec"]["hard"], "used": { "pods": "0" } } });
    let quotas = format!("/api/v1/namespaces/{name}/resourcequotas/taffrail-critical/status");
    cluster.send("PATCH", &quotas, &status);
    // The server looks at quotas through a cache of its own.
    eventually(seconds(30), "the pod to be let in", || {
        let reply = cluster.try_send("POST", &target, &pod(&objects, &name))?;
        if reply.status == 201 { Ok(()) } else { Err(String::from_utf8_lossy(&reply.body).into_owned()) }
    });
}

/// A pod of the DaemonSet, as its controller would make it.
fn pod(objects: &[Value], namespace: &str) -> Value {
    let mut pod = one(objects, "DaemonSet")["spec"]["template"].clone();
    assert_eq!(one(objects, "DaemonSet")["metadata"]["namespace"], NAMESPACE);
    pod["metadata"]["name"] = json!("taffrail-x");
    pod["metadata"]["namespace"] = json!(namespace);
    pod
}

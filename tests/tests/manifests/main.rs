//! The manifests: what kustomize and helm make of them, and what a real API server says to that.

mod alerts;
mod apply;
mod aws;
mod forwarder;
mod render;
mod rights;

use serde_json::{Value, json};
use std::fs;
use std::sync::OnceLock;
use taffrail_tests::kubernetes::Kubernetes;
use taffrail_tests::manifests::{chart, kustomize, kustomize_with, names};

/// The API server of these tests: pods of system-node-critical only where a quota lets them in, as on GKE.
fn cluster() -> &'static Kubernetes {
    // Never dropped: it ends when the process does.
    static SHARED: OnceLock<Kubernetes> = OnceLock::new();
    SHARED.get_or_init(|| {
        let quota = json!({ "apiVersion": "apiserver.config.k8s.io/v1", "kind": "ResourceQuotaConfiguration",
            "limitedResources": [{ "resource": "pods", "matchScopes": [{ "scopeName": "PriorityClass",
                "operator": "In", "values": ["system-node-critical"] }] }] });
        let admission = json!({ "apiVersion": "apiserver.config.k8s.io/v1", "kind": "AdmissionConfiguration",
            "plugins": [{ "name": "ResourceQuota", "configuration": quota }] });
        let file = tempfile::Builder::new().suffix(".json").tempfile().expect("a temporary file");
        fs::write(&file, admission.to_string()).expect("to write the server's admission");
        let flag = format!("--admission-control-config-file={}", file.path().display());
        let cluster = Kubernetes::start(&["--", &flag]);
        let namespace = json!({ "metadata": { "name": "taffrail" } });
        cluster.send("POST", "/api/v1/namespaces", &namespace);
        cluster
    })
}

/// Everything that is to be applied, by what it is called: overlays, components with an overlay, the chart by its values.
fn everything() -> Vec<(String, Vec<Value>)> {
    let mut all = vec![("base".to_owned(), kustomize("base"))];
    for name in names("overlays") {
        let folder = format!("overlays/{name}");
        all.push((folder.clone(), kustomize(&folder)));
    }
    for name in names("components") {
        all.push((format!("components/{name}"), kustomize_with("overlays/elasticsearch", &[&name])));
    }
    for values in [
        json!({}),
        json!({ "preset": "both", "nonRoot": true, "logsReadOnly": true, "rbac": { "nodes": true, "events": true },
            "networkPolicy": { "enabled": true }, "serviceMonitor": { "enabled": true }, "prometheusRule": { "enabled": true },
            "serviceAccount": { "annotations": { "a/b": "c" } }, "seLinuxOptions": { "type": "control_t" },
            "env": [{ "name": "AWS_REGION", "value": "eu-central-1" }], "podLabels": { "team": "infra" },
            "podAnnotations": { "a": "b" }, "nodeSelector": { "a": "b" }, "imagePullSecrets": [{ "name": "s" }] }),
        json!({ "preset": "elasticsearch", "nonRoot": true, "prepareState": false }),
        json!({ "existingConfigMap": "mine", "secretName": "", "priorityClassName": "", "maxUnavailable": 1 }),
    ] {
        let objects = chart(values.clone()).unwrap_or_else(|error| panic!("{values}: {error}"));
        all.push((format!("chart with {values}"), objects));
    }
    all
}

//! What kustomize and helm make of the manifests, without any server.

use crate::everything;
use serde_json::{Value, json};
use std::fs;
use taffrail_tests::agent;
use taffrail_tests::manifests::{chart, kustomize, lint, one, root};
use taffrail_tests::node::Node;

#[test]
fn the_chart_and_the_overlays_say_the_same() {
    let role = "arn:aws:iam::111122223333:role/taffrail";
    for (folder, values) in [
        ("base", json!({})),
        ("overlays/elasticsearch", json!({ "preset": "elasticsearch" })),
        ("overlays/cloudwatch", json!({ "preset": "cloudwatch" })),
        ("overlays/both", json!({ "preset": "both" })),
        (
            "overlays/eks-irsa",
            json!({ "preset": "cloudwatch",
                "serviceAccount": { "annotations": { "eks.amazonaws.com/role-arn": role } } }),
        ),
        (
            "overlays/eks-pod-identity",
            json!({ "preset": "cloudwatch", "networkPolicy": { "enabled": true } }),
        ),
        ("overlays/non-root", json!({ "preset": "elasticsearch", "nonRoot": true })),
        ("overlays/logs-read-only", json!({ "preset": "elasticsearch", "logsReadOnly": true })),
    ] {
        let (by_kustomize, by_helm) = (kustomize(folder), chart(values).unwrap());
        let (mut ours, mut theirs) = (content(&by_kustomize), content(&by_helm));
        // Only a cluster that makes namespaces by itself could do without: helm has --create-namespace.
        ours.retain(|(_, object)| object["kind"] != "Namespace");
        ours.sort_by(|a, b| a.0.cmp(&b.0));
        theirs.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!(ours.len(), theirs.len(), "{folder}");
        for (ours, theirs) in ours.iter().zip(&theirs) {
            assert_eq!(ours, theirs, "{folder}");
        }
    }
}

/// What objects say, by kind: without names, labels and the other ways in which the two tools tell versions apart, and
/// without the order of lists that have none.
fn content(objects: &[Value]) -> Vec<(String, Value)> {
    let content = objects.iter().map(|object| {
        let mut object = object.clone();
        let annotations = object["metadata"]["annotations"].take();
        object["metadata"] = json!({ "annotations": annotations });
        match object["kind"].as_str().expect("a kind") {
            "ClusterRoleBinding" => object["roleRef"] = Value::Null,
            "NetworkPolicy" => object["spec"]["podSelector"] = Value::Null,
            "DaemonSet" => {
                object["spec"]["selector"] = Value::Null;
                object["spec"]["template"]["metadata"] = Value::Null;
                pod_content(&mut object["spec"]["template"]["spec"]);
            }
            _ => {}
        }
        (object["kind"].to_string(), object)
    });
    content.collect()
}

fn pod_content(pod: &mut Value) {
    for volume in pod["volumes"].as_array_mut().expect("volumes") {
        volume["configMap"] = json!(volume["configMap"].is_object());
    }
    sort(&mut pod["volumes"], "name");
    for list in ["containers", "initContainers"] {
        for container in pod[list].as_array_mut().into_iter().flatten() {
            container["imagePullPolicy"] = Value::Null;
            sort(&mut container["volumeMounts"], "mountPath");
        }
    }
}

fn sort(list: &mut Value, key: &str) {
    list.as_array_mut().expect("a list").sort_by_key(|item| item[key].to_string());
}

#[test]
fn the_configurations_of_the_manifests_are_those_of_configs() {
    let read =
        |file: &str| fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    for (name, overlay) in [
        ("demo", "base"),
        ("elasticsearch", "overlays/elasticsearch"),
        ("cloudwatch", "overlays/cloudwatch"),
        ("both", "overlays/both"),
    ] {
        let (overlay, charts) = (
            format!("manifests/{overlay}/taffrail.toml"),
            format!("manifests/helm/taffrail/configs/{name}.toml"),
        );
        assert!(read(&overlay) == read(&charts), "cp {overlay} {charts}");
        let source = format!("configs/{name}.toml");
        assert!(read(&overlay) == read(&source), "cp {source} {overlay}; cp {source} {charts}");
    }
    let read_only = read("manifests/overlays/logs-read-only/taffrail.toml");
    let wanted = format!("state_dir = \"/var/lib/taffrail\"\n{}", read("configs/elasticsearch.toml"));
    assert_eq!(read_only, wanted);
}

#[test]
fn the_agent_takes_every_configuration_in_what_is_applied() {
    for (name, objects) in everything() {
        let Some(config) = objects.iter().find(|object| object["kind"] == "ConfigMap") else { continue };
        let text = config["data"]["taffrail.toml"].as_str().expect("a configuration");
        let checked = agent::check(text, &Node::new());
        assert_eq!(checked.code, Some(0), "{name}:\n{}", checked.stderr);
    }
}

#[test]
fn the_policy_for_aws_permits_what_the_configuration_writes_to_and_no_more() {
    let read = |file: &str| -> Value {
        let text = fs::read_to_string(root().join("manifests/overlays").join(file)).expect("a policy");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{file}: {error}"))
    };
    let policy = read("cloudwatch/iam-policy.json");
    let config = fs::read_to_string(root().join("manifests/overlays/cloudwatch/taffrail.toml"))
        .expect("a configuration");
    assert!(config.contains("log_group = \"/eks/"));
    for statement in policy["Statement"].as_array().expect("statements") {
        assert!(
            statement["Resource"].as_str().expect("one").starts_with("arn:aws:logs:*:*:log-group:/eks/*")
        );
        let actions = statement["Action"].as_array().expect("actions").iter();
        for action in actions.map(|action| action.as_str().expect("a text")) {
            assert!(action.starts_with("logs:") && !action.contains(['*', '?']), "{action}");
            assert!(!action.contains("Get") && !action.contains("Delete"), "{action}");
        }
    }
    let account = "system:serviceaccount:taffrail:taffrail";
    assert!(read("eks-irsa/trust-policy.json").to_string().contains(account));
    assert!(read("eks-pod-identity/trust-policy.json").to_string().contains("pods.eks.amazonaws.com"));
}

#[test]
fn the_chart_lints_and_refuses_values_that_mean_nothing() {
    lint(json!({})).unwrap();
    lint(json!({ "nonRoot": true, "preset": "both" })).unwrap();
    for (values, said) in [
        (json!({ "nonroot": true }), "nonroot"),
        (json!({ "image": { "repository": "" } }), "repository"),
        (json!({ "preset": "splunk" }), "preset"),
        (json!({ "maxUnavailable": "lots" }), "maxUnavailable"),
        (json!({ "nonRoot": true }), "demo"),
    ] {
        let error = chart(values.clone()).expect_err(&values.to_string());
        assert!(error.contains(said), "{values}: {error}");
    }
}

#[test]
fn every_pod_is_probed_at_the_port_that_its_agent_listens_at() {
    for (name, objects) in everything() {
        let container = &one(&objects, "DaemonSet")["spec"]["template"]["spec"]["containers"][0];
        let env = container["env"].as_array().expect("variables");
        let listen = env.iter().find(|variable| variable["name"] == "TAFFRAIL_METRICS_LISTEN");
        assert_eq!(listen.expect("the variable")["value"], "[::]:9601", "{name}");
        assert_eq!(container["ports"], json!([{ "name": "metrics", "containerPort": 9601 }]), "{name}");
        for (probe, path) in [("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")] {
            assert_eq!(container[probe]["httpGet"], json!({ "path": path, "port": "metrics" }), "{name}");
        }
        if let Some(config) = objects.iter().find(|object| object["kind"] == "ConfigMap") {
            let text = config["data"]["taffrail.toml"].as_str().expect("a configuration");
            assert!(
                !text.contains("listen"),
                "{name}: the page stays on the loopback, and probes reach the agent"
            );
        }
    }
    let without = chart(json!({ "probes": { "enabled": false } })).unwrap();
    assert!(one(&without, "DaemonSet").to_string().find("Probe").is_none());
}

#[test]
fn every_command_in_a_pod_goes_by_the_configuration_of_its_agent() {
    for (name, objects) in everything() {
        let container = &one(&objects, "DaemonSet")["spec"]["template"]["spec"]["containers"][0];
        let env = container["env"].as_array().expect("variables");
        let config = env.iter().find(|variable| variable["name"] == "TAFFRAIL_CONFIG");
        let config = &config.expect("the variable")["value"];
        assert_eq!(container["args"], json!(["run", "--config", config]), "{name}");
    }
}

#[test]
fn no_pod_has_more_than_it_needs() {
    for (name, objects) in everything() {
        let pod = &one(&objects, "DaemonSet")["spec"]["template"]["spec"];
        for field in ["hostNetwork", "hostPID", "hostIPC"] {
            assert!(pod[field].is_null(), "{name}: {field}");
        }
        let seccomp = &pod["securityContext"]["seccompProfile"]["type"];
        assert_eq!(seccomp, "RuntimeDefault", "{name}");
        let lists =
            ["containers", "initContainers"].map(|list| pod[list].as_array().cloned().unwrap_or_default());
        for container in lists.concat() {
            let context = &container["securityContext"];
            assert_eq!(context["allowPrivilegeEscalation"], false, "{name}");
            assert_eq!(context["readOnlyRootFilesystem"], true, "{name}");
            assert!(context["privileged"].is_null(), "{name}");
            assert_eq!(context["capabilities"]["drop"], json!(["ALL"]), "{name}");
            match context["runAsUser"].as_u64() {
                Some(0) => assert!(context["capabilities"]["add"].is_null(), "{name}"),
                _ => assert_eq!(context["capabilities"]["add"], json!(["DAC_READ_SEARCH"]), "{name}"),
            }
            let resources = &container["resources"];
            assert!(
                !resources["requests"]["memory"].is_null() && !resources["limits"]["memory"].is_null(),
                "{name}"
            );
            let writable = container["volumeMounts"]
                .as_array()
                .expect("mounts")
                .iter()
                .filter(|m| m["readOnly"] != true);
            assert_eq!(writable.count(), 1, "{name}: one place to write to");
        }
    }
}

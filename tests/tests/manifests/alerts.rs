//! Alerts, by Prometheus' own promtool: the rules are rules, and each alert fires where it should and nowhere else.

use std::collections::BTreeSet;
use std::fs;

use serde_json::json;
use taffrail_tests::manifests::{chart, kustomize_with, one, promtool, root};

/// What stands behind `key: ` in a text, line by line.
fn values(text: &str, key: &str) -> BTreeSet<String> {
    let key = format!("{key}: ");
    let found = text.split(&key).skip(1);
    found.map(|rest| rest.split([',', '}', '\n']).next().unwrap_or_default().trim().to_owned()).collect()
}

#[test]
fn promtool_takes_the_rules_and_every_alert_fires_and_keeps_still_as_it_should() {
    let rules = fs::read_to_string(root().join("dashboards/alerts/taffrail.rules.yaml")).unwrap();
    let tests = fs::read_to_string(root().join("dashboards/alerts/taffrail.rules.test.yaml")).unwrap();
    for arguments in
        [["check", "rules", "taffrail.rules.yaml"], ["test", "rules", "taffrail.rules.test.yaml"]]
    {
        let output = promtool(&arguments);
        let said = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
    }
    assert_eq!(values(&rules, "- alert"), values(&tests, "alertname"), "each has a test");
    for alert in values(&rules, "- alert") {
        let fires = tests.split(&format!("alertname: {alert}\n        exp_alerts:\n")).count();
        assert!(fires > 1, "{alert} fires in none");
    }
}

#[test]
fn the_operators_rule_is_the_file_of_rules() {
    let rules = fs::read_to_string(root().join("dashboards/alerts/taffrail.rules.yaml")).unwrap();
    let (_, rules) = rules.split_once("\ngroups:\n").unwrap();
    let component = root().join("manifests/components/prometheus-rule/prometheus-rule.yaml");
    let component = fs::read_to_string(component).unwrap();
    let (_, spec) = component.split_once("\nspec:\n  groups:\n").unwrap();
    let shifted: Vec<&str> = spec.lines().map(|line| line.strip_prefix("  ").unwrap_or(line)).collect();
    assert_eq!(shifted, rules.lines().collect::<Vec<_>>());
    let rendered = kustomize_with("overlays/elasticsearch", &["service-monitor", "prometheus-rule"]);
    let spec = &one(&rendered, "PrometheusRule")["spec"];
    let groups = spec["groups"].as_array().unwrap();
    let alerts = groups.iter().flat_map(|group| group["rules"].as_array().unwrap());
    let alerts: BTreeSet<String> =
        alerts.filter_map(|rule| Some(rule["alert"].as_str()?.to_owned())).collect();
    assert_eq!(alerts, values(&component, "- alert"));
    // Helm reads no file outside of the chart.
    let (source, copy) =
        ("dashboards/alerts/taffrail.rules.yaml", "manifests/helm/taffrail/files/taffrail.rules.yaml");
    let read = |file: &str| fs::read_to_string(root().join(file)).unwrap();
    assert!(read(source) == read(copy), "cp {source} {copy}");
    let by_helm = chart(json!({ "prometheusRule": { "enabled": true } })).unwrap();
    assert_eq!(one(&by_helm, "PrometheusRule")["spec"], *spec);
    assert!(chart(json!({})).unwrap().iter().all(|object| object["kind"] != "PrometheusRule"));
}

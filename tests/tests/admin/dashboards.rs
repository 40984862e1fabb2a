//! What is in the folder `dashboards/` for Prometheus and Grafana asks for metrics that there are, and sends people to
//! runbooks that there are.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use taffrail_tests::agent::Agent;
use taffrail_tests::listeners::metrics;
use taffrail_tests::manifests::root;
use taffrail_tests::node::Node;
use taffrail_tests::{eventually, seconds};

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn runbooks() -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join("dashboards/runbooks")).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

fn rules() -> String {
    text(&root().join("dashboards/alerts/taffrail.rules.yaml"))
}

fn grafana() -> Value {
    serde_json::from_str(&text(&root().join("dashboards/grafana/taffrail.json"))).unwrap()
}

/// Names of metrics in a text.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|letter: char| !(letter.is_ascii_alphanumeric() || "_:".contains(letter)));
    let ours = |word: &&str| word.starts_with("taffrail_") || word.starts_with("process_");
    words.filter(ours).map(str::to_owned).collect()
}

#[test]
fn every_metric_that_is_asked_for_is_one_of_the_agents() {
    let node = Node::new();
    let mut pod = node.pod("web").namespace("shop").container("app");
    pod.writes(200);
    // So that there is a loss of a container.
    let limit = "[outputs.local.rate_limit]\ncontainer = { lines = 10 }\nburst = \"1s\"\naction = \"drop\"\n";
    let _agent = Agent::start(&format!("{}\n{limit}", node.to_file()), &node);
    let mut asked = names(&rules());
    for panel in grafana()["panels"].as_array().unwrap() {
        let targets = panel["targets"].as_array().unwrap();
        targets.iter().for_each(|target| asked.extend(names(target["expr"].as_str().unwrap())));
    }
    runbooks().iter().for_each(|path| asked.extend(names(&text(path))));
    assert!(asked.len() > 25, "{asked:?}");
    eventually(seconds(40), "every metric", || {
        let series = metrics(&node);
        let there: BTreeSet<&str> = series.keys().filter_map(|series| series.split('{').next()).collect();
        let missing: Vec<_> = asked.iter().filter(|name| !there.contains(name.as_str())).collect();
        if missing.is_empty() { Ok(()) } else { Err(format!("{missing:?}")) }
    });
}

#[test]
fn every_alert_says_how_bad_it_is_and_has_a_runbook_and_every_runbook_an_alert() {
    let rules = rules();
    let mut found = BTreeSet::new();
    for alert in rules.split("- alert: ").skip(1) {
        let name = alert.lines().next().unwrap();
        for key in ["severity: ", "summary: ", "description: ", "runbook_url: "] {
            assert!(alert.contains(key), "{name} lacks {key}");
        }
        let path = alert.split("runbook_url: ").nth(1).unwrap().lines().next().unwrap();
        let path = root().join(path);
        let runbook = text(&path);
        for part in ["**Means:**", "**Users notice**", "**Find the cause", "**Remedy:**"] {
            assert!(runbook.contains(part) || path.ends_with("lines-lost.md"), "{}: {part}", path.display());
        }
        found.insert(path);
    }
    assert_eq!(found, runbooks().into_iter().map(|path| root().join(path)).collect());
    // Where one runbook names another, or something else of the checkout.
    for path in &found {
        for link in text(path).split("](").skip(1) {
            let link = link.split(')').next().unwrap();
            assert!(path.with_file_name(link).exists(), "{}: {link}", path.display());
        }
    }
}

#[test]
fn the_dashboard_of_grafana_asks_whom_it_is_told_to_and_no_panel_lies_on_another() {
    let dashboard = grafana();
    let variables: Vec<&str> = dashboard["templating"]["list"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|v| v["name"].as_str())
        .collect();
    assert_eq!(variables, ["datasource", "cluster", "node"]);
    let (mut ids, mut taken) = (BTreeSet::new(), BTreeSet::new());
    for panel in dashboard["panels"].as_array().unwrap() {
        let title = panel["title"].as_str().unwrap();
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}");
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
        let at = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        assert!(at("x") + at("w") <= 24, "{title}");
        for x in at("x")..at("x") + at("w") {
            for y in at("y")..at("y") + at("h") {
                assert!(taken.insert((x, y)), "{title} lies on another");
            }
        }
        for target in panel["targets"].as_array().unwrap() {
            let expression = target["expr"].as_str().unwrap();
            let selectors = expression.matches('{').count();
            assert_eq!(
                expression.matches("cluster=~\"$cluster\",node=~\"$node\"").count(),
                selectors,
                "{title}"
            );
            assert!(selectors > 0, "{title}");
        }
    }
}

//! What panels ask, against real servers: each finds something once logs are there, and none fails where nothing is.
//!
//! Logs are written, set up and shipped by the program itself. What only an API server knows of pods (their owners, zones, runs)
//! and the health records of a fleet with trouble are written by hand, in the same form.

mod queries;

use crate::trial::{PATIENCE, Trial};
use queries::Query;
use serde_json::{Value, json};
use std::fs;
use taffrail_tests::agent::{Ended, run_by};
use taffrail_tests::eventually;
use taffrail_tests::server::{Kind, Server};
use taffrail_tests::space::{Space, Target};

on_every_server!(every_panel_finds_something, no_panel_fails_where_nothing_is);

/// What the panels of a space ask.
fn panels(trial: &Trial<'_>) -> Vec<Query> {
    let prefix = &trial.space.prefix;
    let (logs, health) = (format!("{prefix}-*"), format!("{prefix}-taffrail*"));
    let arguments = ["setup", "dashboards", "--print", "--index-pattern", &logs, "--health-pattern", &health];
    let Ended { code, stdout, stderr, .. } = run_by(&[], &arguments, "", &trial.node);
    assert_eq!(code, Some(0), "{stderr}");
    let mut panels = queries::of(&stdout);
    if trial.space.server.kind() == Kind::Elasticsearch8 {
        // The bare server lacks the module that has `auto_date_histogram`; one bucket over all is the same to a sum.
        panels.iter_mut().for_each(|query| without_auto(&mut query.body));
    }
    assert!(panels.len() > 60, "{} requests of panels", panels.len());
    panels
}

fn without_auto(value: &mut Value) {
    let Some(map) = value.as_object_mut() else { return };
    if let Some(auto) = map.remove("auto_date_histogram") {
        map.insert("date_histogram".into(), json!({ "field": auto["field"], "calendar_interval": "1y" }));
    }
    map.values_mut().for_each(without_auto);
}

#[track_caller]
fn set_up(trial: &Trial<'_>, config: &str) {
    let ended = run_by(&[], &["setup", "elasticsearch", "--yes"], config, &trial.node);
    assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
}

fn ask(space: &Space<'_>, query: &Query) -> Value {
    let target = format!("/{}/_search?ignore_unavailable=true&track_total_hits=true", query.index);
    let reply = space.server.try_send("POST", &target, &query.body.to_string()).expect("an answer");
    let text = String::from_utf8_lossy(&reply.body);
    assert_eq!(reply.status, 200, "{}: {text}\n{}", query.panel, query.body);
    let found: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(found["_shards"]["failed"], 0, "{}: {text}\n{}", query.panel, query.body);
    found
}

/// Whether every sum of an answer has something in it, in one bucket at least.
fn is_full(agg: &Value) -> bool {
    let inner = |bucket: &Value| {
        let aggs = bucket.as_object().into_iter().flatten().filter(|(_, inner)| inner.is_object());
        bucket["doc_count"].as_u64().is_some_and(|count| count > 0)
            && aggs.into_iter().all(|(_, inner)| is_full(inner))
    };
    match (&agg["buckets"], &agg["value"], &agg["values"]) {
        (Value::Array(buckets), ..) => buckets.iter().any(inner),
        (Value::Object(buckets), ..) => buckets.values().any(inner),
        (_, Value::Number(value), _) => value.as_f64().is_some_and(|value| value > 0.0),
        (_, _, Value::Array(values)) => values.iter().all(|value| value["value"].is_number()),
        _ => inner(agg),
    }
}

fn finds_something(query: &Query, found: &Value) -> bool {
    let hits = found["hits"]["total"]["value"].as_u64().is_some_and(|total| total > 0);
    hits && (query.hits
        || found["aggregations"].as_object().into_iter().flatten().all(|(_, agg)| is_full(agg)))
}

fn every_panel_finds_something(kind: Kind) {
    let trial = Trial::new(Server::shared(kind).space());
    let config = config(&trial);
    set_up(&trial, &config);
    write(&trial);
    let agent = trial.agent(&config);
    by_hand(&trial);
    let panels = panels(&trial);
    eventually(PATIENCE, "every panel to find something", || {
        trial.space.documents()?;
        let empty: Vec<&str> = panels
            .iter()
            .filter(|query| !finds_something(query, &ask(&trial.space, query)))
            .map(|query| query.panel.as_str())
            .collect();
        if empty.is_empty() { Ok(()) } else { Err(empty.join("\n")) }
    });
    assert_eq!(agent.terminate().code, Some(0));
}

fn no_panel_fails_where_nothing_is(kind: Kind) {
    let trial = Trial::new(Server::shared(kind).space());
    let panels = panels(&trial);
    let finds_nothing = |when: &str| {
        for query in &panels {
            let found = ask(&trial.space, query);
            assert!(!finds_something(query, &found), "{} finds something {when}: {found}", query.panel);
        }
    };
    finds_nothing("before there is any index");
    let config = trial.config_to(Target::Indices, "{date}");
    set_up(&trial, &format!("{config}\nsetup = {{ replicas = 0 }}\n"));
    for name in ["2026.11.30", "taffrail-2026.11.30"] {
        trial.space.server.send("PUT", &format!("/{}-{name}", trial.space.prefix), &Value::Null);
    }
    finds_nothing("in an empty index");
}

fn config(trial: &Trial<'_>) -> String {
    let config = trial.config_to(Target::DataStreams, "{namespace}");
    let files = trial.node.path().join("system");
    fs::create_dir_all(&files).unwrap();
    format!(
        "{config}\nsetup = {{ replicas = 0 }}\n\
         [metadata]\nlabel_fields = [\"team\"]\n\
         [files.system]\npaths = [\"{}/*.log\"]\nlabels = {{ team = \"infra\" }}\n\
         [[routes]]\nmatch = {{ namespace = \"edge\" }}\nparse = \"nginx\"\noutputs = [\"search\"]\n\
         [[routes]]\nmatch = {{ namespace = \"shop\" }}\njson = \"merge\"\nmultiline = \"auto\"\noutputs = [\"search\"]\n\
         [[routes]]\noutputs = [\"search\"]\n",
        files.display()
    )
}

/// Logs of some pods and of the node.
fn write(trial: &Trial<'_>) {
    let node = &trial.node;
    let mut edge = node.pod("edge-1").namespace("edge").container("nginx");
    for (path, status) in [("/", 200), ("/cart", 301), ("/gone", 404), ("/pay", 503)] {
        edge.writes_line(&format!(
            r#"10.1.2.3 - - [23/Nov/2026:10:00:00 +0000] "GET {path} HTTP/1.1" {status} 7 "-" "curl/8" 99 0.250 [shop]"#
        ));
    }
    let mut shop = node.pod("shop-1").namespace("shop").container("app");
    shop.writes(20);
    shop.writes_line(r#"{"level":"error","msg":"no answer","error":{"type":"Timeout"},"n":21}"#);
    shop.writes_line(r#"{"level":"fatal","msg":"panicked at src/main.rs","n":22}"#);
    let mut system = node.pod("proxy-1").namespace("kube-system").container("kube-proxy");
    system.writes_line("W1130 10:00:00.000000       1 proxier.go:700] \"slow\" took=\"2s\"");
    let host = (0..5).map(|n| format!("[warn] disk {n} is slow\n")).collect::<String>();
    fs::write(node.path().join("system/syslog.log"), host).unwrap();
}

/// Documents that no agent without an API server and no healthy one writes.
fn by_hand(trial: &Trial<'_>) {
    let now = taffrail_tests::clock::rfc3339(taffrail_tests::clock::now());
    let before = taffrail_tests::clock::rfc3339(taffrail_tests::clock::now() - 120_000_000_000);
    let mut lines = String::new();
    let mut put = |stream: &str, document: &Value| {
        let stream = format!("{}-{stream}", trial.space.prefix);
        lines += &format!("{}\n{document}\n", json!({ "create": { "_index": stream } }));
    };
    let of = |kind: &str, name: &str, container: &str| {
        json!({
            "@timestamp": now, "message": "ready", "log": { "level": "info" }, "stream": "stderr",
            "kubernetes": {
                "namespace": "shop", "pod": { "name": format!("{name}-0"), "uid": format!("uid-{name}") },
                "container": { "name": "app" }, "node": { "name": "n2" }, kind: { "name": name },
            },
            "container": { "id": container }, "cloud": { "availability_zone": "ap-northeast-1a" },
            "orchestrator": { "cluster": { "name": "test" } }, "labels": { "team": "shop" },
        })
    };
    for (kind, name) in
        [("deployment", "web"), ("statefulset", "db"), ("daemonset", "net"), ("job", "report")]
    {
        put("shop", &of(kind, name, "a"));
        put("shop", &of(kind, name, "b"));
    }
    let health = |time: &str, kind: &str, fields: Value| {
        let mut health = json!({ "kind": kind, "interval": 60.0, "version": "0.1.0" });
        health.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        json!({
            "@timestamp": time, "message": kind, "log": { "level": "info" }, "event": { "dataset": "taffrail.health" },
            "kubernetes": { "node": { "name": "n1" } }, "orchestrator": { "cluster": { "name": "test" } },
            "taffrail.health": health, "labels": { "team": "shop" },
        })
    };
    for time in [&before, &now] {
        put(
            "taffrail",
            &health(
                time,
                "agent",
                json!({
                    "uptime": 61.5, "cpu": 0.75, "memory": 20_000_000, "files": 12, "containers": 10, "waiting_metadata": 1,
                    "retained": 4096, "retained_limit": 2_147_483_648_u64, "errors": 1,
                }),
            ),
        );
        put(
            "taffrail",
            &health(
                time,
                "output",
                json!({
                    "output": "search", "type": "elasticsearch", "records": 1000, "bytes": 500_000, "lag_bytes": 2048,
                    "lag_seconds": 1.5, "in_flight": 2, "retries": 3, "refused": 1,
                }),
            ),
        );
        put(
            "taffrail",
            &health(
                time,
                "lost",
                json!({
                    "output": "search", "namespace": "shop", "reason": "retention", "records": 2, "bytes": 300,
                }),
            ),
        );
        put(
            "taffrail",
            &health(
                time,
                "volume",
                json!({
                    "output": "search", "namespace": "shop", "records": 900, "bytes": 450_000,
                }),
            ),
        );
    }
    let reply = trial.space.server.try_send("POST", "/_bulk?refresh=true", &lines).expect("an answer");
    let answer: Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!(answer["errors"], false, "{answer}");
}

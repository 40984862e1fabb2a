//! `taffrail setup elasticsearch`: what it makes on each server, that it makes it once, and that panels find what they need.
//!
//! The servers here have neither ILM nor ISM: a stand-in before them answers those calls as documented, and refuses what is
//! documented as refused.

use crate::trial::{PATIENCE, Trial};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use taffrail_tests::agent::{Ended, run_by};
use taffrail_tests::http::{Reply, Request};
use taffrail_tests::proxy::Action;
use taffrail_tests::server::{Kind, Server};
use taffrail_tests::{eventually, verify};

on_every_server!(
    it_is_made_once_and_mended_and_removed,
    what_is_not_ours_is_left,
    values_of_any_type_and_any_number_of_keys_are_found,
    an_agent_does_it_at_its_start,
    health_records_are_typed_and_can_be_added_up,
);

#[test]
fn a_lifecycle_of_elasticsearch_is_made_once_and_changed() {
    lifecycle(Kind::Elasticsearch8, "ilm");
}

#[test]
fn a_lifecycle_of_opensearch_is_made_once_and_changed() {
    lifecycle(Kind::OpenSearch, "ism");
}

const SETUP: [&str; 3] = ["setup", "elasticsearch", "--yes"];

/// A trial whose requests that change anything are written down.
fn watched(kind: Kind) -> (Trial<'static>, Arc<Mutex<Vec<String>>>) {
    ruled(kind, |_| None)
}

fn ruled(
    kind: Kind,
    mut rule: impl FnMut(&Request) -> Option<Reply> + Send + 'static,
) -> (Trial<'static>, Arc<Mutex<Vec<String>>>) {
    let changes = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&changes);
    let trial = Trial::ruled(Server::shared(kind).space(), move |_, request| {
        if matches!(request.method.as_str(), "PUT" | "DELETE") {
            seen.lock().unwrap().push(format!("{} {}", request.method, request.target));
        }
        rule(request).map_or(Action::Forward, Action::Answer)
    });
    let Trial { space, node, proxy } = trial;
    (Trial { space, node, proxy: proxy.spoils_all() }, changes)
}

/// The configuration for data streams `<prefix>-{namespace}`, with one shard and no copies.
fn config(trial: &Trial<'_>, setup: &str) -> String {
    let config = trial.config_to(taffrail_tests::space::Target::DataStreams, "{namespace}");
    format!(
        "{config}\nsetup = {{ replicas = 0{setup} }}\n[metadata]\nlabel_fields = [\"team\", \"app.kubernetes.io/part-of\"]\n"
    )
}

#[track_caller]
fn says(trial: &Trial<'_>, arguments: &[&str], config: &str) -> String {
    let Ended { code, stdout, stderr, .. } = run_by(&[], arguments, config, &trial.node);
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    stdout
}

fn taken(changes: &Mutex<Vec<String>>) -> Vec<String> {
    std::mem::take(&mut changes.lock().unwrap())
}

fn it_is_made_once_and_mended_and_removed(kind: Kind) {
    let (trial, changes) = watched(kind);
    let (config, name) = (config(&trial, ""), format!("taffrail-{}-any", trial.space.prefix));
    let all = ["_component_template", "_component_template", "_index_template"];
    let plan = says(&trial, &["setup", "elasticsearch", "--plan"], &config);
    assert!(plan.contains("plan: 3 to create\n"), "{plan}");
    assert!(taken(&changes).is_empty(), "a plan changes nothing");

    let made = says(&trial, &SETUP, &config);
    assert!(made.contains("done: 3 of 3"), "{made}");
    let places: Vec<String> =
        taken(&changes).iter().map(|change| change.split('/').nth(1).unwrap().to_owned()).collect();
    assert_eq!(places, all);

    let again = says(&trial, &SETUP, &config);
    assert!(again.contains("plan: 3 as it should be\n"), "{again}");
    assert!(taken(&changes).is_empty(), "the second time nothing is changed");

    // By hand, on the server itself.
    let path = format!("/_component_template/{name}@settings");
    let found = trial.space.server.send("GET", &path, &Value::Null);
    let mut there = found["component_templates"][0]["component_template"].clone();
    there["template"]["settings"]["index"]["number_of_shards"] = json!("7");
    trial.space.server.send("PUT", &path, &there);
    let mended = says(&trial, &SETUP, &config);
    assert!(mended.contains("index.number_of_shards: 7 instead of 1"), "{mended}");
    assert_eq!(taken(&changes), [format!("PUT {path}")]);

    let removed = says(&trial, &[&SETUP[..], &["--remove"]].concat(), &config);
    assert!(removed.contains("plan: 3 to remove\n"), "{removed}");
    assert_eq!(taken(&changes).len(), 3);
    let gone = says(&trial, &[&SETUP[..], &["--remove"]].concat(), &config);
    assert!(gone.contains("plan: nothing\n"), "{gone}");
}

fn what_is_not_ours_is_left(kind: Kind) {
    let (trial, changes) = watched(kind);
    let name = format!("taffrail-{}-any", trial.space.prefix);
    let foreign = json!({ "template": { "settings": { "index": { "number_of_shards": "3" } } } });
    trial.space.server.send("PUT", &format!("/_component_template/{name}@settings"), &foreign);
    let config = config(&trial, "");
    let ended = run_by(&[], &SETUP, &config, &trial.node);
    assert_eq!(ended.code, Some(1), "{}", ended.stdout);
    assert!(ended.stdout.contains("it is there, and was not made by Taffrail"), "{}", ended.stdout);
    assert!(!taken(&changes).iter().any(|change| change.contains("@settings")));
    says(&trial, &[&SETUP[..], &["--remove"]].concat(), &config);
    assert!(!taken(&changes).iter().any(|change| change.contains("@settings")), "nor removed");
}

fn mapping_of(trial: &Trial<'_>) -> Value {
    let found = trial.space.server.send("GET", &format!("/{}-*/_mapping", trial.space.prefix), &Value::Null);
    found.as_object().and_then(|all| all.values().next()).expect("an index")["mappings"].clone()
}

fn values_of_any_type_and_any_number_of_keys_are_found(kind: Kind) {
    let (trial, _) = watched(kind);
    let config = config(&trial, "");
    says(&trial, &SETUP, &config);
    let mut pods: Vec<_> =
        (0..4).map(|pod| trial.node.pod(&format!("pod-{pod}")).namespace("shop").container("app")).collect();
    let value: [fn(u64) -> String; 4] = [
        |n| format!(r#""key":{n}"#),
        |n| format!(r#""key":"text {n}""#),
        |n| format!(r#""key":{{"inner":{n}}}"#),
        |n| format!(r#""key{n}":{n}"#),
    ];
    pods[0].writes_json(1, value[0]);
    let agent = trial.agent(&config);
    trial.arrives(&[&pods[0]]);
    let before = mapping_of(&trial);
    for (pod, value) in pods.iter_mut().zip(value).take(3) {
        pod.writes_json(100, value);
    }
    pods[3].writes_json(5_000, value[3]);
    let containers: Vec<_> = pods.iter().collect();
    verify::exactly_once(PATIENCE, || trial.space.documents(), &containers);
    assert_eq!(mapping_of(&trial), before, "no line has added to the mapping");
    // A number, a text, within an object, and one of five thousand keys.
    for (key, value) in
        [("app.key", "7"), ("app.key", "text 7"), ("app.key.inner", "7"), ("app.key4711", "4711")]
    {
        let found = trial.space.count(json!({ "term": { key: value } }));
        assert!(found >= 1, "{key}: {value}: {found} found");
    }
    // What panels add up by.
    let panel = json!({ "size": 0, "aggs": {
        "levels": { "terms": { "field": "log.level" } },
        "pods": { "terms": { "field": "kubernetes.pod.name" } },
        "time": { "date_histogram": { "field": "@timestamp", "fixed_interval": "1h" } },
    } });
    let found = trial.space.server.send("POST", &format!("/{}-*/_search", trial.space.prefix), &panel);
    for (name, least) in [("levels", 1), ("pods", 4), ("time", 1)] {
        let buckets = found["aggregations"][name]["buckets"].as_array().map_or(0, Vec::len);
        assert!(buckets >= least, "{name}: {found}");
    }
    let labels = mapping_of(&trial)["properties"]["labels"]["properties"].clone();
    assert_eq!(labels["app_kubernetes_io/part-of"]["type"], "keyword", "{labels}");
    assert_eq!(agent.terminate().code, Some(0));
}

fn an_agent_does_it_at_its_start(kind: Kind) {
    let (trial, changes) = watched(kind);
    let mut pod = trial.node.pod("web").namespace("shop").container("app");
    pod.writes(50);
    let agent = trial.agent(&config(&trial, ", at_start = true"));
    trial.arrives(&[&pod]);
    assert_eq!(taken(&changes).len(), 3);
    assert_eq!(mapping_of(&trial)["properties"]["@timestamp"]["type"], "date_nanos");
    assert_eq!(agent.terminate().code, Some(0));
}

fn health_records_are_typed_and_can_be_added_up(kind: Kind) {
    let (trial, _) = watched(kind);
    let mut pod = trial.node.pod("web").namespace("shop").container("app");
    pod.writes(200);
    let health = "[health]\ninterval = \"1s\"\noutputs = [\"search\"]\n";
    let agent = trial.agent(&format!("{}{health}", config(&trial, ", at_start = true")));
    trial.arrives(&[&pod]);
    let own = format!("{}-taffrail", trial.space.prefix);
    let panel = json!({ "size": 0, "aggs": {
        "kinds": { "terms": { "field": "taffrail.health.kind" } },
        "namespaces": { "terms": { "field": "taffrail.health.namespace" }, "aggs": {
            "records": { "sum": { "field": "taffrail.health.records" } },
            "bytes": { "sum": { "field": "taffrail.health.bytes" } },
        } },
        "lag": { "max": { "field": "taffrail.health.lag_seconds" } },
        "memory": { "max": { "field": "taffrail.health.memory" } },
        "versions": { "terms": { "field": "taffrail.health.version" } },
        "nodes": { "terms": { "field": "kubernetes.node.name" } },
    } });
    eventually(PATIENCE, "what panels ask of health records", || {
        // What has come is seen at once.
        trial.space.documents()?;
        let asked = trial.space.server.try_send("POST", &format!("/{own}*/_search"), &panel.to_string())?;
        // A shard that is just starting has none yet.
        let found: Value = serde_json::from_slice(&asked.body).map_err(|error| error.to_string())?;
        let aggregations = &found["aggregations"];
        let bucket = |name: &str, key: &str| {
            let buckets = aggregations[name]["buckets"].as_array().into_iter().flatten();
            buckets.clone().find(|bucket| bucket["key"] == key).cloned().unwrap_or_default()
        };
        let shop = bucket("namespaces", "shop");
        let kinds = ["agent", "output", "volume"]
            .map(|kind| bucket("kinds", kind)["doc_count"].as_u64().unwrap_or(0));
        let is_whole = kinds.iter().all(|count| *count > 0)
            && shop["records"]["value"] == 200.0
            && shop["bytes"]["value"].as_f64().is_some_and(|bytes| bytes > 1_000.0)
            && aggregations["lag"]["value"].is_number()
            && aggregations["memory"]["value"].as_f64().is_some_and(|bytes| bytes > 1e6)
            && bucket("nodes", "n1") != Value::Null
            && aggregations["versions"]["buckets"].as_array().is_some_and(|all| all.len() == 1);
        if is_whole { Ok(()) } else { Err(found.to_string()) }
    });
    let mapping = trial.space.server.send("GET", &format!("/{own}/_mapping"), &Value::Null);
    let mapping =
        mapping.as_object().and_then(|all| all.values().next()).expect("its index")["mappings"].clone();
    let fields = &mapping["properties"]["taffrail"]["properties"]["health"]["properties"];
    for (field, kind) in [
        ("kind", "keyword"),
        ("reason", "keyword"),
        ("bytes", "long"),
        ("retained_limit", "long"),
        ("cpu", "double"),
        ("lag_seconds", "double"),
    ] {
        assert_eq!(fields[field]["type"], kind, "{field}: {fields}");
    }
    // None but what the templates have: nothing was left to guess.
    let templates = says(&trial, &["setup", "elasticsearch", "--plan"], &config(&trial, ""));
    assert!(templates.contains("as it should be"), "{templates}");
    assert_eq!(fields.as_object().map(serde_json::Map::len), Some(23), "{fields}");
    assert_eq!(agent.terminate().code, Some(0));
}

/// Policies as a server with them keeps them.
#[derive(Default)]
struct Policies {
    kept: BTreeMap<String, (u64, Value)>,
    settings: Option<Value>,
}

impl Policies {
    fn ilm(&mut self, request: &Request) -> Option<Reply> {
        let target = request.target.as_str();
        if target == "/_ilm/status" {
            return Some(Reply::json(200, &json!({ "operation_mode": "RUNNING" })));
        }
        // The real server behind this one knows no such setting.
        if target.ends_with("@settings") {
            return Some(match (&self.settings, request.method.as_str()) {
                (_, "PUT") => {
                    let body: Value = serde_json::from_slice(&request.body).unwrap();
                    let policy = body["template"]["settings"]["index"]["lifecycle"]["name"].as_str().unwrap();
                    assert!(self.kept.contains_key(policy), "the policy is there before its name is used");
                    self.settings = Some(body);
                    Reply::json(200, &json!({ "acknowledged": true }))
                }
                (Some(there), "GET") => {
                    let one = json!({ "name": "x", "component_template": there });
                    Reply::json(200, &json!({ "component_templates": [one] }))
                }
                _ => Reply::json(404, &json!({ "error": "not found", "status": 404 })),
            });
        }
        if target.contains("/_index_template/") && !target.ends_with("_simulate") && request.method == "PUT" {
            return Some(Reply::json(200, &json!({ "acknowledged": true })));
        }
        let name = target.strip_prefix("/_ilm/policy/")?.to_owned();
        Some(match request.method.as_str() {
            "PUT" => {
                let body: Value = serde_json::from_slice(&request.body).unwrap();
                let refused = |what: &str| {
                    Reply::json(
                        400,
                        &json!({ "error": { "type": "x_content_parse_exception", "reason": what }, "status": 400 }),
                    )
                };
                let policy = &body["policy"];
                if body.as_object().is_none_or(|body| body.len() != 1) || !policy.is_object() {
                    return Some(refused("[put_lifecycle_request] unknown field"));
                }
                let known = ["hot", "warm", "cold", "frozen", "delete"];
                let phases = policy["phases"].as_object().cloned().unwrap_or_default();
                if phases.keys().any(|phase| !known.contains(&phase.as_str())) {
                    return Some(refused("Timeseries lifecycle does not support phase"));
                }
                let rollover = &policy["phases"]["hot"]["actions"]["rollover"];
                if !rollover["max_primary_shard_size"].as_str().is_some_and(|size| size.ends_with('b')) {
                    return Some(refused("failed to parse setting [max_primary_shard_size]"));
                }
                let version = self.kept.get(&name).map_or(1, |(version, _)| version + 1);
                self.kept.insert(name, (version, policy.clone()));
                Reply::json(200, &json!({ "acknowledged": true }))
            }
            "GET" => match self.kept.get(&name) {
                None => Reply::json(
                    404,
                    &json!({ "error": { "type": "resource_not_found_exception" }, "status": 404 }),
                ),
                Some((version, policy)) => {
                    let mut policy = policy.clone();
                    for (_, phase) in policy["phases"].as_object_mut().unwrap() {
                        if phase.get("min_age").is_none() {
                            phase["min_age"] = json!("0ms");
                        }
                        if phase["actions"].get("delete").is_some() {
                            phase["actions"]["delete"] = json!({ "delete_searchable_snapshot": true });
                        }
                    }
                    let one = json!({ "version": version, "modified_date": "2026-11-30T08:00:00.000Z", "policy": policy, "in_use_by": {} });
                    Reply::json(200, &json!({ name: one }))
                }
            },
            _ => Reply::json(405, &json!({})),
        })
    }

    fn ism(&mut self, request: &Request) -> Option<Reply> {
        let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
        if path == "/_plugins/_ism/policies" {
            return Some(Reply::json(200, &json!({ "policies": [], "total_policies": 0 })));
        }
        let name = path.strip_prefix("/_plugins/_ism/policies/")?.to_owned();
        let known = self.kept.get(&name).cloned();
        Some(match (request.method.as_str(), known) {
            ("PUT", known) => {
                let body: Value = serde_json::from_slice(&request.body).unwrap();
                let current = known.map(|(version, _)| version);
                let named = query.contains(&format!("if_seq_no={}", current.unwrap_or_default()))
                    && query.contains("if_primary_term=1");
                if current.is_some() && !named {
                    let reason = "version conflict, document already exists";
                    return Some(Reply::json(
                        409,
                        &json!({ "error": { "type": "version_conflict_engine_exception", "reason": reason }, "status": 409 }),
                    ));
                }
                let policy = body["policy"].clone();
                for key in policy.as_object().unwrap().keys() {
                    let known =
                        ["description", "default_state", "states", "ism_template", "error_notification"];
                    assert!(known.contains(&key.as_str()), "Invalid field: [{key}] found in Policy.");
                }
                let names: Vec<&Value> =
                    policy["states"].as_array().unwrap().iter().map(|state| &state["name"]).collect();
                assert!(names.contains(&&policy["default_state"]), "Policy must have a default state");
                let version = current.map_or(0, |version| version + 1);
                self.kept.insert(name.clone(), (version, policy));
                Reply::json(201, &json!({ "_id": name, "_seq_no": version, "_primary_term": 1 }))
            }
            ("GET", Some((version, policy))) => {
                let mut policy = policy;
                policy["schema_version"] = json!(21);
                policy["last_updated_time"] = json!(1_764_000_000_000_u64);
                for action in policy["states"][0]["actions"].as_array_mut().unwrap() {
                    action["retry"] = json!({ "count": 3, "backoff": "exponential", "delay": "1m" });
                    action["rollover"]["copy_alias"] = json!(false);
                }
                policy["ism_template"][0]["last_updated_time"] = json!(1_764_000_000_000_u64);
                Reply::json(
                    200,
                    &json!({ "_id": name, "_version": 1, "_seq_no": version, "_primary_term": 1, "policy": policy }),
                )
            }
            ("GET", None) => Reply::json(
                404,
                &json!({ "error": { "type": "status_exception", "reason": "Policy not found" }, "status": 404 }),
            ),
            _ => Reply::json(405, &json!({})),
        })
    }
}

fn lifecycle(kind: Kind, by: &'static str) {
    let policies = Arc::new(Mutex::new(Policies::default()));
    let shared = Arc::clone(&policies);
    let (trial, changes) = ruled(kind, move |request| {
        let mut policies = shared.lock().unwrap();
        if by == "ilm" { policies.ilm(request) } else { policies.ism(request) }
    });
    let monthly = config(&trial, ", keep = \"30d\"");
    let made = says(&trial, &SETUP, &monthly);
    let words = "a new index at 50GiB a shard or 7d; deleted after 30d";
    assert!(made.contains(words) && made.contains("done: 4 of 4"), "{made}");
    assert!(made.contains("shards in the end: 20 names (say --namespaces) × 6 indices × 1 = 120"), "{made}");
    assert!(taken(&changes)[0].contains(by), "the lifecycle is there before what names it");
    let weekly = config(&trial, ", keep = \"7d\"");
    let changed = says(&trial, &SETUP, &weekly);
    assert!(changed.contains("30d instead of 7d"), "{changed}");
    let done = taken(&changes);
    assert!(done.iter().any(|change| change.contains(by)), "{done:?}");
    let for_ever = config(&trial, "");
    let changed = says(&trial, &SETUP, &for_ever);
    assert!(changed.contains("nothing is deleted") && changed.contains("~ lifecycle"), "{changed}");
    assert!(taken(&changes).iter().any(|change| change.contains(by)), "what deletes is taken away");
    says(&trial, &SETUP, &weekly);
    taken(&changes);
    let again = says(&trial, &SETUP, &weekly);
    assert!(!again.contains("lifecycle") || again.contains("= lifecycle"), "{again}");
    assert!(!taken(&changes).iter().any(|change| change.contains(by)));
}

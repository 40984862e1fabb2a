//! What is known of a container, as bytes ready to be copied into every one of its documents.
//!
//! In: what the path of its log says, or its table in the configuration. Out: the encoded objects that say so, made
//! once per container or host file.
//! Never on a record's way: a record costs one copy of these bytes.

use crate::catalog::origin::{Container, HostLog, Origin};
use crate::record::escape;

/// What is the same for every container of this node.
#[derive(Debug, Clone)]
pub struct NodeFacts {
    /// `orchestrator.cluster.name`.
    pub cluster: String,
    /// `kubernetes.node.name`.
    pub node: String,
}

/// The fields that say whose log it is, in Elastic's names, without the braces of the document that holds them:
/// `"kubernetes":{…},"orchestrator":{…}` for a container, `"host":{…},"log.file.path":"…",…` for a file of the host.
pub fn encode(facts: &NodeFacts, origin: &Origin) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    match origin {
        Origin::Container(container) => encode_container(&mut out, facts, container),
        Origin::Host(host) => encode_host(&mut out, facts, host),
    }
    put(&mut out, r#","orchestrator":{"cluster":{"name":""#, &facts.cluster);
    out.extend_from_slice(br#""}}"#);
    out
}

fn encode_container(out: &mut Vec<u8>, facts: &NodeFacts, container: &Container) {
    put(out, r#""kubernetes":{"namespace":""#, &container.namespace);
    put(out, r#"","pod":{"name":""#, &container.pod);
    put(out, r#"","uid":""#, &container.uid);
    put(out, r#""},"container":{"name":""#, &container.name);
    put(out, r#""},"node":{"name":""#, &facts.node);
    out.extend_from_slice(br#""}}"#);
}

/// Nothing under `kubernetes`: a host file is no pod's, and must not pass for one.
fn encode_host(out: &mut Vec<u8>, facts: &NodeFacts, host: &HostLog) {
    put(out, r#""host":{"name":""#, &facts.node);
    // With a dot in its name, since `log` is there already where the level is known.
    put(out, r#""},"log.file.path":""#, &host.path.to_string_lossy());
    put(out, r#"","event":{"dataset":""#, &host.source);
    out.extend_from_slice(br#""}"#);
    let mut before = r#","labels":{""#;
    for (key, value) in &host.labels {
        put(out, before, key);
        put(out, r#"":""#, value);
        before = r#"",""#;
    }
    if !host.labels.is_empty() {
        out.extend_from_slice(br#""}"#);
    }
}

fn put(out: &mut Vec<u8>, before: &str, value: &str) {
    out.extend_from_slice(before.as_bytes());
    escape::append_escaped(out, value.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn fields(origin: Origin) -> Value {
        let facts = NodeFacts { cluster: "prod".into(), node: "n1".into() };
        let text = format!("{{{}}}", String::from_utf8(encode(&facts, &origin)).unwrap());
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn fields_have_elastics_names_and_values_are_escaped() {
        let container = Container {
            namespace: "shop".into(),
            pod: "web-0".into(),
            uid: "u1".into(),
            name: "a\"p".into(),
        };
        let expected = json!({
            "kubernetes": {
                "namespace": "shop",
                "pod": { "name": "web-0", "uid": "u1" },
                "container": { "name": "a\"p" },
                "node": { "name": "n1" },
            },
            "orchestrator": { "cluster": { "name": "prod" } },
        });
        assert_eq!(fields(Origin::Container(container)), expected);
    }

    #[test]
    fn a_host_file_says_where_it_lies_and_passes_for_no_pod() {
        let labels = [("team", "infra"), ("a\"b", "\\")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        let host =
            HostLog { source: "system".into(), path: "/var/log/sys\"log".into(), labels: labels.into() };
        let expected = json!({
            "host": { "name": "n1" },
            "log.file.path": "/var/log/sys\"log",
            "event": { "dataset": "system" },
            "labels": { "team": "infra", "a\"b": "\\" },
            "orchestrator": { "cluster": { "name": "prod" } },
        });
        assert_eq!(fields(Origin::Host(host)), expected);
    }
}

//! What is known of a container, as bytes ready to be copied into every one of its documents.
//!
//! In: what the path of its log says. Out: the encoded `kubernetes` and `orchestrator` objects, made once per container.
//! Never on a record's way: a record costs one copy of these bytes.

use crate::catalog::file::Container;
use crate::record::escape;

/// What is the same for every container of this node.
#[derive(Debug, Clone)]
pub struct NodeFacts {
    /// `orchestrator.cluster.name`.
    pub cluster: String,
    /// `kubernetes.node.name`.
    pub node: String,
}

/// The fields of a container in Elastic's names, without the braces of the document that holds them:
/// `"kubernetes":{…},"orchestrator":{…}`.
pub fn encode(facts: &NodeFacts, container: &Container) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    let mut put = |before: &str, value: &str| {
        out.extend_from_slice(before.as_bytes());
        escape::append_escaped(&mut out, value.as_bytes());
    };
    put(r#""kubernetes":{"namespace":""#, &container.namespace);
    put(r#"","pod":{"name":""#, &container.pod);
    put(r#"","uid":""#, &container.uid);
    put(r#""},"container":{"name":""#, &container.name);
    put(r#""},"node":{"name":""#, &facts.node);
    put(r#""}},"orchestrator":{"cluster":{"name":""#, &facts.cluster);
    out.extend_from_slice(br#""}}"#);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_have_elastics_names_and_values_are_escaped() {
        let container = Container {
            namespace: "shop".into(),
            pod: "web-0".into(),
            uid: "u1".into(),
            name: "a\"p".into(),
        };
        let facts = NodeFacts { cluster: "prod".into(), node: "n1".into() };
        let text = format!("{{{}}}", String::from_utf8(encode(&facts, &container)).unwrap());
        let document: serde_json::Value = serde_json::from_str(&text).unwrap();
        let expected = serde_json::json!({
            "kubernetes": {
                "namespace": "shop",
                "pod": { "name": "web-0", "uid": "u1" },
                "container": { "name": "a\"p" },
                "node": { "name": "n1" },
            },
            "orchestrator": { "cluster": { "name": "prod" } },
        });
        assert_eq!(document, expected);
    }
}

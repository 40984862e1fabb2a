//! Encoding: what is known of a log's origin, as bytes ready to be copied into every one of its documents.
//!
//! In: the origin, and what is known of its pod. Out: JSON members in Elastic's names, made once per container and
//! revision of what is known. Never on a record's way: a record costs one copy of these bytes.

use super::api::Texts;
use super::facts::{NodeLabels, Run};
use super::{Extent, NodeFacts, insights};
use crate::catalog::origin::{Container, HostLog, Origin};
use crate::config::{FieldNames, MetadataConfig};
use crate::record::escape;

/// The fields that say whose log it is, without the braces of the document that holds them:
/// `"kubernetes":{…},"orchestrator":{…}` for a container, `"host":{…},"log.file.path":"…",…` for a file of the host.
pub fn fields(facts: &NodeFacts, origin: &Origin, extent: Extent<'_>) -> Vec<u8> {
    if facts.names == FieldNames::ContainerInsights {
        return insights::fields(facts, origin, extent);
    }
    let mut out = Vec::with_capacity(256);
    match origin {
        Origin::Container(container) => put_container(&mut out, facts, container, extent),
        // They say of what node and pod they are themselves; the host is named for those who know only how a document ends.
        Origin::Host(host) if host.is_health() => {
            put(&mut out, r#""host":{"name":""#, &facts.node);
            put(&mut out, r#""},"event":{"dataset":""#, &host.source);
            out.extend_from_slice(br#""}"#);
        }
        Origin::Host(host) => put_host(&mut out, facts, host),
    }
    put(&mut out, r#","orchestrator":{"cluster":{"name":""#, &facts.cluster);
    out.extend_from_slice(br#""}}"#);
    if let Extent::Missing = extent {
        // With a dot in its name, since a record may have an object `taffrail` of its own.
        out.extend_from_slice(br#","taffrail.metadata":"path""#);
    }
    out
}

/// What is said before [`fields`] where nothing is known of the run.
pub fn unknown_run(facts: &NodeFacts, origin: &Origin) -> Vec<u8> {
    match (facts.names, origin) {
        (FieldNames::ContainerInsights, Origin::Container(_)) => insights::OPENING.to_vec(),
        _ => Vec::new(),
    }
}

/// What is said of one run of a container, such as `"container":{…},`: empty if that is nothing.
pub fn run(facts: &NodeFacts, run: Option<&Run>, image: &str, config: &MetadataConfig) -> Vec<u8> {
    if facts.names == FieldNames::ContainerInsights {
        return insights::run(run, image, config);
    }
    let has = |field: &str| config.fields.has(field);
    let mut members = Members::new(r#""container":{"#);
    if let Some(run) = run {
        members.text("id", &run.id, has("container.id"));
        members.text("runtime", &run.runtime, has("container.runtime"));
    }
    let image = run.map_or(image, |run| &run.image);
    members.named("image", image, has("container.image.name"));
    members.end("},")
}

fn put_container(out: &mut Vec<u8>, facts: &NodeFacts, container: &Container, extent: Extent<'_>) {
    put(out, r#""kubernetes":{"namespace":""#, &container.namespace);
    put(out, r#"","pod":{"name":""#, &container.pod);
    put(out, r#"","uid":""#, &container.uid);
    let known = match extent {
        Extent::Known(config, known) => Some((config, known)),
        Extent::Path | Extent::Missing => None,
    };
    if let Some((config, known)) = known
        && config.fields.has("kubernetes.pod.ip")
        && !known.pod.ip.is_empty()
    {
        put(out, r#"","ip":""#, &known.pod.ip);
    }
    put(out, r#""},"container":{"name":""#, &container.name);
    put(out, r#""},"node":{"name":""#, &facts.node);
    out.push(b'"');
    let Some((config, known)) = known else {
        return out.extend_from_slice(b"}}");
    };
    let none = NodeLabels::default();
    let node = known.node.as_deref().unwrap_or(&none);
    put_texts(out, "labels", &node.labels, config.fields.has("kubernetes.node.labels"));
    out.push(b'}');
    put_texts(out, "labels", known.pod.sent_labels(config), config.fields.has("kubernetes.labels"));
    let annotations = known.pod.sent_annotations(config);
    put_texts(out, "annotations", annotations, config.fields.has("kubernetes.annotations"));
    if let Some(namespace) = &known.namespace {
        let (labels, annotations) = (&namespace.labels, &namespace.annotations);
        put_texts(out, "namespace_labels", labels, config.fields.has("kubernetes.namespace_labels"));
        put_texts(
            out,
            "namespace_annotations",
            annotations,
            config.fields.has("kubernetes.namespace_annotations"),
        );
    }
    for (kind, name) in &known.pod.owners {
        if config.fields.has(&format!("kubernetes.{}.name", kind.field())) {
            put(out, &format!(r#","{}":{{"name":""#, kind.field()), name);
            out.extend_from_slice(br#""}"#);
        }
    }
    out.push(b'}');
    let mut fields = Members::new(r#","labels":{"#);
    for (key, field) in config.label_fields() {
        if let Some(value) = known.pod.labels.get(key) {
            fields.text(&field, value, true);
        }
    }
    out.extend_from_slice(&fields.end("}"));
    put_cloud(out, &node.cloud, config);
}

fn put_cloud(out: &mut Vec<u8>, cloud: &Texts, config: &MetadataConfig) {
    let has = |name: &str| config.fields.has(&format!("cloud.{name}"));
    let mut members = Members::new(r#","cloud":{"#);
    for (name, value) in cloud {
        match name.split_once('.') {
            // `instance.id`, `machine.type`: one member each.
            Some((outer, inner)) => members.nested(outer, inner, value, has(name)),
            None => members.text(name, value, has(name)),
        }
    }
    out.extend_from_slice(&members.end("}"));
}

/// An object of texts, with the keys as they are: a key may have dots, which only a field that is mapped as one
/// (`flattened`, `flat_object`) takes without making a tree of them.
pub(super) fn put_texts<'a>(
    out: &mut Vec<u8>,
    name: &str,
    texts: impl IntoIterator<Item = (&'a String, &'a String)>,
    wanted: bool,
) {
    let mut members = Members::new(&format!(r#","{name}":{{"#));
    for (key, value) in texts {
        members.text(key, value, wanted);
    }
    out.extend_from_slice(&members.end("}"));
}

/// Nothing under `kubernetes`: a host file is no pod's, and must not pass for one.
fn put_host(out: &mut Vec<u8>, facts: &NodeFacts, host: &HostLog) {
    put(out, r#""host":{"name":""#, &facts.node);
    // With a dot in its name, since `log` is there already where the level is known.
    put(out, r#""},"log.file.path":""#, &host.path.to_string_lossy());
    put(out, r#"","event":{"dataset":""#, &host.source);
    out.extend_from_slice(br#""}"#);
    put_texts(out, "labels", &host.labels, true);
}

pub(super) fn put(out: &mut Vec<u8>, before: &str, value: &str) {
    out.extend_from_slice(before.as_bytes());
    escape::append_escaped(out, value.as_bytes());
}

/// An object that is left out if nothing is put into it.
struct Members {
    out: Vec<u8>,
    begun: usize,
}

impl Members {
    /// Begins with this, which opens the object.
    fn new(opening: &str) -> Members {
        Members { out: opening.as_bytes().to_vec(), begun: opening.len() }
    }

    fn key(&mut self, key: &str) {
        if self.out.len() > self.begun {
            self.out.push(b',');
        }
        put(&mut self.out, "\"", key);
        self.out.extend_from_slice(b"\":");
    }

    fn text(&mut self, key: &str, value: &str, wanted: bool) {
        if wanted {
            self.key(key);
            put(&mut self.out, "\"", value);
            self.out.push(b'"');
        }
    }

    fn named(&mut self, key: &str, name: &str, wanted: bool) {
        self.nested(key, "name", name, wanted && !name.is_empty());
    }

    fn nested(&mut self, outer: &str, inner: &str, value: &str, wanted: bool) {
        if wanted {
            self.key(outer);
            put(&mut self.out, "{\"", inner);
            put(&mut self.out, "\":\"", value);
            self.out.extend_from_slice(b"\"}");
        }
    }

    /// Ends with this, which closes the object; nothing at all if nothing is in it.
    fn end(mut self, closing: &str) -> Vec<u8> {
        if self.out.len() == self.begun {
            return Vec::new();
        }
        self.out.extend_from_slice(closing.as_bytes());
        self.out
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::metadata::facts::{Known, NamespaceFacts, PodFacts};
    use serde_json::{Value, json};

    fn facts() -> NodeFacts {
        NodeFacts { cluster: "prod".into(), node: "n1".into(), names: Default::default() }
    }

    fn shown(origin: Origin, extent: Extent<'_>) -> Value {
        let text = format!("{{{}}}", String::from_utf8(super::fields(&facts(), &origin, extent)).unwrap());
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
        assert_eq!(shown(Origin::Container(container), Extent::Path), expected);
    }

    fn known(config: &str, object: Value) -> (MetadataConfig, Known) {
        let config: MetadataConfig = toml::from_str(config).unwrap();
        let pod = serde_json::from_value(object).unwrap();
        let namespace = json!({ "metadata": { "labels": { "team": "a" }, "annotations": { "cost": "17" } } });
        let node = json!({
            "metadata": { "labels": { "topology.kubernetes.io/region": "r1", "pool": "blue" } },
            "spec": { "providerID": "aws:///z/i-1" },
        });
        let known = Known {
            pod: Arc::new(PodFacts::new(pod, &config, None)),
            namespace: Some(Arc::new(NamespaceFacts::new(
                serde_json::from_value(namespace).unwrap(),
                &config,
            ))),
            node: Some(Arc::new(NodeLabels::new(serde_json::from_value(node).unwrap(), &config))),
        };
        (config, known)
    }

    fn web() -> (Origin, Value) {
        let container =
            Container { namespace: "shop".into(), pod: "web-0".into(), uid: "u1".into(), name: "app".into() };
        let object = json!({
            "metadata": { "labels": { "app.kubernetes.io/name": "w\"eb", "app": "web", "named": "n" },
                "annotations": { "note": "x\n" },
                "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web", "controller": true }] },
            "status": { "podIP": "10.0.0.1" },
        });
        (Origin::Container(container), object)
    }

    #[test]
    fn what_the_api_server_says_stands_beside_what_the_path_says() {
        let (origin, object) = web();
        let config = "annotations = [\"*\"]\nnamespace_labels = [\"*\"]\nnamespace_annotations = [\"*\"]\nnode_labels = [\"pool\"]";
        let (config, known) = known(config, object);
        let expected = json!({
            "kubernetes": {
                "namespace": "shop",
                "pod": { "name": "web-0", "uid": "u1", "ip": "10.0.0.1" },
                "container": { "name": "app" },
                "node": { "name": "n1", "labels": { "pool": "blue" } },
                "labels": { "app": "web", "app.kubernetes.io/name": "w\"eb", "named": "n" },
                "annotations": { "note": "x\n" },
                "namespace_labels": { "team": "a" },
                "namespace_annotations": { "cost": "17" },
                "statefulset": { "name": "web" },
            },
            "cloud": { "region": "r1", "provider": "aws", "instance": { "id": "i-1" } },
            "orchestrator": { "cluster": { "name": "prod" } },
        });
        assert_eq!(shown(origin, Extent::Known(&config, &known)), expected);
    }

    #[test]
    fn fields_and_labels_are_sent_as_they_are_chosen() {
        let (origin, object) = web();
        let config =
            "labels = [\"app\"]\nfields = [\"*\", \"!kubernetes.pod.ip\", \"!*set.name\", \"!container.id\"]";
        let (config, known) = known(config, object);
        let shown = shown(origin, Extent::Known(&config, &known));
        let kubernetes = shown["kubernetes"].as_object().unwrap();
        assert_eq!(
            kubernetes["labels"],
            json!({ "app": "web" }),
            "the others are for the names of indices only"
        );
        assert_eq!(kubernetes["pod"].get("ip"), None);
        assert_eq!((kubernetes.get("statefulset"), shown.get("annotations")), (None, None));
        let ran = Run { restart: 0, runtime: "containerd".into(), id: "c0".into(), image: "web:1".into() };
        assert_eq!(
            String::from_utf8(run(&facts(), Some(&ran), "web:2", &config)).unwrap(),
            r#""container":{"runtime":"containerd","image":{"name":"web:1"}},"#
        );
        assert_eq!(run(&facts(), None, "", &config), b"");
        let nothing: MetadataConfig = toml::from_str("fields = []").unwrap();
        assert_eq!(run(&facts(), Some(&ran), "web:2", &nothing), b"");
    }

    #[test]
    fn what_was_waited_for_in_vain_is_told() {
        let (origin, _) = web();
        let missing = shown(origin.clone(), Extent::Missing);
        assert_eq!(missing["taffrail.metadata"], "path");
        assert_eq!(missing["kubernetes"], shown(origin, Extent::Path)["kubernetes"]);
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
        assert_eq!(shown(Origin::Host(host), Extent::Path), expected);
    }
}

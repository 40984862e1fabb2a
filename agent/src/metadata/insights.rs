//! Encoding in the names of CloudWatch Container Insights, as AWS's own Fluent Bit set-up writes them.
//!
//! In: as [`encode`](super::encode). Out: the same facts as the object `kubernetes` that queries of its log groups know. It
//! begins with what is said of a run, [`run`] or [`OPENING`], and [`fields`] ends it.

use super::encode::{put, put_texts};
use super::facts::Run;
use super::{Extent, NodeFacts};
use crate::catalog::origin::{Container, Origin};
use crate::config::MetadataConfig;

/// What stands for a run of which nothing is known.
pub const OPENING: &[u8] = br#""kubernetes":{"#;

/// What the object begins with: which run it is.
pub fn run(run: Option<&Run>, image: &str, config: &MetadataConfig) -> Vec<u8> {
    let mut out = OPENING.to_vec();
    if let Some(run) = run.filter(|_| config.fields.has("container.id")) {
        put(&mut out, r#""docker_id":""#, &run.id);
        out.extend_from_slice(b"\",");
    }
    let image = run.map_or(image, |run| &run.image);
    if config.fields.has("container.image.name") && !image.is_empty() {
        put(&mut out, r#""container_image":""#, image);
        out.extend_from_slice(b"\",");
    }
    out
}

/// The rest of the object; of a host file its path, which such a document has no other place for.
pub fn fields(facts: &NodeFacts, origin: &Origin, extent: Extent<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    match origin {
        Origin::Container(container) => put_container(&mut out, facts, container, extent),
        Origin::Host(host) => {
            put(&mut out, r#""log.file.path":""#, &host.path.to_string_lossy());
            out.push(b'"');
        }
    }
    if let Extent::Missing = extent {
        out.extend_from_slice(br#","taffrail.metadata":"path""#);
    }
    out
}

fn put_container(out: &mut Vec<u8>, facts: &NodeFacts, container: &Container, extent: Extent<'_>) {
    put(out, r#""pod_name":""#, &container.pod);
    put(out, r#"","namespace_name":""#, &container.namespace);
    put(out, r#"","pod_id":""#, &container.uid);
    put(out, r#"","host":""#, &facts.node);
    put(out, r#"","container_name":""#, &container.name);
    out.push(b'"');
    if let Extent::Known(config, known) = extent {
        let pod = &known.pod;
        if config.fields.has("kubernetes.pod.ip") && !pod.ip.is_empty() {
            put(out, r#","pod_ip":""#, &pod.ip);
            out.push(b'"');
        }
        put_texts(out, "labels", pod.sent_labels(config), config.fields.has("kubernetes.labels"));
        let annotations = pod.sent_annotations(config);
        put_texts(out, "annotations", annotations, config.fields.has("kubernetes.annotations"));
    }
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::FieldNames;
    use crate::metadata::facts::{Known, PodFacts};
    use serde_json::{Value, json};

    #[test]
    fn the_object_holds_what_is_known_as_it_is_chosen() {
        let facts =
            NodeFacts { cluster: "prod".into(), node: "n1".into(), names: FieldNames::ContainerInsights };
        let origin = Origin::Container(Container {
            namespace: "shop".into(),
            pod: "web-0".into(),
            uid: "u1".into(),
            name: "app".into(),
        });
        let object = json!({
            "metadata": { "labels": { "app.kubernetes.io/name": "w\"eb", "x": "y" }, "annotations": { "note": "n", "secret": "s" } },
            "status": { "podIP": "10.0.0.1" },
        });
        let ran = Run { restart: 0, runtime: "containerd".into(), id: "c0".into(), image: "web:1".into() };
        let shown = |config: &str| -> Value {
            let mut config: MetadataConfig = toml::from_str(config).unwrap();
            // A route asks for it: it is known, and not sent.
            config.asked = ["secret".to_owned()].into();
            let pod = PodFacts::new(serde_json::from_value(object.clone()).unwrap(), &config, None);
            let known = Known { pod: Arc::new(pod), namespace: None, node: None };
            let fields = fields(&facts, &origin, Extent::Known(&config, &known));
            let text = [b"{", &*run(Some(&ran), "web:2", &config), &*fields, b"}"].concat();
            serde_json::from_slice(&text).unwrap()
        };
        let place = json!({ "pod_name": "web-0", "namespace_name": "shop", "pod_id": "u1", "host": "n1",
            "container_name": "app" });
        let mut all = place.clone();
        for (key, value) in [
            ("docker_id", json!("c0")),
            ("container_image", json!("web:1")),
            ("pod_ip", json!("10.0.0.1")),
            ("labels", json!({ "app.kubernetes.io/name": "w\"eb", "x": "y" })),
            ("annotations", json!({ "note": "n" })),
        ] {
            all[key] = value;
        }
        assert_eq!(shown("annotations = [\"*\", \"!secret\"]"), json!({ "kubernetes": all }));
        assert_eq!(shown("fields = []"), json!({ "kubernetes": place }));
    }
}

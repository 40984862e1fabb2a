//! Facts: what is kept of a pod, its namespace and its node.
//!
//! In: objects of the API server. Out: of each only what documents or names may say, and how it changed: what a
//! container's earlier runs were is remembered, since their logs may still be read. Never asks anybody.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::api::{self, Texts};
use super::owners::{self, Owners};
use super::wishes::Wishes;
use crate::catalog::origin::Container;
use crate::config::{Choice, MetadataConfig};

/// Marks the pod that stands at the API server for a static one; its value is the hash by which kubelet names the log
/// directory, where other pods' have their uid.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// How many runs of a container are remembered. Kubelet keeps the logs of far fewer.
const RUNS_KEPT: usize = 8;

/// Labels of a node that every cloud provider sets.
const REGION: [&str; 2] = ["topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/region"];
const ZONE: [&str; 2] = ["topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone"];
const MACHINE: [&str; 2] = ["node.kubernetes.io/instance-type", "beta.kubernetes.io/instance-type"];

/// Which pod: the name of its log directory, `<namespace>_<name>_<uid>`. Not the uid alone: the annotation that links a
/// static pod to its hash can be written on any pod, which must not pass for another's.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PodKey(String);

impl PodKey {
    /// Of the pod that a container's directory lies in.
    pub fn of(container: &Container) -> PodKey {
        PodKey(format!("{}_{}_{}", container.namespace, container.pod, container.uid))
    }

    /// Of a pod at the API server.
    pub fn of_object(pod: &api::Pod) -> PodKey {
        let meta = &pod.metadata;
        let hash = meta.annotations.as_ref().and_then(|annotations| annotations.get(MIRROR));
        let uid = hash.unwrap_or(&meta.uid);
        PodKey(format!("{}_{}_{uid}", meta.namespace, meta.name))
    }

    /// The pod's namespace.
    pub fn namespace(&self) -> &str {
        self.0.split('_').next().unwrap_or_default()
    }
}

fn chosen(texts: Option<Texts>, choice: &Choice) -> Texts {
    let mut texts = texts.unwrap_or_default();
    texts.retain(|key, _| choice.has(key));
    texts
}

/// What is kept of a pod.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PodFacts {
    /// Its address; empty until it has one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub ip: String,
    /// Labels: all of them, since where records go may depend on one that is not sent, or not sent yet.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: Texts,
    /// Annotations that are wanted.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: Texts,
    /// Annotations that were wanted by their keys because routes ask for them: the pod has none of those that are not
    /// among `annotations`.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub asked: BTreeSet<String>,
    /// What its annotations say of its own logs.
    #[serde(skip_serializing_if = "Wishes::is_nothing")]
    pub wishes: Wishes,
    /// What of that is not understood, for people.
    #[serde(skip)]
    pub mistakes: Vec<String>,
    /// What it belongs to.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub owners: Owners,
    /// Its containers, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub containers: BTreeMap<String, ContainerFacts>,
}

/// What is kept of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerFacts {
    /// The image that it is to run, as the pod names it.
    pub image: String,
    /// Its runs that have been heard of, oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub runs: Vec<Run>,
}

/// One run of a container: what one of its `<restart>.log` is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// How often it had been started before.
    pub restart: u32,
    /// The runtime's name, such as `containerd`.
    pub runtime: String,
    /// Its id there.
    pub id: String,
    /// The image that the pod named when the run was first heard of.
    pub image: String,
}

impl PodFacts {
    /// What is kept of a pod, of which `before` was known.
    pub fn new(pod: api::Pod, config: &MetadataConfig, before: Option<&PodFacts>) -> PodFacts {
        let owners = owners::of(&pod.metadata);
        let mut containers = BTreeMap::new();
        let spec = pod.spec;
        for container in
            spec.containers.into_iter().chain(spec.init_containers).chain(spec.ephemeral_containers)
        {
            let known = before.and_then(|before| before.containers.get(&container.name));
            let runs = known.map(|known| known.runs.clone()).unwrap_or_default();
            containers.insert(container.name, ContainerFacts { image: container.image, runs });
        }
        let status = pod.status;
        let statuses = status.container_statuses.into_iter().chain(status.init_container_statuses);
        for status in statuses.chain(status.ephemeral_container_statuses) {
            if let Some(container) = containers.get_mut(&status.name) {
                if let (Some(last), Some(ended)) =
                    (status.restart_count.checked_sub(1), &status.last_state.terminated)
                {
                    container.note(last, &ended.container_id);
                }
                container.note(status.restart_count, &status.container_id);
            }
        }
        let mut annotations = pod.metadata.annotations.unwrap_or_default();
        let (wishes, mistakes) = Wishes::read(&annotations);
        annotations.retain(|key, _| config.annotations.has(key) || config.asked.contains(key));
        PodFacts {
            ip: status.pod_ip,
            labels: pod.metadata.labels.unwrap_or_default(),
            annotations,
            asked: config.asked.clone(),
            wishes,
            mistakes,
            owners,
            containers,
        }
    }
}

impl PodFacts {
    /// The labels that are sent. The others are known because names and routes may depend on them.
    pub fn sent_labels(&self, config: &MetadataConfig) -> impl Iterator<Item = (&String, &String)> {
        self.labels.iter().filter(|(key, _)| config.labels.has(key))
    }

    /// The annotations that are sent. The others are known because routes ask for them.
    pub fn sent_annotations(&self, config: &MetadataConfig) -> impl Iterator<Item = (&String, &String)> {
        self.annotations.iter().filter(|(key, _)| config.annotations.has(key))
    }
}

impl ContainerFacts {
    /// A run was heard of. One that is known stays as it was: the pod may name another image by now.
    fn note(&mut self, restart: u32, id: &str) {
        let Some((runtime, id)) = id.split_once("://").filter(|(_, id)| !id.is_empty()) else { return };
        let at = self.runs.partition_point(|run| run.restart < restart);
        let known = self.runs.get(at).filter(|run| run.restart == restart);
        if known.is_some_and(|run| run.id == id) {
            return;
        }
        let run = Run { restart, runtime: runtime.to_owned(), id: id.to_owned(), image: self.image.clone() };
        // The same number with another id: the runtime lost the container and has made it again.
        if known.is_some() {
            self.runs[at] = run
        } else {
            self.runs.insert(at, run)
        }
        let excess = self.runs.len().saturating_sub(RUNS_KEPT);
        self.runs.drain(..excess);
    }
}

/// What is kept of a namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NamespaceFacts {
    /// Labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: Texts,
    /// Annotations.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: Texts,
}

impl NamespaceFacts {
    /// What is kept of it.
    pub fn new(namespace: api::Namespace, config: &MetadataConfig) -> NamespaceFacts {
        let (labels, annotations) = (namespace.metadata.labels, namespace.metadata.annotations);
        NamespaceFacts {
            labels: chosen(labels, &config.namespace_labels),
            annotations: chosen(annotations, &config.namespace_annotations),
        }
    }
}

/// What is kept of the node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeLabels {
    /// Labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: Texts,
    /// `cloud.*`, by the rest of the field's name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub cloud: Texts,
}

impl NodeLabels {
    /// What is kept of it.
    pub fn new(node: api::Node, config: &MetadataConfig) -> NodeLabels {
        let labels = node.metadata.labels;
        let first = |keys: [&str; 2]| keys.iter().find_map(|key| labels.as_ref()?.get(*key).cloned());
        let (provider, instance) = match node.spec.provider_id.split_once("://") {
            Some((provider, path)) => (Some(provider.to_owned()), path.rsplit('/').next().map(str::to_owned)),
            None => (None, None),
        };
        let cloud = [
            ("availability_zone", first(ZONE)),
            ("instance.id", instance.filter(|id| !id.is_empty())),
            ("machine.type", first(MACHINE)),
            ("provider", provider),
            ("region", first(REGION)),
        ];
        NodeLabels {
            cloud: cloud.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect(),
            labels: chosen(labels, &config.node_labels),
        }
    }
}

/// All that is known of a pod at one time: what a plan is made of. While nothing changes it is the same value, so that
/// whoever holds it sees by the pointer whether there is something new.
#[derive(Debug, Clone)]
pub struct Known {
    /// Of the pod itself.
    pub pod: Arc<PodFacts>,
    /// Of its namespace, if that is wanted and known.
    pub namespace: Option<Arc<NamespaceFacts>>,
    /// Of the node, likewise.
    pub node: Option<Arc<NodeLabels>>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(value: Value) -> api::Pod {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_static_pod_is_known_by_the_hash_that_its_directory_carries() {
        let mirror = json!({ "metadata": { "namespace": "kube-system", "name": "etcd-n1", "uid": "api-uid",
            "annotations": { "kubernetes.io/config.hash": "abc", "kubernetes.io/config.mirror": "abc" } } });
        assert_eq!(PodKey::of_object(&pod(mirror)).0, "kube-system_etcd-n1_abc");
        let own = json!({ "metadata": { "namespace": "shop", "name": "web", "uid": "u1" } });
        let key = PodKey::of_object(&pod(own));
        let container =
            Container { namespace: "shop".into(), pod: "web".into(), uid: "u1".into(), name: "app".into() };
        assert_eq!((key.clone(), key.namespace()), (PodKey::of(&container), "shop"));
    }

    #[test]
    fn only_what_is_wanted_is_kept() {
        let config = MetadataConfig { labels: Choice::default(), ..MetadataConfig::default() };
        let object = json!({
            "metadata": { "labels": { "app": "web", "team": "a", "x": "y" }, "annotations": { "a": "b" } },
            "spec": { "containers": [{ "name": "app", "image": "web:1", "command": ["x"] }], "volumes": [{}] },
            "status": { "podIP": "10.0.0.1", "phase": "Running" },
        });
        let facts = PodFacts::new(pod(object), &config, None);
        // None is sent, but the name of an index may hold one.
        assert_eq!(facts.labels.keys().collect::<Vec<_>>(), ["app", "team", "x"]);
        assert!(facts.annotations.is_empty());
        assert_eq!((facts.ip.as_str(), facts.containers["app"].image.as_str()), ("10.0.0.1", "web:1"));
        assert_eq!(facts.containers["app"].runs, []);
    }

    fn toml_choice(list: &str) -> Choice {
        let config: BTreeMap<String, Choice> = toml::from_str(&format!("x = {list}")).unwrap();
        config["x"].clone()
    }

    #[test]
    fn each_run_keeps_its_own_id_and_image() {
        let config = MetadataConfig::default();
        let status = |image: &str, restarts: u32, id: &str, last: &str| {
            pod(json!({
                "spec": { "containers": [{ "name": "app", "image": image }] },
                "status": { "containerStatuses": [{ "name": "app", "restartCount": restarts,
                    "containerID": id, "lastState": { "terminated": { "containerID": last } } }] },
            }))
        };
        let runs = |facts: &PodFacts| -> Vec<String> {
            let runs = &facts.containers["app"].runs;
            runs.iter()
                .map(|run| format!("{}={}:{}:{}", run.restart, run.runtime, run.id, run.image))
                .collect()
        };
        let first = PodFacts::new(status("web:1", 0, "containerd://a", ""), &config, None);
        assert_eq!(runs(&first), ["0=containerd:a:web:1"]);
        // The pod is given another image; its container is started again, twice before anybody looked.
        let second =
            PodFacts::new(status("web:2", 2, "containerd://c", "containerd://b"), &config, Some(&first));
        assert_eq!(runs(&second), ["0=containerd:a:web:1", "1=containerd:b:web:2", "2=containerd:c:web:2"]);
        let waiting = PodFacts::new(status("web:2", 3, "", "containerd://c"), &config, Some(&second));
        assert_eq!(runs(&waiting), runs(&second));
        let many = (3..30).fold(waiting, |facts, n| {
            PodFacts::new(status("web:2", n, &format!("containerd://{n}"), ""), &config, Some(&facts))
        });
        assert_eq!(many.containers["app"].runs.len(), RUNS_KEPT);
        assert_eq!(runs(&many).last().unwrap(), "29=containerd:29:web:2");
    }

    #[test]
    fn a_node_says_where_it_stands() {
        let node: api::Node = serde_json::from_value(json!({
            "metadata": { "labels": { "topology.kubernetes.io/region": "ap-northeast-1",
                "topology.kubernetes.io/zone": "ap-northeast-1a", "node.kubernetes.io/instance-type": "m7g.large",
                "pool": "blue", "kubernetes.io/arch": "arm64" } },
            "spec": { "providerID": "aws:///ap-northeast-1a/i-0abc" },
        }))
        .unwrap();
        let config = MetadataConfig { node_labels: toml_choice("[\"pool\"]"), ..MetadataConfig::default() };
        let facts = NodeLabels::new(node, &config);
        assert_eq!(facts.labels, Texts::from([("pool".into(), "blue".into())]));
        let cloud = json!({ "availability_zone": "ap-northeast-1a", "instance.id": "i-0abc",
            "machine.type": "m7g.large", "provider": "aws", "region": "ap-northeast-1" });
        assert_eq!(serde_json::to_value(&facts.cloud).unwrap(), cloud);
        let bare = NodeLabels::new(api::Node::default(), &MetadataConfig::default());
        assert_eq!(bare, NodeLabels::default());
    }
}

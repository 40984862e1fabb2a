//! `[metadata]`: what documents say of a pod beyond what the path of its log says.
//!
//! In: the table. Out: the fields that are wanted, and how long they are waited for.

use std::collections::BTreeSet;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::choice::Choice;
use super::units;

/// The fields that `fields` chooses among. Those that say whose log it is (namespace, pod, its uid, container, node,
/// cluster) are in every document.
pub const FIELDS: [&str; 20] = [
    "cloud.availability_zone",
    "cloud.instance.id",
    "cloud.machine.type",
    "cloud.provider",
    "cloud.region",
    "container.id",
    "container.image.name",
    "container.runtime",
    "kubernetes.annotations",
    "kubernetes.cronjob.name",
    "kubernetes.daemonset.name",
    "kubernetes.deployment.name",
    "kubernetes.job.name",
    "kubernetes.labels",
    "kubernetes.namespace_annotations",
    "kubernetes.namespace_labels",
    "kubernetes.node.labels",
    "kubernetes.pod.ip",
    "kubernetes.replicaset.name",
    "kubernetes.statefulset.name",
];

/// So many labels have fields of their own at most: each is a field of every index.
pub const LABEL_FIELDS: usize = 32;

/// What documents say of pods beyond what the path of a log says, and where that comes from.
///
/// Lists are of patterns (`*`, `?`, `[…]`); one behind a `!` leaves out what it matches, as in `["*", "!helm.sh/*"]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MetadataConfig {
    /// Where it comes from. Default `"auto"`.
    pub source: MetadataSource,
    /// Which labels of pods, by their keys. Default `["*"]`.
    pub labels: Choice,
    /// Labels of pods, by their keys, that have a field of their own besides, at most 32: `"team"` as `labels.team`,
    /// `"app.kubernetes.io/part-of"` as `labels.app_kubernetes_io/part-of`. Dashboards can add up by these; how the others,
    /// under `kubernetes.labels`, can be added up is the server's. Default `[]`.
    pub label_fields: Vec<String>,
    /// Which annotations of pods, by their keys. Default `[]`.
    pub annotations: Choice,
    /// Which labels of namespaces, by their keys; the agent then needs the right to `get` namespaces. Default `[]`.
    pub namespace_labels: Choice,
    /// Which annotations of namespaces, by their keys, as for `namespace_labels`. Default `[]`.
    pub namespace_annotations: Choice,
    /// Which labels of the node, by their keys; the agent then needs the right to `get` nodes, and the fields `cloud.*`
    /// are filled from the node too. Default `[]`.
    pub node_labels: Choice,
    /// Which of the fields beyond those that say whose log it is: `kubernetes.labels`, `kubernetes.pod.ip`,
    /// `container.id` and so on. Default `["*"]`.
    pub fields: Choice,
    /// How long a container's records wait for what is not known of its pod yet, 0 to 5 min; then they go with what the
    /// path says. Where names or routes depend on it they wait until it is known. Default `"5s"`.
    #[serde(deserialize_with = "units::duration")]
    #[schemars(with = "units::Time")]
    pub wait: Duration,
    /// How long the API server may be silent before it is asked anew, 1 s to 1 h; it says something every minute.
    /// Default `"2m"`.
    #[serde(deserialize_with = "units::duration")]
    #[schemars(with = "units::Time")]
    pub timeout: Duration,
    /// Annotations that routes ask for, by their keys: known, and not sent.
    #[serde(skip)]
    pub asked: BTreeSet<String>,
}

impl Default for MetadataConfig {
    fn default() -> MetadataConfig {
        MetadataConfig {
            source: MetadataSource::Auto,
            labels: Choice::all(),
            label_fields: Vec::new(),
            annotations: Choice::default(),
            namespace_labels: Choice::default(),
            namespace_annotations: Choice::default(),
            node_labels: Choice::default(),
            fields: Choice::all(),
            wait: Duration::from_secs(5),
            timeout: Duration::from_secs(120),
            asked: BTreeSet::new(),
        }
    }
}

impl MetadataConfig {
    /// The labels that have fields of their own, by the fields' names under `labels`. A dot would begin another object.
    pub fn label_fields(&self) -> impl Iterator<Item = (&String, String)> {
        self.label_fields.iter().map(|key| (key, key.replace('.', "_")))
    }

    /// Whether anything of namespaces is wanted.
    pub fn wants_namespaces(&self) -> bool {
        !(self.namespace_labels.is_nothing() && self.namespace_annotations.is_nothing())
    }

    /// Whether anything of the node is wanted.
    pub fn wants_node(&self) -> bool {
        !self.node_labels.is_nothing()
    }
}

/// Where metadata comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MetadataSource {
    /// From the API server that the environment's `KUBECONFIG` names, else from that of the cluster that the agent runs
    /// in, else from the path only.
    Auto,
    /// From the path of the log only: no API server is asked.
    Path,
}

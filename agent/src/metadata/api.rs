//! Objects of the Kubernetes API, as small as they are needed.
//!
//! In: JSON of the API server. Out: the few fields that facts are made of; what else an object holds (most of it) is
//! passed over while it is parsed, and never kept. The API's own types would hold a pod's whole specification.

use std::collections::BTreeMap;

use serde::Deserialize;

/// Texts by name, as labels are.
pub type Texts = BTreeMap<String, String>;

/// A pod.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Pod {
    /// Its name and what it carries.
    pub metadata: Meta,
    /// Its containers, as they are wanted.
    pub spec: PodSpec,
    /// And as they are.
    pub status: PodStatus,
}

/// An object of which only the metadata matters: a namespace.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Namespace {
    /// Its name and what it carries.
    pub metadata: Meta,
}

/// A node.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Node {
    /// Its name and what it carries.
    pub metadata: Meta,
    /// What the cloud calls it.
    pub spec: NodeSpec,
    /// How it is.
    pub status: NodeStatus,
}

/// What of a node's specification matters.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct NodeSpec {
    /// Such as `aws:///ap-northeast-1a/i-0123456789abcdef0`.
    #[serde(rename = "providerID")]
    pub provider_id: String,
    /// What keeps pods away.
    pub taints: Vec<Taint>,
}

/// What keeps pods away from a node.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Taint {
    /// Why.
    pub key: String,
}

/// What of a node's status matters.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct NodeStatus {
    /// How it is.
    pub conditions: Vec<Condition>,
}

/// One thing that a node is, or is not.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Condition {
    /// Such as `Ready`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// Why, for people.
    pub message: String,
}

/// What every object carries.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Meta {
    /// Its name.
    pub name: String,
    /// Its namespace, if it has one.
    pub namespace: String,
    /// Its uid.
    pub uid: String,
    /// When it was made, RFC 3339.
    pub creation_timestamp: Option<String>,
    /// When it was asked to go, if it was.
    pub deletion_timestamp: Option<String>,
    /// The version of the cluster's state that it was last changed in.
    pub resource_version: String,
    /// Labels.
    pub labels: Option<Texts>,
    /// Annotations.
    pub annotations: Option<Texts>,
    /// What it belongs to.
    pub owner_references: Vec<OwnerReference>,
}

/// What an object belongs to.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct OwnerReference {
    /// Group and version, such as `apps/v1`.
    pub api_version: String,
    /// Such as `ReplicaSet`.
    pub kind: String,
    /// Its name, in the same namespace.
    pub name: String,
    /// Whether it is the one owner that manages the object.
    pub controller: Option<bool>,
}

/// What of a pod's specification matters.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PodSpec {
    /// Containers of the three kinds.
    pub containers: Vec<Container>,
    /// They share one space of names.
    pub init_containers: Vec<Container>,
    /// Those that were added for a look inside.
    pub ephemeral_containers: Vec<Container>,
}

/// A container, as it is wanted.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Container {
    /// Its name.
    pub name: String,
    /// The image that it is to run.
    pub image: String,
}

/// What of a pod's status matters.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PodStatus {
    /// Its address.
    #[serde(rename = "podIP")]
    pub pod_ip: String,
    /// Containers of the three kinds, in any order.
    pub container_statuses: Vec<ContainerStatus>,
    /// See [`PodSpec`].
    pub init_container_statuses: Vec<ContainerStatus>,
    /// See [`PodSpec`].
    pub ephemeral_container_statuses: Vec<ContainerStatus>,
}

/// A container, as it is.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ContainerStatus {
    /// Its name.
    pub name: String,
    /// Such as `containerd://0123…`; empty until it runs.
    #[serde(rename = "containerID")]
    pub container_id: String,
    /// How often it was started again before that.
    pub restart_count: u32,
    /// How its run before that ended.
    pub last_state: LastState,
}

/// How a container's last run ended, if it did.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct LastState {
    /// With an exit code.
    pub terminated: Option<Terminated>,
}

/// What of an ended run matters.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Terminated {
    /// As [`ContainerStatus::container_id`].
    #[serde(rename = "containerID")]
    pub container_id: String,
}

/// A list of objects.
#[derive(Debug, Clone, Deserialize)]
pub struct List<T> {
    /// Of which version it is.
    #[serde(default)]
    pub metadata: ListMeta,
    /// The objects.
    #[serde(default = "Vec::new")]
    pub items: Vec<T>,
}

/// What a list carries.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ListMeta {
    /// Where watching goes on.
    pub resource_version: String,
}

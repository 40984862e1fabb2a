//! Whose log a file is: a container of a pod, or a file of the host that the configuration names.
//!
//! In: what a path or the configuration says. Out: the identity that plans, counters and fair turns go by. Never touches
//! the disk.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::path::PathBuf;

/// Whose log it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Origin {
    /// A container's.
    Container(Container),
    /// A host file's.
    Host(HostLog),
}

/// A container on this node, by what its directory says.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Container {
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub pod: String,
    /// Uid of the pod (of a static pod: the hash of its configuration).
    pub uid: String,
    /// Name of the container within the pod.
    pub name: String,
}

/// A file of the host, by the `[files.NAME]` that found it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostLog {
    /// NAME of the table.
    pub source: String,
    /// Its absolute path when it was found.
    pub path: PathBuf,
    /// The table's labels.
    pub labels: BTreeMap<String, String>,
}

impl Origin {
    /// Which of `shards` workers reads it.
    pub fn shard(&self, shards: usize) -> usize {
        let mut hasher = std::hash::DefaultHasher::new();
        self.hash(&mut hasher);
        (hasher.finish() % shards.max(1) as u64) as usize
    }

    /// What stands for its namespace, pod and container where these are shown, counted or given a budget. A host file has the
    /// place of none: no namespace can be called `_host`, since Kubernetes allows no underscore there. Nor have the agent's own
    /// records.
    pub fn place(&self) -> (&str, &str, String) {
        match self {
            Origin::Container(container) => (&container.namespace, &container.pod, container.name.clone()),
            Origin::Host(host) if host.is_health() => {
                (HostLog::OWN, HostLog::OWN, HostLog::OWN_CONTAINER.to_owned())
            }
            Origin::Host(host) => (HostLog::NAMESPACE, &host.source, host.file_name()),
        }
    }

    /// Its namespace, pod and container as templates name them. Of the agent's own records that is a name that indices and
    /// patterns are made for.
    pub fn names(&self) -> (&str, &str, String) {
        match self.is_health() {
            true => (HostLog::OWN_NAME, HostLog::OWN_NAME, HostLog::OWN_CONTAINER.to_owned()),
            false => self.place(),
        }
    }

    /// Whether these are the agent's own health records.
    pub fn is_health(&self) -> bool {
        matches!(self, Origin::Host(host) if host.is_health())
    }

    /// What `{source}` is: `pods`, or the name of a table `[files.NAME]`.
    pub fn source(&self) -> &str {
        match self {
            Origin::Container(_) => "pods",
            Origin::Host(host) => &host.source,
        }
    }

    /// The labels that it has of itself: those of a pod are not the path's to say.
    pub fn labels(&self) -> &BTreeMap<String, String> {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        match self {
            Origin::Container(_) => &NONE,
            Origin::Host(host) => &host.labels,
        }
    }

    /// The pod's uid; what stands for it of a host file.
    pub fn uid(&self) -> &str {
        match self {
            Origin::Container(container) => &container.uid,
            Origin::Host(_) => HostLog::NAMESPACE,
        }
    }
}

impl fmt::Display for Origin {
    /// `namespace/pod/container`, or a path: as messages name it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Container(container) => {
                write!(f, "{}/{}/{}", container.namespace, container.pod, container.name)
            }
            Origin::Host(host) => write!(f, "{}", host.path.display()),
        }
    }
}

impl Container {
    /// The container's directory below the root of the pod logs.
    pub fn directory(&self) -> PathBuf {
        PathBuf::from(format!("{}_{}_{}", self.namespace, self.pod, self.uid)).join(&self.name)
    }
}

impl HostLog {
    /// What `{namespace}` is for host files.
    pub const NAMESPACE: &str = "_host";

    /// What stands for the namespace of the agent's own records.
    pub const OWN: &str = "_taffrail";

    /// What `{namespace}` and `{pod}` are for them,
    pub const OWN_NAME: &str = "taffrail";

    /// and `{container}`.
    pub const OWN_CONTAINER: &str = "health";

    /// The source of the agent's health records. No table `[files.NAME]` can be called so: a name has no dot.
    pub const HEALTH: &str = "taffrail.health";

    /// Whether these are the agent's own health records.
    pub fn is_health(&self) -> bool {
        self.source == HostLog::HEALTH
    }

    /// The last part of the path.
    pub fn file_name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }
}

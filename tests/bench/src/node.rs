//! A corpus as a node's logs whose pods a real API server knows.
//!
//! In: a corpus. Out: the API server of the tests, told of a pod for each container, with labels and owners as a Helm chart's
//! Deployment has them, and the corpus's files again, by hard links, under the uids that the server gave; beside them the links
//! that kubelet makes in `/var/log/containers`. There is no kubelet and no controller: who is asked is only this server.

use crate::Outcome;
use crate::metadata::{HASH, image, labels};
use serde_json::json;
use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use taffrail_tests::kubernetes::Kubernetes;

/// The node; its folders are gone with it, and the server ends.
pub struct KnownNode {
    server: Kubernetes,
    folder: tempfile::TempDir,
    /// Where each log was found, and where it is now.
    places: HashMap<PathBuf, PathBuf>,
}

/// What a container's log is known by.
struct Log {
    namespace: String,
    pod: String,
    container: String,
    file: PathBuf,
}

impl KnownNode {
    /// Starts the server, makes the pods of `corpus` and links its logs into `folder`, on the same file system.
    pub fn new(corpus: &Path, folder: tempfile::TempDir) -> Outcome<KnownNode> {
        let server = Kubernetes::start(&[]);
        let node = server.node();
        let mut namespaces: HashSet<String> = ["default", "kube-system"].map(str::to_owned).into();
        let (pods, containers) = (folder.path().join("pods"), folder.path().join("containers"));
        let mut places = HashMap::new();
        fs::create_dir_all(&containers)?;
        for (number, log) in logs(corpus)?.into_iter().enumerate() {
            let Log { namespace, pod: name, container, file } = log;
            if namespaces.insert(namespace.clone()) {
                let object = json!({ "metadata": { "name": namespace } });
                server.send("POST", "/api/v1/namespaces", &object);
            }
            let chart = name.split('-').next().unwrap_or(&name);
            let owner = json!({ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": format!("{chart}-{HASH}"),
                "uid": "5b1e0c52-7e1f-4d0a-9a52-1f6a3a1a2b3c", "controller": true });
            let pod = server.pod(&node, json!({
                "metadata": { "name": name, "namespace": namespace, "labels": labels(chart), "ownerReferences": [owner] },
                "spec": { "containers": [{ "name": container, "image": image(&container) }] },
            }));
            let id = format!("{number:064x}");
            server.runs(&pod, &[(&container, 0, &id)]);
            let target = pods.join(format!("{namespace}_{name}_{}", pod.uid)).join(&container).join("0.log");
            fs::create_dir_all(target.parent().unwrap_or(&pods))?;
            fs::hard_link(&file, &target)?;
            places.insert(file, target.clone());
            symlink(&target, containers.join(format!("{name}_{namespace}_{container}-{id}.log")))?;
        }
        Ok(KnownNode { server, folder, places })
    }

    /// As `/var/log/pods`.
    pub fn pods(&self) -> PathBuf {
        self.folder.path().join("pods")
    }

    /// Where the log that was found at this path is now: who writes to it must open it there, for watches to see it.
    pub fn place(&self, found: &Path) -> &Path {
        &self.places[found]
    }

    /// A kubeconfig with every right; beside it lie `ca.crt`, `admin.crt` and `admin.key`.
    pub fn kubeconfig(&self) -> PathBuf {
        self.server.kubeconfig()
    }
}

/// The logs below a folder as `/var/log/pods`, in the order of their names.
fn logs(pods: &Path) -> Outcome<Vec<Log>> {
    let mut found = Vec::new();
    for pod in fs::read_dir(pods)? {
        let pod = pod?;
        let key = pod.file_name().to_string_lossy().into_owned();
        let mut parts = key.split('_').map(str::to_owned);
        let (Some(namespace), Some(name)) = (parts.next(), parts.next()) else { continue };
        for container in fs::read_dir(pod.path())? {
            let container = container?;
            found.push(Log {
                namespace: namespace.clone(),
                pod: name.clone(),
                container: container.file_name().to_string_lossy().into_owned(),
                file: container.path().join("0.log"),
            });
        }
    }
    found.sort_by(|one, other| one.file.cmp(&other.file));
    Ok(found)
}

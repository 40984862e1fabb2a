//! What an API server would have told of a corpus's pods.
//!
//! In: the folder of the pods' logs. Out: the cache that an agent finds in its state directory at the start, with labels
//! and owners as a Helm chart's Deployment has them, and a kubeconfig to a server that is away. So that what is measured
//! is enrichment, and no server's mood.

use crate::Outcome;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

/// Writes the cache into the state directory, and the kubeconfig into `folder`; gives the latter.
pub fn prepare(pods: &Path, state: &Path, folder: &Path) -> Outcome<PathBuf> {
    let mut told: Vec<Value> = Vec::new();
    for pod in fs::read_dir(pods)? {
        let pod = pod?;
        let key = pod.file_name().to_string_lossy().into_owned();
        let uid = key.rsplit('_').next().unwrap_or_default();
        let name = key.split('_').nth(1).unwrap_or_default();
        let mut containers = serde_json::Map::new();
        for container in fs::read_dir(pod.path())? {
            let container = container?.file_name().to_string_lossy().into_owned();
            let image = image(&container);
            let run = json!({ "restart": 0, "runtime": "containerd", "id": uid.replace('-', "").repeat(2), "image": image });
            containers.insert(container, json!({ "image": image, "runs": [run] }));
        }
        told.push(json!({ "key": key, "uid": uid, "facts": {
            "ip": "10.0.12.34",
            "labels": labels(name),
            "owners": { "deployment": name, "replicaset": format!("{name}-{HASH}") },
            "containers": containers,
        } }));
    }
    let cache = json!({ "taffrail_metadata": 1, "pods": told });
    fs::write(state.join("kubernetes.metadata.json"), cache.to_string())?;
    let kubeconfig = folder.join("kubeconfig");
    let nobody = json!({
        "current-context": "c", "contexts": [{ "name": "c", "context": { "cluster": "c", "user": "u" } }],
        "clusters": [{ "name": "c", "cluster": { "server": "http://127.0.0.1:9" } }],
        "users": [{ "name": "u", "user": {} }],
    });
    fs::write(&kubeconfig, nobody.to_string())?;
    Ok(kubeconfig)
}

/// The labels of a pod of the chart `name`.
pub fn labels(name: &str) -> Value {
    json!({
        "app.kubernetes.io/component": "server",
        "app.kubernetes.io/instance": name,
        "app.kubernetes.io/managed-by": "Helm",
        "app.kubernetes.io/name": name,
        "app.kubernetes.io/part-of": "shop",
        "app.kubernetes.io/version": "1.42.0",
        "helm.sh/chart": format!("{name}-3.1.4"),
        "pod-template-hash": HASH,
    })
}

/// The `pod-template-hash`, thus the end of the ReplicaSet's name.
pub const HASH: &str = "7d4b9c6f5d";

/// The image of a container.
pub fn image(container: &str) -> String {
    format!("123456789012.dkr.ecr.ap-northeast-1.amazonaws.com/shop/{container}:v1.42.0")
}

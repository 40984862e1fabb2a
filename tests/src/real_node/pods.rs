//! What pods of the tests are, as Kubernetes takes them.
//!
//! What comes in: names, counts and commands. What goes out: JSON for `kubectl apply`. It never asks anything of a node.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

/// The image of the tests' own program; see `servers/node/play`.
const PLAY: &str = "localhost/play:1";

/// Bytes of a numbered line, without its end: one that is shorter was cut by a kill.
pub const LINE: usize = 199;

/// A pod's specification with one container that writes so many numbered lines, so many a second (0: as quickly as it
/// can). With a code it ends, else it waits for its end.
pub fn writes(name: &str, lines: u64, rate: u64, exit: Option<u8>) -> Value {
    pod(vec![writer("app", name, lines, rate, exit)])
}

/// Such a container.
pub fn writer(container: &str, name: &str, lines: u64, rate: u64, exit: Option<u8>) -> Value {
    let mut arguments = vec!["write".to_owned(), name.to_owned(), lines.to_string(), rate.to_string()];
    arguments.extend(exit.map(|code| code.to_string()));
    json!({ "name": container, "image": PLAY, "args": arguments })
}

/// A pod's specification with one container that says nothing.
pub fn silent() -> Value {
    pod(vec![json!({ "name": "app", "image": PLAY })])
}

/// A pod's specification.
pub fn pod(containers: Vec<Value>) -> Value {
    json!({ "terminationGracePeriodSeconds": 1, "containers": containers })
}

/// A pod's specification with one container that runs a program of this machine, by a shell's words, in a folder of it. Of the
/// machine it sees programs, libraries, settings and that folder, and can change none of them.
pub fn runs(container: &str, script: &str, folder: &Path) -> Value {
    // Links such as /lib lead into /usr.
    let places = ["/usr", "/lib", "/lib64", "/bin", "/etc"].map(Path::new);
    let places: Vec<&Path> = places.into_iter().filter(|path| path.exists()).chain([folder]).collect();
    let name = |at: usize| format!("host-{at}");
    let volumes: Vec<Value> = places
        .iter()
        .enumerate()
        .map(|(at, place)| {
            let real = fs::canonicalize(place).expect("a real path");
            json!({ "name": name(at), "hostPath": { "path": real } })
        })
        .collect();
    let mounts: Vec<Value> = places
        .iter()
        .enumerate()
        .map(|(at, place)| json!({ "name": name(at), "mountPath": place, "readOnly": true }))
        .collect();
    let mut of = pod(vec![json!({
        "name": container, "image": PLAY, "command": ["/bin/sh", "-c", script], "workingDir": folder, "volumeMounts": mounts,
    })]);
    of["volumes"] = json!(volumes);
    of
}

/// A workload of pods that are so. Each pod is labelled `app` with the workload's name.
pub fn workload(kind: &str, namespace: &str, name: &str, pod: Value) -> String {
    workload_with(kind, namespace, name, pod, json!({}))
}

/// The same, with more in its specification, such as `replicas`.
pub fn workload_with(kind: &str, namespace: &str, name: &str, mut pod: Value, more: Value) -> String {
    let labels = json!({ "app": name });
    if kind.ends_with("Job") && pod.get("restartPolicy").is_none() {
        pod["restartPolicy"] = json!("Never");
    }
    let template = json!({ "metadata": { "labels": labels }, "spec": pod });
    let mut spec = match kind {
        "CronJob" => {
            json!({ "schedule": "0 0 1 1 *", "jobTemplate": { "spec": { "template": template, "backoffLimit": 0 } } })
        }
        "Job" => json!({ "template": template, "backoffLimit": 0 }),
        "StatefulSet" => {
            json!({ "template": template, "selector": { "matchLabels": labels }, "serviceName": name })
        }
        _ => json!({ "template": template, "selector": { "matchLabels": labels } }),
    };
    if let (Some(spec), Some(more)) = (spec.as_object_mut(), more.as_object()) {
        spec.extend(more.clone());
    }
    let group = if kind.ends_with("Job") { "batch/v1" } else { "apps/v1" };
    json!({ "apiVersion": group, "kind": kind, "metadata": { "name": name, "namespace": namespace }, "spec": spec })
        .to_string()
}

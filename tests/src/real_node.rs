//! A real Kubernetes node for the tests, by `tests/node`: kubelet and containerd run pods, and write the logs.
//!
//! What comes in: manifests, and what is to be stopped or started. What goes out: what kubectl says, and the node's own
//! /var/log. One node for all tests of a machine, which stays up behind them: `tests/node down` ends it.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::manifests::root;
use crate::{eventually, seconds};

/// How long a pod may take to be there: kubelet looks every few seconds, and other work shares the machine.
const TIME: Duration = seconds(120);

/// The node.
pub struct RealNode {
    folder: PathBuf,
}

impl RealNode {
    /// The node as it is, or a new one.
    ///
    /// # Panics
    /// When it cannot be had: with what `tests/node` says.
    pub fn up() -> RealNode {
        RealNode { folder: PathBuf::from(script(&["up"]).trim()) }
    }

    /// Its /var/log.
    pub fn logs(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// Runs kubectl, and gives what it writes.
    ///
    /// # Panics
    /// When kubectl fails: with what it said.
    #[track_caller]
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        self.try_kubectl(arguments).unwrap_or_else(|error| panic!("kubectl {arguments:?}: {error}"))
    }

    /// The same.
    ///
    /// # Errors
    /// What kubectl said when it failed.
    pub fn try_kubectl(&self, arguments: &[&str]) -> Result<String, String> {
        run(Command::new(script_path()).arg("kubectl").args(arguments), "")
    }

    /// Applies objects, as YAML or JSON.
    ///
    /// # Panics
    /// When kubectl fails: with what it said.
    #[track_caller]
    pub fn apply(&self, objects: &str) {
        let applied = run(Command::new(script_path()).args(["kubectl", "apply", "-f", "-"]), objects);
        applied.unwrap_or_else(|error| panic!("{error}: {objects}"));
    }

    /// Makes a namespace in which pods can be made.
    ///
    /// # Panics
    /// When it is not there in time.
    #[track_caller]
    pub fn namespace(&self, name: &str) {
        self.kubectl(&["create", "namespace", name]);
        eventually(TIME, "the namespace's account", || {
            self.try_kubectl(&["-n", name, "get", "serviceaccount", "default"])
        });
    }

    /// Waits until a DaemonSet, Deployment or StatefulSet is as it should be.
    ///
    /// # Panics
    /// When it is not in time: with what the pods say.
    #[track_caller]
    pub fn rolled_out(&self, namespace: &str, what: &str) {
        let timeout = format!("--timeout={}s", TIME.as_secs());
        if let Err(error) = self.try_kubectl(&["-n", namespace, "rollout", "status", what, &timeout]) {
            let pods = self.try_kubectl(&["-n", namespace, "describe", "pods"]);
            panic!("{error}\n{}", pods.unwrap_or_else(|error| error));
        }
    }

    /// Waits until a jsonpath of an object gives this text.
    ///
    /// # Panics
    /// When it does not in time: with what it gives.
    #[track_caller]
    pub fn comes_to(&self, namespace: &str, object: &str, path: &str, expected: &str) {
        eventually(TIME, &format!("{object}'s {path} to be {expected}"), || {
            let found =
                self.try_kubectl(&["-n", namespace, "get", object, "-o", &format!("jsonpath={path}")])?;
            if found == expected { Ok(()) } else { Err(found) }
        });
    }

    /// What the API server answers to a request with every right, such as one that it passes on to a pod.
    ///
    /// # Errors
    /// What kubectl said, where the status is none of success.
    pub fn get(&self, target: &str) -> Result<String, String> {
        self.try_kubectl(&["get", "--raw", target])
    }

    /// The processes of this node's pods whose command line begins so, by the machine's own numbers.
    ///
    /// # Panics
    /// When the machine's processes cannot be listed.
    pub fn processes(&self, command: &str) -> Vec<u32> {
        let numbers = fs::read_dir("/proc").expect("the processes").flatten();
        let numbers = numbers.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        // Another node on this machine has its containers elsewhere.
        let folder = self.folder.to_string_lossy();
        let is_ours = |number: &u32| {
            let read = |name: &str| fs::read_to_string(format!("/proc/{number}/{name}")).unwrap_or_default();
            read("cmdline").replace('\0', " ").starts_with(command) && read("mountinfo").contains(&*folder)
        };
        numbers.filter(is_ours).collect()
    }

    /// The pods of a namespace, as the API server has them.
    ///
    /// # Panics
    /// When kubectl fails.
    #[track_caller]
    pub fn pods(&self, namespace: &str) -> Vec<Value> {
        let found = self.kubectl(&["-n", namespace, "get", "pods", "-o", "json"]);
        let mut found: Value = serde_json::from_str(&found).expect("JSON");
        found["items"].as_array_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Ends one of `containerd`, `kubelet`, `scheduler` and `server`, and keeps what it has.
    ///
    /// # Panics
    /// When that fails.
    pub fn stop(&self, part: &str) {
        script(&["stop", part]);
    }

    /// Starts it again.
    ///
    /// # Panics
    /// When that fails.
    pub fn start(&self, part: &str) {
        script(&["start", part]);
    }

    /// Takes in an image.
    ///
    /// # Panics
    /// When containerd refuses it.
    pub fn import(&self, image: &Path) {
        script(&["import", &image.to_string_lossy()]);
    }

    /// Makes a server of the tests reachable for pods, at the node's own address and the server's port.
    ///
    /// # Panics
    /// When there is no such address.
    pub fn reaches(&self, server: SocketAddr) -> String {
        let address = format!("10.99.0.1:{}", server.port());
        script(&["forward", &address, &server.to_string()]);
        address
    }
}

fn script_path() -> PathBuf {
    root().join("tests/node")
}

#[track_caller]
fn script(arguments: &[&str]) -> String {
    run(Command::new(script_path()).args(arguments), "").unwrap_or_else(|error| panic!("{error}"))
}

/// Runs a program with this input, and gives what it writes, or what it says when it fails.
fn run(command: &mut Command, input: &str) -> Result<String, String> {
    use std::io::Write;
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{command:?}: {error}"))?;
    // Whoever reads nothing has ended already.
    let _ = child.stdin.take().map(|mut stdin| stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().map_err(|error| error.to_string())?;
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        Ok(said(&output.stdout))
    } else {
        Err(format!("{}: {}{}", output.status, said(&output.stdout), said(&output.stderr)))
    }
}

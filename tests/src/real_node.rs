//! A real Kubernetes node for the tests, by `tests/node`: kubelet and containerd run pods, and write the logs.
//!
//! What comes in: manifests, and what is to be stopped or started. What goes out: what kubectl says, and the node's own
//! /var/log. One node for all tests of a machine, which stays up behind them: `tests/node down` ends it.

pub mod counted;
pub mod pods;
pub mod schedule;
pub mod soak;
pub mod usage;
pub mod witness;
pub mod world;

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::manifests::{built, root};
use crate::{eventually, seconds};

/// How long a pod may take to be there: kubelet looks every few seconds, and other work shares the machine.
const TIME: Duration = seconds(120);

/// The node.
#[derive(Clone)]
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

    /// The folder of its programs: `node`, with kubelet and scheduler in it, and `play`.
    pub fn programs(&self) -> PathBuf {
        built("node")
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
        self.try_apply(objects).unwrap_or_else(|error| panic!("{error}: {objects}"));
    }

    /// The same.
    ///
    /// # Errors
    /// What kubectl said when it failed.
    pub fn try_apply(&self, objects: &str) -> Result<(), String> {
        run(Command::new(script_path()).args(["kubectl", "apply", "-f", "-"]), objects).map(drop)
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

    /// Evicts a pod, as a drain does.
    ///
    /// # Panics
    /// When the API server does not.
    #[track_caller]
    pub fn evicts(&self, namespace: &str, pod: &str) {
        let eviction = serde_json::json!({
            "apiVersion": "policy/v1", "kind": "Eviction", "metadata": { "name": pod, "namespace": namespace },
        });
        let target = format!("/api/v1/namespaces/{namespace}/pods/{pod}/eviction");
        let evicted = run(
            Command::new(script_path()).args(["kubectl", "create", "--raw", &target, "-f", "-"]),
            &eviction.to_string(),
        );
        evicted.unwrap_or_else(|error| panic!("{error}"));
    }

    /// How often the first container of a pod was started again.
    ///
    /// # Errors
    /// When there is no such pod, or kubelet has not told.
    pub fn restarts(&self, namespace: &str, pod: &str) -> Result<u32, String> {
        let path = "jsonpath={.status.containerStatuses[0].restartCount}";
        let found = self.try_kubectl(&["-n", namespace, "get", "pod", pod, "-o", path])?;
        found.parse().map_err(|error| format!("{found}: {error}"))
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

    /// Ends everything at once and starts it again, as far as a machine's reboot can be played.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn reboots(&self) {
        script(&["reboot"]);
    }

    /// What a container's log files hold now, in the order of their names: stream and text of each line, with its pieces joined.
    ///
    /// # Panics
    /// When a line is none of a container runtime's.
    pub fn log(&self, namespace: &str, pod: &str, container: &str) -> Vec<(String, String)> {
        let folders = fs::read_dir(self.logs().join("pods")).into_iter().flatten().flatten();
        let of = format!("{namespace}_{pod}_");
        let folder = folders
            .map(|entry| entry.path())
            .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&of)));
        let files = folder.and_then(|folder| fs::read_dir(folder.join(container)).ok());
        let mut files: Vec<PathBuf> =
            files.into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        files.sort();
        let (mut lines, mut begun) = (Vec::new(), String::new());
        for file in files {
            for line in String::from_utf8_lossy(&fs::read(file).unwrap_or_default()).lines() {
                let mut parts = line.splitn(4, ' ').skip(1);
                let (stream, tag, text) = (parts.next(), parts.next(), parts.next());
                let (Some(stream), Some(tag), Some(text)) = (stream, tag, text) else {
                    panic!("a line: {line}")
                };
                begun += text;
                if tag == "F" {
                    lines.push((stream.to_owned(), std::mem::take(&mut begun)));
                }
            }
        }
        lines
    }

    /// Opens a way to a pod's own loopback, as `kubectl port-forward` does for a person.
    ///
    /// # Panics
    /// When kubectl does not.
    pub fn port_forward(&self, namespace: &str, pod: &str, port: u16) -> PortForward {
        let ports = format!(":{port}");
        let child = Command::new(script_path())
            .args(["kubectl", "-n", namespace, "port-forward", pod, &ports])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn();
        let mut child = child.expect("to run tests/node");
        let (mut said, mut out) = (String::new(), BufReader::new(child.stdout.take().expect("a pipe")));
        let _ = out.read_line(&mut said);
        // Forwarding from 127.0.0.1:40123 -> 9600
        let address = said.split(' ').find_map(|word| word.parse().ok());
        PortForward { address: address.unwrap_or_else(|| panic!("port-forward: {said}")), child, _out: out }
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

/// See [`RealNode::port_forward`]. It ends with the value.
pub struct PortForward {
    /// Where to connect.
    pub address: SocketAddr,
    child: Child,
    /// It ends when it cannot say more.
    _out: BufReader<ChildStdout>,
}

impl Drop for PortForward {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
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

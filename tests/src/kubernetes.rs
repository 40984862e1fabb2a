//! A real Kubernetes API server for the tests, and what they make of it: pods with owners and statuses, namespaces,
//! accounts with few rights.
//!
//! What comes in: a node of log files, and descriptions of pods. What goes out: objects at the API server, pods whose logs
//! can be written under the uid that the server gave them, and kubeconfigs. There is no kubelet: a test writes statuses
//! itself. It is built once by `servers/kubernetes/build`, and ends with its test by whichever way. Everything
//! that tests of one binary share carries a name of its own, so that they do not meet.

use crate::http::{self, Reply, Request};
use crate::node::{Node, Pod};
use crate::{eventually, seconds};
use serde_json::{Value, json};
use std::fs::{self, File, OpenOptions};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};

/// On an idle machine 5 s; beside builds, more.
const TIME_TO_START: std::time::Duration = seconds(150);

/// A running API server.
pub struct Kubernetes {
    home: PathBuf,
    flags: Vec<String>,
    state: Mutex<State>,
}

struct State {
    child: Child,
    address: SocketAddr,
    door: SocketAddr,
}

impl Kubernetes {
    /// The one server that all tests of this binary share, without controllers. Started by whoever asks first.
    ///
    /// # Panics
    /// As [`Kubernetes::start`].
    pub fn shared() -> &'static Kubernetes {
        // Never dropped: it ends when the process does, for its standard input closes then.
        static SHARED: OnceLock<Kubernetes> = OnceLock::new();
        SHARED.get_or_init(|| Kubernetes::start(&[]))
    }

    /// Starts a server and waits until it takes requests; `flags` are ours (`-controllers`), then, behind a `--`,
    /// kube-apiserver's.
    ///
    /// # Panics
    /// When it cannot be built (no Go, no network) or does not start: with what it said.
    pub fn start(flags: &[&str]) -> Kubernetes {
        let home = tempfile::Builder::new().prefix("taffrail-kubernetes-").tempdir();
        let home = home.expect("a temporary folder").keep();
        let flags: Vec<String> = flags.iter().map(|&flag| flag.to_owned()).collect();
        let state = spawn(&home, &flags, 0);
        Kubernetes { home, flags, state: Mutex::new(state) }
    }

    /// Ends it as a crash would, at once. What it had acknowledged stays, for [`Kubernetes::returns`].
    ///
    /// # Panics
    /// When it had ended by itself before.
    pub fn kill9(&self) {
        let child = &mut self.state.lock().expect("no thread panicked").child;
        let ended = child.try_wait().expect("to ask after the server");
        assert!(ended.is_none(), "the API server had ended by itself before it was killed: {ended:?}");
        child.kill().expect("to kill the server");
        child.wait().expect("to see the server end");
    }

    /// Starts it again after [`Kubernetes::kill9`]: at the same address, with the same keys and data.
    ///
    /// # Panics
    /// When it does not start: with what it said.
    pub fn returns(&self) {
        let mut state = self.state.lock().expect("no thread panicked");
        *state = spawn(&self.home, &self.flags, state.address.port());
    }

    /// Where it listens, with TLS.
    pub fn address(&self) -> SocketAddr {
        self.state.lock().expect("no thread panicked").address
    }

    /// A kubeconfig with every right.
    pub fn kubeconfig(&self) -> PathBuf {
        self.home.join("kubeconfig")
    }

    /// A kubeconfig with every right that leads to another address, such as that of a [`crate::wire::Wire`].
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn kubeconfig_by(&self, address: SocketAddr) -> PathBuf {
        let user = json!({ "client-certificate": self.home.join("admin.crt"), "client-key": self.home.join("admin.key") });
        self.write_kubeconfig(address, user)
    }

    fn write_kubeconfig(&self, address: SocketAddr, user: Value) -> PathBuf {
        let path = self.home.join(format!("kubeconfig-{}", next_number()));
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{ "name": "c", "cluster": {
                "server": format!("https://{address}"), "certificate-authority": self.home.join("ca.crt") } }],
            "users": [{ "name": "u", "user": user }],
            "contexts": [{ "name": "c", "context": { "cluster": "c", "user": "u" } }],
        });
        // JSON is YAML.
        fs::write(&path, config.to_string()).expect("to write a kubeconfig");
        path
    }

    /// Sends a request with every right and gives its JSON.
    ///
    /// # Panics
    /// When the server cannot be reached or the status is 300 or more.
    #[track_caller]
    pub fn send(&self, method: &str, target: &str, body: &Value) -> Value {
        let reply = self.try_send(method, target, body).unwrap_or_else(|error| panic!("{error}"));
        let text = String::from_utf8_lossy(&reply.body);
        assert!(reply.status < 300, "{method} {target}: {} {text}", reply.status);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{method} {target}: {error}: {text}"))
    }

    /// Sends a request with every right and gives whatever the server answers. A `PATCH` is a merge patch.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub fn try_send(&self, method: &str, target: &str, body: &Value) -> Result<Reply, String> {
        let kind = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let headers = vec![("content-type".to_owned(), kind.to_owned())];
        self.forward(&Request { method: method.into(), target: target.into(), headers, body })
    }

    /// Sends a request as it is with every right, or with those that its `impersonate-*` headers name.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub fn forward(&self, request: &Request) -> Result<Reply, String> {
        let door = self.state.lock().expect("no thread panicked").door;
        http::forward(door, request)
            .map_err(|error| format!("{} {}: {error}", request.method, request.target))
    }

    /// An empty node of log files, under a name of its own, which the server knows.
    pub fn node(&self) -> Node {
        let name = format!("n{}", next_number());
        self.send("POST", "/api/v1/nodes", &json!({ "metadata": { "name": name } }));
        Node::new().called(&name)
    }

    /// A new namespace, by a name of its own.
    pub fn namespace(&self) -> String {
        let name = format!("s{}", next_number());
        self.send("POST", "/api/v1/namespaces", &json!({ "metadata": { "name": name } }));
        name
    }

    /// Makes a pod on this node; `object` is what of it differs from a bare pod with the container `app`: it needs
    /// `metadata.name` and `metadata.namespace`. Gives the pod, to write logs of under the uid that the server gave it.
    #[track_caller]
    pub fn pod(&self, node: &Node, object: Value) -> Pod {
        let mut pod = json!({ "spec": {
            "nodeName": node.name,
            "containers": [{ "name": "app", "image": "registry.example/app:1" }],
        } });
        merge(&mut pod, object);
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let namespace = text(&pod["metadata"]["namespace"]);
        let made = self.send("POST", &format!("/api/v1/namespaces/{namespace}/pods"), &pod);
        let meta = &made["metadata"];
        let mut pod = node.pod(&text(&meta["name"])).namespace(&namespace);
        pod.uid = text(&meta["uid"]);
        pod
    }

    /// Reports, as kubelet would, that containers of a pod run: each with its name, how often it was started again, and
    /// its id.
    #[track_caller]
    pub fn runs(&self, pod: &Pod, containers: &[(&str, u32, &str)]) {
        let statuses: Vec<Value> = containers
            .iter()
            .map(|(name, restarts, id)| {
                json!({ "name": name, "restartCount": restarts, "containerID": format!("containerd://{id}"),
                    "image": "sha256:0", "imageID": "sha256:0", "ready": true,
                    "state": { "running": { "startedAt": "2026-11-23T15:54:01Z" } } })
            })
            .collect();
        let status = json!({ "status": { "phase": "Running", "podIP": "10.1.2.3", "podIPs": [{ "ip": "10.1.2.3" }],
            "containerStatuses": statuses } });
        self.send("PATCH", &format!("{}/status", path(pod)), &status);
    }

    /// Changes a pod by a merge patch.
    #[track_caller]
    pub fn patch(&self, pod: &Pod, patch: Value) {
        self.send("PATCH", &path(pod), &patch);
    }

    /// Deletes a pod at the server, at once. Its logs are the test's to delete.
    #[track_caller]
    pub fn delete(&self, pod: &Pod) {
        self.send("DELETE", &path(pod), &json!({ "gracePeriodSeconds": 0 }));
    }

    /// A service account that may do what `rules` (of a ClusterRole) say.
    pub fn account(&self, rules: Value) -> Account<'_> {
        let (namespace, name) = (self.namespace(), "agent".to_owned());
        let role = format!("{namespace}-{name}");
        let meta = json!({ "metadata": { "name": role } });
        self.send("POST", "/apis/rbac.authorization.k8s.io/v1/clusterroles", &{
            let mut object = meta.clone();
            merge(&mut object, json!({ "rules": rules }));
            object
        });
        self.send("POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", &{
            let mut object = meta;
            merge(&mut object, json!({
                "subjects": [{ "kind": "ServiceAccount", "name": name, "namespace": namespace }],
                "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role },
            }));
            object
        });
        let account =
            Account { server: self, namespace, name, token: self.home.join(format!("token-{role}")) };
        account.make();
        account.renew();
        account
    }

    /// How many requests the server has counted for pods by `verb` (`LIST`, `WATCH`, `GET`), from whomever.
    #[track_caller]
    pub fn requests(&self, resource: &str, verb: &str) -> u64 {
        let reply = self.try_send("GET", "/metrics", &Value::Null).expect("the server's metrics");
        let text = String::from_utf8_lossy(&reply.body).into_owned();
        let wanted = [format!("resource=\"{resource}\""), format!("verb=\"{verb}\"")];
        text.lines()
            .filter(|line| line.starts_with("apiserver_request_total{"))
            .filter(|line| wanted.iter().all(|part| line.contains(part)))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum::<f64>() as u64
    }
}

impl Drop for Kubernetes {
    fn drop(&mut self) {
        // Killed, not asked: its data is worth nothing.
        if let Ok(state) = self.state.get_mut() {
            let _ = state.child.kill();
            let _ = state.child.wait();
        }
        let _ = fs::remove_dir_all(&self.home);
    }
}

/// A service account.
pub struct Account<'k> {
    server: &'k Kubernetes,
    namespace: String,
    name: String,
    /// The file with its token.
    pub token: PathBuf,
}

impl Account<'_> {
    /// A kubeconfig that reads the token from its file.
    pub fn kubeconfig(&self) -> PathBuf {
        self.server.write_kubeconfig(self.server.address(), json!({ "tokenFile": self.token }))
    }

    /// Writes a new token into the file.
    ///
    /// # Panics
    /// When the server gives none.
    pub fn renew(&self) {
        let target = format!("/api/v1/namespaces/{}/serviceaccounts/{}/token", self.namespace, self.name);
        let request = json!({ "kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1",
            "spec": { "expirationSeconds": 600 } });
        let made = self.server.send("POST", &target, &request);
        let token = made["status"]["token"].as_str().expect("a token");
        // As kubelet does: whoever reads sees the old or the new, never half of one.
        let fresh = self.token.with_extension("new");
        fs::write(&fresh, token).expect("to write a token");
        fs::rename(&fresh, &self.token).expect("to put a token in place");
    }

    /// Makes every token that it had worthless: the account goes, and comes again as another of the same name.
    pub fn revoke(&self) {
        let target = format!("/api/v1/namespaces/{}/serviceaccounts/{}", self.namespace, self.name);
        self.server.send("DELETE", &target, &Value::Null);
        self.make();
    }

    fn make(&self) {
        let target = format!("/api/v1/namespaces/{}/serviceaccounts", self.namespace);
        self.server.send("POST", &target, &json!({ "metadata": { "name": self.name } }));
    }
}

/// The way by which an agent is started ([`crate::agent::Agent::start_by`]) that shall ask an API server.
pub fn with(kubeconfig: &Path) -> Vec<String> {
    vec!["env".to_owned(), format!("KUBECONFIG={}", kubeconfig.display())]
}

fn path(pod: &Pod) -> String {
    format!("/api/v1/namespaces/{}/pods/{}", pod.namespace, pod.name)
}

fn next_number() -> u32 {
    static MADE: AtomicU32 = AtomicU32::new(1);
    MADE.fetch_add(1, Ordering::Relaxed)
}

/// Puts `from` over `into`, object by object.
fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

fn spawn(home: &Path, flags: &[String], port: u16) -> State {
    let log = OpenOptions::new().create(true).append(true).open(home.join("log"));
    let child = Command::new(build())
        .args(["-home", &home.display().to_string(), "-port", &port.to_string()])
        .args(flags)
        .stdin(Stdio::piped())
        .stdout(File::create(home.join("stdout")).expect("a file in the server's folder"))
        .stderr(log.expect("a file in the server's folder"))
        .spawn();
    let mut child = child.expect("to start the API server");
    let (address, door) = eventually(TIME_TO_START, "the API server to start", || {
        if let Some(status) = child.try_wait().expect("to ask after the server") {
            panic!("the API server ended with {status}:\n{}", tail(&home.join("log")));
        }
        let said = fs::read_to_string(home.join("stdout")).unwrap_or_default();
        let mut words =
            said.lines().find(|line| line.starts_with("ready ")).unwrap_or_default().split(' ').skip(1);
        let mut address = |scheme: &str| words.next()?.strip_prefix(scheme)?.parse::<SocketAddr>().ok();
        let found = address("https://").zip(address("http://")).filter(|_| said.ends_with('\n'));
        found.ok_or_else(|| tail(&home.join("log")))
    });
    State { child, address, door }
}

fn build() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("servers/kubernetes/build");
        let output = Command::new(&script).stderr(Stdio::inherit()).output();
        let output = output.unwrap_or_else(|error| panic!("cannot run {}: {error}", script.display()));
        assert!(output.status.success(), "the API server could not be built; what is missing is said above");
        String::from_utf8_lossy(&output.stdout).trim_end().into()
    })
}

fn tail(file: &Path) -> String {
    let text = fs::read_to_string(file).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

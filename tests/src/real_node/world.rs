//! The node with the agent on it, OpenSearch beside it, and what the pods' programs have written.
//!
//! What comes in: a configuration beyond that of the tests, and writers. What goes out: what was delivered, and the table of
//! scenarios. One world at a time: there is one node on a machine, with one agent.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::net::SocketAddr;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::counted::{Counted, Difference};
use super::witness::Witness;
use super::{RealNode, TIME};
use crate::manifests::{root, shipped};
use crate::server::{Kind, Server};
use crate::space::Space;
use crate::verify::{Document, read_ndjson};
use crate::{eventually, seconds};

/// The agent's namespace.
pub const AGENT: &str = "taffrail";

/// Namespaces with this beginning are delivered into files on the node: OpenSearch takes a thousand documents a second here.
pub const MANY: &str = "many-";

/// How the agent's command line begins.
pub const COMMAND: &str = "/taffrail run";

/// However full this machine's disk is otherwise.
const RETAIN: &str = "[retain]\nmin_free = \"1%\"\nmin_free_inodes = \"1%\"\n";

/// What the agent is told beyond what all scenarios need.
#[derive(Debug, Default, Clone)]
pub struct Settings {
    /// Tables, such as outputs; routes of theirs come before those of the tests.
    pub tables: String,
    /// Environment variables.
    pub environment: Vec<(&'static str, String)>,
    /// Where it finds OpenSearch, if not at the server itself.
    pub way: Option<SocketAddr>,
}

/// The node, with the agent on it.
pub struct World {
    /// The node.
    pub node: RealNode,
    space: Space<'static>,
    settings: Settings,
    overlay: PathBuf,
    /// Tells this run's namespaces from those of the one before, which may still be going.
    run: String,
}

/// A namespace. Its pods go with the value, unless its test has failed: so one can look at what did.
pub struct Namespace<'w> {
    node: &'w RealNode,
    name: String,
}

impl Deref for Namespace<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.name
    }
}

impl Drop for Namespace<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = self.node.try_kubectl(&["delete", "--wait=false", "namespace", &self.name]);
        }
    }
}

impl World {
    /// Brings up the node, with what `settings` makes of it and OpenSearch, and the agent on it. Its image is env
    /// `TAFFRAIL_IMAGE`, an OCI layout in a tar, else one that is built as the tests are.
    ///
    /// # Panics
    /// When one of them cannot be had: with what was said.
    pub fn new(settings: impl FnOnce(&RealNode, SocketAddr) -> Settings) -> World {
        let node = RealNode::up();
        // What an earlier run left: another server's address, and namespaces.
        for namespace in
            node.kubectl(&["get", "namespaces", "-l", "taffrail.tests=yes", "-o", "name"]).lines()
        {
            node.kubectl(&["delete", "--wait=false", namespace]);
        }
        node.import(&image());
        let space = Server::shared(Kind::OpenSearch).space().takes_data_streams();
        let overlay = target().join("node-overlay");
        fs::create_dir_all(&overlay).expect("a folder");
        let run = std::iter::repeat_with(fastrand::lowercase).take(5).collect();
        let settings = settings(&node, space.server.address());
        let world = World { node, space, settings, overlay, run };
        world.configure("");
        world.node.rolled_out(AGENT, "daemonset/taffrail");
        world
    }

    /// Applies the shipped overlay with the tests' destinations, and something more at the top of the configuration.
    ///
    /// # Panics
    /// When it is refused.
    pub fn configure(&self, more: &str) {
        apply_agent(&self.node, &self.overlay, &self.configuration(more), &self.settings.environment);
    }

    /// Changes the ConfigMap that the agent's pod has, in place: it is read again once kubelet has brought it.
    ///
    /// # Errors
    /// What kubectl said when it failed.
    pub fn reconfigure(&self, more: &str) -> Result<(), String> {
        let path = "jsonpath={.spec.template.spec.volumes[?(@.name==\"config\")].configMap.name}";
        let name = self.node.try_kubectl(&["-n", AGENT, "get", "daemonset", "taffrail", "-o", path])?;
        let data = json!({ "data": { "taffrail.toml": self.configuration(more) } }).to_string();
        self.node
            .try_kubectl(&["-n", AGENT, "patch", "configmap", &name, "--type=merge", "-p", &data])
            .map(drop)
    }

    fn configuration(&self, more: &str) -> String {
        let address = self.node.reaches(self.settings.way.unwrap_or(self.space.server.address()));
        let prefix = &self.space.prefix;
        let tables = &self.settings.tables;
        format!(
            "cluster = \"tests\"\n{more}\n{tables}\n{RETAIN}\
             [outputs.search]\ntype = \"elasticsearch\"\nendpoints = [\"http://{address}\"]\n\
             data_stream = \"{prefix}-{{namespace}}\"\nlinger = \"200ms\"\n\
             [outputs.local]\ntype = \"file\"\npath = \"/var/log/taffrail-out/{{namespace}}/out.ndjson\"\nlinger = \"200ms\"\n\
             [[routes]]\nmatch = {{ namespace = [\"{MANY}*\", \"{AGENT}\", \"kube-*\"] }}\noutputs = [\"local\"]\n\
             [[routes]]\noutputs = [\"search\"]\n"
        )
    }

    /// A namespace of its own, called so with an ending of this run's. At the latest it goes when the next run begins.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn namespace(&self, name: &str) -> Namespace<'_> {
        let name = format!("{name}-{}", self.run);
        self.node.namespace(&name);
        self.node.kubectl(&["label", "namespace", &name, "taffrail.tests=yes"]);
        Namespace { node: &self.node, name }
    }

    /// The name of the agent's pod that is Ready.
    ///
    /// # Panics
    /// When none is in time.
    pub fn agent(&self) -> String {
        eventually(TIME, "the agent to be Ready", || {
            let pods = self.node.pods(AGENT);
            let ready = pods.iter().find(|pod| {
                let conditions = pod["status"]["conditions"].as_array().map_or(&[][..], Vec::as_slice);
                pod["metadata"]["deletionTimestamp"].is_null()
                    && conditions.iter().any(|is| is["type"] == "Ready" && is["status"] == "True")
            });
            let name = ready.and_then(|pod| pod["metadata"]["name"].as_str());
            name.map(str::to_owned).ok_or_else(|| format!("{} pods, none Ready", pods.len()))
        })
    }

    /// The agent's process, by the machine's own number.
    ///
    /// # Panics
    /// When there is not one in time.
    pub fn process(&self) -> u32 {
        eventually(TIME, "one agent", || match self.node.processes(COMMAND)[..] {
            [agent] => Ok(agent),
            ref found => Err(format!("{} are there", found.len())),
        })
    }

    /// What was delivered of a namespace.
    ///
    /// # Errors
    /// When the server does not answer.
    pub fn delivered(&self, namespace: &str) -> Result<Vec<Document>, String> {
        if namespace.starts_with(MANY) {
            return read_ndjson(&self.files(namespace));
        }
        let mut found = Vec::new();
        self.space.each(of(namespace), |document| found.push(document))?;
        Ok(found)
    }

    /// How many documents there are of a namespace: quicker than to have them all.
    fn count(&self, namespace: &str) -> Result<u64, String> {
        if !namespace.starts_with(MANY) {
            self.space.refresh()?;
            return self.space.try_count(of(namespace));
        }
        let files = fs::read_dir(self.files(namespace)).into_iter().flatten().flatten();
        let lines = files.map(|file| {
            let bytes = fs::read(file.path()).unwrap_or_default();
            bytes.iter().filter(|byte| **byte == b'\n').count() as u64
        });
        Ok(lines.sum())
    }

    fn files(&self, namespace: &str) -> PathBuf {
        self.node.logs().join("taffrail-out").join(namespace)
    }

    /// Waits until all that these writers wrote was delivered exactly once: `(name, lines, lives)` each, each life with all of
    /// the lines. Notes it in the table of scenarios.
    ///
    /// # Panics
    /// When it was not, in time.
    #[track_caller]
    pub fn exactly_once(&self, scenario: &str, namespace: &str, writers: &[(&str, u64, usize)]) {
        let written: u64 = writers.iter().map(|(_, lines, lives)| lines * *lives as u64).sum();
        let counted = eventually(seconds(180), &format!("{written} lines of {namespace}"), || {
            let count = self.count(namespace)?;
            if count < written {
                return Err(format!("{count} are there"));
            }
            let counted = Counted::of(&self.delivered(namespace)?);
            let complete = writers.iter().all(|(name, lines, lives)| {
                let whole = counted.of_writer(name).filter(|numbers| numbers.len() as u64 == *lines).count();
                whole == *lives && counted.of_writer(name).count() == *lives
            });
            if complete { Ok(counted) } else { Err(counted.to_string()) }
        });
        note(scenario, written, counted.lines(), counted.doubled());
        assert_eq!(counted.doubled(), 0, "{scenario}");
    }

    /// Waits until all lines that were ever in a log file of these namespaces were delivered, and each once. Whoever wrote
    /// them is to have ended. Notes it in the table of scenarios.
    ///
    /// # Panics
    /// When they were not, in time.
    #[track_caller]
    pub fn as_witnessed(&self, scenario: &str, namespaces: &[&str], witness: &Witness) {
        let found = eventually(seconds(180), scenario, || {
            let found = self.compares(namespaces, witness)?;
            if found.missing == 0 && found.written > 0 { Ok(found) } else { Err(format!("{found:?}")) }
        });
        note(scenario, found.written, found.delivered, found.doubled);
        assert_eq!((found.doubled, found.invented), (0, 0), "{scenario}");
    }

    /// What was delivered of these namespaces against what a witness has seen.
    ///
    /// # Errors
    /// When the server does not answer, or does not yet have as many documents as there are lines.
    pub fn compares(&self, namespaces: &[&str], witness: &Witness) -> Result<Difference, String> {
        let written = witness.seen();
        let mut count = 0;
        for namespace in namespaces {
            count += self.count(namespace)?;
        }
        if count < written.lines() {
            return Err(format!("{count} documents of {} lines", written.lines()));
        }
        self.differs(namespaces, &written)
    }

    /// What was delivered of these namespaces against what was written.
    ///
    /// # Errors
    /// When the server does not answer.
    pub fn differs(&self, namespaces: &[&str], written: &Counted) -> Result<Difference, String> {
        let mut delivered = Counted::default();
        for namespace in namespaces {
            if namespace.starts_with(MANY) {
                let documents = read_ndjson(&self.files(namespace))?;
                documents.iter().for_each(|document| delivered.add(document.text("message")));
            } else {
                self.space.each(of(namespace), |document| delivered.add(document.text("message")))?;
            }
        }
        Ok(written.against(&delivered))
    }
}

/// The query for what is of a namespace.
fn of(namespace: &str) -> Value {
    json!({ "match_phrase": { "kubernetes.namespace": namespace } })
}

/// Applies the shipped overlay, made anew in a folder of one's own, with this configuration and environment.
///
/// # Panics
/// When it is refused.
pub fn apply_agent(node: &RealNode, overlay: &Path, config: &str, environment: &[(&'static str, String)]) {
    fs::write(overlay.join("taffrail.toml"), config).expect("to write the configuration");
    let environment = environment.iter().map(|(name, value)| json!({ "name": name, "value": value }));
    let container = json!({ "name": "taffrail", "env": environment.collect::<Vec<Value>>() });
    let patch = json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": { "name": "taffrail" },
        "spec": { "template": { "spec": { "containers": [container] } } },
    });
    let made = json!({
        "resources": [shipped(overlay, "overlays/elasticsearch")], "namespace": AGENT,
        "patches": [{ "patch": patch.to_string() }],
        "configMapGenerator": [{ "name": "taffrail", "behavior": "replace", "files": ["taffrail.toml"] }],
    });
    fs::write(overlay.join("kustomization.yaml"), made.to_string()).expect("to write the overlay");
    node.kubectl(&["apply", "-k", &overlay.to_string_lossy()]);
}

/// The agent's image: env `TAFFRAIL_IMAGE`, else one that is built as the tests are.
///
/// # Panics
/// When it cannot be built.
pub fn image() -> PathBuf {
    if let Some(given) = std::env::var_os("TAFFRAIL_IMAGE") {
        return given.into();
    }
    let built = Command::new(root().join("manifests/image/build")).arg("--debug").output();
    let built = built.expect("to run manifests/image/build (Debian: python3)");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    String::from_utf8_lossy(&built.stdout).trim().into()
}

/// Where cargo has its tests write.
fn target() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    target.unwrap_or_else(|| root().join("target")).join("tmp")
}

/// Adds a line to the table of scenarios, which `tests/run` prints.
///
/// # Panics
/// When it cannot be written.
pub fn note(scenario: &str, written: u64, delivered: u64, doubled: u64) {
    fs::create_dir_all(target()).expect("a folder");
    let table = OpenOptions::new().create(true).append(true).open(target().join("node.table"));
    let line = format!("| {scenario} | {written} | {delivered} | {doubled} |");
    writeln!(table.expect("the table"), "{line}").expect("to write the table");
}

/// Kills a process as the kernel does where memory runs out; whether it was still there.
///
/// # Panics
/// When there is no `kill` here.
pub fn kill9(process: u32) -> bool {
    Command::new("kill").args(["-KILL", &process.to_string()]).status().expect("kill").success()
}

/// A folder in which pods see what a test puts there.
///
/// # Panics
/// When it cannot be made.
pub fn folder(name: &str) -> PathBuf {
    let folder = Path::new(&target()).join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("a folder");
    folder.canonicalize().expect("a real path")
}

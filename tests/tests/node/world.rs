//! The node with the agent on it, OpenSearch beside it, and what the pods' programs have written.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use serde_json::{Value, json};
use taffrail_tests::manifests::{root, shipped};
use taffrail_tests::real_node::RealNode;
use taffrail_tests::server::{Kind, Server};
use taffrail_tests::space::Space;
use taffrail_tests::verify::{Document, read_ndjson};
use taffrail_tests::{eventually, seconds};

/// The agent's namespace.
pub const AGENT: &str = "taffrail";

/// Namespaces with this beginning are delivered into a file on the node: OpenSearch takes a thousand documents a second here.
pub const MANY: &str = "many-";

/// The node, with the agent on it.
pub struct World {
    pub node: RealNode,
    space: Space<'static>,
    overlay: PathBuf,
    /// Tells this run's namespaces from those of the one before, which may still be going.
    run: String,
}

/// The one world of all tests, to one at a time: they stop parts of it.
pub fn world() -> MutexGuard<'static, World> {
    static WORLD: OnceLock<Mutex<World>> = OnceLock::new();
    let world = WORLD.get_or_init(|| Mutex::new(World::new()));
    // A test that failed leaves it as the others find it.
    world.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    fn new() -> World {
        let node = RealNode::up();
        // What an earlier run left: another server's address, and namespaces.
        for namespace in
            node.kubectl(&["get", "namespaces", "-l", "taffrail.tests=yes", "-o", "name"]).lines()
        {
            node.kubectl(&["delete", "--wait=false", namespace]);
        }
        let built = Command::new(root().join("manifests/image/build")).arg("--debug").output();
        let built = built.expect("to run manifests/image/build (Debian: python3)");
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        node.import(Path::new(String::from_utf8_lossy(&built.stdout).trim()));
        let space = Server::shared(Kind::OpenSearch).space().takes_data_streams();
        let overlay = target().join("node-overlay");
        fs::create_dir_all(&overlay).expect("a folder");
        let run = std::iter::repeat_with(fastrand::lowercase).take(5).collect();
        let world = World { node, space, overlay, run };
        world.configure("");
        world.node.rolled_out(AGENT, "daemonset/taffrail");
        world
    }

    /// Applies the shipped overlay with the tests' destinations, and something more in the configuration.
    pub fn configure(&self, more: &str) {
        let address = self.node.reaches(self.space.server.address());
        let prefix = &self.space.prefix;
        let config = format!(
            "cluster = \"tests\"\n{more}\n\
             [outputs.search]\ntype = \"elasticsearch\"\nendpoints = [\"http://{address}\"]\n\
             data_stream = \"{prefix}-{{namespace}}\"\nlinger = \"200ms\"\n\
             [outputs.local]\ntype = \"file\"\npath = \"/var/log/taffrail-out/{{namespace}}.ndjson\"\nlinger = \"200ms\"\n\
             [[routes]]\nmatch = {{ namespace = \"{MANY}*\" }}\noutputs = [\"local\"]\n\
             [[routes]]\nmatch = {{ namespace = [\"{AGENT}\", \"kube-*\"] }}\noutputs = [\"local\"]\n\
             [[routes]]\noutputs = [\"search\"]\n"
        );
        fs::write(self.overlay.join("taffrail.toml"), config).expect("to write the configuration");
        let shipped = shipped(&self.overlay, "overlays/elasticsearch");
        let overlay = json!({
            "resources": [shipped], "namespace": AGENT,
            "configMapGenerator": [{ "name": "taffrail", "behavior": "replace", "files": ["taffrail.toml"] }],
        });
        fs::write(self.overlay.join("kustomization.yaml"), overlay.to_string())
            .expect("to write the overlay");
        self.node.kubectl(&["apply", "-k", &self.overlay.to_string_lossy()]);
    }

    /// A namespace of its own for a test, called so with an ending of this run's. It goes when the next run begins, so that
    /// one can look at what failed.
    pub fn namespace(&self, name: &str) -> String {
        let name = format!("{name}-{}", self.run);
        self.node.namespace(&name);
        self.node.kubectl(&["label", "namespace", &name, "taffrail.tests=yes"]);
        name
    }

    /// The name of the agent's pod that is Ready.
    pub fn agent(&self) -> String {
        eventually(seconds(120), "the agent to be Ready", || {
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

    /// What was delivered of a namespace.
    pub fn delivered(&self, namespace: &str) -> Result<Vec<Document>, String> {
        if namespace.starts_with(MANY) {
            let all = read_ndjson(&self.node.logs().join("taffrail-out"))?;
            return Ok(all.into_iter().filter(|document| is_of(document, namespace)).collect());
        }
        let mut found = Vec::new();
        let query = json!({ "match_phrase": { "kubernetes.namespace": namespace } });
        self.space.each(query, |document| found.push(document))?;
        Ok(found)
    }

    /// Waits until all that these writers wrote was delivered exactly once: `(name, lines, runs)` each, a run being one life
    /// of a container, with all of the lines. Notes it in the table of scenarios.
    #[track_caller]
    pub fn exactly_once(&self, scenario: &str, namespace: &str, writers: &[(&str, u64, usize)]) {
        let written: u64 = writers.iter().map(|(_, lines, runs)| lines * *runs as u64).sum();
        let mut doubled = 0;
        let delivered = eventually(seconds(180), &format!("{written} lines of {namespace}"), || {
            let counted = Counted::of(&self.delivered(namespace)?);
            doubled = counted.doubled;
            let complete = writers.iter().all(|(name, lines, runs)| {
                let runs_of = counted.runs.iter().filter(|((writer, _), _)| writer == name);
                let whole = runs_of.clone().filter(|(_, numbers)| numbers.len() as u64 == *lines);
                whole.count() == *runs && runs_of.count() == *runs
            });
            let delivered = counted.runs.values().map(|numbers| numbers.len() as u64).sum::<u64>();
            if complete { Ok(delivered) } else { Err(counted.to_string()) }
        });
        assert_eq!(doubled, 0, "{scenario}");
        note(&format!("| {scenario} | {written} | {delivered} | {doubled} |"));
    }
}

/// How often each line of each run of each writer is there.
#[derive(Default)]
struct Counted {
    /// By the writer's name and the log file: its key, which an `_id` begins with, or the container's id in a file.
    runs: BTreeMap<(String, String), BTreeMap<u64, u32>>,
    doubled: u64,
}

impl Counted {
    fn of(documents: &[Document]) -> Counted {
        let mut counted = Counted::default();
        for document in documents {
            let message = document.message();
            let mut words = message.split(' ');
            let (Some(writer), Some(Ok(number))) = (words.next(), words.next().map(str::parse)) else {
                continue;
            };
            let file = document.id.split_once('-').map_or(document.text("container.id"), |(key, _)| key);
            let run = (writer.to_owned(), file.to_owned());
            let times = counted.runs.entry(run).or_default().entry(number).or_default();
            *times += 1;
            counted.doubled += u64::from(*times > 1);
        }
        counted
    }
}

impl std::fmt::Display for Counted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for ((writer, file), numbers) in &self.runs {
            let (first, last) = (numbers.keys().next(), numbers.keys().next_back());
            write!(f, "{writer} in {file:.8}: {} lines of {first:?} to {last:?}; ", numbers.len())?;
        }
        write!(f, "{} doubled", self.doubled)
    }
}

fn is_of(document: &Document, namespace: &str) -> bool {
    document.text("kubernetes.namespace") == namespace
}

fn target() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
}

/// Adds a line to the table of scenarios, which `tests/run` prints.
fn note(line: &str) {
    let table = OpenOptions::new().create(true).append(true).open(target().join("node.table"));
    writeln!(table.expect("the table"), "{line}").expect("to write the table");
}

/// A pod's specification with one container that writes numbered lines; see `servers/node/play`. With a code it ends.
pub fn writes(name: &str, lines: u64, rate: u64, exit: Option<u8>) -> Value {
    let mut arguments = vec!["write".to_owned(), name.to_owned(), lines.to_string(), rate.to_string()];
    arguments.extend(exit.map(|code| code.to_string()));
    json!({
        "terminationGracePeriodSeconds": 1,
        "containers": [{ "name": "app", "image": "localhost/play:1", "args": arguments }],
    })
}

/// A workload of pods that are so.
pub fn workload(kind: &str, namespace: &str, name: &str, pod: Value) -> String {
    let labels = json!({ "app": name });
    let template = json!({ "metadata": { "labels": labels }, "spec": pod });
    let mut spec = json!({ "template": template });
    let group = if kind == "Job" { "batch/v1" } else { "apps/v1" };
    if kind != "Job" {
        spec["selector"] = json!({ "matchLabels": labels });
    }
    if kind == "StatefulSet" {
        spec["serviceName"] = json!(name);
    }
    json!({ "apiVersion": group, "kind": kind, "metadata": { "name": name, "namespace": namespace }, "spec": spec })
        .to_string()
}

//! A real OpenSearch node for the tests.
//!
//! What comes in: settings. What goes out: a server on loopback, a [`Space`] of its own for each test, and all documents
//! of that space. It is built once by `servers/opensearch/build` (which caches it) and ends with its test by whichever way:
//! it watches its standard input, which closes with us. It never touches a server that it did not start.

use crate::http::{self, Reply};
use crate::node::Node;
use crate::verify::Document;
use crate::{eventually, seconds};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// On an idle machine 3 s; beside a build of cargo's, more.
const TIME_TO_START: std::time::Duration = seconds(120);

/// How many documents a page of a search holds.
const PAGE: usize = 5_000;

/// A running OpenSearch node.
pub struct OpenSearch {
    address: SocketAddr,
    child: Child,
    home: PathBuf,
}

impl OpenSearch {
    /// The one server that all tests of this binary share. Started by whoever asks first.
    ///
    /// # Panics
    /// As [`OpenSearch::start`].
    pub fn shared() -> &'static OpenSearch {
        // A static is never dropped: the server ends when the process does, for its standard input closes then, and
        // takes its folder with it.
        static SHARED: OnceLock<OpenSearch> = OnceLock::new();
        SHARED.get_or_init(|| OpenSearch::start(&[]))
    }

    /// Starts a server with further settings, `name=value` each, and waits until it takes requests.
    ///
    /// # Panics
    /// When it cannot be built (no Java, no Maven, no network) or does not start: with what it said.
    pub fn start(settings: &[&str]) -> OpenSearch {
        let built = build();
        let home = tempfile::Builder::new()
            .prefix("taffrail-opensearch-")
            .tempdir()
            .expect("a temporary folder")
            .keep();
        let file = |name| File::create(home.join(name)).expect("a file in the server's folder");
        let mut child = Command::new("java")
            // The flags with which the class-data archive was made; see servers/opensearch/build.
            .args([
                "-XX:TieredStopAtLevel=1",
                "-XX:+UseSerialGC",
                "-Xmx512m",
                "-Dlog4j.shutdownHookEnabled=false",
            ])
            .arg(format!("-XX:SharedArchiveFile={}", built.join("classes.jsa").display()))
            .args([
                "-cp",
                &format!("{0}/node.jar:{0}/lib/*", built.display()),
                "taffrail.tests.OpenSearchNode",
            ])
            .arg(&home)
            .args(settings)
            .stdin(Stdio::piped())
            .stdout(file("stdout"))
            .stderr(file("log"))
            .spawn()
            .expect("to start java");
        let address = eventually(TIME_TO_START, "OpenSearch to start", || {
            if let Some(status) = child.try_wait().expect("to ask after the server") {
                panic!("OpenSearch ended with {status}:\n{}", tail(&home.join("log")));
            }
            let said = fs::read_to_string(home.join("stdout")).unwrap_or_default();
            let address = said.strip_prefix("ready http://").and_then(|rest| rest.split_once('\n'));
            let (address, _) = address.ok_or_else(|| tail(&home.join("log")))?;
            address.parse::<SocketAddr>().map_err(|error| format!("{address}: {error}"))
        });
        let server = OpenSearch { address, child, home };
        eventually(TIME_TO_START, "OpenSearch to be healthy", || {
            let reply = server.try_send("GET", "/_cluster/health?wait_for_status=yellow&timeout=10s", "")?;
            if reply.status == 200 { Ok(()) } else { Err(format!("status {}", reply.status)) }
        });
        server
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its log so far: what a real Java program writes.
    pub fn log(&self) -> String {
        fs::read_to_string(self.home.join("log")).unwrap_or_default()
    }

    /// Sends a request and gives its JSON.
    ///
    /// # Panics
    /// When the server cannot be reached or the status is 300 or more.
    #[track_caller]
    pub fn send(&self, method: &str, target: &str, body: &Value) -> Value {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let reply = self.try_send(method, target, &body).unwrap_or_else(|error| panic!("{error}"));
        let text = String::from_utf8_lossy(&reply.body);
        assert!(reply.status < 300, "{method} {target}: {} {text}", reply.status);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{method} {target}: {error}: {text}"))
    }

    fn try_send(&self, method: &str, target: &str, body: &str) -> Result<Reply, String> {
        http::send(self.address, method, target, body.as_bytes())
            .map_err(|error| format!("{method} {target}: {error}"))
    }

    /// A space of index names for one test: nothing is in it, and nothing of it stays.
    pub fn space(&self) -> Space<'_> {
        static SPACES: AtomicU32 = AtomicU32::new(1);
        Space { server: self, prefix: format!("t{}", SPACES.fetch_add(1, Ordering::Relaxed)) }
    }
}

impl Drop for OpenSearch {
    fn drop(&mut self) {
        // Killed, not asked: its data is worth nothing, and a test should not wait for its farewell.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.home);
    }
}

/// The names `<prefix>-…` of one test.
pub struct Space<'s> {
    /// The server that it is on.
    pub server: &'s OpenSearch,
    /// What all names of the test begin with, before a hyphen.
    pub prefix: String,
}

impl Space<'_> {
    /// Puts the index template for dated indices: `@timestamp` in nanoseconds, `app` and labels as one flat field each.
    pub fn takes_indices(self) -> Self {
        self.put_template(json!({}), json!({"app": {"type": "flat_object"}}))
    }

    /// Puts the same template for data streams.
    pub fn takes_data_streams(self) -> Self {
        self.put_template(json!({"data_stream": {}}), json!({"app": {"type": "flat_object"}}))
    }

    /// Puts a template for dated indices in which `app` has these typed fields, so that a value of another type is
    /// refused with 400.
    pub fn takes_typed(self, app: Value) -> Self {
        self.put_template(json!({}), json!({"app": {"properties": app}}))
    }

    fn put_template(self, mut template: Value, app: Value) -> Self {
        let mut properties = json!({
            "@timestamp": {"type": "date_nanos"}, "message": {"type": "text"}, "stream": {"type": "keyword"},
        });
        merge(&mut properties, app);
        let rest = json!({
            "index_patterns": [format!("{}-*", self.prefix)], "priority": 300,
            "template": {
                "settings": {"number_of_shards": 1, "number_of_replicas": 0},
                "mappings": {"properties": properties},
            },
        });
        merge(&mut template, rest);
        self.server.send("PUT", &format!("/_index_template/{}", self.prefix), &template);
        self
    }

    /// A configuration that sends to indices `<prefix>-{date}` of this server; see [`Space::config_at`].
    pub fn dated(&self, node: &Node) -> String {
        self.config_at(node, self.server.address, "index", "{date}")
    }

    /// A configuration that sends to data streams `<prefix>-{namespace}` of this server.
    pub fn stream(&self, node: &Node) -> String {
        self.config_at(node, self.server.address, "data_stream", "{namespace}")
    }

    /// A configuration with one output, `search`, to `<prefix>-<name>` at an address: the server's or a proxy's. `kind` is
    /// `index` or `data_stream`. The output's table is last: keys may be added to its end.
    pub fn config_at(&self, node: &Node, address: SocketAddr, kind: &str, name: &str) -> String {
        node.config(&format!(
            "[outputs.search]\ntype = \"elasticsearch\"\nendpoints = [\"http://{address}\"]\n\
             {kind} = \"{}-{name}\"\nlinger = \"200ms\"",
            self.prefix
        ))
    }

    /// All documents of the space, refreshed before.
    ///
    /// # Errors
    /// When the server does not answer, or with an error.
    pub fn documents(&self) -> Result<Vec<Document>, String> {
        let get = |method: &str, target: &str, body: Value| {
            let reply = self.server.try_send(method, target, &body.to_string())?;
            let text = String::from_utf8_lossy(&reply.body);
            if reply.status >= 300 {
                return Err(format!("{method} {target}: {} {text}", reply.status));
            }
            serde_json::from_str::<Value>(&text).map_err(|error| format!("{method} {target}: {error}"))
        };
        get("POST", &format!("/{}-*/_refresh", self.prefix), json!({}))?;
        let mut documents = Vec::new();
        let query = json!({"size": PAGE, "sort": ["_doc"]});
        let mut page = get("POST", &format!("/{}-*/_search?scroll=1m", self.prefix), query)?;
        loop {
            let hits = page["hits"]["hits"].as_array_mut().map(std::mem::take).unwrap_or_default();
            let full = hits.len() == PAGE;
            documents.extend(hits.into_iter().map(|mut hit| Document {
                id: hit["_id"].as_str().unwrap_or_default().to_owned(),
                index: hit["_index"].as_str().unwrap_or_default().to_owned(),
                source: hit["_source"].take(),
            }));
            let scroll = page["_scroll_id"].take();
            if !full {
                // Tests poll, and a server keeps at most 500 searches open. Without any index there is none to close.
                if !scroll.is_null() {
                    get("DELETE", "/_search/scroll", json!({"scroll_id": [scroll]}))?;
                }
                return Ok(documents);
            }
            page = get("POST", "/_search/scroll", json!({"scroll": "1m", "scroll_id": scroll}))?;
        }
    }
}

impl Drop for Space<'_> {
    fn drop(&mut self) {
        // What cannot be deleted goes with the server.
        let prefix = &self.prefix;
        for target in [
            format!("/_data_stream/{prefix}-*"),
            format!("/{prefix}-*"),
            format!("/_index_template/{prefix}"),
        ] {
            let _ = self.server.try_send("DELETE", &target, "");
        }
    }
}

fn merge(into: &mut Value, from: Value) {
    if let (Value::Object(into), Value::Object(from)) = (into, from) {
        into.extend(from);
    }
}

fn build() -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("servers/opensearch/build");
    let output = Command::new(&script).stderr(Stdio::inherit()).output();
    let output = output.unwrap_or_else(|error| panic!("cannot run {}: {error}", script.display()));
    assert!(output.status.success(), "OpenSearch could not be built; what is missing is said above");
    String::from_utf8_lossy(&output.stdout).trim_end().into()
}

/// What Maven wrote when it built the server: what a real build tool writes. `None` if the server was never built.
pub fn maven_log() -> Option<String> {
    fs::read_to_string(build().join("build.log")).ok()
}

fn tail(file: &Path) -> String {
    let text = fs::read_to_string(file).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}

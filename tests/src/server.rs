//! Real search servers for the tests: OpenSearch and Elasticsearch, one type for all of them.
//!
//! What comes in: a kind and settings. What goes out: a server on loopback, and a [`Space`] of its own for each test. A
//! kind is built once by `servers/build` (which caches it), and a server ends with its test by whichever way: it watches
//! its standard input, which closes with us. It never touches a server that it did not start.

use crate::http::{self, Reply};
use crate::space::Space;
use crate::{eventually, seconds};
use serde_json::Value;
use std::fs::{self, File, OpenOptions};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock};

/// On an idle machine 3 s; beside a build of cargo's, more.
const TIME_TO_START: std::time::Duration = seconds(120);

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// OpenSearch 2.19.
    OpenSearch,
    /// Elasticsearch 7.17: data streams, but not the API `_data_stream`.
    Elasticsearch7,
    /// Elasticsearch 8.19: neither that API nor `GET /`.
    Elasticsearch8,
}

impl Kind {
    /// Its name: of its folder under `servers/`, and for people.
    pub fn name(self) -> &'static str {
        match self {
            Kind::OpenSearch => "opensearch",
            Kind::Elasticsearch7 => "elasticsearch7",
            Kind::Elasticsearch8 => "elasticsearch8",
        }
    }

    /// What it calls the field type that holds an object of any shape as one field.
    pub fn flat_type(self) -> &'static str {
        match self {
            Kind::OpenSearch => "flat_object",
            Kind::Elasticsearch7 | Kind::Elasticsearch8 => "flattened",
        }
    }
}

/// A running server of one node.
pub struct Server {
    kind: Kind,
    address: SocketAddr,
    child: Mutex<Child>,
    home: PathBuf,
    settings: Vec<String>,
}

impl Server {
    /// The one server of its kind that all tests of this binary share. Started by whoever asks first.
    ///
    /// # Panics
    /// As [`Server::start`].
    pub fn shared(kind: Kind) -> &'static Server {
        // A static is never dropped: the server ends when the process does, for its standard input closes then, and
        // takes its folder with it.
        static SHARED: [OnceLock<Server>; 3] = [const { OnceLock::new() }; 3];
        SHARED[kind as usize].get_or_init(|| Server::start(kind, &[]))
    }

    /// Starts a server with further settings, `name=value` each, and waits until it takes requests.
    ///
    /// # Panics
    /// When it cannot be built (no Java, no Maven, no network) or does not start: with what it said.
    pub fn start(kind: Kind, settings: &[&str]) -> Server {
        let home = tempfile::Builder::new()
            .prefix(&format!("taffrail-{}-", kind.name()))
            .tempdir()
            .expect("a temporary folder")
            .keep();
        let settings: Vec<String> = settings.iter().map(|&setting| setting.to_owned()).collect();
        let mut child = spawn(kind, &home, &settings);
        let address = wait_until_ready(kind, &mut child, &home);
        let server = Server { kind, address, child: Mutex::new(child), home, settings };
        server.wait_until_healthy();
        server
    }

    /// Ends it as a crash would, at once. What it had acknowledged stays on disk, for [`Server::returns`].
    ///
    /// # Panics
    /// When it had ended by itself before.
    pub fn kill9(&self) {
        let mut child = self.child.lock().expect("no thread panicked");
        let ended = child.try_wait().expect("to ask after the server");
        assert!(ended.is_none(), "{} had ended by itself before it was killed: {ended:?}", self.kind.name());
        child.kill().expect("to kill the server");
        child.wait().expect("to see the server end");
    }

    /// Starts it again after [`Server::kill9`]: at the same address, on the same data.
    ///
    /// # Panics
    /// When it does not start: with what it said.
    pub fn returns(&self) {
        let mut settings = self.settings.clone();
        settings.push(format!("http.port={}", self.address.port()));
        let mut child = spawn(self.kind, &self.home, &settings);
        wait_until_ready(self.kind, &mut child, &self.home);
        *self.child.lock().expect("no thread panicked") = child;
        self.wait_until_healthy();
    }

    /// Which server it is.
    pub fn kind(&self) -> Kind {
        self.kind
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

    /// Sends a request and gives whatever the server answers.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub fn try_send(&self, method: &str, target: &str, body: &str) -> Result<Reply, String> {
        http::send(self.address, method, target, body.as_bytes())
            .map_err(|error| format!("{method} {target}: {error}"))
    }

    /// A space of index names for one test: nothing is in it, and nothing of it is left to meet another's.
    pub fn space(&self) -> Space<'_> {
        Space::new(self)
    }

    fn wait_until_healthy(&self) {
        eventually(TIME_TO_START, &format!("{} to be healthy", self.kind.name()), || {
            let reply = self.try_send("GET", "/_cluster/health?wait_for_status=yellow&timeout=10s", "")?;
            if reply.status == 200 { Ok(()) } else { Err(format!("status {}", reply.status)) }
        });
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Killed, not asked: its data is worth nothing, and a test should not wait for its farewell.
        if let Ok(child) = self.child.get_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = fs::remove_dir_all(&self.home);
    }
}

fn spawn(kind: Kind, home: &Path, settings: &[String]) -> Child {
    let built = build(kind);
    let log = OpenOptions::new().create(true).append(true).open(home.join("log"));
    let child = Command::new("java")
        // The flags with which the class-data archive was made; see servers/build.
        .args([
            "-XX:TieredStopAtLevel=1",
            "-XX:+UseSerialGC",
            "-Xmx512m",
            "-Dlog4j.shutdownHookEnabled=false",
        ])
        .arg(format!("-XX:SharedArchiveFile={}", built.join("classes.jsa").display()))
        .args(["-cp", &format!("{0}/node.jar:{0}/lib/*", built.display()), "taffrail.tests.Main"])
        .arg(home)
        .args(settings)
        .stdin(Stdio::piped())
        .stdout(File::create(home.join("stdout")).expect("a file in the server's folder"))
        .stderr(log.expect("a file in the server's folder"))
        .spawn();
    child.expect("to start java")
}

fn wait_until_ready(kind: Kind, child: &mut Child, home: &Path) -> SocketAddr {
    eventually(TIME_TO_START, &format!("{} to start", kind.name()), || {
        if let Some(status) = child.try_wait().expect("to ask after the server") {
            panic!("{} ended with {status}:\n{}", kind.name(), tail(&home.join("log")));
        }
        let said = fs::read_to_string(home.join("stdout")).unwrap_or_default();
        // Not always the first line: a server may say something of its own before.
        let address = said.lines().find_map(|line| line.strip_prefix("ready http://"));
        let address = address.filter(|_| said.ends_with('\n')).ok_or_else(|| tail(&home.join("log")))?;
        address.parse::<SocketAddr>().map_err(|error| format!("{address}: {error}"))
    })
}

fn build(kind: Kind) -> &'static Path {
    static BUILT: [OnceLock<PathBuf>; 3] = [const { OnceLock::new() }; 3];
    BUILT[kind as usize].get_or_init(|| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("servers/build");
        let output = Command::new(&script).arg(kind.name()).stderr(Stdio::inherit()).output();
        let output = output.unwrap_or_else(|error| panic!("cannot run {}: {error}", script.display()));
        assert!(output.status.success(), "{} could not be built; what is missing is said above", kind.name());
        String::from_utf8_lossy(&output.stdout).trim_end().into()
    })
}

/// What Maven wrote when it built OpenSearch: what a real build tool writes. `None` if there is nothing of it.
pub fn maven_log() -> Option<String> {
    fs::read_to_string(build(Kind::OpenSearch).join("build.log")).ok()
}

fn tail(file: &Path) -> String {
    let text = fs::read_to_string(file).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}

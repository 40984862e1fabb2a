//! Log lines that real programs wrote, gathered on the machine where the tests run.
//!
//! What comes in: whatever this machine has. What goes out: lines by program, and the names of the programs of which there
//! are none here and why. It never downloads (`tests/run` installs what may be missing) and writes only to a temporary
//! folder.

use crate::http;
use crate::server::{self, Server};
use crate::{eventually, seconds};
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// At most so many lines of one program: a machine's package log has tens of thousands that are all alike.
const LINES: usize = 400;

/// One program's lines.
pub struct Source {
    /// The program, fit for a pod's name.
    pub name: &'static str,
    /// Its lines without newlines; never empty, and none of them empty.
    pub lines: Vec<String>,
}

/// What was found, and what was not.
pub struct Corpus {
    /// The programs with lines.
    pub sources: Vec<Source>,
    /// `program: why there is nothing of it`.
    pub absent: Vec<String>,
}

/// Gathers what there is. OpenSearch and Maven are always there; the rest depends on the machine.
pub fn gather(opensearch: &Server) -> Corpus {
    let found: [(&'static str, Result<String, String>); 6] = [
        ("opensearch", Ok(opensearch.log())),
        ("maven", server::maven_log().ok_or_else(|| "no build.log".into())),
        ("dpkg", fs::read_to_string("/var/log/dpkg.log").map_err(|error| error.to_string())),
        ("kernel", output(&mut Command::new("dmesg"))),
        ("go", go()),
        ("nginx", nginx()),
    ];
    let mut corpus = Corpus { sources: Vec::new(), absent: Vec::new() };
    for (name, text) in found {
        let text = match text {
            Ok(text) => text,
            Err(why) => {
                corpus.absent.push(format!("{name}: {why}"));
                continue;
            }
        };
        let lines: Vec<String> =
            text.lines().filter(|line| !line.is_empty()).take(LINES).map(str::to_owned).collect();
        if lines.is_empty() {
            corpus.absent.push(format!("{name}: it has written nothing"));
        } else {
            corpus.sources.push(Source { name, lines });
        }
    }
    corpus
}

/// Stdout and stderr of a command, whatever its exit code.
fn output(command: &mut Command) -> Result<String, String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| error.to_string())?;
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8(text).map_err(|error| error.to_string())
}

/// The Go tool's version, its environment, and what it says of a program that is wrong.
fn go() -> Result<String, String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let wrong = "package main\n\nimport \"fmt\"\n\nfunc main() {\n\tfmt.Println(\"a\" \"b\")\n\tx := )\n}\n";
    fs::write(folder.path().join("main.go"), wrong).map_err(|error| error.to_string())?;
    let go = |arguments: &[&str]| {
        let mut command = Command::new("go");
        output(
            command.args(arguments).current_dir(folder.path()).env("GOTOOLCHAIN", "local").env("GOFLAGS", ""),
        )
    };
    Ok([go(&["version"])?, go(&["vet", "main.go"])?, go(&["build", "no/such/package"])?].concat())
}

/// nginx: env `TAFFRAIL_NGINX`, else one that is installed.
pub fn nginx_program() -> Option<PathBuf> {
    let given = std::env::var_os("TAFFRAIL_NGINX").map(PathBuf::from);
    let places = ["/usr/sbin/nginx", "/usr/local/sbin/nginx", "/usr/bin/nginx"].map(PathBuf::from);
    given.into_iter().chain(places).find(|path| path.exists())
}

/// Access and error log of an nginx that was asked for a few pages, there and not there.
fn nginx() -> Result<String, String> {
    let program = nginx_program().ok_or("not here (Debian: nginx)")?;
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    let port = port.map_err(|error| error.to_string())?.port();
    fs::write(folder.path().join("index.html"), "<p>hello</p>").map_err(|error| error.to_string())?;
    fs::write(folder.path().join("nginx.conf"), nginx_config(folder.path(), port))
        .map_err(|error| error.to_string())?;
    let mut child = Command::new(&program)
        .arg("-p")
        .arg(folder.path())
        .arg("-c")
        .arg(folder.path().join("nginx.conf"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| error.to_string())?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    eventually(seconds(20), "nginx to answer", || {
        http::send(address, "GET", "/", b"").map_err(|e| e.to_string())
    });
    for n in 0..40 {
        for target in [format!("/?page={n}&q=%22a%20b%22"), format!("/no/such/{n}"), "/index.html".into()] {
            // A refused page is a line of the log as well.
            let _ = http::send(address, "GET", &target, b"");
        }
    }
    // It runs as one process, so that this is all of it.
    child.kill().and_then(|()| child.wait()).map_err(|error| error.to_string())?;
    let read = |name| fs::read_to_string(folder.path().join(name)).unwrap_or_default();
    Ok(read("access.log") + &read("error.log"))
}

fn nginx_config(folder: &Path, port: u16) -> String {
    let folder = folder.display();
    format!(
        "daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/error.log info;\n\
         events {{}}\n\
         http {{ access_log {folder}/access.log; client_body_temp_path {folder}; proxy_temp_path {folder};\n\
         fastcgi_temp_path {folder}; uwsgi_temp_path {folder}; scgi_temp_path {folder};\n\
         server {{ listen 127.0.0.1:{port}; root {folder}; }} }}\n"
    )
}

//! A node's pod logs, written as containerd and kubelet write them.
//!
//! What comes in: what a test wants written, rotated, restarted or deleted. What goes out: files under `pods/` of a
//! temporary folder, and a record of every numbered line, so that [`crate::verify`] knows what must be delivered. It
//! never waits for the agent and never looks at what the agent does.

mod rotation;

pub use rotation::Packing;

use crate::clock;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Where containerd cuts a long line: every piece but the last is marked `P`.
pub const PIECE: usize = 16_384;

/// How many files of a container kubelet keeps by default, the one being written included.
const FILES_KEPT: usize = 5;

/// A node: a temporary folder with `pods/` (its logs), `state/` (the agent's) and room for what tests put there. It is
/// removed when the value goes.
pub struct Node {
    folder: TempDir,
    /// Its name, `n1` unless set.
    pub name: String,
}

impl Node {
    /// An empty node.
    ///
    /// # Panics
    /// When the temporary folder cannot be made.
    #[allow(clippy::new_without_default, reason = "making folders on disk is nobody's default")]
    pub fn new() -> Node {
        let folder = tempfile::Builder::new().prefix("taffrail-node-").tempdir().expect("a temporary folder");
        fs::create_dir(folder.path().join("pods")).expect("a folder for the pods' logs");
        Node { folder, name: "n1".into() }
    }

    /// The same node under another name.
    pub fn called(mut self, name: &str) -> Node {
        self.name = name.into();
        self
    }

    /// The node's folder; `node.path().join("out")` is where [`Node::to_file`] delivers to.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Keeps the folder for people to look at, and gives its path.
    pub fn keep(self) -> PathBuf {
        self.folder.keep()
    }

    /// The root of the pods' logs, `/var/log/pods` of a real node.
    pub fn pods(&self) -> PathBuf {
        self.path().join("pods")
    }

    /// The agent's state directory. The agent makes it.
    pub fn state(&self) -> PathBuf {
        self.path().join("state")
    }

    /// A new pod, in namespace `default`, with a uid of its own: a second call with the same name is a pod reborn.
    pub fn pod(&self, name: &str) -> Pod {
        let (a, b) = (fastrand::u64(..), fastrand::u64(..));
        let uid = format!(
            "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
            a >> 32,
            a >> 16 & 0xffff,
            a & 0xfff,
            b >> 48 & 0x3fff | 0x8000,
            b & 0xffff_ffff_ffff
        );
        Pod { root: self.pods(), namespace: "default".into(), name: name.into(), uid }
    }

    /// A configuration for this node: cluster `test`, its name, its folders, however full the disk may be, listening at free
    /// ports, then `rest`: further top-level keys first, then tables.
    pub fn config(&self, rest: &str) -> String {
        let retain = if rest.contains("[retain]") {
            ""
        } else {
            "retain.min_free = \"0%\"\nretain.min_free_inodes = \"0%\"\n"
        };
        let own = |key: &str| rest.lines().any(|line| line.starts_with(key));
        let free = ["listen", "metrics_listen"].into_iter().filter(|key| !own(key));
        let listen: String = free.map(|key| format!("{key} = \"127.0.0.1:0\"\n")).collect();
        format!(
            "cluster = \"test\"\nnode = \"{}\"\npod_logs = \"{}\"\nstate_dir = \"{}\"\n{listen}{retain}{rest}\n",
            self.name,
            self.pods().display(),
            self.state().display()
        )
    }

    /// A configuration that delivers to `out/{namespace}.ndjson`, to be read back with [`crate::verify::read_ndjson`].
    pub fn to_file(&self) -> String {
        let path = self.path().join("out/{namespace}.ndjson");
        self.config(&format!("[outputs.local]\ntype = \"file\"\npath = \"{}\"", path.display()))
    }

    /// The same, 10 MiB a second of each container.
    pub fn to_file_slowly(&self) -> String {
        let limit = "[outputs.local.rate_limit]\ncontainer = { bytes = \"10MiB\" }\nburst = \"1s\"\n";
        format!("{}{limit}", self.to_file())
    }

    /// All that the file output of [`Node::to_file`] holds now.
    ///
    /// # Errors
    /// When a finished line there is not JSON.
    pub fn delivered(&self) -> Result<Vec<crate::verify::Document>, String> {
        crate::verify::read_ndjson(&self.path().join("out"))
    }

    /// Writes nonsense over the agent's saved positions: over every file of its state directory whose name speaks of
    /// positions. Gives how many there were.
    ///
    /// # Panics
    /// When the state directory cannot be read or written.
    pub fn corrupt_positions(&self) -> usize {
        let mut folders = vec![self.state()];
        let mut corrupted = 0;
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).expect("the state directory") {
                let path = entry.expect("an entry of the state directory").path();
                if path.is_dir() {
                    folders.push(path);
                } else if path
                    .strip_prefix(self.state())
                    .is_ok_and(|name| name.to_string_lossy().contains("position"))
                {
                    fs::write(path, "\0\0 not what was saved {{{").expect("to corrupt a position file");
                    corrupted += 1;
                }
            }
        }
        corrupted
    }
}

/// A pod's identity. It is on disk only once it has a container.
#[derive(Clone)]
pub struct Pod {
    root: PathBuf,
    /// The namespace, `default` unless set.
    pub namespace: String,
    /// The pod's name.
    pub name: String,
    /// The uid, a random one.
    pub uid: String,
}

impl Pod {
    /// The same pod in another namespace.
    pub fn namespace(mut self, namespace: &str) -> Pod {
        self.namespace = namespace.into();
        self
    }

    /// The pod's folder, `<namespace>_<name>_<uid>`.
    pub fn folder(&self) -> PathBuf {
        self.root.join(format!("{}_{}_{}", self.namespace, self.name, self.uid))
    }

    /// Starts a container of this pod: its folder and an empty `0.log`.
    ///
    /// # Panics
    /// When the files cannot be made.
    pub fn container(&self, name: &str) -> Container {
        let folder = self.folder().join(name);
        fs::create_dir_all(&folder).expect("a folder for the container's logs");
        let file = create(&folder.join("0.log"));
        Container {
            pod: self.clone(),
            name: name.into(),
            folder,
            file,
            restart: 0,
            last_time: 0,
            last_suffix: 0,
            behind: 0,
            ahead: 0,
            files_kept: FILES_KEPT,
            written: Vec::new(),
        }
    }
}

/// A numbered line that was written: what [`crate::verify`] asks for again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Its number within the container, from 0.
    pub number: u64,
    /// The time that its CRI line begins with.
    pub time: String,
    /// What its document's `message` must be.
    pub message: String,
}

/// The writing side of one container: containerd, which writes, and kubelet, which rotates. All of it panics when the
/// disk refuses; a test has no better answer.
pub struct Container {
    /// The pod that it belongs to.
    pub pod: Pod,
    /// The container's name.
    pub name: String,
    /// Where its files are.
    pub folder: PathBuf,
    file: File,
    restart: u32,
    last_time: u64,
    last_suffix: u64,
    behind: u64,
    ahead: u64,
    files_kept: usize,
    pub(crate) written: Vec<Written>,
}

impl Container {
    /// How many files kubelet keeps of this container, the current one included (default 5).
    pub fn keeps(mut self, files: usize) -> Container {
        self.files_kept = files;
        self
    }

    /// Sets its clock so many nanoseconds behind ours, from the next line on, as far as its time does not go back by that.
    pub fn lives_behind(&mut self, nanos: u64) -> &mut Container {
        self.behind = nanos;
        self
    }

    /// Sets its clock so many seconds before or behind ours: its time may go back.
    pub fn clock_jumps(&mut self, seconds: i64) -> &mut Container {
        const SECOND: u64 = 1_000_000_000;
        let nanos = seconds.unsigned_abs() * SECOND;
        (self.ahead, self.behind) = if seconds < 0 { (0, nanos) } else { (nanos, 0) };
        self.last_time = 0;
        self
    }

    /// The time of its last line, in nanoseconds since 1970; 0 if there is none.
    pub fn last_time(&self) -> u64 {
        self.last_time
    }

    /// Every numbered line written so far.
    pub fn written(&self) -> &[Written] {
        &self.written
    }

    /// The file that is being written by name: `0.log`, after a restart `1.log`.
    pub fn current(&self) -> PathBuf {
        self.folder.join(format!("{}.log", self.restart))
    }

    /// Writes `n` numbered JSON lines to stdout: `{"n":17,"msg":"line 17 of web","level":"info"}`.
    pub fn writes(&mut self, n: u64) -> &mut Container {
        for _ in 0..n {
            let number = self.written.len() as u64;
            let message = format!("line {number} of {}", self.pod.name);
            let time = self.writes_line(&format!(r#"{{"n":{number},"msg":"{message}","level":"info"}}"#));
            self.written.push(Written { number, time, message });
        }
        self
    }

    /// Writes `n` numbered JSON lines to stdout, each with further members that `more` gives for its number:
    /// `{"n":17,"msg":"line 17 of web","level":"info","code":7}` for `"code":7`.
    pub fn writes_json(&mut self, n: u64, more: impl Fn(u64) -> String) -> &mut Container {
        for _ in 0..n {
            let number = self.written.len() as u64;
            let message = format!("line {number} of {}", self.pod.name);
            let more = more(number);
            let time =
                self.writes_line(&format!(r#"{{"n":{number},"msg":"{message}","level":"info",{more}}}"#));
            self.written.push(Written { number, time, message });
        }
        self
    }

    /// Writes `n` numbered plain lines to stdout: `line 17 of web`.
    pub fn writes_text(&mut self, n: u64) -> &mut Container {
        for _ in 0..n {
            let number = self.written.len() as u64;
            let message = format!("line {number} of {}", self.pod.name);
            let time = self.writes_line(&message);
            self.written.push(Written { number, time, message });
        }
        self
    }

    /// Writes one line to stdout, in pieces if it is long. Gives the time of its first piece.
    pub fn writes_line(&mut self, line: &str) -> String {
        self.writes_bytes("stdout", line.as_bytes())
    }

    /// Writes one line, without its newline, as containerd would: over 16,384 bytes cut into `P` pieces and an `F`.
    /// Gives the time of the first piece.
    pub fn writes_bytes(&mut self, stream: &str, line: &[u8]) -> String {
        let mut rest = line;
        let mut first = None;
        while rest.len() > PIECE {
            let (piece, after) = rest.split_at(PIECE);
            let time = self.writes_piece(stream, 'P', piece);
            first.get_or_insert(time);
            rest = after;
        }
        let time = self.writes_piece(stream, 'F', rest);
        first.unwrap_or(time)
    }

    /// Writes one line of the file: a piece with its time, stream and tag (`P`: more follows, `F`: the line is full).
    /// Gives its time, which is later than that of every earlier piece.
    pub fn writes_piece(&mut self, stream: &str, tag: char, piece: &[u8]) -> String {
        let time = self.next_time();
        let mut line = format!("{time} {stream} {tag} ").into_bytes();
        line.extend_from_slice(piece);
        line.push(b'\n');
        self.writes_raw(&line);
        time
    }

    /// Writes one line to stdout that lacks its newline: the last of a file whose writer was stopped short.
    pub fn writes_unended(&mut self, line: &str) -> &mut Container {
        let time = self.next_time();
        self.writes_raw(format!("{time} stdout F {line}").as_bytes())
    }

    /// A time later than all before. Of today, unless its clock is set otherwise: the agent leaves out what is old at its
    /// very first start.
    pub(crate) fn next_time(&mut self) -> String {
        self.last_time = (clock::now() - self.behind + self.ahead).max(self.last_time + 1);
        clock::rfc3339(self.last_time)
    }

    /// Writes bytes to the file as they are: what no runtime should write.
    pub fn writes_raw(&mut self, bytes: &[u8]) -> &mut Container {
        // In one call, as containerd does: a reader may still see the half of it.
        self.file.write_all(bytes).expect("to write a log line");
        self
    }

    /// Writes so many million bytes, quickly: lines like one another, which nobody counts.
    pub fn writes_megabytes(&mut self, n: u64) -> &mut Container {
        let time = self.next_time();
        let line = format!("{time} stdout F {}\n", "x".repeat(999 - " stdout F ".len() - time.len()));
        (0..n).for_each(|_| {
            self.writes_raw(line.repeat(1_000).as_bytes());
        });
        self
    }

    /// The container dies and is started again: it goes on in `1.log`, then `2.log`. Numbers go on too.
    pub fn restart(&mut self) -> &mut Container {
        self.restart += 1;
        self.reopen()
    }

    /// The pod is deleted: its whole folder goes. The writer's file stays open, as a runtime's may for a moment.
    pub fn delete(&self) {
        fs::remove_dir_all(self.pod.folder()).expect("to delete the pod's logs");
    }
}

fn create(path: &Path) -> File {
    let opened = OpenOptions::new().create(true).append(true).open(path);
    opened.unwrap_or_else(|error| panic!("cannot create {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{self, Read};

    pub(super) fn text(path: &Path) -> String {
        let mut text = String::new();
        let file = File::open(path).unwrap();
        match path.extension().unwrap().to_str().unwrap() {
            "gz" => flate2::read::GzDecoder::new(file).read_to_string(&mut text).unwrap(),
            _ => io::BufReader::new(file).read_to_string(&mut text).unwrap(),
        };
        text
    }

    pub(super) fn names(container: &Container) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(&container.folder)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn lines_have_a_growing_time_a_stream_and_a_tag() {
        let node = Node::new();
        let mut web = node.pod("web").namespace("shop").container("app");
        web.writes(2).writes_bytes("stderr", b"oh");
        let text = text(&web.current());
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.splitn(4, ' ').collect()).collect();
        assert_eq!(lines[0][1..], ["stdout", "F", r#"{"n":0,"msg":"line 0 of web","level":"info"}"#]);
        assert_eq!(lines[2][1..], ["stderr", "F", "oh"]);
        assert!(lines.is_sorted_by(|a, b| a[0] < b[0]), "{lines:?}");
        assert_eq!(web.written()[1].time, lines[1][0]);
        let folder = format!("shop_web_{}/app", web.pod.uid);
        assert!(web.current().ends_with(format!("{folder}/0.log")));
        assert_eq!(web.pod.uid.len(), 36);
    }

    #[test]
    fn a_long_line_is_cut_where_containerd_cuts_it() {
        let node = Node::new();
        for (length, pieces) in
            [(PIECE, vec![PIECE]), (PIECE + 1, vec![PIECE, 1]), (2 * PIECE, vec![PIECE, PIECE])]
        {
            let mut web = node.pod("web").container("app");
            web.writes_line(&"x".repeat(length));
            let text = text(&web.current());
            let written: Vec<(usize, bool)> = text
                .lines()
                .map(|line| line.splitn(4, ' ').collect::<Vec<_>>())
                .map(|fields| (fields[3].len(), fields[2] == "F"))
                .collect();
            let last = pieces.len() - 1;
            let wanted: Vec<(usize, bool)> =
                pieces.iter().enumerate().map(|(i, n)| (*n, i == last)).collect();
            assert_eq!(written, wanted, "of {length} bytes");
        }
    }

    #[test]
    fn a_restart_goes_on_in_the_next_file_and_a_deletion_takes_the_pod() {
        let node = Node::new();
        let mut web = node.pod("web").container("app");
        web.writes(1).restart().writes(1).rotate();
        assert_eq!(names(&web).len(), 3);
        assert!(web.current().ends_with("1.log"));
        assert_eq!(web.written().len(), 2);
        web.delete();
        assert_eq!(fs::read_dir(node.pods()).unwrap().count(), 0);
        web.writes(1);
        assert_ne!(node.pod("web").uid, web.pod.uid);
    }
}

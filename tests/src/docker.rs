//! A container's log, written as docker's `json-file` log driver writes it, and linked to as kubelet does.
//!
//! What comes in: what a test wants written or rotated. What goes out: `docker/<id>/<id>-json.log` in the node's folder,
//! a link to it among the pods' logs, and a record of every numbered line. It never waits for the agent.

use crate::node::{Container, Node, PIECE, Pod, Written};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

/// How many files docker keeps of a container (`max-file`), the one being written included.
const FILES_KEPT: usize = 3;

/// The writing side of one container under docker. All of it panics when the disk refuses.
pub struct Docker {
    container: Container,
    log: PathBuf,
    file: File,
}

impl Docker {
    /// The folder of docker's containers, which goes into `link_roots`.
    pub fn root(node: &Node) -> PathBuf {
        node.path().join("docker")
    }

    /// Starts a container of this pod: its empty log, and the link `0.log` to it.
    ///
    /// # Panics
    /// When the files cannot be made.
    pub fn start(node: &Node, pod: &Pod, name: &str) -> Docker {
        let id = format!("{:032x}{:032x}", fastrand::u128(..), fastrand::u128(..));
        let folder = Docker::root(node).join(&id);
        fs::create_dir_all(&folder).expect("a folder for docker's log");
        let log = folder.join(format!("{id}-json.log"));
        let file = File::create(&log).expect("docker's log");
        let container = pod.container(name);
        let link = container.folder.join("link");
        symlink(&log, &link).expect("a link to docker's log");
        fs::rename(&link, container.current()).expect("to name the link");
        Docker { container, log, file }
    }

    /// The container, for [`crate::verify`].
    pub fn container(&self) -> &Container {
        &self.container
    }

    /// Writes `n` numbered JSON lines to stdout, as [`Container::writes`] does.
    pub fn writes(&mut self, n: u64) -> &mut Docker {
        self.writes_padded(n, 0)
    }

    /// The same with a member of so many bytes more, which takes a line over the length that docker cuts at.
    pub fn writes_padded(&mut self, n: u64, padding: usize) -> &mut Docker {
        for _ in 0..n {
            let number = self.container.written().len() as u64;
            let message = format!("line {number} of {}", self.container.pod.name);
            // Quotes are escaped twice.
            let pad = "\\\" ".repeat(padding / 3);
            let line = format!(r#"{{"n":{number},"msg":"{message}","level":"info","pad":"{pad}"}}"#);
            let time = self.writes_line("stdout", line.as_bytes());
            self.container.written.push(Written { number, time, message });
        }
        self
    }

    /// Writes one line, without its newline, as docker would: each 16,384 bytes are a piece, and only the last has the
    /// newline. All pieces have the time of the first, which is given.
    pub fn writes_line(&mut self, stream: &str, line: &[u8]) -> String {
        let time = self.next_time();
        let mut rest = line;
        while rest.len() >= PIECE {
            let (piece, after) = rest.split_at(PIECE);
            self.writes_piece(stream, piece, &time);
            rest = after;
        }
        self.writes_piece(stream, &[rest, b"\n"].concat(), &time);
        time
    }

    /// Writes one line of the file: a piece with its stream and time.
    pub fn writes_piece(&mut self, stream: &str, piece: &[u8], time: &str) {
        let log = escape(&String::from_utf8_lossy(piece));
        let line = format!("{{\"log\":\"{log}\",\"stream\":\"{stream}\",\"time\":\"{time}\"}}\n");
        self.file.write_all(line.as_bytes()).expect("to write a log line");
    }

    /// A time later than all before, as Go's RFC3339Nano has it: without zeros at its end.
    pub fn next_time(&mut self) -> String {
        let time = self.container.next_time();
        let digits = time.trim_end_matches('Z').trim_end_matches('0').trim_end_matches('.');
        format!("{digits}Z")
    }

    /// Docker's rotation, in docker's order: the oldest file goes, each moves up one number, the current one becomes
    /// `-json.log.1`, and a new one is made under its name. The link stays as it is.
    pub fn rotate(&mut self) -> &mut Docker {
        let numbered = |number: usize| PathBuf::from(format!("{}.{number}", self.log.display()));
        // There is none yet at the first rotations.
        let _ = fs::remove_file(numbered(FILES_KEPT - 1));
        for number in (1..FILES_KEPT - 1).rev() {
            let _ = fs::rename(numbered(number), numbered(number + 1));
        }
        fs::rename(&self.log, numbered(1)).expect("to rotate docker's log");
        self.file = File::create(&self.log).expect("docker's new log");
        self
    }

    /// Docker's files of this container, the current one included.
    pub fn files(&self) -> usize {
        fs::read_dir(self.log.parent().expect("a folder")).expect("docker's folder").count()
    }
}

/// Text as docker writes it into JSON (`jsonlog.ffjsonWriteJSONBytesAsString`): what HTML would take amiss is escaped too.
fn escape(text: &str) -> String {
    let mut out = String::new();
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\0'..' ' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                out.push_str(&format!("\\u{:04x}", u32::from(character)));
            }
            '\u{fffd}' => out.push_str("\\ufffd"),
            _ => out.push(character),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn lines(docker: &Docker) -> Vec<Value> {
        let text = fs::read_to_string(docker.container().current()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn a_long_line_is_pieces_of_which_the_last_has_the_newline() {
        let node = Node::new();
        let mut web = Docker::start(&node, &node.pod("web"), "app");
        let long = "<\"\t日\u{1}\\> ".repeat(4_000);
        let time = web.writes_line("stderr", long.as_bytes());
        let lines = lines(&web);
        assert_eq!(lines.len(), long.len() / PIECE + 1);
        assert!(lines.iter().all(|line| line["time"] == *time && line["stream"] == "stderr"));
        let logs: Vec<&str> = lines.iter().map(|line| line["log"].as_str().unwrap()).collect();
        assert_eq!(logs.iter().position(|log| log.ends_with('\n')), Some(logs.len() - 1));
        assert!(logs.concat().starts_with("<\"\t日\u{1}\\> <"));
    }

    #[test]
    fn a_rotation_leaves_the_link_and_the_newest_files() {
        let node = Node::new();
        let mut web = Docker::start(&node, &node.pod("web"), "app");
        for rotations in 1..=4 {
            web.writes(2).rotate().writes(1);
            assert_eq!(web.files(), (rotations + 1).min(FILES_KEPT));
            assert_eq!(lines(&web).len(), 1);
        }
        assert_eq!(web.container().written().len(), 12);
        assert!(fs::symlink_metadata(web.container().current()).unwrap().is_symlink());
    }
}

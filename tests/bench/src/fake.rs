//! A stand-in for an agent, which proves the bench.
//!
//! In: the same command line and configuration as the real one. Out: every record, once, in the plainest way: no
//! rotation, no saved positions, no metadata, and no retry but where the server says that it is away (503). It can be told to lose or double a record
//! (`lose = N`, `double = N` under its output), which the bench must notice. It is never a peer to compare with.

use crate::Outcome;
use flate2::write::GzEncoder;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A request body is sent when it has grown to this.
const BODY: usize = 4 << 20;

/// Bytes of one file read in one turn: more than the longest line.
const TURN: usize = 2 << 20;

/// One keep-alive HTTP/1.1 connection that waits for each answer.
pub struct Connection {
    reader: BufReader<TcpStream>,
}

impl Connection {
    /// To `port` on 127.0.0.1.
    pub fn open(port: u16) -> Outcome<Connection> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        Ok(Connection { reader: BufReader::new(stream) })
    }

    /// The body of the answer to a POST of `body`; an answer other than 200 is an error.
    pub fn post(&mut self, path: &str, body: &[u8], gzip: bool) -> Outcome<Vec<u8>> {
        let encoding = if gzip { "Content-Encoding: gzip\r\n" } else { "" };
        let length = body.len();
        let stream = self.reader.get_mut();
        write!(stream, "POST {path} HTTP/1.1\r\nHost: sink\r\n{encoding}Content-Length: {length}\r\n\r\n")?;
        stream.write_all(body)?;
        let mut line = String::new();
        self.reader.read_line(&mut line)?;
        let status = line.split(' ').nth(1).unwrap_or("no status").to_owned();
        let mut length = 0;
        loop {
            line.clear();
            self.reader.read_line(&mut line)?;
            let field = line.trim_end().to_ascii_lowercase();
            if field.is_empty() {
                break;
            }
            if let Some(value) = field.strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
        }
        let mut reply = vec![0; length];
        self.reader.read_exact(&mut reply)?;
        if status != "200" {
            return Err(format!("{status}: {}", String::from_utf8_lossy(&reply)).into());
        }
        Ok(reply)
    }
}

/// A file and how far it is read.
struct Tail {
    file: File,
    offset: u64,
    /// Per stream, the pieces of a record whose last one is still to come.
    pieces: HashMap<Vec<u8>, Vec<u8>>,
}

/// What is sent next.
struct Sender {
    connection: Connection,
    gzip: bool,
    body: Vec<u8>,
    sent: u64,
    lose: u64,
    double: u64,
}

impl Sender {
    fn record(&mut self, file: usize, offset: u64, time: &str, stream: &str, text: &[u8]) -> Outcome<()> {
        self.sent += 1;
        let times = if self.sent == self.lose { 0 } else { 1 + u64::from(self.sent == self.double) };
        let rest = if text.starts_with(b"{") {
            format!("\"app\":{}", String::from_utf8_lossy(text))
        } else {
            format!("\"message\":{}", serde_json::to_string(&String::from_utf8_lossy(text))?)
        };
        for _ in 0..times {
            writeln!(self.body, "{{\"create\":{{\"_id\":\"{file}-{offset}\"}}}}")?;
            writeln!(self.body, "{{\"@timestamp\":\"{time}\",\"stream\":\"{stream}\",{rest}}}")?;
        }
        if self.body.len() >= BODY { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Outcome<()> {
        if self.body.is_empty() {
            return Ok(());
        }
        let path = "/bench/_bulk?filter_path=errors,items.*.status";
        if self.gzip {
            let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(&self.body)?;
            self.body = encoder.finish()?;
        }
        while let Err(error) = self.connection.post(path, &self.body, self.gzip) {
            if !error.to_string().starts_with("503") {
                return Err(error);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.body.clear();
        Ok(())
    }
}

/// Sends what is in the files of `config` and what is added to them, until SIGTERM and all is sent.
pub fn run(config: &Path) -> Outcome<()> {
    let stop = on_sigterm()?;
    let config: toml::Table = fs::read_to_string(config)?.parse()?;
    let text = |table: &toml::Table, key: &str| table.get(key).and_then(|v| v.as_str()).map(str::to_owned);
    let output =
        config.get("outputs").and_then(|outputs| outputs.get("sink")).and_then(|sink| sink.as_table());
    let output = output.ok_or("no [outputs.sink]")?;
    let endpoint = output.get("endpoints").and_then(|list| list.get(0)).and_then(|first| first.as_str());
    let port = endpoint.and_then(|url| url.rsplit_once(':')).ok_or("no port in endpoints")?.1.parse()?;
    let number = |key: &str| output.get(key).and_then(|v| v.as_integer()).map_or(0, |n| n.unsigned_abs());
    let mut sender = Sender {
        connection: Connection::open(port)?,
        gzip: text(output, "compression").as_deref() == Some("gzip"),
        body: Vec::with_capacity(BODY + (1 << 20)),
        sent: 0,
        lose: number("lose"),
        double: number("double"),
    };
    let mut tails = Vec::new();
    for path in log_files(Path::new(&text(&config, "pod_logs").ok_or("no pod_logs")?))? {
        tails.push(Tail { file: File::open(path)?, offset: 0, pieces: HashMap::new() });
    }
    let mut buffer = vec![0; TURN];
    loop {
        let stopping = stop.load(Ordering::Relaxed);
        let mut read = 0;
        for (number, tail) in tails.iter_mut().enumerate() {
            read += turn(number, tail, &mut buffer, &mut sender)?;
        }
        if read == 0 {
            sender.flush()?;
            if stopping {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Reads whole lines of one file; how many bytes that was.
fn turn(number: usize, tail: &mut Tail, buffer: &mut [u8], sender: &mut Sender) -> Outcome<usize> {
    let length = tail.file.read_at(buffer, tail.offset)?;
    let Some(end) = memchr::memrchr(b'\n', &buffer[..length]) else { return Ok(0) };
    let mut offset = tail.offset;
    for line in buffer[..end].split(|byte| *byte == b'\n') {
        let mut parts = line.splitn(4, |byte| *byte == b' ');
        let (Some(time), Some(stream), Some(tag), Some(text)) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(format!("no CRI line: {}", String::from_utf8_lossy(line)).into());
        };
        if tag == b"P" {
            tail.pieces.entry(stream.to_vec()).or_default().extend_from_slice(text);
        } else {
            let (time, name) = (std::str::from_utf8(time)?, std::str::from_utf8(stream)?);
            match tail.pieces.remove(stream) {
                Some(mut whole) => {
                    whole.extend_from_slice(text);
                    sender.record(number, offset, time, name, &whole)?;
                }
                None => sender.record(number, offset, time, name, text)?,
            }
        }
        offset += line.len() as u64 + 1;
    }
    tail.offset += end as u64 + 1;
    Ok(end + 1)
}

/// Every `<pod>/<container>/0.log` below `pods`.
fn log_files(pods: &Path) -> Outcome<Vec<PathBuf>> {
    let mut files = Vec::new();
    for pod in fs::read_dir(pods)? {
        for container in fs::read_dir(pod?.path())? {
            files.push(container?.path().join("0.log"));
        }
    }
    Ok(files)
}

/// A flag that SIGTERM sets.
fn on_sigterm() -> Outcome<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    let shared = Arc::clone(&flag);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut signal = runtime
        .block_on(async { tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) })?;
    std::thread::spawn(move || {
        runtime.block_on(signal.recv());
        shared.store(true, Ordering::Relaxed);
    });
    Ok(flag)
}

//! A real server that speaks CloudWatch Logs: moto, from PyPI.
//!
//! What comes in: nothing. What goes out: a server on loopback that all tests of a binary share, and what it holds. It
//! enforces little of what AWS documents: that is for [`crate::cloudwatch`], which stands before it. It ends with us.

use crate::http::{self, Request};
use crate::{eventually, seconds};
use serde_json::{Value, json};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{OnceLock, mpsc};
use std::thread;

/// The server of this process.
pub struct Moto {
    address: SocketAddr,
    _child: Child,
}

/// One event as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Milliseconds since 1970.
    pub time: i64,
    /// Its text.
    pub message: String,
}

impl Moto {
    /// The one that all tests share, started by whoever asks first.
    ///
    /// # Panics
    /// When it cannot be had or does not start.
    pub fn shared() -> &'static Moto {
        static SHARED: OnceLock<Moto> = OnceLock::new();
        SHARED.get_or_init(|| {
            let (send, started) = mpsc::channel();
            // The server ends with the thread that starts it, and a test's thread ends with its test.
            thread::spawn(move || {
                let _ = send.send(Moto::start());
                loop {
                    thread::park();
                }
            });
            started.recv().expect("moto, which could not be started for the reason above")
        })
    }

    fn start() -> Moto {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("servers/moto");
        let built = Command::new(&script).stderr(Stdio::inherit()).output();
        let built = built.unwrap_or_else(|error| panic!("cannot run {}: {error}", script.display()));
        assert!(built.status.success(), "moto could not be had; what is missing is said above");
        let program = String::from_utf8_lossy(&built.stdout).trim_end().to_owned();
        // Let go: the system gives a port to the next who asks for any only after many others.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
        let address = port.expect("a free port");
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .args([&program, "-H", "127.0.0.1", "-p", &address.port().to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {program}: {error}"));
        let moto = Moto { address, _child: child };
        eventually(seconds(120), "moto to start", || {
            let reply = http::send(address, "GET", "/moto-api/", b"").map_err(|error| error.to_string())?;
            if reply.status == 200 { Ok(()) } else { Err(format!("status {}", reply.status)) }
        });
        moto
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Makes a call and gives its status and answer.
    ///
    /// # Panics
    /// When the server cannot be reached.
    pub fn call(&self, action: &str, body: &Value) -> (u16, Value) {
        // It goes by the scope, and looks at nothing else of a signature.
        let signed = "AWS4-HMAC-SHA256 Credential=TEST/20261124/us-east-1/logs/aws4_request, SignedHeaders=host, Signature=0";
        let headers = [
            ("content-type", "application/x-amz-json-1.1"),
            ("x-amz-target", &format!("Logs_20140328.{action}")),
            ("authorization", signed),
        ];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let request = Request {
            method: "POST".into(),
            target: "/".into(),
            headers,
            body: body.to_string().into_bytes(),
        };
        let reply = http::forward(self.address, &request).expect("moto answers");
        (reply.status, serde_json::from_slice(&reply.body).unwrap_or_default())
    }

    /// What a stream holds, in its order; nothing if it is not there.
    ///
    /// # Panics
    /// When the answer has another form than AWS documents.
    pub fn events(&self, group: &str, stream: &str) -> Vec<Stored> {
        let (mut events, mut token) = (Vec::new(), Value::Null);
        loop {
            let mut body = json!({ "logGroupName": group, "logStreamName": stream, "startFromHead": true });
            if !token.is_null() {
                body["nextToken"] = token;
            }
            let (status, page) = self.call("GetLogEvents", &body);
            if status != 200 {
                return events;
            }
            let list = page["events"].as_array().expect("a list of events");
            events.extend(list.iter().map(|event| Stored {
                time: event["timestamp"].as_i64().expect("a time"),
                message: event["message"].as_str().expect("a text").to_owned(),
            }));
            if list.is_empty() {
                return events;
            }
            token = page["nextForwardToken"].clone();
        }
    }
}

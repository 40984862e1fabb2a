//! A stand-in of the Lambda runtime API, as AWS documents it ("Using the Lambda runtime API", version 2018-06-01).
//!
//! What comes in: events of a test, and the calls of a function's process. What goes out: to the process the next event, with
//! its id and deadline; to the test what the process answered. It retries nothing: that is for a test to play.

use crate::http::{self, Reply, Request};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{self, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const BASE: &str = "/2018-06-01/runtime/";

/// The API of one function.
pub struct Runtime {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    invoked: u64,
    waiting: Vec<(String, Duration, Vec<u8>)>,
    answered: BTreeMap<String, Result<Value, Value>>,
}

impl Runtime {
    /// Begins to listen.
    ///
    /// # Panics
    /// When no port can be had.
    pub fn open() -> Runtime {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("the port's number");
        let shared = Arc::new(Shared::default());
        let served = shared.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = served.clone();
                // The end of a connection is an error here and nobody's concern.
                thread::spawn(move || shared.serve(&stream));
            }
        });
        Runtime { address, shared }
    }

    /// The variables that Lambda sets for a function's process.
    pub fn environment(&self) -> Vec<String> {
        let mut variables = vec![format!("AWS_LAMBDA_RUNTIME_API={}", self.address)];
        let fixed = [
            "AWS_LAMBDA_FUNCTION_NAME=taffrail-forwarder",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE=256",
            "AWS_LAMBDA_FUNCTION_VERSION=$LATEST",
            "AWS_LAMBDA_LOG_GROUP_NAME=/aws/lambda/taffrail-forwarder",
            "AWS_LAMBDA_LOG_STREAM_NAME=2026/11/24/[$LATEST]0",
        ];
        variables.extend(fixed.map(str::to_owned));
        variables
    }

    /// Calls the function with an event, and gives what it answers, or the error that it ends with.
    ///
    /// # Panics
    /// When it has not answered half a minute after its time was up.
    pub fn invoke(&self, event: &Value, time: Duration) -> Result<Value, Value> {
        let mut state = self.shared.state.lock().expect("no thread panicked");
        state.invoked += 1;
        let id = format!("00000000-0000-0000-0000-{:012}", state.invoked);
        state.waiting.push((id.clone(), time, event.to_string().into_bytes()));
        self.shared.changed.notify_all();
        let end = Instant::now() + time + Duration::from_secs(30);
        loop {
            if let Some(answer) = state.answered.remove(&id) {
                return answer;
            }
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "the function has not answered");
            state = self.shared.changed.wait_timeout(state, left).expect("no thread panicked").0;
        }
    }
}

impl Shared {
    fn serve(&self, stream: &TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut reader = BufReader::new(stream);
        while let Some(request) = http::read_request(&mut reader, &mut &*stream)? {
            let reply = self.answer(&request);
            (&*stream).write_all(&http::message_of(&reply))?;
        }
        Ok(())
    }

    fn answer(&self, request: &Request) -> Reply {
        let path = request.target.strip_prefix(BASE).unwrap_or_default();
        let body = || serde_json::from_slice(&request.body).unwrap_or(Value::Null);
        let parts: Vec<&str> = path.split('/').collect();
        match (request.method.as_str(), &parts[..]) {
            ("GET", ["invocation", "next"]) => return self.next(),
            ("POST", ["invocation", id, "response"]) => self.enter(id, Ok(body())),
            ("POST", ["invocation", id, "error"]) => self.enter(id, Err(body())),
            ("POST", ["init", "error"]) => {}
            _ => return Reply::json(404, &json!({ "errorMessage": request.target })),
        }
        Reply::json(202, &json!({ "status": "OK" }))
    }

    fn next(&self) -> Reply {
        let mut state = self.state.lock().expect("no thread panicked");
        loop {
            if let Some((id, time, body)) = (!state.waiting.is_empty()).then(|| state.waiting.remove(0)) {
                let deadline = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() + time;
                let headers = [
                    ("content-type", "application/json".to_owned()),
                    ("lambda-runtime-aws-request-id", id),
                    ("lambda-runtime-deadline-ms", deadline.as_millis().to_string()),
                    (
                        "lambda-runtime-invoked-function-arn",
                        "arn:aws:lambda:us-east-1:123456789012:function:taffrail-forwarder".to_owned(),
                    ),
                    ("lambda-runtime-trace-id", "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700".to_owned()),
                ];
                let headers = headers.map(|(name, value)| (name.to_owned(), value)).into();
                return Reply { status: 200, headers, body };
            }
            state = self.changed.wait(state).expect("no thread panicked");
        }
    }

    fn enter(&self, id: &str, answer: Result<Value, Value>) {
        self.state.lock().expect("no thread panicked").answered.insert(id.to_owned(), answer);
        self.changed.notify_all();
    }
}

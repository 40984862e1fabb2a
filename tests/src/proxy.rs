//! A server that misbehaves: it stands before a real one and spoils bulk requests as a test's rule says.
//!
//! What comes in: bulk requests, one after the other to the rule. What goes out: the true answer, none, or a false one;
//! and a [`Tally`] of all answers. Requests other than `_bulk` pass untouched. It never changes a document.

use crate::http::{self, Reply, Request};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{self, BufReader};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// What happens to a bulk request.
pub enum Action {
    /// It is passed on, and so is the answer.
    Forward,
    /// It is passed on and carried out, but the connection closes before the answer.
    LoseReply,
    /// It is not passed on: this is the answer.
    Answer(Reply),
    /// It is read, and the connection closed.
    Hangup,
    /// The items for which the function, given the document's text, names a status are refused with it; the rest is
    /// carried out.
    RefuseItems(fn(&str) -> Option<u16>),
}

/// What was answered to bulk requests so far, by the server or by the rule, whether or not the answer came back to the
/// agent. A request that ended without any answer is not in it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Tally {
    /// How many requests were answered with each status.
    pub requests: BTreeMap<u16, usize>,
    /// How many items with each status, as far as the answers speak of items.
    pub items: BTreeMap<u16, usize>,
}

impl Tally {
    /// How many requests were answered with this status.
    pub fn requests(&self, status: u16) -> usize {
        self.requests.get(&status).copied().unwrap_or_default()
    }

    /// How many items were answered with this status.
    pub fn items(&self, status: u16) -> usize {
        self.items.get(&status).copied().unwrap_or_default()
    }

    fn add(&mut self, reply: &Reply) {
        *self.requests.entry(reply.status).or_default() += 1;
        let parsed: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
        let items = parsed["items"].as_array().map(Vec::as_slice).unwrap_or_default();
        for item in items.iter().filter_map(|item| item.as_object()?.values().next()) {
            let status = item["status"].as_u64().and_then(|status| status.try_into().ok());
            *self.items.entry(status.unwrap_or_default()).or_default() += 1;
        }
    }
}

type Rule = Box<dyn FnMut(usize, &Request) -> Action + Send>;

struct Shared {
    upstream: SocketAddr,
    /// Also serialises bulk requests' judgement, so that the rule sees them in an order; carrying out is concurrent.
    rule: Mutex<(usize, Rule)>,
    refused: AtomicUsize,
    tally: Mutex<Tally>,
    closed: AtomicBool,
    connections: Mutex<Vec<TcpStream>>,
}

/// The proxy. It closes when the value goes.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    listens: bool,
}

impl Proxy {
    /// A proxy that listens. The rule is given the number of the bulk request, from 0, and the request.
    ///
    /// # Panics
    /// When no port can be had.
    pub fn open(upstream: SocketAddr, rule: impl FnMut(usize, &Request) -> Action + Send + 'static) -> Proxy {
        let mut proxy = Proxy::away(upstream, rule);
        proxy.comes_up();
        proxy
    }

    /// A proxy that does not listen yet: to whoever asks, a server that is away.
    ///
    /// # Panics
    /// When no port can be had.
    pub fn away(upstream: SocketAddr, rule: impl FnMut(usize, &Request) -> Action + Send + 'static) -> Proxy {
        // Bound and let go: the system gives a port to the next who asks for any only after many others.
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("the port's number");
        let shared = Shared {
            upstream,
            rule: Mutex::new((0, Box::new(rule))),
            refused: AtomicUsize::new(0),
            tally: Mutex::new(Tally::default()),
            closed: AtomicBool::new(false),
            connections: Mutex::new(Vec::new()),
        };
        Proxy { address, shared: Arc::new(shared), listens: false }
    }

    /// Begins to listen, after [`Proxy::away`].
    ///
    /// # Panics
    /// When its port was taken meanwhile.
    pub fn comes_up(&mut self) {
        let listener = TcpListener::bind(self.address).expect("the port that was free before");
        let shared = Arc::clone(&self.shared);
        self.listens = true;
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if shared.closed.load(Ordering::SeqCst) {
                    return;
                }
                if let Ok(clone) = stream.try_clone() {
                    shared.connections.lock().expect("no thread panicked").push(clone);
                }
                let shared = Arc::clone(&shared);
                // The end of a connection, by whichever side, is an error here and nobody's concern.
                thread::spawn(move || {
                    let _ = shared.serve(&stream);
                    let _ = stream.shutdown(Shutdown::Both);
                });
            }
        });
    }

    /// Where it listens, or will.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many bulk requests have come so far.
    pub fn bulks(&self) -> usize {
        self.shared.rule.lock().expect("no thread panicked").0
    }

    /// What was answered so far.
    pub fn tally(&self) -> Tally {
        self.shared.tally.lock().expect("no thread panicked").clone()
    }

    /// How many items it has refused so far.
    pub fn refused(&self) -> usize {
        self.shared.refused.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::SeqCst);
        if self.listens {
            // One connection more, for the listening thread to wake up and see.
            let _ = TcpStream::connect(self.address);
        }
        if let Ok(connections) = self.shared.connections.lock() {
            for connection in connections.iter() {
                let _ = connection.shutdown(Shutdown::Both);
            }
        }
    }
}

impl Shared {
    fn serve(&self, stream: &TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut stream = stream.try_clone()?;
        while let Some(request) = http::read_request(&mut reader)? {
            if !request.target.split('?').next().is_some_and(|path| path.ends_with("/_bulk")) {
                http::write_reply(&mut stream, &http::forward(self.upstream, &request)?)?;
                continue;
            }
            let action = self.judge(&request);
            let loses = matches!(action, Action::LoseReply);
            let reply = match action {
                Action::Forward | Action::LoseReply => http::forward(self.upstream, &request)?,
                Action::Answer(reply) => reply,
                Action::RefuseItems(refusal) => self.refuse_items(&request, refusal)?,
                Action::Hangup => return Ok(()),
            };
            self.tally.lock().expect("no thread panicked").add(&reply);
            if loses {
                return Ok(());
            }
            http::write_reply(&mut stream, &reply)?;
        }
        Ok(())
    }

    fn judge(&self, request: &Request) -> Action {
        let mut rule = self.rule.lock().expect("no thread panicked");
        let (count, rule) = &mut *rule;
        *count += 1;
        rule(*count - 1, request)
    }

    fn refuse_items(&self, request: &Request, refusal: fn(&str) -> Option<u16>) -> io::Result<Reply> {
        let body = String::from_utf8_lossy(&request.plain_body()?).into_owned();
        let lines: Vec<&str> = body.lines().collect();
        let statuses: Vec<Option<u16>> =
            lines.chunks(2).map(|item| item.get(1).and_then(|doc| refusal(doc))).collect();
        let kept: Vec<&[&str]> = lines
            .chunks(2)
            .zip(&statuses)
            .filter(|(_, status)| status.is_none())
            .map(|(item, _)| item)
            .collect();
        let mut carried_out = Vec::new().into_iter();
        if !kept.is_empty() {
            let body: String = kept.concat().iter().flat_map(|line| [line, "\n"]).collect();
            // Without `filter_path`: every item must be in the answer to be counted off.
            let target = request.target.split('?').next().unwrap_or_default();
            let reply = http::send(self.upstream, &request.method, target, body.as_bytes())?;
            if reply.status != 200 {
                return Ok(reply);
            }
            let mut parsed: Value = serde_json::from_slice(&reply.body).map_err(io::Error::other)?;
            carried_out = parsed["items"].as_array_mut().map(std::mem::take).unwrap_or_default().into_iter();
        }
        let items: Vec<Value> = statuses
            .iter()
            .filter_map(|status| match status {
                None => carried_out.next(),
                Some(status) => {
                    self.refused.fetch_add(1, Ordering::SeqCst);
                    let kind = if *status == 429 {
                        "rejected_execution_exception"
                    } else {
                        "mapper_parsing_exception"
                    };
                    let error = json!({"type": kind, "reason": "refused by the test"});
                    Some(json!({"create": {"status": status, "error": error}}))
                }
            })
            .collect();
        let failed = |item: &Value| item["create"]["status"].as_u64().is_some_and(|status| status >= 300);
        Ok(Reply::json(200, &json!({"took": 1, "errors": items.iter().any(failed), "items": items})))
    }
}

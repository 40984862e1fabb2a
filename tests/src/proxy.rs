//! A server that misbehaves: it stands before a real one and spoils exchanges at any moment, as a test's rules say.
//!
//! What comes in: requests, one after the other to the rules: [`Welcome`] decides before a request is read, [`Action`]
//! when it has been. What goes out: the true answer, none, a late or a false one (see [`crate::lies`]); and a [`Tally`]
//! of all answers to bulk requests. Requests other than `_bulk` pass untouched once they are read, unless
//! [`Proxy::spoils_all`]. It never changes a document.

mod gate;

use crate::http::{self, Reply, Request};
use crate::lies;
use gate::Gate;
pub use gate::Standstill;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::sockopt::set_socket_linger;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::io::{self, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

/// How a request is met, before it is known what it asks.
pub enum Welcome {
    /// It is read.
    Read,
    /// The connection is reset before anything of it is read.
    Reset,
    /// It is read so far (in bytes), then the connection is reset.
    ResetAfter(usize),
    /// It is read so many bytes at a time, with this pause before each.
    ReadSlowly(usize, Duration),
    /// Nothing of it is ever read, and the connection stays open until the client gives up: a black hole.
    Ignore,
}

/// What happens to a request that has been read.
pub enum Action {
    /// It is passed on, and so is the answer.
    Forward,
    /// It is passed on and carried out, but the connection closes before the answer.
    LoseReply,
    /// It is passed on and carried out, and of the answer only so many bytes of its body come before the connection
    /// closes, though its length was promised.
    CutReply(usize),
    /// It is passed on and carried out, and the answer comes so many bytes at a time, with this pause before each.
    Drip(usize, Duration),
    /// It is passed on and carried out, and this is made of the answer.
    Falsify(fn(Reply) -> Reply),
    /// It is not passed on: this is the answer.
    Answer(Reply),
    /// It is not passed on, and the connection is closed in good order.
    Hangup,
    /// It is not passed on, and the connection is reset.
    Reset,
    /// It is not passed on and never answered: the connection stays open until the client gives up, as one does whose
    /// peer has vanished.
    Vanish,
    /// The items for which the function, given the document's text, names a status are refused with it; the rest is
    /// carried out. Of a request that is no bulk: [`Action::Forward`].
    RefuseItems(Refusal),
}

/// The status that an item is refused with, by its document's text.
pub type Refusal = Box<dyn Fn(&str) -> Option<u16> + Send>;

/// What was answered to bulk requests so far, by the server or by the rule, whether or not the answer came back to the
/// agent, and as it was before it was falsified. A request that ended without any answer is not in it.
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
type WelcomeRule = Box<dyn FnMut(usize) -> Welcome + Send>;

struct Shared {
    upstream: SocketAddr,
    /// Also serialises requests' judgement, so that the rule sees them in an order; carrying out is concurrent.
    rule: Mutex<(usize, Rule)>,
    welcome: Mutex<(usize, WelcomeRule)>,
    spoils_all: AtomicBool,
    bulks: AtomicUsize,
    refused: AtomicUsize,
    spoilt: AtomicUsize,
    tally: Mutex<Tally>,
    gate: Gate,
    closed: AtomicBool,
    /// The open connections by their numbers, so that they end with the proxy.
    connections: Mutex<(u64, HashMap<u64, TcpStream>)>,
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
            welcome: Mutex::new((0, Box::new(|_| Welcome::Read))),
            spoils_all: AtomicBool::new(false),
            bulks: AtomicUsize::new(0),
            refused: AtomicUsize::new(0),
            spoilt: AtomicUsize::new(0),
            tally: Mutex::new(Tally::default()),
            gate: Gate::default(),
            closed: AtomicBool::new(false),
            connections: Mutex::default(),
        };
        Proxy { address, shared: Arc::new(shared), listens: false }
    }

    /// Meets requests by this rule from now on. It is given the number of the request, of whatever kind, from 0.
    pub fn welcomes(self, rule: impl FnMut(usize) -> Welcome + Send + 'static) -> Proxy {
        lock(&self.shared.welcome).1 = Box::new(rule);
        self
    }

    /// Asks the rule of [`Proxy::open`] about every request, not only about bulk requests.
    pub fn spoils_all(self) -> Proxy {
        self.shared.spoils_all.store(true, Ordering::SeqCst);
        self
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
                let shared = Arc::clone(&shared);
                // The end of a connection, by whichever side, is an error here and nobody's concern.
                thread::spawn(move || {
                    let _ = shared.serve(stream);
                });
            }
        });
    }

    /// Brings the exchanges to a standstill, until the value goes. Who begins to look for something from now on waits; the
    /// others only when nobody has been told what he looked for for so long, so that who looks before he sends has sent.
    pub fn stands_still(&self, quiet: Duration) -> Standstill<'_> {
        self.shared.gate.closes(quiet)
    }

    /// Where it listens, or will.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many bulk requests have been read so far.
    pub fn bulks(&self) -> usize {
        self.shared.bulks.load(Ordering::SeqCst)
    }

    /// What was answered so far.
    pub fn tally(&self) -> Tally {
        lock(&self.shared.tally).clone()
    }

    /// How many items it has refused so far.
    pub fn refused(&self) -> usize {
        self.shared.refused.load(Ordering::SeqCst)
    }

    /// How many exchanges it has spoilt so far, in whatever way.
    pub fn spoilt(&self) -> usize {
        self.shared.spoilt.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::SeqCst);
        if self.listens {
            // One connection more, for the listening thread to wake up and see.
            let _ = TcpStream::connect(self.address);
        }
        for connection in lock(&self.shared.connections).1.values() {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no thread panicked")
}

/// A connection, read at a pace.
struct Paced {
    stream: TcpStream,
    pace: Option<(usize, Duration)>,
}

impl Read for Paced {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some((bytes, pause)) = self.pace else { return self.stream.read(buffer) };
        thread::sleep(pause);
        let room = buffer.len().min(bytes);
        self.stream.read(&mut buffer[..room])
    }
}

/// How a connection is left.
enum End {
    Closed,
    Reset,
}

impl Shared {
    fn serve(&self, stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let number = {
            let mut connections = lock(&self.connections);
            connections.0 += 1;
            let number = connections.0;
            connections.1.insert(number, stream.try_clone()?);
            number
        };
        let end = self.exchanges(&stream);
        // The last descriptor of it: with this gone the connection is.
        lock(&self.connections).1.remove(&number);
        if matches!(end, Ok(End::Reset)) {
            return Ok(set_socket_linger(&stream, Some(Duration::ZERO))?);
        }
        stream.shutdown(Shutdown::Both)
    }

    /// Serves request after request, until one of them ends the connection.
    fn exchanges(&self, stream: &TcpStream) -> io::Result<End> {
        let mut reader = BufReader::new(Paced { stream: stream.try_clone()?, pace: None });
        loop {
            if reader.buffer().is_empty() && stream.peek(&mut [0])? == 0 {
                return Ok(End::Closed);
            }
            reader.get_mut().pace = None;
            match self.welcome() {
                Welcome::Read => {}
                Welcome::Reset => return Ok(End::Reset),
                Welcome::ResetAfter(bytes) => {
                    reader.read_exact(&mut vec![0; bytes])?;
                    return Ok(End::Reset);
                }
                Welcome::ReadSlowly(bytes, pause) => reader.get_mut().pace = Some((bytes.max(1), pause)),
                Welcome::Ignore => return wait_until_left(stream),
            }
            let Some(request) = http::read_request(&mut reader, &mut &*stream)? else {
                return Ok(End::Closed);
            };
            if let Some(end) = self.exchange(&request, stream)? {
                return Ok(end);
            }
        }
    }

    /// Carries out one request, or not. Gives how the connection is left, if it is.
    fn exchange(&self, request: &Request, stream: &TcpStream) -> io::Result<Option<End>> {
        let is_bulk = request.target.split('?').next().is_some_and(|path| path.ends_with("/_bulk"));
        self.bulks.fetch_add(is_bulk.into(), Ordering::SeqCst);
        let judged = is_bulk || self.spoils_all.load(Ordering::SeqCst);
        let action = if judged { self.judge(request) } else { Action::Forward };
        self.spoilt.fetch_add((!matches!(action, Action::Forward)).into(), Ordering::SeqCst);
        let mut inside = None;
        let mut forwards = || inside = Some(self.gate.passes(is_bulk, request.method == "GET"));
        let reply = match &action {
            Action::Hangup => return Ok(Some(End::Closed)),
            Action::Reset => return Ok(Some(End::Reset)),
            Action::Vanish => return wait_until_left(stream).map(Some),
            Action::Answer(reply) => reply.clone(),
            Action::RefuseItems(refusal) if is_bulk => {
                forwards();
                self.refuse_items(request, refusal)?
            }
            _ => {
                forwards();
                http::forward(self.upstream, request)?
            }
        };
        if is_bulk {
            lock(&self.tally).add(&reply);
            // What it asked for is done. A look is over when its answer is there.
            drop(inside.take());
        }
        let mut stream = stream;
        match action {
            Action::LoseReply => return Ok(Some(End::Closed)),
            Action::CutReply(bytes) => {
                let mut message = http::message_of(&reply);
                message.truncate(message.len() - reply.body.len().saturating_sub(bytes).max(1));
                stream.write_all(&message)?;
                return Ok(Some(End::Closed));
            }
            Action::Drip(bytes, pause) => {
                for part in http::message_of(&reply).chunks(bytes.max(1)) {
                    thread::sleep(pause);
                    stream.write_all(part)?;
                }
            }
            Action::Falsify(falsify) => stream.write_all(&http::message_of(&falsify(reply)))?,
            _ => stream.write_all(&http::message_of(&reply))?,
        }
        Ok(None)
    }

    fn welcome(&self) -> Welcome {
        let mut rule = lock(&self.welcome);
        let (count, rule) = &mut *rule;
        *count += 1;
        let welcome = rule(*count - 1);
        self.spoilt.fetch_add((!matches!(welcome, Welcome::Read)).into(), Ordering::SeqCst);
        welcome
    }

    fn judge(&self, request: &Request) -> Action {
        let mut rule = lock(&self.rule);
        let (count, rule) = &mut *rule;
        *count += 1;
        rule(*count - 1, request)
    }

    /// Carries out what is not refused. Its answer is put together from both.
    fn refuse_items(&self, request: &Request, refusal: &Refusal) -> io::Result<Reply> {
        let body = String::from_utf8_lossy(&request.plain_body()?).into_owned();
        let lines: Vec<&str> = body.lines().collect();
        let statuses: Vec<Option<u16>> =
            lines.chunks(2).map(|item| item.get(1).and_then(|document| refusal(document))).collect();
        let kept = lines.chunks(2).zip(&statuses).filter(|(_, status)| status.is_none());
        let kept: String = kept.flat_map(|(item, _)| item).flat_map(|line| [line, "\n"]).collect();
        let mut carried_out = Vec::new();
        if !kept.is_empty() {
            // Without `filter_path`: every item must be in the answer to be counted off.
            let target = request.target.split('?').next().unwrap_or_default();
            let reply = http::send(self.upstream, &request.method, target, kept.as_bytes())?;
            if reply.status != 200 {
                return Ok(reply);
            }
            let mut parsed: Value = serde_json::from_slice(&reply.body).map_err(io::Error::other)?;
            carried_out = parsed["items"].as_array_mut().map(std::mem::take).unwrap_or_default();
        }
        self.refused.fetch_add(statuses.iter().flatten().count(), Ordering::SeqCst);
        Ok(lies::refusing(&statuses, carried_out))
    }
}

/// Reads nothing more, and waits until the client has closed its side.
fn wait_until_left(stream: &TcpStream) -> io::Result<End> {
    loop {
        let mut ends = [PollFd::new(stream, PollFlags::RDHUP)];
        match poll(&mut ends, None) {
            Ok(_) => return Ok(End::Closed),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{eventually, seconds};
    use serde_json::json;
    use std::time::Instant;

    /// A server that answers every request with two items done, and counts them.
    fn server() -> (SocketAddr, Arc<AtomicUsize>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let (address, served) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let count = Arc::clone(&served);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut reader = BufReader::new(&stream);
                while let Ok(Some(_)) = http::read_request(&mut reader, &mut &stream) {
                    count.fetch_add(1, Ordering::SeqCst);
                    let item = json!({"create": {"status": 201}});
                    let reply = Reply::json(200, &json!({"errors": false, "items": [item, item]}));
                    if (&stream).write_all(&http::message_of(&reply)).is_err() {
                        break;
                    }
                }
            }
        });
        (address, served)
    }

    /// A bulk request with a time of its own for each answer.
    fn ask(proxy: &Proxy, patience: Duration) -> io::Result<Reply> {
        let headers = vec![("content-type".to_owned(), "application/x-ndjson".to_owned())];
        let body = b"{\"create\":{}}\n{\"n\":1}\n{\"create\":{}}\n{\"n\":2}\n".to_vec();
        let request = Request { method: "POST".into(), target: "/_bulk".into(), headers, body };
        http::forward_within(proxy.address(), &request, patience)
    }

    #[test]
    fn what_is_not_passed_on_never_reaches_the_server() {
        type Rule = fn() -> (Welcome, Action);
        let rules: [(Rule, io::ErrorKind); 6] = [
            (|| (Welcome::Reset, Action::Forward), io::ErrorKind::ConnectionReset),
            (|| (Welcome::ResetAfter(20), Action::Forward), io::ErrorKind::ConnectionReset),
            (|| (Welcome::Ignore, Action::Forward), io::ErrorKind::WouldBlock),
            (|| (Welcome::Read, Action::Reset), io::ErrorKind::ConnectionReset),
            (|| (Welcome::Read, Action::Vanish), io::ErrorKind::WouldBlock),
            (|| (Welcome::Read, Action::Hangup), io::ErrorKind::InvalidData),
        ];
        for (place, (rule, kind)) in rules.into_iter().enumerate() {
            let (upstream, served) = server();
            let proxy = Proxy::open(upstream, move |_, _| rule().1).welcomes(move |_| rule().0);
            let error = ask(&proxy, Duration::from_millis(200)).unwrap_err();
            assert_eq!(error.kind(), kind, "rule {place}: {error}");
            assert_eq!((served.load(Ordering::SeqCst), proxy.spoilt()), (0, 1), "rule {place}");
            // The client has given up: so does the proxy.
            let open = || lock(&proxy.shared.connections).1.len();
            eventually(seconds(10), "the connection's end", || {
                if open() == 0 { Ok(()) } else { Err(open().to_string()) }
            });
        }
    }

    #[test]
    fn what_is_passed_on_is_carried_out_whatever_becomes_of_the_answer() {
        let (upstream, served) = server();
        let proxy = Proxy::open(upstream, |number, _| match number {
            0 => Action::LoseReply,
            1 => Action::CutReply(30),
            2 => Action::Drip(40, Duration::from_millis(10)),
            3 => Action::Falsify(lies::fewer_items),
            4 => Action::RefuseItems(Box::new(|document| document.contains('2').then_some(429))),
            _ => Action::Forward,
        });
        assert!(ask(&proxy, seconds(10)).is_err());
        assert_eq!(ask(&proxy, seconds(10)).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        let begun = Instant::now();
        let items = |reply: Reply| {
            serde_json::from_slice::<Value>(&reply.body).unwrap()["items"].as_array().unwrap().len()
        };
        assert_eq!(items(ask(&proxy, seconds(10)).unwrap()), 2);
        assert!(begun.elapsed() > Duration::from_millis(20), "{:?}", begun.elapsed());
        assert_eq!(items(ask(&proxy, seconds(10)).unwrap()), 1);
        assert!(ask(&proxy, seconds(10)).unwrap().body.windows(3).any(|text| text == b"429"));
        assert_eq!((served.load(Ordering::SeqCst), proxy.bulks(), proxy.refused()), (5, 5, 1));
    }

    #[test]
    fn a_slow_reader_reads_it_all() {
        let (upstream, served) = server();
        let proxy = Proxy::open(upstream, |_, _| Action::Forward)
            .welcomes(|_| Welcome::ReadSlowly(50, Duration::from_millis(5)));
        assert_eq!(ask(&proxy, seconds(10)).unwrap().status, 200);
        assert_eq!(served.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn in_a_standstill_nothing_goes_and_afterwards_everything_does() {
        let (upstream, served) = server();
        let proxy = Proxy::open(upstream, |_, _| Action::Forward);
        let still = proxy.stands_still(Duration::from_millis(10));
        let error = ask(&proxy, Duration::from_millis(200)).unwrap_err();
        assert_eq!((error.kind(), served.load(Ordering::SeqCst)), (io::ErrorKind::WouldBlock, 0));
        drop(still);
        assert_eq!(ask(&proxy, seconds(10)).unwrap().status, 200);
        eventually(seconds(10), "both requests", || {
            let served = served.load(Ordering::SeqCst);
            if served == 2 { Ok(()) } else { Err(served.to_string()) }
        });
    }
}

//! A bulk server that counts and forgets.
//!
//! In: `POST /_bulk` and `POST /<index>/_bulk`, plain or gzip, and what other agents speak ([`crate::protocols`]). Out: truly shaped replies to the agent, exact
//! counts to the scenario. It never loses a document, refuses or delays one only while it is told to be away, and never
//! stores one; a malformed request gets 400 and is kept as a fault, which makes the run fail.

use crate::Outcome;
use crate::bulk::{Pair, Pairs, Shape};
use crate::clock::{self, Nanos};
use crate::cloudwatch::Format;
use crate::events::{self, Streams};
use crate::protocols::{self, Protocol};
use crate::tls::TlsListener;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::serve::ListenerExt;
use clap::ValueEnum;
use flate2::bufread::GzDecoder;
use memchr::memmem::Finder;
use std::collections::HashSet;
use std::io::Read;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use tokio::runtime::Runtime;

/// `http.max_content_length` of a server as it comes: 100 MB.
const MAX_CONTENT_LENGTH: usize = 100 << 20;

/// What the sink does beyond counting; each costs time on its core.
#[derive(Clone, Copy, Default)]
pub struct Options {
    /// Keep every `_id` (about 100 bytes of memory each) to prove that none came twice.
    pub verify_ids: bool,
    /// Keep the delay of every document, from its `@timestamp` to the end of its request.
    pub delays: bool,
    /// How it begins.
    pub presence: Presence,
    /// Of a hundred documents it refuses so many for now, with 429, each time they come.
    pub refused: u32,
    /// Of a hundred documents it says of so many that it holds them already, with 409.
    pub held: u32,
    /// Whether it speaks TLS.
    pub tls: bool,
    /// Whether it is CloudWatch Logs, and what the agent is to send it.
    pub events: Option<Format>,
}

/// Whether the sink is there for the agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Presence {
    /// It answers.
    #[default]
    There,
    /// Requests are taken, and not answered.
    Silent,
    /// Requests are answered with 503.
    Refusing,
    /// Each document is refused for now, with 429.
    Busy,
}

/// What came in so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Pairs of action and source.
    pub documents: u64,
    /// Bulk requests.
    pub requests: u64,
    /// Bytes of request bodies as they came; their HTTP heads, some 200 bytes each, are left out.
    pub wire: u64,
    /// The same inflated.
    pub inflated: u64,
}

/// The running server; it ends when this is dropped.
pub struct Sink {
    port: u16,
    certificate: Option<String>,
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
}

struct Shared {
    options: Options,
    documents: AtomicU64,
    requests: AtomicU64,
    wire: AtomicU64,
    inflated: AtomicU64,
    doubles: AtomicU64,
    /// Documents that came, refused ones too.
    seen: AtomicU64,
    ids: Mutex<HashSet<Box<[u8]>>>,
    /// Microseconds.
    delays: Mutex<Vec<u32>>,
    faults: Mutex<Vec<String>>,
    presence: Mutex<Presence>,
    /// Delays are kept of documents that hold one of these only, if there are any.
    delays_of: OnceLock<Vec<Finder<'static>>>,
    /// Buffers for inflating, used again: new ones of this size are page faults each time.
    buffers: Mutex<Vec<Vec<u8>>>,
    streams: Mutex<Streams>,
}

pub fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sink {
    /// Starts on a free port of the loopback with `threads` threads, which stay on the cores of the caller.
    pub fn start(options: Options, threads: usize) -> Outcome<Sink> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads.max(1))
            .thread_name("sink")
            .enable_all()
            .build()?;
        let listener = runtime.block_on(tokio::net::TcpListener::bind(("127.0.0.1", 0)))?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared {
            options,
            documents: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            wire: AtomicU64::new(0),
            inflated: AtomicU64::new(0),
            doubles: AtomicU64::new(0),
            seen: AtomicU64::new(0),
            ids: Mutex::default(),
            delays: Mutex::default(),
            faults: Mutex::default(),
            presence: Mutex::new(options.presence),
            delays_of: OnceLock::new(),
            buffers: Mutex::default(),
            streams: Mutex::default(),
        });
        let router = Router::new().fallback(answer).with_state(Arc::clone(&shared));
        let mut certificate = None;
        if options.tls {
            let (listener, made) = TlsListener::new(listener)?;
            certificate = Some(made);
            runtime.spawn(async move { axum::serve(listener, router).await });
        } else {
            let listener = listener.tap_io(|stream| {
                // Else the end of a reply waits for the agent's delayed acknowledgement.
                let _ = stream.set_nodelay(true);
            });
            runtime.spawn(async move { axum::serve(listener, router).await });
        }
        Ok(Sink { port, certificate, shared, runtime: Some(runtime) })
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The certificate to trust, as PEM, if it speaks TLS.
    pub fn certificate(&self) -> Option<&str> {
        self.certificate.as_deref()
    }

    /// The counts at this moment.
    pub fn totals(&self) -> Totals {
        Totals {
            documents: self.shared.documents.load(Ordering::Acquire),
            requests: self.shared.requests.load(Ordering::Relaxed),
            wire: self.shared.wire.load(Ordering::Relaxed),
            inflated: self.shared.inflated.load(Ordering::Relaxed),
        }
    }

    /// The delays since the last call, in microseconds, unsorted.
    pub fn take_delays(&self) -> Vec<u32> {
        std::mem::take(&mut locked(&self.shared.delays))
    }

    /// Keeps the delays of documents that hold one of these texts only; to be said once, before any comes.
    pub fn delays_only_of(&self, texts: Vec<Vec<u8>>) {
        let finders = texts.iter().map(|text| Finder::new(text).into_owned()).collect();
        let _ = self.shared.delays_of.set(finders);
    }

    /// Answers from now on.
    pub fn comes_back(&self) {
        *locked(&self.shared.presence) = Presence::There;
    }

    /// An error if any request was malformed or, in the verifying mode, any `_id` missing or doubled.
    pub fn check(&self) -> Outcome<()> {
        if let Some(first) = locked(&self.shared.faults).first() {
            return Err(format!("the sink had to refuse a request: {first}").into());
        }
        match self.shared.doubles.load(Ordering::Relaxed) {
            0 => Ok(()),
            doubles => Err(format!("{doubles} documents came twice under one _id").into()),
        }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (parts, mut body) = request.into_parts();
    if let Some(target) = parts.headers.get("x-amz-target").and_then(|target| target.to_str().ok()) {
        return shared.events(target, body).await;
    }
    let path = parts.uri.path();
    if let Some(protocol) = Protocol::of(path) {
        return shared.other(protocol, &parts.headers, body).await;
    }
    let index = path.strip_suffix("_bulk").map(|index| index.trim_matches('/'));
    match (parts.method, index) {
        (Method::POST | Method::PUT, Some(index)) => {
            if let Some(refusal) = shared.away(&parts.headers, &mut body).await {
                return refusal;
            }
            match shared.bulk(index, parts.uri.query(), &parts.headers, body).await {
                Ok(reply) => json(StatusCode::OK, reply),
                Err((status, reason)) => {
                    let reply = serde_json::json!({"error": {"type": "illegal_argument_exception",
                        "reason": reason}, "status": status.as_u16()});
                    locked(&shared.faults).push(reason);
                    json(status, reply.to_string())
                }
            }
        }
        (Method::GET, _) if path == "/" => json(StatusCode::OK, WELCOME),
        (Method::GET, _) if path.starts_with("/_cluster/health") => {
            json(StatusCode::OK, "{\"cluster_name\":\"sink\",\"status\":\"green\",\"timed_out\":false}")
        }
        (Method::GET, _) if path.starts_with("/_data_stream") => {
            json(StatusCode::OK, "{\"data_streams\":[]}")
        }
        (Method::GET | Method::HEAD, _) => json(StatusCode::OK, "{}"),
        _ => json(StatusCode::OK, "{\"acknowledged\":true}"),
    }
}

/// What OpenSearch says at its root.
const WELCOME: &str = "{\"name\":\"sink\",\"cluster_name\":\"sink\",\"cluster_uuid\":\"c2luaw\",\"version\":\
    {\"distribution\":\"opensearch\",\"number\":\"2.19.6\",\"minimum_wire_compatibility_version\":\"7.10.0\",\
    \"minimum_index_compatibility_version\":\"7.0.0\"},\"tagline\":\"The OpenSearch Project: https://opensearch.org/\"}";

fn json(status: StatusCode, body: impl Into<Body>) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json; charset=UTF-8")], body.into()).into_response()
}

impl Shared {
    /// What is answered while it is away, if that; what came then is never counted.
    async fn away(&self, headers: &HeaderMap, body: &mut Body) -> Option<Response> {
        let presence = *locked(&self.presence);
        if presence == Presence::There {
            return None;
        }
        let wire = to_bytes(std::mem::take(body), MAX_CONTENT_LENGTH).await.unwrap_or_default();
        match presence {
            Presence::There => None,
            // Until the agent gives up.
            Presence::Silent => std::future::pending().await,
            Presence::Refusing => {
                Some(json(StatusCode::SERVICE_UNAVAILABLE, "{\"error\":\"away\",\"status\":503}"))
            }
            Presence::Busy => {
                let mut plain = Vec::new();
                if headers.contains_key(header::CONTENT_ENCODING) {
                    inflate(&wire, &mut plain).ok()?;
                }
                let body = if plain.is_empty() { &wire[..] } else { &plain };
                let shape = Shape::from_query(None).ok()?;
                let mut reply = shape.begin();
                Pairs::new(body).flatten().for_each(|pair| reply.refused(&pair));
                Some(json(StatusCode::OK, reply.finish()))
            }
        }
    }

    /// A call of CloudWatch Logs.
    async fn events(&self, target: &str, body: Body) -> Response {
        let wire = to_bytes(body, MAX_CONTENT_LENGTH).await.unwrap_or_default();
        match events::answer(target, &wire, &self.streams) {
            Ok((reply, records, bytes)) => {
                self.requests.fetch_add(1, Ordering::Relaxed);
                self.wire.fetch_add(wire.len() as u64, Ordering::Relaxed);
                self.inflated.fetch_add(bytes, Ordering::Relaxed);
                self.documents.fetch_add(records, Ordering::Release);
                reply
            }
            Err(reason) => {
                locked(&self.faults).push(reason);
                StatusCode::BAD_REQUEST.into_response()
            }
        }
    }

    /// A request of another protocol.
    async fn other(&self, protocol: Protocol, headers: &HeaderMap, body: Body) -> Response {
        let wire = to_bytes(body, MAX_CONTENT_LENGTH).await.unwrap_or_default();
        let arrived = Nanos::now();
        let encoding =
            headers.get(header::CONTENT_ENCODING).map_or(&b"identity"[..], |value| value.as_bytes());
        let mut buffer = locked(&self.buffers).pop().unwrap_or_default();
        buffer.clear();
        let counted = protocols::unpack(encoding, &wire, &mut buffer)
            .and_then(|()| protocol.count(&buffer).map(|records| (records, buffer.len() as u64)));
        if self.options.delays && counted.is_ok() {
            let times = protocol.times(&buffer, |line| self.is_wanted(line));
            let delays = times.into_iter().map(|written| microseconds(written, arrived));
            locked(&self.delays).extend(delays);
        }
        locked(&self.buffers).push(buffer);
        match counted {
            Ok((records, inflated)) => {
                self.requests.fetch_add(1, Ordering::Relaxed);
                self.wire.fetch_add(wire.len() as u64, Ordering::Relaxed);
                self.inflated.fetch_add(inflated, Ordering::Relaxed);
                self.documents.fetch_add(records, Ordering::Release);
                protocol.accepted()
            }
            Err(reason) => {
                locked(&self.faults).push(reason.clone());
                (StatusCode::BAD_REQUEST, reason).into_response()
            }
        }
    }

    async fn bulk(
        &self,
        index: &str,
        query: Option<&str>,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<Vec<u8>, (StatusCode, String)> {
        let bad = |reason: String| (StatusCode::BAD_REQUEST, reason);
        let shape = Shape::from_query(query).map_err(bad)?;
        let wire = to_bytes(body, MAX_CONTENT_LENGTH).await.map_err(|error| {
            (StatusCode::PAYLOAD_TOO_LARGE, format!("the body could not be read: {error}"))
        })?;
        // Arrival is here: what the sink itself takes to inflate and count is not the agent's delay.
        let arrived = Nanos::now();
        let encoding = headers.get(header::CONTENT_ENCODING).map_or(b"identity".as_slice(), |v| v.as_bytes());
        let reply = match encoding {
            b"identity" => self.count(&wire, index, &shape, arrived, wire.len()).map_err(bad)?,
            b"gzip" => {
                let mut buffer = locked(&self.buffers).pop().unwrap_or_default();
                buffer.clear();
                let inflated = inflate(&wire, &mut buffer);
                let reply = inflated.and_then(|()| self.count(&buffer, index, &shape, arrived, wire.len()));
                locked(&self.buffers).push(buffer);
                reply.map_err(bad)?
            }
            other => {
                let reason = format!("unknown Content-Encoding {}", String::from_utf8_lossy(other));
                return Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, reason));
            }
        };
        Ok(reply)
    }

    /// Whether the delay of a document is kept.
    fn is_wanted(&self, document: &[u8]) -> bool {
        let wanted = self.delays_of.get();
        wanted.is_none_or(|texts| texts.iter().any(|text| text.find(document).is_some()))
    }

    /// Counts a whole body, or nothing of it if a part is malformed.
    fn count(
        &self,
        body: &[u8],
        index: &str,
        shape: &Shape,
        arrived: Nanos,
        wire: usize,
    ) -> Result<Vec<u8>, String> {
        let mut reply = shape.begin();
        let (mut documents, mut refused) = (0, 0);
        let (percent, held) = (u64::from(self.options.refused), u64::from(self.options.held));
        let mut delays = Vec::new();
        let mut ids = Vec::new();
        for pair in Pairs::new(body) {
            let pair = pair?;
            // Spread evenly, and never the same again: one in a hundred of what is sent once more is refused once more.
            if percent > 0 && self.seen.fetch_add(1, Ordering::Relaxed) * percent % 100 < percent {
                reply.refused(&pair);
                refused += 1;
                continue;
            }
            if held > 0 && documents * held % 100 < held {
                reply.held(&pair);
            } else {
                reply.stored(&pair, index);
            }
            documents += 1;
            if self.options.delays && self.is_wanted(pair.source) {
                delays.push(delay(&pair, arrived)?);
            }
            if self.options.verify_ids {
                ids.push(place(&pair, index)?);
            }
        }
        if documents + refused == 0 {
            return Err("request body is required".into());
        }
        if self.options.delays {
            locked(&self.delays).append(&mut delays);
        }
        if self.options.verify_ids {
            let mut known = locked(&self.ids);
            let doubles = ids.into_iter().map(|id| u64::from(!known.insert(id))).sum();
            self.doubles.fetch_add(doubles, Ordering::Relaxed);
        }
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.wire.fetch_add(wire as u64, Ordering::Relaxed);
        self.inflated.fetch_add(body.len() as u64, Ordering::Relaxed);
        // Last, and with Release: who sees this count sees the others too.
        self.documents.fetch_add(documents, Ordering::Release);
        Ok(reply.finish())
    }
}

/// Microseconds from the record's own time to `arrived`; a clock that stepped back counts as no delay.
fn delay(pair: &Pair<'_>, arrived: Nanos) -> Result<u32, String> {
    let written =
        pair.timestamp().and_then(clock::parse).ok_or("a document without a readable @timestamp")?;
    Ok(microseconds(written, arrived))
}

fn microseconds(written: Nanos, arrived: Nanos) -> u32 {
    u32::try_from(arrived.0.saturating_sub(written.0) / 1_000).unwrap_or(u32::MAX)
}

/// What must be unique: the index and the `_id` within it.
fn place(pair: &Pair<'_>, index: &str) -> Result<Box<[u8]>, String> {
    let id = pair.id().ok_or("a document without an _id, where ids are to be verified")?;
    Ok([pair.index().unwrap_or(index.as_bytes()), b"\0", id].concat().into_boxed_slice())
}

/// Inflates the one gzip member that a server reads. Bytes after it would be lost there, so they are an error here.
pub fn inflate(wire: &[u8], buffer: &mut Vec<u8>) -> Result<(), String> {
    let mut decoder = GzDecoder::new(wire);
    decoder.read_to_end(buffer).map_err(|error| format!("broken gzip: {error}"))?;
    match decoder.into_inner().len() {
        0 => Ok(()),
        left => Err(format!("{left} bytes after the first gzip member, which a server would not read")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::Connection;
    use flate2::{Compression, write::GzEncoder};
    use std::io::Write;

    const BODY: &str = "{\"create\":{\"_id\":\"1\"}}\n{\"@timestamp\":\"2024-02-29T12:34:56Z\"}\n\
                        {\"create\":{\"_id\":\"2\"}}\n{\"@timestamp\":\"2024-02-29T12:34:57Z\"}\n";

    fn gzip(text: &str) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn documents_are_counted_plain_and_gzip() {
        let sink = Sink::start(Options::default(), 1).unwrap();
        let mut connection = Connection::open(sink.port()).unwrap();
        let reply =
            connection.post("/x/_bulk?filter_path=errors,items.*.status", BODY.as_bytes(), false).unwrap();
        assert_eq!(
            String::from_utf8(reply).unwrap(),
            "{\"errors\":false,\"items\":[{\"create\":{\"status\":201}},{\"create\":{\"status\":201}}]}"
        );
        let packed = gzip(BODY);
        connection.post("/_bulk", &packed, true).unwrap();
        let expected = Totals {
            documents: 4,
            requests: 2,
            wire: (BODY.len() + packed.len()) as u64,
            inflated: 2 * BODY.len() as u64,
        };
        assert_eq!(sink.totals(), expected);
        sink.check().unwrap();
    }

    #[test]
    fn so_many_of_a_hundred_are_refused_and_not_counted() {
        let sink = Sink::start(Options { refused: 50, verify_ids: true, ..Options::default() }, 1).unwrap();
        let mut connection = Connection::open(sink.port()).unwrap();
        let reply =
            connection.post("/x/_bulk?filter_path=errors,items.*.status", BODY.as_bytes(), false).unwrap();
        let expected =
            "{\"errors\":true,\"items\":[{\"create\":{\"status\":429}},{\"create\":{\"status\":201}}]}";
        assert_eq!(String::from_utf8(reply).unwrap(), expected);
        assert_eq!(sink.totals().documents, 1);
        sink.check().unwrap();
    }

    #[test]
    fn a_malformed_request_counts_for_nothing_and_is_told() {
        let sink = Sink::start(Options::default(), 1).unwrap();
        let mut connection = Connection::open(sink.port()).unwrap();
        let cut = &BODY[..BODY.len() - 2];
        assert!(connection.post("/_bulk", cut.as_bytes(), false).unwrap_err().to_string().contains("400"));
        assert_eq!(sink.totals().documents, 0);
        assert!(sink.check().is_err());
    }

    #[test]
    fn a_second_gzip_member_is_refused() {
        let sink = Sink::start(Options::default(), 1).unwrap();
        let mut connection = Connection::open(sink.port()).unwrap();
        let two = [gzip(BODY), gzip(BODY)].concat();
        assert!(connection.post("/_bulk", &two, true).is_err());
        assert_eq!(sink.totals().documents, 0);
    }

    #[test]
    fn an_id_that_comes_again_is_found() {
        let sink = Sink::start(Options { verify_ids: true, delays: true, ..Options::default() }, 1).unwrap();
        let mut connection = Connection::open(sink.port()).unwrap();
        connection.post("/a/_bulk", BODY.as_bytes(), false).unwrap();
        connection.post("/b/_bulk", BODY.as_bytes(), false).unwrap();
        sink.check().unwrap();
        assert_eq!(sink.take_delays().len(), 4);
        connection.post("/a/_bulk", BODY.as_bytes(), false).unwrap();
        assert!(sink.check().unwrap_err().to_string().starts_with("2 documents"));
    }
}

//! The two doors: listening, and which answer a request gets.
//!
//! In: connections. Out: answers made of what [`super`] holds. A port that cannot be had is told once, and tried again every
//! minute. Each door has room for so many connections; the door that others in the cluster can reach has less for a single
//! peer, and closes connections that ask nothing, or after a while whatever they do, so that kubelet's probe finds room. Nothing
//! is read of a request but its head.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, Response, StatusCode, header};
use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, Sleep};

use super::{Shared, guard, health, metrics, status, tail};
use crate::config::Listen;

/// Connections to a door at a time.
const MOST_CONNECTIONS: usize = 64;

/// Connections of one peer to the metrics at a time.
const MOST_OF_A_PEER: usize = 16;

/// How long one to the metrics may take until it has asked something.
const LONGEST_HEAD: Duration = Duration::from_secs(3);

/// How long one to the metrics may stay after what it was last told.
const LONGEST_IDLE: Duration = Duration::from_secs(10);

/// How long one to the metrics may last: Prometheus opens another.
const LONGEST_CONNECTION: Duration = Duration::from_secs(30);

/// How often a port that cannot be had is tried.
const TRY_AGAIN: Duration = Duration::from_secs(60);

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// `listen`: the page, its JSON and tails.
    Page,
    /// `metrics_listen`: metrics and health.
    Metrics,
}

impl Door {
    fn key(self) -> &'static str {
        match self {
            Door::Page => "listen",
            Door::Metrics => "metrics_listen",
        }
    }
}

/// Keeps a door open where it is wanted, until nobody can want it elsewhere any more.
pub async fn keep_open(door: Door, mut wanted: watch::Receiver<Listen>, shared: Arc<Shared>) {
    let mut told = false;
    loop {
        let Listen::At(address) = *wanted.borrow_and_update() else {
            note(&shared, door, None);
            if wanted.changed().await.is_err() {
                return;
            }
            continue;
        };
        let listener = match bind(address).await {
            Ok(listener) => listener,
            Err(error) => {
                note(&shared, door, None);
                if !std::mem::replace(&mut told, true) {
                    let (key, remedy) = (door.key(), remedy(&error));
                    tracing::warn!(
                        %address, %error,
                        "cannot listen: set `{key}` to {remedy}, or to \"off\"; logs are shipped all the same, and it is tried again every minute"
                    );
                }
                tokio::select! {
                    changed = wanted.changed() => if changed.is_err() { return },
                    () = tokio::time::sleep(TRY_AGAIN) => {}
                }
                continue;
            }
        };
        told = false;
        let bound = listener.local_addr().unwrap_or(address);
        tracing::info!(address = %bound, what = door.key(), "listening");
        note(&shared, door, Some(bound));
        let answering = shared.clone();
        let router =
            Router::new().fallback(move |request: Request| answer(door, bound, answering.clone(), request));
        let room = Arc::new(Semaphore::new(MOST_CONNECTIONS));
        let limited = Limited { listener, room, peers: Peers::default(), door };
        tokio::select! {
            _ = axum::serve(limited, router) => {}
            changed = wanted.changed() => if changed.is_err() { return },
        }
    }
}

fn note(shared: &Shared, door: Door, address: Option<SocketAddr>) {
    shared.bound(|bound| match door {
        Door::Page => bound.page = address,
        Door::Metrics => bound.metrics = address,
    });
}

/// Listens. Where the system has no IPv6, all addresses are those of IPv4.
async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    match TcpListener::bind(address).await {
        Err(_) if address.is_ipv6() && address.ip().is_unspecified() => {
            TcpListener::bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), address.port())).await
        }
        bound => bound,
    }
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "another port, or stop what uses this one",
        io::ErrorKind::PermissionDenied => "a port above 1023",
        _ => "an address of this machine",
    }
}

/// A listener with room for so many.
struct Limited {
    listener: TcpListener,
    room: Arc<Semaphore>,
    peers: Peers,
    door: Door,
}

/// How many connections each peer has.
#[derive(Debug, Clone, Default)]
struct Peers(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// A place among those of a peer; given back when dropped.
struct PeerPlace(Peers, IpAddr);

impl Peers {
    /// A place, if the peer has not all of its own already.
    fn place(&self, peer: IpAddr) -> Option<PeerPlace> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = held.entry(peer).or_default();
        if *count >= MOST_OF_A_PEER {
            return None;
        }
        *count += 1;
        Some(PeerPlace(self.clone(), peer))
    }
}

impl Drop for PeerPlace {
    fn drop(&mut self) {
        let mut held = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = held.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.1);
            }
        }
    }
}

/// A connection that has its place in the room, and perhaps an end.
struct Connection {
    stream: TcpStream,
    /// When it is closed as it stands, and when at the latest.
    end: Option<(Pin<Box<Sleep>>, Instant)>,
    _peer: Option<PeerPlace>,
    _place: Option<OwnedSemaphorePermit>,
}

impl Listener for Limited {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        // Never closed, so that there is always a place in the end.
        let place = self.room.clone().acquire_owned().await.ok();
        loop {
            let (stream, address) = Listener::accept(&mut self.listener).await;
            let ip = address.ip().to_canonical();
            if self.door == Door::Page {
                return (Connection { stream, end: None, _peer: None, _place: place }, address);
            }
            let peer = self.peers.place(ip);
            if peer.is_none() && !ip.is_loopback() {
                // One too many: closed at once.
                continue;
            }
            let now = Instant::now();
            let sleep = Box::pin(tokio::time::sleep_until(now + LONGEST_HEAD));
            let end = Some((sleep, now + LONGEST_CONNECTION));
            return (Connection { stream, end, _peer: peer, _place: place }, address);
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl Connection {
    fn is_over(&mut self, context: &mut Context<'_>) -> bool {
        self.end.as_mut().is_some_and(|(end, _)| end.as_mut().poll(context).is_ready())
    }

    /// It has been told something, and may ask again.
    fn goes_on(&mut self) {
        if let Some((end, latest)) = &mut self.end {
            end.as_mut().reset((Instant::now() + LONGEST_IDLE).min(*latest));
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_over(context) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_over(context) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        if matches!(written, Poll::Ready(Ok(_))) {
            self.goes_on();
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

async fn answer(door: Door, bound: SocketAddr, shared: Arc<Shared>, request: Request) -> Response<Body> {
    let path = request.uri().path();
    match door {
        Door::Metrics => match path {
            "/metrics" => response(StatusCode::OK, metrics::CONTENT_TYPE, metrics::text(&shared)),
            "/healthz" => verdict(health::live(&shared.life())),
            "/readyz" => verdict(health::ready(&shared.life())),
            _ => text(StatusCode::NOT_FOUND, "here are /metrics, /healthz and /readyz"),
        },
        Door::Page => {
            if let Err((status, said)) = guard::admit(request.method(), request.headers(), bound) {
                return text(status, said);
            }
            page(path, &shared, &request)
        }
    }
}

fn page(path: &str, shared: &Arc<Shared>, request: &Request) -> Response<Body> {
    match path {
        "/" => response(StatusCode::OK, "text/html; charset=utf-8", include_str!("page/index.html")),
        "/page.css" => response(StatusCode::OK, "text/css; charset=utf-8", include_str!("page/page.css")),
        "/page.js" => {
            response(StatusCode::OK, "text/javascript; charset=utf-8", include_str!("page/page.js"))
        }
        "/api/v1/status" => json(&status::status(shared)),
        "/api/v1/history" => json(&shared.history.samples()),
        "/api/v1/tap" => {
            let wants = |kind: &str| {
                let accepted = request.headers().get(header::ACCEPT);
                accepted
                    .is_some_and(|accepted| accepted.to_str().is_ok_and(|accepted| accepted.contains(kind)))
            };
            let events = wants("text/event-stream");
            let kind = if events { "text/event-stream" } else { "application/x-ndjson" };
            let Some(shown) = shared.shown() else {
                return text(StatusCode::SERVICE_UNAVAILABLE, "no configuration runs at the moment");
            };
            match tail::open(&shown, request.uri(), events) {
                Ok(body) => response(StatusCode::OK, kind, body),
                Err((status, said)) => text(status, said),
            }
        }
        _ => text(StatusCode::NOT_FOUND, "here are /, /api/v1/status, /api/v1/history and /api/v1/tap"),
    }
}

fn verdict(health: Result<(), String>) -> Response<Body> {
    match health {
        Ok(()) => text(StatusCode::OK, "ok"),
        Err(said) => text(StatusCode::SERVICE_UNAVAILABLE, said),
    }
}

fn json(value: &impl serde::Serialize) -> Response<Body> {
    match serde_json::to_string(value) {
        Ok(body) => response(StatusCode::OK, "application/json", body),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

fn text(status: StatusCode, said: impl Into<String>) -> Response<Body> {
    response(status, "text/plain; charset=utf-8", said.into() + "\n")
}

/// An answer that is kept nowhere, and that no page of others can have, show or make its own.
fn response(status: StatusCode, kind: &'static str, body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    for (name, value) in [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        ),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_peer_has_so_many_places_and_gets_back_those_that_it_leaves() {
        let (peers, one, other) = (Peers::default(), Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
        let mut held: Vec<_> = (0..MOST_OF_A_PEER).filter_map(|_| peers.place(one.into())).collect();
        assert_eq!(held.len(), MOST_OF_A_PEER);
        assert!(peers.place(one.into()).is_none());
        assert!(peers.place(other.into()).is_some(), "another peer has its own");
        held.pop();
        assert!(peers.place(one.into()).is_some());
        held.clear();
        assert!(peers.0.lock().expect("nobody panicked").is_empty(), "nothing is remembered of who has left");
    }
}

//! Several endpoints: one that is dead, one that returns.

use crate::kit::{Server, bulk, config, dead_port, done, listener, ok, reply};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use taffrail::output::http::HttpClient;

fn client(ports: &[u16], lines: &str) -> HttpClient {
    let endpoints: Vec<String> = ports.iter().map(|port| format!("\"http://127.0.0.1:{port}\"")).collect();
    HttpClient::new(&config(&format!("endpoints = [{}]\n{lines}", endpoints.join(", ")))).expect("a client")
}

#[tokio::test]
async fn requests_are_spread_and_a_dead_endpoint_fails_none() {
    let (one, other) = (Server::plain(|_| done()).await, Server::plain(|_| done()).await);
    let client = client(&[one.port(), dead_port().await, other.port()], "");
    for _ in 0..60 {
        ok(bulk(&client).await);
    }
    let counts = [one.requests().len(), other.requests().len()];
    assert!(counts.iter().sum::<usize>() == 60 && counts.iter().all(|&count| count >= 15), "{counts:?}");
}

#[tokio::test]
async fn an_endpoint_that_returns_is_used_again() {
    let one = Server::plain(|_| done()).await;
    let socket = listener().await;
    let address = socket.local_addr().expect("a bound socket");
    drop(socket);
    let client = client(&[one.port(), address.port()], "retry_initial = \"1ms\"\nretry_max = \"5ms\"");
    for _ in 0..20 {
        ok(bulk(&client).await);
    }
    assert_eq!(one.requests().len(), 20);
    let socket = tokio::net::TcpListener::bind(address).await.expect("the same port");
    let other = Server::start(socket, None, Box::new(|_| done()));
    let patience = Instant::now() + Duration::from_secs(20);
    while other.requests().is_empty() {
        assert!(Instant::now() < patience, "never asked again");
        ok(bulk(&client).await);
    }
}

#[tokio::test]
async fn a_bad_gateway_is_left_alone_for_as_long_as_it_asks() {
    let bad = Server::plain(|_| reply("503 Unavailable", "retry-after: 30\r\n", "")).await;
    let good = Server::plain(|_| done()).await;
    let client = client(&[bad.port(), good.port()], "retry_max = \"1m\"");
    for _ in 0..50 {
        // What was not taken for sure is the caller's to send again.
        bulk(&client).await.expect("a reply");
    }
    assert_eq!((bad.requests().len(), good.requests().len()), (1, 49));
}

#[tokio::test]
async fn what_may_have_been_taken_is_not_sent_elsewhere_by_itself() {
    let seen = Arc::new(AtomicUsize::new(0));
    let breaking = |seen: Arc<AtomicUsize>| {
        Server::plain(move |_| {
            seen.fetch_add(1, Ordering::SeqCst);
            b"HTTP/1.1 200 OK\r\nnonsense\r\n\r\n".to_vec()
        })
    };
    let (one, other) = (breaking(seen.clone()).await, breaking(seen.clone()).await);
    let error = bulk(&client(&[one.port(), other.port()], "")).await.expect_err("no reply");
    assert!(error.in_doubt, "{error:?}");
    assert_eq!(seen.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn when_no_endpoint_can_be_reached_all_are_named() {
    let ports = [dead_port().await, dead_port().await];
    let error = bulk(&client(&ports, "")).await.expect_err("nobody");
    for port in ports {
        assert!(error.what.contains(&format!("http://127.0.0.1:{port}: cannot connect: ")), "{error}");
    }
    assert!(!error.in_doubt && error.what.contains("refused"), "{error:?}");
}

//! HTTP_PROXY, HTTPS_PROXY and NO_PROXY.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncWriteExt, BufReader};

use crate::child;
use crate::kit::{Request, Server, dead_port, done, listener, read_request, tunnel};
use crate::tls::Authority;

#[tokio::test]
async fn plain_requests_go_through_the_proxy_but_not_those_of_no_proxy() {
    let proxy = Server::plain(|_| done()).await;
    let server = Server::plain(|_| done()).await;
    let environment = [("HTTP_PROXY", &*proxy.http()), ("NO_PROXY", "127.0.0.1,.internal")];
    assert_eq!(child::run("endpoints = [\"http://search.invalid:9200\"]", &environment).await, "done");
    let request = proxy.request();
    assert!(request.target.starts_with("http://search.invalid:9200/_bulk?"), "{request:?}");
    assert_eq!(request.header("host"), "search.invalid:9200");

    let lines = format!("endpoints = [\"{}\"]", server.http());
    assert_eq!(child::run(&lines, &environment).await, "done");
    assert_eq!((proxy.requests().len(), server.requests().len()), (1, 1));
}

#[tokio::test]
async fn a_proxy_that_is_away_is_named_where_the_server_cannot_be_reached() {
    let proxy = format!("http://me:hunter2@127.0.0.1:{}", dead_port().await);
    let told = child::run("endpoints = [\"http://search.invalid:9200\"]", &[("HTTP_PROXY", &proxy)]).await;
    assert!(told.contains("through the proxy 127.0.0.1:") && told.contains("of HTTP_PROXY"), "{told}");
    assert!(!told.contains("hunter2"), "{told}");
}

#[tokio::test]
async fn tls_goes_through_the_proxy_untouched() {
    let authority = Authority::new();
    let server = Server::tls(authority.server("search.invalid", None)).await;
    let listener = listener().await;
    let proxy = format!("http://me:hunter2@{}", listener.local_addr().expect("a bound socket"));
    let asked = Arc::new(Mutex::new(None));
    let (address, kept) = (server.address, asked.clone());
    let task = tokio::spawn(async move {
        let (socket, _) = listener.accept().await.expect("the agent");
        let mut stream = BufReader::new(socket);
        let request = read_request(&mut stream, &Request::default()).await;
        *kept.lock().expect("no panic") = request;
        stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.expect("the agent");
        tunnel(stream, address).await;
    });
    let lines = format!("endpoints = [\"https://search.invalid\"]\ntls = {{ {} }}", authority.ca());
    assert_eq!(child::run(&lines, &[("HTTPS_PROXY", &proxy)]).await, "done");
    task.abort();
    let asked = asked.lock().expect("no panic").clone().expect("a request to the proxy");
    assert_eq!((asked.method.as_str(), asked.target.as_str()), ("CONNECT", "search.invalid:443"));
    assert_eq!(asked.header("proxy-authorization"), "Basic bWU6aHVudGVyMg==");
    assert_eq!(server.request().sni.as_deref(), Some("search.invalid"));
}

//! What a server sees of `auth`, and what people see of replies that are none.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::kit::{BODY, Server, bulk, client, config, done, ok, reply, unauthorized};
use bytes::Bytes;
use taffrail::output::http::HttpClient;

#[tokio::test]
async fn a_bulk_request_arrives_as_it_was_given() {
    let server = Server::plain(|_| done()).await;
    let client = client(&format!("{}/prefix", server.http()), "");
    let reply = client.bulk(Bytes::from_static(BODY), true).await.expect("a reply");
    assert_eq!((reply.status.as_u16(), &*reply.body), (200, &b"{\"errors\":false}"[..]));
    let request = server.request();
    assert_eq!((request.method.as_str(), &*request.body), ("POST", BODY));
    assert!(request.target.starts_with("/prefix/_bulk?filter_path=errors,items.*."), "{request:?}");
    assert_eq!(request.header("content-type"), "application/x-ndjson");
    assert_eq!(request.header("content-encoding"), "gzip");
    assert_eq!(request.header("host"), server.address.to_string());
    assert_eq!(request.header("authorization"), "");
}

#[tokio::test]
async fn the_memory_of_a_body_comes_back_uncopied() {
    let server = Server::plain(|_| done()).await;
    let memory = vec![b'x'; 4 << 20];
    let place = memory.as_ptr();
    let body = Bytes::from(memory);
    ok(client(&server.http(), "").bulk(body.clone(), false).await);
    let back = Vec::from(body.try_into_mut().expect("nobody else holds it"));
    assert_eq!((back.len(), back.as_ptr()), (4 << 20, place));
}

#[tokio::test]
async fn the_server_sees_each_kind_of_secret() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("secret");
    std::fs::write(&file, "hunter2\n").expect("a file");
    let place = format!("{{ file = \"{}\" }}", file.display());
    for (auth, seen) in [
        (
            format!("{{ type = \"basic\", username = \"elastic\", password = {place} }}"),
            "Basic ZWxhc3RpYzpodW50ZXIy",
        ),
        (format!("{{ type = \"api_key\", key = {place} }}"), "ApiKey hunter2"),
        (format!("{{ type = \"bearer\", token = {place} }}"), "Bearer hunter2"),
    ] {
        let server = Server::plain(|_| done()).await;
        let client = client(&server.http(), &format!("auth = {auth}"));
        ok(bulk(&client).await);
        assert_eq!(server.request().header("authorization"), seen);
        let printed = format!("{client:?}");
        assert!(!printed.contains("hunter2") && !printed.contains("ZWxhc3RpYzpodW50ZXIy"), "{printed}");
    }
}

#[tokio::test]
async fn a_rotated_secret_is_picked_up_when_the_old_one_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("token");
    std::fs::write(&file, "old").expect("a file");
    let server = Server::plain(|request| match request.header("authorization") {
        "Bearer new" => done(),
        _ => unauthorized(),
    })
    .await;
    let auth = format!("auth = {{ type = \"bearer\", token = {{ file = \"{}\" }} }}", file.display());
    let client = client(&server.http(), &auth);

    let refused = bulk(&client).await.expect("a reply");
    assert_eq!(refused.status.as_u16(), 401);
    assert!(
        refused.told().ends_with("401 Unauthorized: security_exception: unable to authenticate"),
        "{}",
        refused.told()
    );
    assert_eq!(server.requests().len(), 1, "the same secret is not sent again");

    std::fs::write(&file, "new").expect("a file");
    ok(bulk(&client).await);
    let seen: Vec<_> =
        server.requests().iter().map(|request| request.header("authorization").to_owned()).collect();
    assert_eq!(seen, ["Bearer old", "Bearer old", "Bearer new"]);
}

#[tokio::test]
async fn a_secret_file_is_waited_for_and_a_missing_variable_is_told_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("key");
    let server = Server::plain(|_| done()).await;
    let client = client(
        &server.http(),
        &format!("auth = {{ type = \"api_key\", key = {{ file = \"{}\" }} }}", file.display()),
    );
    let error = bulk(&client).await.expect_err("no secret yet");
    assert!(error.what.contains("key cannot be read") && !error.in_doubt, "{error:?}");
    std::fs::write(&file, "k").expect("a file");
    ok(bulk(&client).await);

    let config = config(
        "endpoints = [\"http://a\"]\nauth = { type = \"bearer\", token.env = \"TAFFRAIL_NO_SUCH_NAME\" }",
    );
    let error = HttpClient::new(&config).expect_err("no variable").to_string();
    assert!(error.starts_with("the environment has no TAFFRAIL_NO_SUCH_NAME"), "{error}");
}

#[tokio::test]
async fn replies_of_others_than_the_server_are_told_in_one_line() {
    let html = "<html><head><title>503 Service\nUnavailable</title></head></html>";
    for (answer, said, in_doubt) in [
        (
            reply("301 Moved", "location: https://elsewhere/_bulk\r\n", ""),
            "answered 301 Moved Permanently, a redirect to https://elsewhere/_bulk: redirects are not followed",
            false,
        ),
        (
            reply("200 OK", "content-type: text/html\r\n", "<html><title>Sign in</title>"),
            "answered a bulk request with text/html: a page (\"Sign in\")",
            true,
        ),
        (
            b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\ncontent-type: application/json\r\n\r\n{\"err"
                .to_vec(),
            "the reply broke off",
            true,
        ),
        (b"SSH-2.0-OpenSSH\r\n".to_vec(), "the connection broke: ", true),
        // An alert, as of a server that expects TLS.
        (b"\x15\x03\x01\x00\x02\x02\x46".to_vec(), "; does it want https:// in `endpoints`?", true),
    ] {
        let truncated = answer.ends_with(b"{\"err");
        let server = Server::plain(move |_| answer.clone()).await;
        let client = client(&server.http(), "timeout = \"2s\"");
        let sending = bulk(&client);
        let error = if truncated {
            // The server goes away in the middle of its reply.
            let (sent, ()) = tokio::join!(sending, async {
                while server.requests().is_empty() {
                    tokio::task::yield_now().await;
                }
                drop(server);
            });
            sent
        } else {
            sending.await
        }
        .expect_err("no reply");
        assert!(error.what.contains(said), "{error:?}");
        assert!(error.in_doubt == in_doubt && !error.what.contains('\n'), "{error:?}");
    }

    let server = Server::plain(move |_| {
        reply("503 Unavailable", "content-type: text/html\r\nretry-after: 7\r\n", html)
    })
    .await;
    let told = bulk(&client(&server.http(), "")).await.expect("a reply");
    assert_eq!(told.retry_after.map(|wait| wait.as_secs()), Some(7));
    assert!(
        told.told().contains("503 Service Unavailable: a page (\"503 Service Unavailable\"), as of a proxy"),
        "{}",
        told.told()
    );
}

#[tokio::test]
async fn requests_refused_together_are_all_sent_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("token");
    std::fs::write(&file, "old").expect("a file");
    static REFUSED: AtomicUsize = AtomicUsize::new(0);
    let renewed = file.clone();
    let server = Server::plain(move |request| match request.header("authorization") {
        "Bearer newer" => done(),
        _ => {
            // The secret is renewed while requests with the old one are on their way.
            if REFUSED.fetch_add(1, Ordering::SeqCst) == 0 {
                std::fs::write(&renewed, "newer").expect("a file");
            }
            unauthorized()
        }
    })
    .await;
    let auth = format!("auth = {{ type = \"bearer\", token = {{ file = \"{}\" }} }}", file.display());
    let client = client(&server.http(), &auth);
    let (a, b, c, d) = tokio::join!(bulk(&client), bulk(&client), bulk(&client), bulk(&client));
    for sent in [a, b, c, d] {
        ok(sent);
    }
}

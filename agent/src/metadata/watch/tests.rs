//! The watch against a server that says what the test wants: what a real one says seldom, or in older versions only.

use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::catalog::origin::Container;
use crate::config::MetadataConfig;
use crate::metadata::connection::Access;
use crate::metadata::table::{Claim, Saved};

/// What the server answers to one request.
enum Answer {
    /// A status and a body.
    Whole(u16, Value),
    /// A watch: these events, then its end, or silence.
    Events(Vec<Value>, Then),
}

enum Then {
    Ends,
    FallsSilent,
}

/// A watch on a server that gives these answers, one after the other, and then silence.
struct World {
    table: Arc<Table>,
    /// The requests as they came, without what they always have.
    requests: Receiver<String>,
    _folder: tempfile::TempDir,
    _watch: tokio::task::JoinHandle<()>,
}

impl World {
    async fn of(timeout: Duration, answers: Vec<Answer>) -> World {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("kubeconfig");
        let kubeconfig = json!({
            "current-context": "c", "contexts": [{ "name": "c", "context": { "cluster": "c", "user": "u" } }],
            "clusters": [{ "name": "c", "cluster": { "server": format!("http://{}", listener.local_addr().unwrap()) } }],
            "users": [{ "name": "u", "user": {} }],
        });
        std::fs::write(&file, kubeconfig.to_string()).unwrap();
        let (told, requests) = mpsc::channel();
        let answers = Arc::new(Mutex::new(answers.into_iter()));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (answers, told) = (answers.clone(), told.clone());
                tokio::spawn(async move {
                    let mut stream = BufReader::new(stream);
                    while let Some(target) = read_request(&mut stream).await {
                        let _ = told.send(target);
                        let answer = answers.lock().unwrap().next();
                        if !give(stream.get_mut(), answer).await {
                            return;
                        }
                    }
                });
            }
        });
        // Nobody waits long: nothing is known, and the first pause is half of `wait`.
        let config = MetadataConfig { wait: Duration::ZERO, timeout, ..MetadataConfig::default() };
        let table = Arc::new(Table::new(config, Saved::default()));
        let connection =
            Arc::new(Connection::new(Access::Kubeconfig(file.into()), timeout, table.stats.clone()));
        let watch = Watch::new(connection, table.clone(), "n1".to_owned());
        World { table, requests, _folder: folder, _watch: tokio::spawn(watch.run()) }
    }

    fn claim(&self, pod: &str) -> Claim {
        self.table.claim(&Container {
            namespace: "shop".into(),
            pod: pod.into(),
            uid: format!("{pod}-uid"),
            name: "app".into(),
        })
    }

    /// Waits until the label `v` of a claimed pod is this.
    async fn is(&self, claim: &Claim, version: &str) {
        let label = || Some(self.table.find(claim)?.pod.labels.get("v")?.clone());
        let begun = Instant::now();
        while label().as_deref() != Some(version) {
            assert!(begun.elapsed() < Duration::from_secs(30), "still {:?}", label());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits for the next request.
    async fn request(&self) -> String {
        let begun = Instant::now();
        loop {
            if let Ok(request) = self.requests.try_recv() {
                return request;
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "no further request");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

async fn read_request(stream: &mut BufReader<TcpStream>) -> Option<String> {
    let (mut target, mut line) = (String::new(), String::new());
    while stream.read_line(&mut line).await.ok()? > 0 {
        if target.is_empty() {
            target = line.split(' ').nth(1)?.to_owned();
        }
        if line == "\r\n" {
            let query = target.strip_prefix("/api/v1/pods?")?;
            let told =
                |part: &&str| !part.starts_with("timeoutSeconds") && *part != "allowWatchBookmarks=true";
            let (node, parts): (Vec<&str>, Vec<&str>) = query
                .split('&')
                .filter(|part| !part.is_empty())
                .filter(told)
                .partition(|p| p.starts_with("fieldSelector"));
            assert_eq!(node, ["fieldSelector=spec.nodeName%3Dn1"]);
            return Some(parts.join("&"));
        }
        line.clear();
    }
    None
}

/// Whether the connection is fit for another request.
async fn give(stream: &mut TcpStream, answer: Option<Answer>) -> bool {
    match answer {
        Some(Answer::Whole(status, body)) => {
            let body = body.to_string();
            let head = format!(
                "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            stream.write_all((head + &body).as_bytes()).await.is_ok()
        }
        Some(Answer::Events(events, then)) => {
            let lines: String = events.iter().map(|event| format!("{event}\n")).collect();
            let head = "HTTP/1.1 200 x\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n";
            let _ = stream.write_all((head.to_owned() + &lines).as_bytes()).await;
            if let Then::FallsSilent = then {
                std::future::pending::<()>().await;
            }
            false
        }
        None => std::future::pending().await,
    }
}

fn pod(name: &str, version: u32) -> Value {
    json!({ "metadata": { "namespace": "shop", "name": name, "uid": format!("{name}-uid"),
        "resourceVersion": version.to_string(), "labels": { "v": version.to_string() } } })
}

fn event(kind: &str, object: Value) -> Value {
    json!({ "type": kind, "object": object })
}

fn bookmark(version: u32, ends: bool) -> Value {
    let annotations = if ends { json!({ "k8s.io/initial-events-end": "true" }) } else { json!({}) };
    let object = json!({ "apiVersion": "v1", "kind": "Pod",
        "metadata": { "resourceVersion": version.to_string(), "annotations": annotations } });
    event("BOOKMARK", object)
}

fn refusal(code: u16, message: &str) -> Value {
    json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": message, "reason": "x" })
}

const FIRST: &str = "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&resourceVersion=0";
const SOON: Duration = Duration::from_secs(20);

#[tokio::test]
async fn everything_comes_on_one_request_and_the_next_goes_on_where_it_ended() {
    let first = vec![
        event("ADDED", pod("a", 3)),
        event("ADDED", pod("b", 7)),
        bookmark(9, true),
        event("MODIFIED", pod("a", 12)),
        bookmark(15, false),
    ];
    let world = World::of(
        SOON,
        vec![
            Answer::Events(first, Then::Ends),
            Answer::Events(vec![event("DELETED", pod("a", 17))], Then::FallsSilent),
        ],
    )
    .await;
    let (a, b) = (world.claim("a"), world.claim("b"));
    world.is(&a, "12").await;
    world.is(&b, "7").await;
    assert_eq!(world.request().await, FIRST);
    assert_eq!(world.request().await, "watch=true&resourceVersion=15");
    assert!(world.table.is_complete());
}

#[tokio::test]
async fn a_server_that_streams_no_lists_is_asked_for_a_plain_one() {
    let list = json!({ "metadata": { "resourceVersion": "20" }, "items": [pod("a", 3)] });
    let world = World::of(
        SOON,
        vec![
            Answer::Whole(
                422,
                refusal(
                    422,
                    "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled",
                ),
            ),
            Answer::Whole(200, list),
            Answer::Events(vec![event("MODIFIED", pod("a", 21))], Then::FallsSilent),
        ],
    )
    .await;
    let a = world.claim("a");
    world.is(&a, "21").await;
    assert_eq!(world.request().await, FIRST);
    assert_eq!(world.request().await, "resourceVersion=0");
    assert_eq!(world.request().await, "watch=true&resourceVersion=20");
}

#[tokio::test]
async fn what_went_while_the_server_had_forgotten_us_is_gone_and_nothing_older_comes_back() {
    let first = vec![event("ADDED", pod("a", 3)), event("ADDED", pod("b", 7)), bookmark(9, true)];
    let gone = vec![event("ERROR", refusal(410, "too old resource version"))];
    let second = vec![event("ADDED", pod("b", 30)), bookmark(31, true)];
    let world = World::of(
        SOON,
        vec![
            Answer::Events(first, Then::Ends),
            Answer::Events(gone, Then::Ends),
            Answer::Events(second, Then::FallsSilent),
        ],
    )
    .await;
    let b = world.claim("b");
    world.is(&b, "30").await;
    assert_eq!(world.request().await, FIRST);
    assert_eq!(world.request().await, "watch=true&resourceVersion=9");
    assert_eq!(world.request().await, FIRST.replace("Version=0", "Version=9"));
    let begun = Instant::now();
    while world.table.save().pods.iter().filter(|pod| pod.deleted.is_some()).count() != 1 {
        assert!(begun.elapsed() < SOON);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_watch_that_falls_silent_is_given_up_for_another() {
    let first = vec![event("ADDED", pod("a", 3)), bookmark(9, true)];
    let world = World::of(
        Duration::from_millis(200),
        vec![
            Answer::Events(first, Then::FallsSilent),
            Answer::Events(vec![event("MODIFIED", pod("a", 10))], Then::FallsSilent),
        ],
    )
    .await;
    let a = world.claim("a");
    world.is(&a, "10").await;
    assert_eq!(world.request().await, FIRST);
    assert_eq!(world.request().await, "watch=true&resourceVersion=9");
}

#[tokio::test]
async fn a_server_that_asks_for_time_is_given_it() {
    let mut busy = refusal(429, "too many requests");
    busy["details"] = json!({ "retryAfterSeconds": 1 });
    let first = vec![event("ADDED", pod("a", 3)), bookmark(9, true)];
    let begun = Instant::now();
    let world =
        World::of(SOON, vec![Answer::Whole(429, busy), Answer::Events(first, Then::FallsSilent)]).await;
    let a = world.claim("a");
    world.is(&a, "3").await;
    assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_version_that_the_server_will_never_have_is_not_insisted_on() {
    let first = vec![event("ADDED", pod("a", 900)), bookmark(900, true)];
    let second = vec![event("ADDED", pod("a", 5)), bookmark(6, true)];
    // Its store was put back from a copy: what we have seen is of a future that did not come.
    let world = World::of(
        SOON,
        vec![
            Answer::Events(first, Then::Ends),
            Answer::Whole(410, refusal(410, "too old resource version")),
            Answer::Whole(504, refusal(504, "Too large resource version: 900, current: 6")),
            Answer::Events(second, Then::FallsSilent),
        ],
    )
    .await;
    let a = world.claim("a");
    world.is(&a, "5").await;
    for request in ["0", "900", "900", "0"] {
        assert!(world.request().await.ends_with(&format!("resourceVersion={request}")));
    }
}

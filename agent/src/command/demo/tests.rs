//! The world and the verification together, with a stand-in for the agent: it copies records when all is
//! written, and can be told to make the mistakes that the verification must find.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;

use serde_json::{Map, Value, json};

use super::verify::read_folder;
use super::*;

/// A node that has written for a second, with small files; nothing was deleted, for nothing was ever reported
/// delivered.
fn node(rate: u32, milliseconds: u64) -> (tempfile::TempDir, Vec<Written>, u64) {
    let folder = tempfile::tempdir().unwrap();
    let plan = Plan { pods: folder.path().to_owned(), rate, duration: Duration::from_millis(milliseconds) };
    let world = World::start(plan, fastrand::Rng::with_seed(7)).unwrap();
    while !world.is_finished() {
        thread::sleep(Duration::from_millis(10));
    }
    let (rotations, restarts) = (world.rotations(), world.restarts());
    assert_eq!(restarts, 3);
    (folder, world.finish().unwrap(), rotations)
}

/// Reads every log under `pods` and returns the documents that must come of it.
fn documents(pods: &Path) -> Vec<Value> {
    let mut documents = Vec::new();
    for pod in entries(pods) {
        let name = pod.file_name().unwrap().to_str().unwrap().to_owned();
        let [namespace, pod_name, uid] = name.split('_').collect::<Vec<_>>()[..] else { panic!("{name}") };
        for container in entries(&pod) {
            let container_name = container.file_name().unwrap().to_str().unwrap().to_owned();
            for log in entries(&container) {
                let mut text = Vec::new();
                if log.extension().is_some_and(|extension| extension == "gz") {
                    flate2::read::GzDecoder::new(fs::File::open(&log).unwrap())
                        .read_to_end(&mut text)
                        .unwrap();
                } else {
                    text = fs::read(&log).unwrap();
                }
                let mut parts: HashMap<String, Vec<u8>> = HashMap::new();
                for line in text.split(|&b| b == b'\n').filter(|line| !line.is_empty()) {
                    let words: Vec<_> = line.splitn(4, |&b| b == b' ').collect();
                    let stream = String::from_utf8(words[1].to_vec()).unwrap();
                    parts.entry(stream.clone()).or_default().extend_from_slice(words[3]);
                    if words[2] == b"P" {
                        continue;
                    }
                    let body = String::from_utf8(parts.remove(&stream).unwrap()).unwrap();
                    let (message, app) = body_of(&body);
                    documents.push(json!({
                        "@timestamp": String::from_utf8_lossy(words[0]), "message": message, "app": app,
                        "stream": stream,
                        "kubernetes": { "namespace": namespace, "pod": { "name": pod_name, "uid": uid },
                            "container": { "name": container_name } },
                    }));
                }
                assert!(parts.is_empty(), "a piece without an end in {}", log.display());
            }
        }
    }
    documents
}

fn body_of(body: &str) -> (Value, Map<String, Value>) {
    if let Ok(mut app) = serde_json::from_str::<Map<String, Value>>(body) {
        for key in ["message", "msg", "log"] {
            if app.get(key).is_some_and(Value::is_string) {
                return (app.remove(key).unwrap(), app);
            }
        }
        panic!("a body without a message: {body}");
    }
    (body.into(), Map::new())
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

/// The verdict on `documents`, by way of files.
fn verdict(written: Vec<Written>, documents: &[Value]) -> Verdict {
    let folder = tempfile::tempdir().unwrap();
    let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for document in documents {
        let namespace = document["kubernetes"]["namespace"].as_str().unwrap();
        writeln!(files.entry(format!("{namespace}.ndjson")).or_default(), "{document}").unwrap();
    }
    for (name, bytes) in files {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    let mut checker = Checker::new(written);
    read_folder(folder.path(), &mut checker).unwrap();
    checker.finish()
}

/// Where in `documents` the record of this pod and number is.
fn place(documents: &[Value], pod: &str, number: u64) -> usize {
    let ending = format!(" seq={number}");
    let is = |document: &Value| {
        document["kubernetes"]["pod"]["name"].as_str().unwrap().starts_with(pod)
            && (document["app"]["seq"] == number || document["message"].as_str().unwrap().ends_with(&ending))
    };
    documents.iter().position(is).unwrap()
}

#[test]
fn everything_copied_once_is_exact() {
    let (folder, written, rotations) = node(20_000, 2_500);
    let lines: usize = written.iter().map(|written| written.fingerprints.len()).sum();
    assert!((49_000..51_000).contains(&lines), "{lines} lines at 20,000 a second for 2.5 s");
    assert!(rotations >= 5, "{rotations} rotations");
    assert!(written.iter().all(|written| written.tally.lines() == written.fingerprints.len() as u64));
    let verdict = verdict(written, &documents(folder.path()));
    assert!(verdict.exact(), "{verdict}");
    assert_eq!((verdict.lines, verdict.documents, verdict.pods), (lines as u64, lines as u64, 12));
}

#[test]
fn a_missing_a_doubled_and_an_altered_record_are_each_found() {
    let (folder, written, _) = node(1_000, 1_000);
    let mut documents = documents(folder.path());
    let gone = place(&documents, "cart-", 5);
    documents.remove(gone);
    let twice = place(&documents, "coredns-", 3);
    documents.push(documents[twice].clone());
    let changed = place(&documents, "catalog-", 2);
    let text = documents[changed]["message"].as_str().unwrap().replacen(' ', "  ", 1);
    documents[changed]["message"] = text.into();
    let member = place(&documents, "payments-api-", 4);
    documents[member]["app"]["amount"] = json!(0.01);
    let stream = place(&documents, "kube-proxy-", 1);
    documents[stream]["stream"] = "stdout".into();

    let verdict = verdict(written, &documents);
    assert!(!verdict.exact());
    let found = |pod: &str| {
        let fault = verdict.faults.iter().find(|fault| fault.container.contains(pod)).unwrap();
        (fault.missing.clone(), fault.doubled.clone(), fault.altered.clone())
    };
    assert_eq!(found("/cart-"), (vec![5], vec![], vec![]));
    assert_eq!(found("/coredns-"), (vec![], vec![3], vec![]));
    assert_eq!(found("/catalog-"), (vec![], vec![], vec![2]));
    assert_eq!(found("/payments-api-"), (vec![], vec![], vec![4]));
    assert_eq!(found("/kube-proxy-"), (vec![], vec![], vec![1]));
    assert_eq!((verdict.faults.len(), verdict.strays), (5, 0), "{verdict}");
    assert!(verdict.to_string().contains("lines missing: seq 5\n"), "{verdict}");
}

#[test]
fn documents_that_nobody_wrote_are_found() {
    let (folder, written, _) = node(1_000, 1_000);
    let mut documents = documents(folder.path());
    let at = place(&documents, "cart-", 1);
    let mut stranger = documents[at].clone();
    stranger["kubernetes"]["pod"]["uid"] = "another".into();
    let mut beyond = documents[at].clone();
    beyond["app"]["seq"] = 1_000_000.into();
    let mut timeless = documents[at].clone();
    timeless.as_object_mut().unwrap().remove("@timestamp");
    let mut elsewhere = documents[at].clone();
    elsewhere["kubernetes"]["pod"]["name"] = "cart-another".into();
    documents.extend([stranger, beyond, timeless, elsewhere]);
    let verdict = verdict(written, &documents);
    assert_eq!((verdict.faults.len(), verdict.strays, verdict.stray_examples.len()), (0, 4, 4), "{verdict}");
    assert!(!verdict.exact());
}

#[test]
fn a_job_is_deleted_once_it_is_delivered() {
    let folder = tempfile::tempdir().unwrap();
    let plan = Plan { pods: folder.path().to_owned(), rate: 500, duration: Duration::from_millis(2_500) };
    let world = World::start(plan, fastrand::Rng::with_seed(1)).unwrap();
    while !world.is_finished() {
        thread::sleep(Duration::from_millis(10));
        world.tallies().iter().for_each(|tally| tally.note_delivered(tally.lines()));
    }
    let written = world.finish().unwrap();
    let names: Vec<_> = entries(folder.path()).iter().map(|path| path.display().to_string()).collect();
    assert!(!names.iter().any(|name| name.contains("nightly-report")), "{names:?}");
    let job = written.iter().find(|written| written.tally.pod.starts_with("nightly-report")).unwrap();
    assert!(!job.fingerprints.is_empty());
    assert_eq!(names.len(), 11);
}

/// A server that has `documents`, gives them in pages of 100, and notes what it was asked.
fn server(documents: Vec<Value>) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let noted = asked.clone();
    let mut left = documents.into_iter();
    thread::spawn(move || {
        for connection in listener.incoming() {
            let mut reader = BufReader::new(connection.unwrap());
            let (mut head, mut length) = (String::new(), 0);
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                if line.trim().is_empty() {
                    break;
                }
                head += &line;
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            noted.lock().unwrap().push(head.lines().next().unwrap().to_owned());
            let hits: Vec<_> = match head.contains("_search") && !head.starts_with("DELETE") {
                true => left
                    .by_ref()
                    .take(100)
                    .zip(1..)
                    .map(|(d, id)| json!({ "_index": "i", "_id": id.to_string(), "_source": d }))
                    .collect(),
                false => Vec::new(),
            };
            let reply = json!({ "_scroll_id": "s", "timed_out": false, "_shards": { "failed": 0 }, "hits": { "hits": hits } });
            let reply = reply.to_string();
            let head =
                format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", reply.len());
            reader.get_mut().write_all((head + &reply).as_bytes()).unwrap();
        }
    });
    (endpoint, asked)
}

#[test]
fn a_search_cluster_is_read_back_page_by_page() {
    let (folder, written, _) = node(1_000, 1_000);
    let documents = documents(folder.path());
    let pages = documents.len().div_ceil(100);
    let (endpoint, asked) = server(documents);
    let search = Search::new(&endpoint).unwrap();
    search.prepare().unwrap();
    let mut checker = Checker::new(written);
    let indices = search.read(&["uid".to_owned()], &mut checker).unwrap();
    let verdict = checker.finish();
    assert!(verdict.exact(), "{verdict}");
    assert_eq!(indices.into_iter().collect::<Vec<_>>(), ["i"]);
    let asked = asked.lock().unwrap();
    assert_eq!(asked[0], "PUT /_index_template/taffrail-demo HTTP/1.1");
    assert_eq!(asked.iter().filter(|line| line.starts_with("POST /_search/scroll")).count(), pages);
    assert!(asked.last().unwrap().starts_with("DELETE /_search/scroll"));
}

#[test]
fn a_server_that_is_not_there_is_named() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = Search::new(&format!("http://{free}")).unwrap().prepare().unwrap_err().to_string();
    assert!(error.contains(&free.to_string()) && error.contains("refused"), "{error}");
}

#[test]
fn destinations_are_understood_or_refused() {
    assert_eq!(destination("file"), Ok(Destination::File));
    let address = Destination::Elasticsearch("http://127.0.0.1:9200".to_owned());
    assert_eq!(destination("elasticsearch=http://127.0.0.1:9200/"), Ok(address));
    for wrong in
        ["", "stdout", "elasticsearch=", "elasticsearch=ftp://host", "elasticsearch=http://me:word@host"]
    {
        assert!(destination(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn a_folder_with_something_in_it_is_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("mine"), "text").unwrap();
    assert!(Folder::make(Some(folder.path())).unwrap_err().contains("is not empty"));
    let demo = Folder::make(Some(&folder.path().join("new"))).unwrap();
    assert!(demo.pods().is_dir());
    demo.remove();
    assert!(!folder.path().join("new").exists());
}

#[test]
fn a_path_is_one_word_to_the_shell() {
    assert_eq!(shell_quoted(Path::new("/tmp/taffrail-demo-1")), "/tmp/taffrail-demo-1");
    assert_eq!(shell_quoted(Path::new("/tmp/it's mine")), r"'/tmp/it'\''s mine'");
}

//! Lines into OpenSearch: into dated indices and data streams, with exact fields, from what real programs write.

use std::collections::HashSet;
use taffrail_tests::agent::Agent;
use taffrail_tests::node::{Container, Node};
use taffrail_tests::server::{Kind, Server};
use taffrail_tests::space::Space;
use taffrail_tests::verify::Document;
use taffrail_tests::{corpus, eventually, seconds, verify};

/// A container with two rotations behind it, one of them compressed.
fn rotated_twice(node: &Node) -> Container {
    let mut web = node.pod("web").namespace("shop").container("app");
    web.writes(700).rotate().writes(700).rotate().writes(600);
    let rotated = web.rotated();
    assert!(rotated[0].extension().is_some_and(|ending| ending == "gz") && rotated.len() == 2, "{rotated:?}");
    web
}

fn has_exact_fields(documents: &[Document], web: &Container) {
    for document in documents {
        let written = &web.written()[document.number().unwrap() as usize];
        let fields = [
            ("@timestamp", written.time.as_str()),
            ("message", &written.message),
            ("log.level", "info"),
            ("stream", "stdout"),
            ("kubernetes.namespace", "shop"),
            ("kubernetes.pod.name", "web"),
            ("kubernetes.pod.uid", &web.pod.uid),
            ("kubernetes.container.name", "app"),
            ("kubernetes.node.name", "n1"),
            ("orchestrator.cluster.name", "test"),
        ];
        for (name, value) in fields {
            assert_eq!(document.text(name), value, "{name} of {}", document.source);
        }
    }
}

/// `<22 letters>-<first offset>-<last offset>`: one key for all of a file, and offsets that never overlap.
fn has_ids_of_places(documents: &[Document]) {
    let ids: HashSet<&str> = documents.iter().map(|document| document.id.as_str()).collect();
    assert_eq!(ids.len(), documents.len());
    let mut keys = HashSet::new();
    for id in ids {
        assert!(id.is_char_boundary(22) && id.len() > 23 && id.as_bytes()[22] == b'-', "{id}");
        let (first, last) = id[23..].split_once('-').unwrap_or_else(|| panic!("{id}"));
        assert!(first.parse::<u64>().unwrap() <= last.parse::<u64>().unwrap(), "{id}");
        keys.insert(&id[..22]);
    }
    assert_eq!(keys.len(), 3, "three files, three keys: {keys:?}");
}

fn timestamps_are_indexed_in_nanoseconds(space: &Space, web: &Container) {
    let time = &web.written()[1_234].time;
    let query = serde_json::json!({"query": {"term": {"@timestamp": time}}});
    let found = space.server.send("POST", &format!("/{}-*/_search", space.prefix), &query);
    assert_eq!(found["hits"]["total"]["value"], 1, "exactly one line of {time}");
    assert_eq!(found["hits"]["hits"][0]["_source"]["message"], web.written()[1_234].message.as_str());
}

#[test]
fn two_rotations_and_a_gz_arrive_in_a_dated_index() {
    let space = Server::shared(Kind::OpenSearch).space().takes_indices();
    let node = Node::new();
    let web = rotated_twice(&node);
    let agent = Agent::start(&space.dated(&node), &node);
    let documents = verify::exactly_once(seconds(60), || space.documents(), &[&web]);
    assert_eq!(documents.len(), 2_000);
    has_exact_fields(&documents, &web);
    has_ids_of_places(&documents);
    timestamps_are_indexed_in_nanoseconds(&space, &web);
    // The index of a document is that of its own time: over midnight there are two.
    for document in &documents {
        let date = document.text("@timestamp")[..10].replace('-', ".");
        assert_eq!(document.index, format!("{}-{date}", space.prefix));
    }
    assert_eq!(agent.terminate().code, Some(0));
}

#[test]
fn two_rotations_and_a_gz_arrive_in_a_data_stream() {
    let space = Server::shared(Kind::OpenSearch).space().takes_data_streams();
    let node = Node::new();
    let web = rotated_twice(&node);
    let agent = Agent::start(&space.stream(&node), &node);
    let documents = verify::exactly_once(seconds(60), || space.documents(), &[&web]);
    assert_eq!(documents.len(), 2_000);
    has_exact_fields(&documents, &web);
    has_ids_of_places(&documents);
    timestamps_are_indexed_in_nanoseconds(&space, &web);
    assert!(documents[0].index.starts_with(&format!(".ds-{}-shop-", space.prefix)), "{}", documents[0].index);
    assert_eq!(agent.terminate().code, Some(0));
}

#[test]
fn without_compression_the_same_arrives() {
    let space = Server::shared(Kind::OpenSearch).space().takes_indices();
    let node = Node::new();
    let mut web = node.pod("web").container("app");
    web.writes(500);
    let _agent = Agent::start(&(space.dated(&node) + "compression = \"none\"\n"), &node);
    verify::exactly_once(seconds(60), || space.documents(), &[&web]);
}

#[test]
fn lines_that_real_programs_wrote_arrive_unchanged() {
    let server = Server::shared(Kind::OpenSearch);
    let space = server.space().takes_data_streams();
    let node = Node::new();
    let corpus = corpus::gather(server);
    for absent in &corpus.absent {
        println!("not in the corpus: {absent}");
    }
    let mut containers = Vec::new();
    for source in &corpus.sources {
        println!("in the corpus: {} lines of {}", source.lines.len(), source.name);
        let mut container = node.pod(source.name).container("main");
        for line in &source.lines {
            container.writes_line(line);
        }
        containers.push((source, container));
    }
    let _agent = Agent::start(&space.stream(&node), &node);
    let wanted: usize = corpus.sources.iter().map(|source| source.lines.len()).sum();
    let documents = eventually(seconds(60), "the whole corpus", || {
        let documents = space.documents()?;
        if documents.len() >= wanted {
            Ok(documents)
        } else {
            Err(format!("{} of {wanted}", documents.len()))
        }
    });
    for (source, container) in &containers {
        let mut own: Vec<&Document> = documents.iter().filter(|document| document.is_of(container)).collect();
        own.sort_by_key(|document| document.text("@timestamp"));
        let found: Vec<String> = own.iter().map(|document| document.message()).collect();
        // A line that happens to be JSON is taken apart: `files` has tests of that.
        assert_eq!(found.len(), source.lines.len(), "of {}", source.name);
        for (found, line) in found.iter().zip(&source.lines).filter(|(_, line)| !line.starts_with('{')) {
            assert_eq!(found, line, "of {}", source.name);
        }
    }
}

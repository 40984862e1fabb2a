//! What a line becomes: framing, joining, bytes that are no text, levels.

use taffrail_tests::agent::Agent;
use taffrail_tests::node::{Container, Node, PIECE};
use taffrail_tests::verify::Document;
use taffrail_tests::{eventually, seconds};

/// Waits until the container's documents satisfy `enough`, and gives them in the file's order.
fn documents(
    node: &Node,
    container: &Container,
    what: &str,
    enough: impl Fn(&[Document]) -> bool,
) -> Vec<Document> {
    eventually(seconds(40), what, || {
        let mut own = node.delivered()?;
        own.retain(|document| document.is_of(container));
        if enough(&own) { Ok(own) } else { Err(format!("{:?}", messages(&own, 80))) }
    })
}

/// The messages, each cut to `width` letters so that a failure can be read.
fn messages(documents: &[Document], width: usize) -> Vec<String> {
    documents.iter().map(|document| document.message().chars().take(width).collect()).collect()
}

#[test]
fn pieces_of_a_long_line_are_joined_though_both_streams_interleave() {
    let node = Node::new();
    let mut web = node.pod("web").container("app");
    web.writes_piece("stdout", 'P', b"out 1, ");
    web.writes_piece("stderr", 'P', b"err 1, ");
    web.writes_piece("stdout", 'P', b"out 2, ");
    web.writes_piece("stderr", 'F', b"err 2");
    web.writes_piece("stdout", 'F', b"out 3");
    let long: String = (0..10_000).map(|n| format!("{n:05} ")).collect();
    assert!(long.len() > 3 * PIECE);
    web.writes_line(&long);
    let _agent = Agent::start(&node.to_file(), &node);
    let documents = documents(&node, &web, "three records", |documents| documents.len() == 3);
    let of = |stream: &str| -> Vec<String> {
        documents.iter().filter(|d| d.text("stream") == stream).map(Document::message).collect()
    };
    assert_eq!(of("stdout"), ["out 1, out 2, out 3", long.as_str()]);
    assert_eq!(of("stderr"), ["err 1, err 2"]);
}

#[test]
fn pieces_without_an_end_are_delivered_after_the_join_timeout() {
    let node = Node::new();
    let mut web = node.pod("web").container("app");
    web.writes_line("whole");
    web.writes_piece("stdout", 'P', b"half of ");
    web.writes_piece("stdout", 'P', b"a line");
    let _agent = Agent::start(&node.to_file(), &node);
    let documents = documents(&node, &web, "the unfinished line", |documents| documents.len() >= 2);
    assert_eq!(messages(&documents, 80), ["whole", "half of a line"]);
}

#[test]
fn a_rotated_file_without_a_last_newline_is_delivered_to_its_end() {
    let node = Node::new();
    let mut web = node.pod("web").container("app");
    web.writes_line("first");
    web.writes_unended("cut short").rotate().writes_line("after");
    // Read when the agent starts, and once more while it runs.
    let _agent = Agent::start(&node.to_file(), &node);
    documents(&node, &web, "the rotated file", |documents| documents.len() >= 3);
    web.writes_unended("cut again").rotate().writes_line("the end");
    let documents = documents(&node, &web, "the second rotated file", |documents| documents.len() >= 5);
    let mut found = messages(&documents, 80);
    found.sort();
    assert_eq!(found, ["after", "cut again", "cut short", "first", "the end"]);
}

#[test]
fn bytes_that_are_not_utf8_are_delivered_and_marked() {
    let node = Node::new();
    let mut web = node.pod("web").container("app");
    web.writes_bytes("stdout", b"caf\xe9 in Latin-1, then \xff\xfe");
    web.writes_bytes("stdout", "café in UTF-8".as_bytes());
    web.writes_bytes("stdout", b"{\"msg\":\"half \xc3 a letter\"}");
    let _agent = Agent::start(&node.to_file(), &node);
    let documents = documents(&node, &web, "three records", |documents| documents.len() == 3);
    let marked: Vec<bool> =
        documents.iter().map(|d| d.get("taffrail.invalid_utf8").is_some_and(|mark| mark == true)).collect();
    assert_eq!(marked, [true, false, true]);
    assert!(
        documents[0].message().starts_with("caf\u{fffd} in Latin-1, then "),
        "{}",
        documents[0].message()
    );
    assert_eq!(documents[1].message(), "café in UTF-8");
    assert!(documents[2].source.to_string().contains("half \u{fffd} a letter"));
}

#[test]
fn a_line_that_no_runtime_wrote_is_kept_as_it_is() {
    let node = Node::new();
    let mut web = node.pod("web").container("app");
    web.writes_line("before");
    web.writes_raw(b"this is not CRI at all\n").writes_raw(b"2026-11-23T15:54:01Z stdsomething X odd\n");
    web.writes_raw(b"no time stdout F here\n").writes_line("after");
    let _agent = Agent::start(&node.to_file(), &node);
    let documents = documents(&node, &web, "five records", |documents| documents.len() == 5);
    let wanted = [
        "before",
        "this is not CRI at all",
        "2026-11-23T15:54:01Z stdsomething X odd",
        "no time stdout F here",
        "after",
    ];
    assert_eq!(messages(&documents, 80), wanted);
    assert!(documents.iter().all(|document| !document.text("@timestamp").is_empty()), "{documents:?}");
}

#[test]
fn an_empty_line_is_a_record_too() {
    let node = Node::new();
    let mut web = node.pod("web").container("app");
    for line in ["", " ", "{}", "null", "last"] {
        web.writes_line(line);
    }
    let _agent = Agent::start(&node.to_file(), &node);
    let documents = documents(&node, &web, "five records", |documents| documents.len() == 5);
    assert_eq!(documents[0].message(), "");
    assert_eq!(messages(&documents[3..], 80), ["null", "last"]);
}

#[test]
fn a_line_of_three_mebibytes_is_split_with_nothing_lost() {
    let node = Node::new();
    let mut web = node.pod("web").container("app");
    let long: String = (0..).map(|n| format!("{n:07} ")).take(3 * 1024 * 1024 / 8).collect();
    web.writes_line("before").clear();
    web.writes_line(&long);
    web.writes_line("after");
    let _agent = Agent::start(&node.to_file(), &node);
    let documents = documents(&node, &web, "the line and what follows it", |documents| {
        documents.last().is_some_and(|last| last.message() == "after")
    });
    let parts = &documents[1..documents.len() - 1];
    assert!((3..=6).contains(&parts.len()), "one MiB is the bound: {} parts", parts.len());
    assert!(parts.iter().all(|part| part.message().len() <= 1024 * 1024));
    let joined: String = parts.iter().map(Document::message).collect();
    assert!(joined == long, "{} bytes of {} came back, or others", joined.len(), long.len());
}

#[test]
fn a_json_body_goes_under_app_its_message_is_lifted_and_its_level_normalised() {
    let node = Node::new();
    let mut web = node.pod("web").container("app");
    web.writes_line(r#"{"level":"WARNING","msg":"disk is \"nearly\" full","used":0.93,"disk":{"name":"sda","big":12345678901234567890}}"#);
    web.writes_line(r#"{"severity":"ERROR","message":"no"}"#);
    web.writes_line(r#"{"log":"hello","lvl":"dbg","kubernetes":{"namespace":"forged"},"_id":"forged","@timestamp":"forged"}"#);
    web.writes_line(r#"{"msg":"not closed""#);
    let _agent = Agent::start(&node.to_file(), &node);
    let documents = documents(&node, &web, "four records", |documents| documents.len() == 4);
    assert_eq!(
        messages(&documents, 80),
        ["disk is \"nearly\" full", "no", "hello", r#"{"msg":"not closed""#]
    );
    let levels: Vec<&str> = documents[..3].iter().map(|document| document.text("log.level")).collect();
    assert_eq!(levels, ["warn", "error", "debug"]);
    assert_eq!(documents[0].get("app.used"), Some(&0.93.into()));
    assert_eq!(documents[0].get("app.disk.name"), Some(&"sda".into()));
    assert!(documents[0].source.to_string().contains("12345678901234567890"), "numbers pass unrounded");
    assert!(documents[0].get("app.msg").is_none(), "the message is not sent twice");
    // What a line contains cannot write the fields that are ours.
    assert_eq!(documents[2].text("kubernetes.namespace"), "default");
    assert_eq!(documents[2].text("app.kubernetes.namespace"), "forged");
    assert_ne!(documents[2].text("@timestamp"), "forged");
    assert!(documents[2].source.get("_id").is_none());
}

#[test]
fn levels_are_found_in_plain_text() {
    let cases = [
        ("E1123 15:54:01.000001       1 server.go:42] \"Failed\"", "error"),
        ("W1123 15:54:01.000001       1 server.go:42] slow", "warn"),
        ("ts=2026-11-23T15:54:01Z level=info msg=\"ready\"", "info"),
        ("2026-11-23 15:54:01 [WARN] main: disk", "warn"),
        ("nothing to see here", ""),
    ];
    let node = Node::new();
    let mut web = node.pod("web").container("app");
    for (line, _) in cases {
        web.writes_line(line);
    }
    let _agent = Agent::start(&node.to_file(), &node);
    let documents = documents(&node, &web, "five records", |documents| documents.len() == cases.len());
    for (document, (line, level)) in documents.iter().zip(cases) {
        assert_eq!(document.message(), line);
        assert_eq!(document.text("log.level"), level, "of {line}");
    }
}

//! What a line becomes: framing, joining, bytes that are no text, levels.

use taffrail_tests::agent::Agent;
use taffrail_tests::docker::Docker;
use taffrail_tests::node::{Container, Node, PIECE};
use taffrail_tests::verify::Document;
use taffrail_tests::{eventually, seconds, seed, verify};

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
fn text_in_utf16_is_read_and_binary_noise_is_delivered_beside_it() {
    let node = Node::new();
    let mut windows = node.pod("windows").container("app");
    let text = "\u{feff}Schiff über Bord\r\n{\"level\":\"error\",\"msg\":\"日本語 🚢\"}\r\n\r\n終わり\r\n";
    let bytes: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    // The runtime knows one-byte newlines only: each tears a character, and the last leaves a half behind.
    let torn: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    assert_eq!((torn.len(), torn[4]), (5, &b"\0"[..]));
    let (mut noise, mut web) = (node.pod("noise").container("app"), node.pod("web").container("app"));
    let mut random = fastrand::Rng::with_seed(seed());
    let mut line = || -> Vec<u8> {
        let length = random.usize(..4_000);
        (0..length).map(|_| random.u8(..)).filter(|byte| *byte != b'\n').collect()
    };
    let lines: Vec<Vec<u8>> = (0..300).map(|_| line()).collect();
    for line in &lines {
        noise.writes_bytes("stdout", line);
        web.writes(1);
    }
    for line in &torn {
        windows.writes_bytes("stdout", line);
    }
    let _agent = Agent::start(&node.to_file(), &node);
    verify::exactly_once(seconds(40), || node.delivered(), &[&web]);

    let read = documents(&node, &windows, "five lines", |documents| documents.len() == 5);
    assert_eq!(messages(&read, 80), ["Schiff über Bord\r", "日本語 🚢", "\r", "終わり\r", ""]);
    assert!(read.iter().all(|document| document.text("taffrail.encoding") == "utf-16"), "{read:?}");
    assert_eq!(read[1].text("log.level"), "error");

    let delivered =
        documents(&node, &noise, "every line of noise", |documents| documents.len() == lines.len());
    for (document, line) in delivered.iter().zip(&lines) {
        // A few bytes of noise may happen to be letters of UTF-16.
        if document.get("taffrail.encoding").is_none() {
            assert_eq!(document.message(), String::from_utf8_lossy(line));
            assert_eq!(document.get("taffrail.invalid_utf8").is_some(), std::str::from_utf8(line).is_err());
        }
    }
}

/// Waits until each line is there once. Their order in the output's file is not asked for: what is behind a link that
/// leads elsewhere by now may be found to have grown only after the next file was begun.
fn each_once(node: &Node, docker: &Docker) -> Vec<Document> {
    let documents = eventually(seconds(40), "every line of docker's", || {
        let documents = node.delivered()?;
        let faults = verify::faults(&documents, docker.container());
        if faults.missing.is_empty() { Ok(documents) } else { Err(faults.to_string()) }
    });
    let faults = verify::faults(&documents, docker.container());
    assert!(faults.doubled.is_empty() && faults.invented.is_empty(), "{faults}");
    documents
}

#[test]
fn logs_of_docker_are_joined_and_delivered_exactly_once_across_rotations() {
    let node = Node::new();
    let mut web = Docker::start(&node, &node.pod("web"), "app");
    web.writes(100).writes_padded(5, 3 * PIECE);
    web.writes_line("stderr", "<oh> \"no\"\t日本".as_bytes());
    let roots = format!("link_roots = [\"{}\"]\n", Docker::root(&node).display());
    let config = roots + &node.to_file();
    let agent = Agent::start(&config, &node);
    each_once(&node, &web);
    for _ in 0..4 {
        // What is written right before a rotation is in a file that no link leads to any more.
        web.writes(500).writes_padded(2, 2 * PIECE).rotate().writes(500);
        each_once(&node, &web);
    }
    assert_eq!(agent.terminate().code, Some(0));
    web.writes(100);
    let _agent = Agent::start(&config, &node);
    let documents = each_once(&node, &web);

    for document in &documents {
        assert!(document.get("taffrail").is_none(), "{:?}", document.get("taffrail"));
        let Some(number) = document.number() else { continue };
        let written = &web.container().written()[number as usize];
        assert_eq!(
            (document.text("@timestamp"), document.message()),
            (&*written.time, written.message.clone())
        );
        assert_eq!((document.text("stream"), document.text("log.level")), ("stdout", "info"));
    }
    let padded = documents.iter().filter(|document| document.text("app.pad").len() >= 2 * PIECE / 3 * 2 - 2);
    assert_eq!(padded.count(), 5 + 4 * 2);
    let errors: Vec<&Document> = documents.iter().filter(|document| document.number().is_none()).collect();
    assert_eq!(errors.len(), 1);
    assert_eq!((errors[0].text("stream"), &*errors[0].message()), ("stderr", "<oh> \"no\"\t日本"));
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

//! Redaction: nothing of what is to be redacted leaves, in whatever form it was written, and nothing else is touched.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use taffrail_tests::agent::Agent;
use taffrail_tests::docker::Docker;
use taffrail_tests::node::{Node, PIECE};
use taffrail_tests::verify::{self, Document};
use taffrail_tests::{eventually, seconds};

const CARD: &str = "4111111111111111";
const MAIL: &str = "jane.doe@example.com";

/// Two outputs that get everything: `redacted`, and `plain` as it was written.
fn config(node: &Node) -> String {
    let output = |name: &str| {
        let path = node.path().join(name).join("{namespace}.ndjson");
        format!("[outputs.{name}]\ntype = \"file\"\npath = \"{}\"\n", path.display())
    };
    node.config(&format!(
        "{}{}[[routes]]\nredact = [\"email\", \"card\", {{ name = \"ssn\", regex = '\\d{{3}}-\\d{{2}}-\\d{{4}}' }}]\n\
         outputs = [\"redacted\"]\ncontinue = true\n[[routes]]\noutputs = [\"plain\"]\n",
        output("redacted"),
        output("plain")
    ))
}

fn read(node: &Node, name: &str) -> Result<Vec<Document>, String> {
    verify::read_ndjson(&node.path().join(name))
}

/// Waits until both hold so many documents, and gives them in pairs, the redacted one first.
#[track_caller]
fn pairs(node: &Node, count: usize) -> Vec<(Document, Document)> {
    eventually(seconds(60), &format!("{count} documents"), || {
        let [redacted, plain] = ["redacted", "plain"].map(|name| read(node, name));
        let (redacted, plain) = (redacted?, plain?);
        if [redacted.len(), plain.len()] != [count, count] {
            return Err(format!("{} and {}", redacted.len(), plain.len()));
        }
        // Of one time, and where a line is in parts, of one part.
        let key = |document: &Document| {
            (
                document.text("@timestamp").to_owned(),
                document.get("taffrail.part").cloned().map(|v| v.to_string()),
            )
        };
        let plain: BTreeMap<_, _> = plain.into_iter().map(|document| (key(&document), document)).collect();
        let pair = |document: Document| (document.clone(), plain[&key(&document)].clone());
        Ok(redacted.into_iter().map(pair).collect())
    })
}

/// Everything that an output has ever written, as bytes.
fn bytes(folder: &Path) -> String {
    let files = fs::read_dir(folder).unwrap().flatten();
    files.map(|file| String::from_utf8_lossy(&fs::read(file.path()).unwrap()).into_owned()).collect()
}

/// The agent's own fields are the same in both, and of the secrets nothing is left.
fn only_what_programs_wrote_is_changed(node: &Node, pairs: &[(Document, Document)]) {
    for (redacted, plain) in pairs {
        let own = |document: &Document| {
            let mut source = document.source.clone();
            let members = source.as_object_mut().unwrap();
            ["message", "app", "log"].iter().for_each(|name| _ = members.remove(*name));
            source
        };
        assert_eq!(own(redacted), own(plain));
    }
    let left = bytes(&node.path().join("redacted"));
    for secret in [CARD, "4111-1111", "jane.doe", "078-05-1120"] {
        assert!(!left.contains(secret), "{secret} is still there");
    }
}

#[test]
fn in_text_and_in_every_value_of_json() {
    let node = Node::new();
    let mut web = node.pod("web").container("app");
    let cases = [
        (format!("paid by {MAIL} with {CARD}, ssn 078-05-1120"), json!("paid by [email] with [card], ssn [ssn]"), Value::Null),
        (
            json!({ "msg": format!("by {MAIL}"), "card": 4111111111111111_u64, "a": [{ "b": [MAIL, 1] }], MAIL.replace('j', "g"): true }).to_string(),
            json!("by [email]"),
            json!({ "card": "[card]", "a": [{ "b": ["[email]", 1] }], MAIL.replace('j', "g"): true }),
        ),
        // As other programs escape.
        (r#"{"msg":"jane.doe\u0040example.com\n4111111111111111"}"#.into(), json!("[email]\n[card]"), Value::Null),
        (r#"{"to":"jane.doe@example.com"#.into(), json!(r#"{"to":"[email]"#), Value::Null),
        ("nothing to hide".into(), json!("nothing to hide"), Value::Null),
        (r#"{"a":"nothing","b":{"c":1.0}}"#.into(), Value::Null, json!({ "a": "nothing", "b": { "c": 1.0 } })),
    ];
    for (line, ..) in &cases {
        web.writes_line(line);
    }
    let _agent = Agent::start(&config(&node), &node);
    let pairs = pairs(&node, cases.len());
    for ((redacted, _), (line, message, app)) in pairs.iter().zip(&cases) {
        let found = |name: &str| redacted.source.get(name).cloned().unwrap_or_default();
        assert_eq!((&found("message"), &found("app")), (message, app), "{line}");
    }
    only_what_programs_wrote_is_changed(&node, &pairs);
}

#[test]
fn across_the_pieces_of_a_joined_line_and_beside_the_cuts_of_a_long_one() {
    let node = Node::new();
    let mut web = node.pod("web").container("app");
    // The piece ends within the card.
    web.writes_line(&format!("{} {CARD} and on", "x".repeat(PIECE - 9)));
    for at in [-20, -8, 0] {
        let before = (1024 * 1024_i64 + at) as usize;
        web.writes_line(&format!("{} {CARD} {MAIL} {}", "y".repeat(before), "z ".repeat(1000)));
    }
    web.writes_bytes("stderr", &[b"\xff ".as_slice(), MAIL.as_bytes()].concat());
    let utf16: Vec<u8> = format!("\u{feff}to {MAIL} now").encode_utf16().flat_map(u16::to_le_bytes).collect();
    web.writes_bytes("stdout", &utf16);
    let _agent = Agent::start(&config(&node), &node);
    let pairs = pairs(&node, 1 + 2 * 3 + 2);
    assert!(pairs[0].0.message().ends_with(" [card] and on"), "{}", pairs[0].0.message().len());
    for (redacted, plain) in pairs[1..7].chunks(2).map(|parts| (&parts[0].0, &parts[0].1)) {
        assert!(redacted.message().ends_with("[cut]") && plain.message().len() > redacted.message().len());
    }
    assert_eq!(pairs[7].0.message(), "\u{fffd} [email]");
    let (last, written) = &pairs[8];
    assert_eq!((last.message(), last.text("taffrail.encoding")), ("to [email] now".into(), "utf-16"));
    assert_eq!(written.message(), format!("to {MAIL} now"));
    only_what_programs_wrote_is_changed(&node, &pairs);
}

#[test]
fn in_dockers_lines_and_on_standard_output() {
    let node = Node::new();
    let mut web = Docker::start(&node, &node.pod("web"), "app");
    web.writes_line("stdout", format!("to {MAIL} \"{CARD}\"").as_bytes());
    let links = format!("link_roots = [\"{}\"]\n", Docker::root(&node).display());
    for (format, expected) in
        [("json", r#""message":"to [email] \"[card]\"""#), ("text", r#"to [email] "[card]""#)]
    {
        let _ = fs::remove_dir_all(node.state());
        let config = node.config(&format!(
            "{links}[outputs.out]\ntype = \"stdout\"\nformat = \"{format}\"\n[[routes]]\nredact = [\"email\", \"card\"]\noutputs = [\"out\"]\n"
        ));
        let agent = Agent::start(&config, &node);
        eventually(seconds(40), expected, || {
            let said = agent.stdout();
            if said.contains(expected) { Ok(()) } else { Err(said) }
        });
        assert!(!agent.stdout().contains(MAIL));
    }
}

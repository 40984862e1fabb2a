//! `explain` and `test`: what would become of a log, as it does become of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use taffrail_tests::agent::{self, Agent};
use taffrail_tests::node::Node;
use taffrail_tests::{eventually, seconds};

/// The root of the repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a repository").to_owned()
}

fn config(node: &Node) -> String {
    let path = node.path().join("out/{namespace}.ndjson");
    let routes = "
        [[routes]]
        match = { namespace = \"other\", labels.app = \"web\" }
        outputs = []
        [[routes]]
        match = { namespace = \"default\" }
        multiline = \"auto\"
        redact = [\"email\"]
        drop = { message = \"healthz\" }
        outputs = [\"local\"]
        [[routes]]
        outputs = [\"local\", \"stdout\"]
    ";
    let stdout = "[outputs.stdout]\ntype = \"stdout\"\n";
    node.config(&format!("[outputs.local]\ntype = \"file\"\npath = \"{}\"\n{stdout}{routes}", path.display()))
}

#[test]
fn what_is_explained_is_what_is_sent() {
    let node = Node::new();
    let mut web = node.pod("web").container("app");
    web.writes_line("GET /healthz");
    // More than is looked at, so that the end of the log is explained.
    (0..4_000).for_each(|n| drop(web.writes_line(&format!("{n} {}", "x".repeat(100)))));
    for line in
        ["ERROR no cart of bob@example.org", "java.io.IOException: gone", "\tat shop.Cart.add(Cart.java:10)"]
    {
        web.writes_line(line);
    }
    let config = config(&node);
    let file = node.path().join("taffrail.toml");
    fs::write(&file, &config).expect("a configuration");
    let file = file.to_str().expect("plain letters");
    let ended = agent::run(&["explain", "--config", file, "default/web"], &node);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    for said in [
        "default/web/app\n",
        "1  namespace other, labels.app web — does not match: namespace other, labels.app web\n",
        "2  namespace default — decides; drops by message; joins lines: auto; redacts email\n",
        "3  everything — is not asked any more\n",
        "output stdout (stdout): not sent: the routes send it elsewhere\n",
    ] {
        assert!(ended.stdout.contains(said), "{said} in {}", ended.stdout);
    }
    let begin = ended.stdout.find("    {\n").expect("a document");
    let end = ended.stdout[begin..].find("\n    }\n").expect("its end") + begin;
    let explained: Value = serde_json::from_str(&ended.stdout[begin..end + 6]).expect("a document");
    let agent = Agent::start(&config, &node);
    let sent = eventually(seconds(40), "all records", || {
        let found = node.delivered()?;
        if found.len() == 4_001 { Ok(found) } else { Err(format!("{} records", found.len())) }
    });
    assert_eq!(explained, sent.last().expect("records").source);
    drop(agent);
    for (wrong, told) in [
        ("default/none", "there is no log of default/none below "),
        ("nothing", "is neither a file nor"),
        ("/tmp/taffrail-nofile", "cannot read /tmp/taffrail-nofile: No such file"),
        ("/tmp", "cannot read /tmp: it is a folder"),
        ("./no/file", "cannot read ./no/file: No such file"),
    ] {
        let ended = agent::run(&["explain", "--config", file, wrong], &node);
        assert!(ended.code == Some(1) && ended.stderr.contains(told), "{}", ended.stderr);
    }
}

#[test]
fn cases_that_fail_say_what_was_found_and_wrong_ones_what_is_wrong() {
    let node = Node::new();
    let (file, cases) = (node.path().join("taffrail.toml"), node.path().join("taffrail.test.toml"));
    fs::write(&file, config(&node)).expect("a configuration");
    let file = file.to_str().expect("plain letters");
    let test = |text: &str| {
        fs::write(&cases, text).expect("cases");
        agent::run(&["test", "--config", file], &node)
    };
    let ended = test(
        "[[case]]\nname = \"one\"\nline = '{\"msg\":\"hi\",\"n\":7}'\nexpect.local = { message = \"ho\", app.n = 7, app.m = 1 }\n\
         [[case]]\nname = \"two\"\npod = { namespace = \"other\", labels = { app = \"web\" } }\nline = \"x\"\n\
         expect = { local = \"elsewhere\", stdout = 0 }\n\
         [[case]]\nname = \"three\"\nlines = [\"GET /healthz\", \"a\", \"b\"]\nexpect.local = [{ message = \"a\" }]\n\
         [[case]]\nname = \"four\"\nline = \"a healthz\"\nexpect.local = \"dropped\"\n",
    );
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert_eq!(
        ended.stdout,
        "FAILED  one\n          local: app.m: expected 1, found nothing\n          \
         local: message: expected \"ho\", found \"hi\"\nok      two\nFAILED  three\n          \
         local: expected 1 records, found 2 records, and 1 that the route drops\nok      four\n2 of 4 cases hold\n"
    );
    for (wrong, told) in [
        ("", "there is no [[case]] in it"),
        ("[[case]]\nname = \"x\"\nlime = \"x\"\nexpect = {}\n", "unknown field `lime`"),
        (
            "[[case]]\nname = \"x\"\nline = \"x\"\nexpect.serch = 1\n",
            "there is no output `serch`; there are local, stdout",
        ),
        ("[[case]]\nname = \"x\"\nexpect.local = 1\n", "it has neither `line` nor `lines`"),
        (
            "[[case]]\nname = \"x\"\nline = \"x\"\nexpect.local = \"gone\"\n",
            "expected \"dropped\", \"elsewhere\"",
        ),
    ] {
        let ended = test(wrong);
        assert!(ended.code == Some(2) && ended.stderr.contains(told), "{wrong}: {}", ended.stderr);
    }
}

#[test]
fn transcripts_in_the_pages_are_true() {
    let text = ["README.md", "docs/routes.md"]
        .map(|page| fs::read_to_string(root().join(page)).expect("a page"))
        .concat();
    let mut blocks: Vec<(String, String)> = Vec::new();
    let mut within = false;
    for line in text.lines() {
        let Some(line) = line.strip_prefix("    ") else {
            within = within && line.is_empty();
            continue;
        };
        match line.strip_prefix("$ ") {
            Some(command) => {
                within = command.contains("taffrail explain") || command.contains("taffrail test");
                if within {
                    blocks.push((command.to_owned(), String::new()));
                }
            }
            None if within => {
                let (_, printed) = blocks.last_mut().expect("a command");
                printed.push_str(line);
                printed.push('\n');
            }
            None => {}
        }
    }
    assert!(blocks.len() >= 2, "{blocks:?}");
    let binary = agent::binary();
    let path = format!(
        "{}:{}",
        binary.parent().expect("a folder").display(),
        std::env::var("PATH").unwrap_or_default()
    );
    for (command, printed) in blocks {
        let output = Command::new("sh")
            .args(["-c", &command])
            .current_dir(root())
            .env("PATH", &path)
            .stdin(Stdio::null())
            .output()
            .expect("a shell");
        // Blank lines between are left out in a page.
        let found = String::from_utf8_lossy(&output.stdout)
            .lines()
            .filter(|l| !l.is_empty())
            .fold(String::new(), |text, line| text + line + "\n");
        assert_eq!(found, printed, "{command}");
    }
}

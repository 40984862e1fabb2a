//! The configurations that people start from, and those that the README shows, are ones that the agent takes.

mod checker;

use std::fs;
use std::path::Path;

use serde_json::Value;
use taffrail::command::config::schema_text;
use taffrail::config::reference::{self, examples};
use taffrail::config::{Config, schema};

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn is_configuration(path: &Path) -> bool {
    path.to_str().is_some_and(|path| path.ends_with(".toml") && !path.ends_with(".test.toml"))
}

#[test]
fn every_configuration_in_configs_is_taken() {
    let mut count = 0;
    for entry in fs::read_dir(root().join("configs")).unwrap() {
        let path = entry.unwrap().path();
        // The cases of `taffrail test`, which a test of the README runs, and the schema are none.
        if !is_configuration(&path) {
            continue;
        }
        if let Err(diagnostics) = Config::load(&path) {
            panic!("{}:\n{diagnostics}", path.display());
        }
        count += 1;
    }
    assert!(count >= 2, "there are {count}");
}

/// A part of a configuration speaks of outputs that others show.
fn whole(text: &str) -> String {
    if text.contains("[outputs.") {
        return text.to_owned();
    }
    let outputs = ["search", "archive"].map(|name| {
        format!(
            "[outputs.{name}]\ntype = \"elasticsearch\"\nendpoints = [\"http://x\"]\nindex = \"x-{{date}}\"\n"
        )
    });
    format!("{text}\n{}", outputs.concat())
}

/// The blocks of TOML of a page.
fn blocks(page: &str) -> Vec<String> {
    let page = fs::read_to_string(root().join(page)).unwrap();
    let blocks = page.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.map(whole).collect()
}

/// Where configurations are shown, besides the reference page.
const PAGES: [&str; 4] = ["README.md", "docs/cloudwatch.md", "docs/operation.md", "docs/routes.md"];

#[test]
fn every_configuration_in_the_readme_and_its_pages_is_taken() {
    for page in PAGES {
        let shown = blocks(page);
        assert!(!shown.is_empty(), "{page}");
        for text in shown {
            if let Err(diagnostics) = Config::parse(&text, page) {
                panic!("{diagnostics}\nin\n{text}");
            }
        }
    }
}

#[test]
fn every_example_of_the_reference_page_is_taken() {
    let (mut shown, schema) = (0, schema::schema());
    for text in examples().map(whole) {
        if let Err(diagnostics) = Config::parse(&text, "example") {
            panic!("{diagnostics}\nin\n{text}");
        }
        assert_eq!(mistakes(&schema, &text), [""; 0], "{text}");
        shown += 1;
    }
    assert!(shown > 15, "{shown}");
}

#[test]
fn the_schema_and_the_reference_page_are_those_of_this_version() {
    for (file, made, command) in [
        ("configs/taffrail.schema.json", schema_text(), "schema"),
        ("docs/configuration.md", reference::page(&schema::schema()), "reference"),
    ] {
        let there = fs::read_to_string(root().join(file)).unwrap_or_default();
        assert!(
            there == made,
            "{file} is of other types or docstrings: renew it by\n    cargo run -p taffrail -- config {command} > {file}"
        );
    }
}

/// What the schema has against a configuration.
fn mistakes(schema: &Value, text: &str) -> Vec<String> {
    let document: Value = toml::from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    checker::mistakes(schema, schema, &document, "")
}

#[test]
fn every_configuration_that_is_shown_or_shipped_is_valid_by_the_schema() {
    let schema = schema::schema();
    let mut texts: Vec<(String, String)> = PAGES
        .into_iter()
        .chain(["docs/forwarder.md", "manifests/README.md"])
        .flat_map(|page| blocks(page).into_iter().map(move |text| (page.to_owned(), text)))
        .collect();
    let mut folders = vec![root().join("configs"), root().join("manifests")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.display().to_string();
            if path.is_dir() {
                folders.push(path);
            } else if is_configuration(&path) {
                texts.push((name, fs::read_to_string(path).unwrap()));
            }
        }
    }
    assert!(texts.len() > 15, "{}", texts.len());
    for (name, text) in texts {
        assert_eq!(mistakes(&schema, &text), [""; 0], "{name}\n{text}");
    }
}

#[test]
fn what_the_loader_refuses_the_schema_refuses_too() {
    let schema = schema::schema();
    let stdout = "[outputs.o]\ntype = \"stdout\"\n";
    let search = "[outputs.s]\ntype = \"elasticsearch\"\nendpoints = [\"https://a\"]\n";
    let wrong = [
        String::new(),
        format!("clustr = \"x\"\n{stdout}"),
        format!("cluster = \"\"\n{stdout}"),
        format!("memory = \"64 furlongs\"\n{stdout}"),
        format!("memory = -1\n{stdout}"),
        format!("grace = 30\n{stdout}"),
        format!("pod_logs = \"logs\"\n{stdout}"),
        format!("link_roots = [\"/a/../b\"]\n{stdout}"),
        format!("oversize = \"drop\"\n{stdout}"),
        format!("listen = \"9600\"\n{stdout}"),
        format!("endpoints = [\"http://a\"]\n{stdout}"),
        format!("log = \"debug\"\n{stdout}"),
        format!("[log]\nlevel = \"loud\"\n{stdout}"),
        format!("[retain]\nmin_free = 20\n{stdout}"),
        format!("[drain]\nenabled = \"yes\"\n{stdout}"),
        format!("[metadata]\nlabels = \"*\"\n{stdout}"),
        format!("[annotations]\nallow = [\"all\"]\n{stdout}"),
        format!("[annotations.namespaces]\nx = [\"all\"]\n{stdout}"),
        format!("[forward]\ntrusted = [{{ owner = \"1\", log_group = \"/a\" }}]\n{stdout}"),
        format!("[files.syslog]\n{stdout}"),
        format!("[files.syslog]\npaths = [\"var/log\"]\n{stdout}"),
        format!("[files.Syslog]\npaths = [\"/var/log/x\"]\n{stdout}"),
        format!("[files]\npaths = [\"/var/log/x\"]\n{stdout}"),
        "[outputs.o]\n".to_owned(),
        "[outputs.o]\ntype = \"stdin\"\n".to_owned(),
        "[outputs.O]\ntype = \"stdout\"\n".to_owned(),
        "[outputs]\ntype = \"stdout\"\n".to_owned(),
        format!("{stdout}path = \"/x\"\n"),
        format!("{stdout}workers = 0\n"),
        format!("{stdout}on_full = \"never\"\n"),
        format!("{stdout}rate_limit = \"1MiB\"\n"),
        format!("{stdout}rate_limit = {{ container = {{ lines = 0 }} }}\n"),
        "[outputs.f]\ntype = \"file\"\n".to_owned(),
        "[outputs.f]\ntype = \"file\"\npath = \"out\"\n".to_owned(),
        search.to_owned(),
        format!("{search}index = \"a\"\ndata_stream = \"a\"\n"),
        format!("{search}index = \"{{namespace}}\"\n"),
        format!("{search}index = \"a\"\ncompression_level = 12\n"),
        format!("{search}index = \"a\"\nauth = \"basic\"\n"),
        format!(
            "{search}index = \"a\"\nauth = {{ type = \"basic\", username = \"u\", password = \"hush\" }}\n"
        ),
        format!("{search}index = \"a\"\nauth = {{ type = \"aws\", token = {{ env = \"T\" }} }}\n"),
        format!("{search}index = \"a\"\ntls = {{ min_version = \"1.1\" }}\n"),
        "[outputs.c]\ntype = \"cloudwatch\"\nretention_days = 31\n".to_owned(),
        "[outputs.c]\ntype = \"cloudwatch\"\nformat = \"insights\"\n".to_owned(),
        "[outputs.c]\ntype = \"cloudwatch\"\nsubscription = {}\n".to_owned(),
        "[outputs.c]\ntype = \"cloudwatch\"\nsubscription = { to = \"arn:aws:sqs:r:123456789012:x\" }\n"
            .to_owned(),
        format!("[routes]\noutputs = [\"o\"]\n{stdout}"),
        format!("[[routes]]\n{stdout}"),
        format!("[[routes]]\noutputs = \"o\"\n{stdout}"),
        format!("[[routes]]\noutputs = [\"o\"]\nnamespace = \"a\"\n{stdout}"),
    ];
    for text in wrong {
        assert!(Config::parse(&text, "wrong.toml").is_err(), "the loader takes\n{text}");
        assert!(!mistakes(&schema, &text).is_empty(), "the schema takes\n{text}");
    }
    for line in [
        "match = { namespce = \"a\" }",
        "match = { namespace = 1 }",
        "match = { namespace = [] }",
        "match = { labels = \"a\" }",
        "keep = \"info\"",
        "keep = {}",
        "keep = { status = 1 }",
        "keep = { app = 1 }",
        "drop = [{ level = 3 }]",
        "drop = [1]",
        "sample = 0",
        "sample = 1.5",
        "sample = { by = \"app.x\" }",
        "sample = { rate = 0.5, by = \"x\" }",
        "multiline = \"on\"",
        "multiline = { start = 1 }",
        "multiline = { start = 'a', continue = 'b' }",
        "multiline = { begin = 'a' }",
        "json = \"nested\"",
        "parse = \"ngins\"",
        "parse = { pattern = 'x' }",
        "redact = [\"emial\"]",
        "redact = { name = \"a b\", regex = 'x' }",
        "continue = 1",
    ] {
        let text = format!("[[routes]]\noutputs = [\"o\"]\n{line}\n{stdout}");
        assert!(Config::parse(&text, "wrong.toml").is_err(), "the loader takes\n{text}");
        assert!(!mistakes(&schema, &text).is_empty(), "the schema takes\n{text}");
    }
}

#[test]
fn the_forwarders_page_shows_a_configuration_that_loads() {
    let text = &blocks("docs/forwarder.md")[0];
    let config = Config::parse(text, "docs/forwarder.md").unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(config.forward.trusted.len(), 1);
}

//! The configurations that people start from, and those that the README shows, are ones that the agent takes.

use std::fs;
use std::path::Path;

use taffrail::config::Config;

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

#[test]
fn every_configuration_in_configs_is_taken() {
    let mut count = 0;
    for entry in fs::read_dir(root().join("configs")).unwrap() {
        let path = entry.unwrap().path();
        // The cases of `taffrail test`, which a test of the README runs.
        if path.to_str().is_some_and(|path| path.ends_with(".test.toml")) {
            continue;
        }
        if let Err(diagnostics) = Config::load(&path) {
            panic!("{}:\n{diagnostics}", path.display());
        }
        count += 1;
    }
    assert!(count >= 2, "there are {count}");
}

#[test]
fn every_configuration_in_the_readme_is_taken() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let mut blocks = readme.split("```toml\n");
    let shown: Vec<&str> = blocks.by_ref().skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(!shown.is_empty());
    for text in shown {
        // A part of a configuration speaks of outputs that others show.
        let outputs = ["search", "archive"].map(|name| {
            format!("[outputs.{name}]\ntype = \"elasticsearch\"\nendpoints = [\"http://x\"]\nindex = \"x-{{date}}\"\n")
        });
        let outputs = outputs.concat();
        let text = if text.contains("[outputs.") { text.to_owned() } else { format!("{text}\n{outputs}") };
        if let Err(diagnostics) = Config::parse(&text, "README.md") {
            panic!("{diagnostics}\nin\n{text}");
        }
    }
}

#[test]
fn the_forwarders_page_shows_a_configuration_that_loads() {
    let page = fs::read_to_string(root().join("docs/forwarder.md")).unwrap();
    let text =
        page.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a block of TOML");
    let config = Config::parse(text, "docs/forwarder.md").unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(config.forward.trusted.len(), 1);
}

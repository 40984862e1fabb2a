//! `[metadata]` as it is read, and mistakes in it as they are told.

use std::time::Duration;

use super::{Config, MetadataConfig, MetadataSource};

#[test]
fn the_defaults_send_every_label_and_no_annotation() {
    let read = |text: &str| {
        let text = format!("{text}\n[outputs.o]\ntype = \"stdout\"\n");
        Config::parse(&text, "t.toml").unwrap_or_else(|said| panic!("{said}")).metadata
    };
    let default = read("");
    assert_eq!(default, MetadataConfig::default());
    assert!(default.labels.has("app") && !default.annotations.has("a") && default.fields.has("container.id"));
    assert!(!default.wants_namespaces() && !default.wants_node());
    let given = read(
        "[metadata]\nsource = \"path\"\nlabels = [\"team\"]\nnamespace_labels = [\"*\"]\nnode_labels = [\"!x\"]\n\
         fields = [\"kubernetes.*\", \"!*.ip\"]\nwait = \"0s\"\n",
    );
    assert_eq!((given.source, given.wait), (MetadataSource::Path, Duration::ZERO));
    assert!(given.wants_namespaces() && !given.wants_node() && !given.labels.has("app"));
    assert!(given.fields.has("kubernetes.labels") && !given.fields.has("kubernetes.pod.ip"));
}

#[test]
fn mistakes_are_told_at_their_place() {
    for (line, message, help) in [
        ("lables = []", "unknown key `lables`", "did you mean `labels`?"),
        ("labels = \"*\"", "`labels`", "expected a list"),
        ("labels = [\"[\"]", "`labels`: `[` is not a pattern", "wildcards are"),
        ("annotations = [\"!\"]", "`annotations`: a pattern cannot be empty", "write a name"),
        (
            "fields = [\"container.imag.name\"]",
            "no field `container.imag.name`",
            "did you mean `container.image.name`?",
        ),
        ("wait = \"1h\"", "`wait` is too large", "at most 5m"),
        ("wait = 5", "`wait` cannot be `5`", "a time such as"),
        ("timeout = \"10ms\"", "`timeout` is too small", "at least 1s"),
        ("source = \"api\"", "`source` cannot be `api`", "`auto` or `path`"),
    ] {
        let text = format!("[outputs.o]\ntype = \"stdout\"\n[metadata]\n{line}\n");
        let said = Config::parse(&text, "t.toml").expect_err(line).to_string();
        assert!(said.contains(message) && said.contains(help), "{line}: {said}");
        assert_eq!(said.matches("error:").count(), 1, "{said}");
    }
    let said = Config::parse("wait = \"5s\"\n", "t.toml").expect_err("out of place").to_string();
    assert!(said.contains("move it under `[metadata]`"), "{said}");
    let said = Config::parse("metadata = 1\n", "t.toml").expect_err("no table").to_string();
    assert!(said.contains("`metadata` must be a table"), "{said}");
}

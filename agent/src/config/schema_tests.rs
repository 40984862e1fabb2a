//! The schema says what the loader knows: no key less, no key more, and the defaults that there are.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{default_of, schema};
use crate::config::Config;
use crate::config::keys::{TABLES, reading};
use crate::config::reference::properties;
use crate::config::reference::sections::{FORMS, Section, sections};

/// The keys of a section's table that stand in sections of their own, or in another one.
fn besides(section: &Section) -> Vec<&'static str> {
    match (section.of, section.kind) {
        ("", _) => TABLES.to_vec(),
        ("OutputConfig", _) => [reading(), vec!["type"]].concat(),
        ("AuthConfig", kind) if !kind.is_empty() => vec!["type"],
        _ => Vec::new(),
    }
}

#[test]
fn the_schema_has_every_key_of_the_loader_and_no_other() {
    let schema = schema();
    for section in sections() {
        let known = section.keys.iter().copied().chain(besides(&section));
        let known: BTreeSet<&str> = known.collect();
        let table = section.table(&schema);
        let Some(properties) = properties(table) else {
            assert!(known.is_empty(), "{} is no table of the schema", section.title);
            continue;
        };
        let found: BTreeSet<&str> = properties.keys().map(String::as_str).collect();
        // The common keys of outputs are no table by themselves.
        if section.of == "ReadingConfig" {
            assert!(found.is_superset(&known), "{known:?}");
        } else {
            assert_eq!(found, known, "{}", section.title);
            assert_eq!(table["additionalProperties"], false, "{} takes any key", section.title);
        }
    }
}

#[test]
fn nothing_of_the_schema_is_left_out_of_the_page() {
    let schema = schema();
    let told = |name: &String| {
        FORMS.iter().any(|(form, _)| form == name) || sections().iter().any(|section| section.of == name)
    };
    for (name, definition) in schema["$defs"].as_object().expect("definitions") {
        let words =
            definition["oneOf"].as_array().is_some_and(|all| all.iter().all(|one| one["const"].is_string()));
        assert!(told(name) || words, "`{name}` is no section, no form of a value and no choice of words");
    }
    let all: BTreeSet<(&str, &str)> = sections().iter().map(|section| (section.of, section.kind)).collect();
    for of in ["OutputConfig", "AuthConfig"] {
        for one in schema["$defs"][of]["oneOf"].as_array().expect("a choice") {
            let kind = &one["properties"]["type"];
            let kind = kind["const"].as_str().or(kind["enum"][0].as_str());
            assert!(kind.is_none_or(|kind| all.contains(&(of, kind))), "{of} {kind:?} has no section");
        }
    }
}

#[test]
fn every_docstring_says_what_it_means_to_leave_a_key_out() {
    let schema = schema();
    for section in sections().iter().filter(|section| section.of != "MatchConfig") {
        for key in &section.keys {
            let said = section.table(&schema)["properties"][key]["description"].as_str().unwrap_or_default();
            assert!(
                said.ends_with("Required.")
                    || default_of(said).is_some_and(|default| !default.contains(". ")),
                "{}: the docstring of `{key}` must end in `Required.` or in `Default …`: {said:?}",
                section.title
            );
        }
    }
}

/// A configuration with a line for the table of a section.
fn with(section: &Section, line: &str) -> Option<String> {
    let search = "[outputs.o]\ntype = \"elasticsearch\"\nendpoints = [\"https://a\"]\nindex = \"logs\"\n";
    let cloudwatch = "[outputs.o]\ntype = \"cloudwatch\"\n";
    let stdout = "[outputs.o]\ntype = \"stdout\"\n";
    Some(match (section.of, section.kind) {
        ("", _) => format!("{line}\n{stdout}"),
        ("ReadingConfig", _) | ("OutputConfig", "stdout") => format!("{stdout}{line}\n"),
        ("RateLimitConfig", _) => format!("{stdout}[outputs.o.rate_limit]\ncontainer.lines = 5\n{line}\n"),
        ("OutputConfig", "elasticsearch") => format!("{search}{line}\n"),
        ("OutputConfig", "cloudwatch") => format!("{cloudwatch}{line}\n"),
        ("OutputConfig", "file") => format!("[outputs.o]\ntype = \"file\"\npath = \"/out/a\"\n{line}\n"),
        ("TlsConfig", _) => format!("{search}[outputs.o.tls]\n{line}\n"),
        ("IndexSetup", _) => {
            let rolled_over = search.replace("index = \"logs\"", "data_stream = \"logs-a-b\"");
            format!("{rolled_over}[outputs.o.setup]\n{line}\n")
        }
        ("LeasesConfig", _) => {
            format!("{search}[forward]\ndead_letters = \"s3://letters/taffrail\"\n[forward.leases]\n{line}\n")
        }
        ("SubscriptionConfig", _) => format!(
            "{cloudwatch}[outputs.o.subscription]\nto = \"arn:aws:kinesis:us-east-1:123456789012:stream/x\"\n{line}\n"
        ),
        ("HealthConfig", _) => format!("{stdout}[health]\noutputs = [\"o\"]\n{line}\n"),
        ("RouteConfig", _) => format!("{stdout}[[routes]]\noutputs = [\"o\"]\n{line}\n"),
        ("FilesConfig", _) => format!("{stdout}[files.f]\npaths = [\"/l/x.log\"]\n{line}\n"),
        ("TrustedConfig", _) => {
            format!("{search}[[forward.trusted]]\nowner = \"123456789012\"\nlog_group = \"/eks/a\"\n{line}\n")
        }
        (_, "") if section.name.starts_with("`[") => {
            format!("{stdout}{}\n{line}\n", section.name.trim_matches('`'))
        }
        _ => return None,
    })
}

#[test]
fn a_key_with_its_default_changes_nothing() {
    let schema = schema();
    let mut asked = 0;
    for section in sections() {
        for key in &section.keys {
            let default = &section.table(&schema)["properties"][key]["default"];
            if default.is_null() {
                continue;
            }
            let value = toml::Value::try_from(default).expect("a value");
            let parse = |line: &str| {
                let text =
                    with(&section, line).unwrap_or_else(|| panic!("{}: no configuration", section.title));
                Config::parse(&text, "t.toml").unwrap_or_else(|problems| panic!("{text}\n{problems}"))
            };
            assert_eq!(parse(&format!("{key} = {value}")), parse(""), "{}: {key} = {value}", section.title);
            asked += 1;
        }
    }
    assert!(asked > 50, "{asked}");
}

#[test]
fn a_default_is_the_last_sentence() {
    for (said, default) in [
        ("How long. Default `\"5s\"`.", Some("`\"5s\"`")),
        ("How long. Default: for ever.", Some("for ever")),
        ("Some. Default none.", Some("none")),
        ("The default. Default `1`; of x `2`.", Some("`1`; of x `2`")),
        ("Defaults are not told. Required.", None),
    ] {
        assert_eq!(default_of(said), default, "{said}");
    }
    assert_eq!(super::literal("`[\"*\"]`"), Some(serde_json::json!(["*"])));
    assert_eq!(super::literal("`1`; of x `2`"), None::<Value>);
}

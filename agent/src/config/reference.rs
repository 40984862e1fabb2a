//! The reference page of the configuration: every key with its type, its default and what it means.
//!
//! In: the [`schema`](super::schema), which has all of that from the docstrings, and the order of the keys in the types. Out:
//! `docs/configuration.md`, a section for each table ([`sections`]). What a key means is never said here.

pub(super) mod sections;

use serde_json::{Map, Value};

use super::schema::default_of;
use sections::{FORMS, INTRODUCTION, Section, VALUES, sections};

/// Where lines of the page are broken.
const WIDTH: usize = 120;

/// The configurations, or parts of one, that the page shows.
pub fn examples() -> impl Iterator<Item = &'static str> {
    sections().into_iter().map(|section| section.example).filter(|example| !example.is_empty())
}

/// The page, of the schema that it is given.
pub fn page(schema: &Value) -> String {
    let sections = sections();
    let mut page = format!("{INTRODUCTION}\n");
    for section in &sections {
        let indent = "  ".repeat(section.level - 2);
        let name = if section.name.is_empty() { String::new() } else { format!(": {}", section.name) };
        page += &format!("{indent}- [{}](#{}){name}\n", section.title, anchor(section.title));
    }
    page += &format!("- [{VALUES}](#{})\n", anchor(VALUES));
    for section in &sections {
        page += &shown(schema, section);
    }
    page += &format!("\n## {VALUES}\n\n");
    for (name, word) in FORMS {
        let said = schema["$defs"][name]["description"].as_str().unwrap_or_default();
        page += &wrapped(&format!("- **{word}**: {said}"), "  ");
    }
    page
}

fn shown(schema: &Value, section: &Section) -> String {
    let table = section.table(schema);
    let mut text = format!("\n{} {}\n", "#".repeat(section.level), section.title);
    let said = section.said.or(table["description"].as_str()).unwrap_or_default();
    for paragraph in said.split("\n\n").filter(|paragraph| !paragraph.is_empty()) {
        text += &format!("\n{}", wrapped(paragraph, ""));
    }
    if !section.example.is_empty() {
        text += &format!("\n```toml\n{}```\n", section.example);
    }
    text.push('\n');
    for key in &section.keys {
        text += &entry(schema, table, key);
    }
    text.trim_end().to_owned() + "\n"
}

/// A key, in a list: `- **memory** (size, default "64MiB"): What …`, and the words that it may be.
fn entry(schema: &Value, table: &Value, key: &str) -> String {
    let property = &table["properties"][key];
    let said = property["description"].as_str().unwrap_or_default();
    let required = table["required"].as_array().is_some_and(|all| all.iter().any(|name| name == key));
    let (meaning, default) = match default_of(said) {
        Some(default) => (meaning(said), format!(", default {default}")),
        None if required || said.ends_with("Required.") => {
            (said.trim_end_matches("Required.").trim_end().to_owned(), ", required".to_owned())
        }
        None => (said.to_owned(), String::new()),
    };
    let mut text = wrapped(&format!("- **`{key}`** ({}{default}): {meaning}", kind(schema, property)), "  ");
    for (word, said) in words(schema, property) {
        text += &wrapped(&format!("  - `\"{word}\"`: {said}"), "    ");
    }
    text
}

/// A docstring without its last sentence.
fn meaning(said: &str) -> String {
    said.rfind("Default").map_or(said, |at| said[..at].trim_end()).to_owned()
}

/// The type of a value, in words.
fn kind(schema: &Value, property: &Value) -> String {
    if let Some(name) = referred(property) {
        if let Some((_, word)) = FORMS.iter().find(|(form, _)| *form == name) {
            return format!("[{word}](#{})", anchor(VALUES));
        }
        if let Some(section) = sections().iter().find(|section| section.of == name) {
            let plural = if section.of == "AuthConfig" { "text or table" } else { "table" };
            return format!("{plural}, [below](#{})", anchor(section.title));
        }
        return "a word".to_owned();
    }
    match property["type"].as_str() {
        Some("array") => {
            let one = kind(schema, &property["items"]);
            let words: Vec<String> =
                words(schema, &property["items"]).map(|(word, _)| format!("`\"{word}\"`")).collect();
            match one.strip_prefix("table,") {
                Some(rest) => format!("list of tables,{rest}"),
                None if words.is_empty() => format!("list: {one}"),
                None => format!("list of {}", words.join(", ")),
            }
        }
        Some("object") => {
            let more = &property["additionalProperties"];
            let inner = if more.is_object() { more } else { first(&property["patternProperties"]) };
            if inner.is_object() { format!("table of {}", kind(schema, inner)) } else { "table".to_owned() }
        }
        Some("integer") => "whole number".to_owned(),
        Some("string") => "text".to_owned(),
        Some(other) => other.to_owned(),
        None => "text".to_owned(),
    }
}

fn first(object: &Value) -> &Value {
    object.as_object().and_then(|object| object.values().next()).unwrap_or(&Value::Null)
}

/// The name of the definition that a schema refers to.
pub fn referred(property: &Value) -> Option<&str> {
    property["$ref"].as_str()?.rsplit('/').next()
}

/// The words that a value may be, each with what it means.
fn words<'a>(schema: &'a Value, property: &Value) -> impl Iterator<Item = (&'a str, &'a str)> {
    let definition = referred(property).map_or(&Value::Null, |name| &schema["$defs"][name]);
    let all = definition["oneOf"].as_array().map(Vec::as_slice).unwrap_or_default();
    all.iter().filter_map(|one| Some((one["const"].as_str()?, one["description"].as_str()?)))
}

/// The anchor that a heading gets on a page of Markdown.
fn anchor(heading: &str) -> String {
    let letters = heading.to_lowercase().replace(' ', "-");
    letters.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect()
}

/// Whether behind a space there is the unit of the number before it.
fn is_unit(text: &str, space: usize) -> bool {
    let behind = text[space..].trim_start().split(|c: char| !c.is_alphabetic()).next().unwrap_or_default();
    text[..space].ends_with(|c: char| c.is_ascii_digit())
        && matches!(behind, "B" | "KiB" | "MiB" | "GiB" | "TiB" | "ms" | "s" | "min" | "h" | "days" | "bytes")
}

/// A paragraph in lines; what stands in backticks, and a number with its unit, stays on one.
fn wrapped(text: &str, indent: &str) -> String {
    let lead = text.len() - text.trim_start().len();
    let (mut words, mut word, mut code) = (Vec::new(), text[..lead].to_owned(), false);
    for (at, letter) in text.char_indices().skip(lead) {
        code ^= letter == '`';
        if letter == ' ' && !code && !is_unit(text, at) {
            words.push(std::mem::take(&mut word));
        } else {
            word.push(letter);
        }
    }
    words.push(word);
    let (mut lines, mut line) = (String::new(), String::new());
    for word in words {
        if line.is_empty() {
            line = word;
        } else if line.chars().count() + 1 + word.chars().count() > WIDTH {
            lines += &format!("{line}\n");
            line = format!("{indent}{word}");
        } else {
            line += &format!(" {word}");
        }
    }
    lines + line.trim_end() + "\n"
}

/// The tables of a schema that the loader reads key by key, by the names that sections give them.
fn variant<'a>(definition: &'a Value, kind: &str) -> &'a Value {
    let all = definition["oneOf"].as_array().map(Vec::as_slice).unwrap_or_default();
    let is = |one: &&Value| {
        let of = &one["properties"]["type"];
        of["const"] == kind || of["enum"].as_array().is_some_and(|all| all.iter().any(|name| name == kind))
    };
    all.iter().find(is).unwrap_or(&Value::Null)
}

/// The properties of a table's schema.
pub fn properties(table: &Value) -> Option<&Map<String, Value>> {
    table["properties"].as_object()
}

//! Judging what was delivered against what was written.
//!
//! What comes in: documents, from a server or from NDJSON files, and the containers that wrote. What goes out: per
//! container the numbers that are missing, doubled or out of order. Lines are known by the number inside the message,
//! never by `_id`: an agent that makes wrong ids must not pass by them.

use crate::eventually;
use crate::node::Container;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::Duration;

/// One delivered document.
#[derive(Debug, Clone)]
pub struct Document {
    /// Its `_id`; empty in a file.
    pub id: String,
    /// The index that holds it, of a data stream the backing one; empty in a file.
    pub index: String,
    /// The document itself.
    pub source: Value,
}

impl Document {
    /// A field by its dotted name, whether the document nests it or writes the dots.
    pub fn get(&self, name: &str) -> Option<&Value> {
        find(&self.source, name)
    }

    /// A field's text; empty if there is none.
    pub fn text(&self, name: &str) -> &str {
        self.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    /// Its `message`.
    pub fn message(&self) -> String {
        self.text("message").to_owned()
    }

    /// The number of a numbered line: `app.n`, else what stands in `line 17 of web`, else the `n` of a message that is
    /// the line's JSON (the safe form, in which a refused document is tried once more).
    pub fn number(&self) -> Option<u64> {
        let inside = || self.text("message").strip_prefix("line ")?.split(' ').next()?.parse().ok();
        let safe = || serde_json::from_str::<Value>(self.text("message")).ok()?.get("n")?.as_u64();
        self.get("app.n").and_then(Value::as_u64).or_else(inside).or_else(safe)
    }

    /// Whether this container wrote it.
    pub fn is_of(&self, container: &Container) -> bool {
        self.text("kubernetes.pod.uid") == container.pod.uid
            && self.text("kubernetes.container.name") == container.name
    }
}

fn find<'v>(value: &'v Value, name: &str) -> Option<&'v Value> {
    if let Some(found) = value.get(name) {
        return Some(found);
    }
    name.match_indices('.').find_map(|(dot, _)| find(value.get(&name[..dot])?, &name[dot + 1..]))
}

/// Reads the NDJSON files of a folder, rotated ones first (in the order of their names). A last line without newline is one that is being
/// written, and is left out.
///
/// # Errors
/// When a finished line is not a JSON object.
pub fn read_ndjson(folder: &Path) -> Result<Vec<Document>, String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok(Vec::new()) };
    let mut files: Vec<_> =
        entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file()).collect();
    // A rotated file's name is the current one's with an ending, so by name alone it would come behind.
    files.sort_by_key(|path| (path.extension().is_some_and(|ending| ending == "ndjson"), path.clone()));
    let mut documents = Vec::new();
    for file in files {
        // One that vanished meanwhile was rotated: the next look finds it under its new name.
        let Ok(bytes) = std::fs::read(&file) else { continue };
        let finished = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        for line in bytes[..finished].split_inclusive(|byte| *byte == b'\n') {
            let source: Value = serde_json::from_slice(line).map_err(|error| {
                format!("{}: not JSON ({error}): {}", file.display(), String::from_utf8_lossy(line))
            })?;
            documents.push(Document { id: String::new(), index: String::new(), source });
        }
    }
    Ok(documents)
}

/// What is wrong with one container's lines. All empty: delivered exactly once.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Faults {
    /// Numbers written and not delivered.
    pub missing: Vec<u64>,
    /// Numbers delivered more than once.
    pub doubled: Vec<u64>,
    /// Numbers that follow a higher one. In a file its own order counts, in an index that of `@timestamp`.
    pub out_of_order: Vec<u64>,
    /// Numbers delivered that were never written.
    pub invented: Vec<u64>,
}

impl Faults {
    /// Whether there is none.
    pub fn is_clean(&self) -> bool {
        *self == Faults::default()
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            ("missing", &self.missing),
            ("doubled", &self.doubled),
            ("out of order", &self.out_of_order),
            ("never written", &self.invented),
        ];
        for (name, numbers) in parts {
            let shown = &numbers[..numbers.len().min(10)];
            write!(
                f,
                "{} {name}{}",
                numbers.len(),
                if shown.is_empty() { "; ".into() } else { format!(" {shown:?}; ") }
            )?;
        }
        Ok(())
    }
}

/// Judges the numbered lines of one container among `documents`.
pub fn faults(documents: &[Document], container: &Container) -> Faults {
    let mut own: Vec<&Document> = documents
        .iter()
        .filter(|document| document.is_of(container) && document.number().is_some())
        .collect();
    if own.iter().any(|document| !document.index.is_empty()) {
        // Nine digits in UTC: the order of the text is the order of time.
        own.sort_by(|a, b| a.text("@timestamp").cmp(b.text("@timestamp")));
    }
    let mut faults = Faults::default();
    let mut seen: BTreeMap<u64, u32> = BTreeMap::new();
    let mut highest = 0;
    for number in own.iter().filter_map(|document| document.number()) {
        *seen.entry(number).or_default() += 1;
        if number < highest {
            faults.out_of_order.push(number);
        }
        highest = highest.max(number);
    }
    let written = container.written().len() as u64;
    faults.missing = (0..written).filter(|number| !seen.contains_key(number)).collect();
    faults.doubled = seen.iter().filter(|(_, times)| **times > 1).map(|(number, _)| *number).collect();
    faults.invented = seen.range(written..).map(|(number, _)| *number).collect();
    faults
}

/// Waits until nothing is missing of what these containers wrote, and gives all documents.
///
/// # Panics
/// When something is missing at the deadline, or anything is doubled, out of order or invented.
#[track_caller]
pub fn exactly_once(
    deadline: Duration,
    fetch: impl Fn() -> Result<Vec<Document>, String>,
    containers: &[&Container],
) -> Vec<Document> {
    let documents = eventually(deadline, "every line to be delivered", || {
        let documents = fetch()?;
        let all: Vec<(&&Container, Faults)> = containers.iter().map(|c| (c, faults(&documents, c))).collect();
        if all.iter().all(|(_, faults)| faults.missing.is_empty()) {
            return Ok(documents);
        }
        Err(report(&all))
    });
    clean(&documents, containers);
    documents
}

/// Asserts that every numbered line of these containers is there exactly once and in order.
///
/// # Panics
/// When not: with the faults of each container.
#[track_caller]
pub fn clean(documents: &[Document], containers: &[&Container]) {
    let all: Vec<(&&Container, Faults)> = containers.iter().map(|c| (c, faults(documents, c))).collect();
    assert!(all.iter().all(|(_, faults)| faults.is_clean()), "{}", report(&all));
}

fn report(all: &[(&&Container, Faults)]) -> String {
    let line = |(container, faults): &(&&Container, Faults)| {
        format!("{} of {} written: {faults}", container.pod.name, container.written().len())
    };
    all.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::Node;
    use serde_json::json;

    fn document(container: &Container, number: u64, index: &str) -> Document {
        let written = &container.written()[number as usize];
        let source = json!({
            "@timestamp": written.time, "message": written.message, "app": {"n": number},
            "kubernetes": {"pod": {"uid": container.pod.uid}, "container.name": container.name},
        });
        Document { id: "same".into(), index: index.into(), source }
    }

    #[test]
    fn each_fault_is_seen_and_only_in_its_own_container() {
        let node = Node::new();
        let (mut web, mut other) = (node.pod("web").container("app"), node.pod("web").container("app"));
        web.writes(6);
        other.writes_text(2);
        let mut documents: Vec<Document> = [0, 2, 1, 4, 4].map(|n| document(&web, n, "")).into();
        documents.extend([0, 1].map(|n| document(&other, n, "")));
        let found = faults(&documents, &web);
        assert_eq!((found.missing.as_slice(), found.doubled.as_slice()), ([3, 5].as_slice(), [4].as_slice()));
        assert_eq!(found.out_of_order, [1]);
        assert!(faults(&documents, &other).is_clean());
    }

    #[test]
    fn in_an_index_time_is_the_order() {
        let node = Node::new();
        let mut web = node.pod("web").container("app");
        web.writes(3);
        let documents = [2, 0, 1].map(|n| document(&web, n, "logs-1"));
        assert!(faults(&documents, &web).is_clean(), "{}", faults(&documents, &web));
    }

    #[test]
    fn a_field_is_found_nested_dotted_or_both() {
        for source in [
            json!({"a": {"b": {"c": 1}}}),
            json!({"a.b.c": 1}),
            json!({"a": {"b.c": 1}}),
            json!({"a.b": {"c": 1}}),
        ] {
            assert_eq!(find(&source, "a.b.c"), Some(&json!(1)), "{source}");
            assert_eq!(find(&source, "a.b.d"), None);
        }
    }

    #[test]
    fn a_number_is_found_in_every_form_of_a_document() {
        for source in [
            json!({"message": "line 17 of web", "app": {"n": 17}}),
            json!({"message": "line 17 of web"}),
            json!({"message": "{\"n\":17,\"msg\":\"line 17 of web\"}", "taffrail": {"error": "refused"}}),
        ] {
            let document = Document { id: String::new(), index: String::new(), source };
            assert_eq!(document.number(), Some(17), "{}", document.source);
        }
    }

    #[test]
    fn a_line_that_is_being_written_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.ndjson"), "{\"message\":\"1\"}\n{\"mess").unwrap();
        let documents = read_ndjson(folder.path()).unwrap();
        assert_eq!(documents.iter().map(Document::message).collect::<Vec<_>>(), ["1"]);
        std::fs::write(folder.path().join("a.ndjson"), "{\"mess\n").unwrap();
        assert!(read_ndjson(folder.path()).unwrap_err().contains("not JSON"));
    }
}

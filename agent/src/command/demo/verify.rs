//! Whether every record that was written was delivered exactly once, and unaltered. Comes in: fingerprints of
//! what the containers wrote, then the delivered documents, one after another. Goes out: a verdict for each
//! container. It never asks the agent, and counts by the number within a record's text, never by an `_id` or
//! a position.

use std::collections::HashMap;
use std::fmt;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::container::Tally;
use crate::command::terminal::grouped;

/// How many examples of one kind are shown.
const EXAMPLES: usize = 5;

/// What one container wrote: the fingerprint of record number n is at n - 1.
#[derive(Debug)]
pub struct Written {
    /// Whose records these are.
    pub tally: Arc<Tally>,
    /// One for each record, by number.
    pub fingerprints: Vec<u64>,
}

/// The fingerprint of the document that a printed line must become: a JSON object gives its members to `app`,
/// save the first of `message`, `msg`, `log` that is a string, which is the message; any other text is the
/// message.
pub fn expected(stream: &str, text: &str) -> u64 {
    if text.starts_with('{')
        && let Ok(mut app) = serde_json::from_str::<Map<String, Value>>(text)
    {
        let lifted =
            ["message", "msg", "log"].into_iter().find(|key| app.get(*key).is_some_and(Value::is_string));
        let message = lifted.and_then(|key| app.remove(key));
        return fingerprint(stream, message.as_ref().and_then(Value::as_str), &app);
    }
    fingerprint(stream, Some(text), &Map::new())
}

/// A hash of all that a program printed. Members are compared as values, so that white space and order do not
/// matter.
fn fingerprint(stream: &str, message: Option<&str>, app: &Map<String, Value>) -> u64 {
    let mut hasher = DefaultHasher::new();
    (stream, message).hash(&mut hasher);
    let mut members: Vec<_> = app.iter().collect();
    members.sort_by_key(|(key, _)| *key);
    for (key, value) in members {
        (key, value.to_string()).hash(&mut hasher);
    }
    hasher.finish()
}

/// A delivered document, as far as it is verified.
#[derive(Deserialize)]
struct Document {
    #[serde(rename = "@timestamp")]
    _timestamp: String,
    message: Option<String>,
    #[serde(default)]
    app: Map<String, Value>,
    stream: String,
    kubernetes: Kubernetes,
}

#[derive(Deserialize)]
struct Kubernetes {
    namespace: String,
    pod: Pod,
    container: Container,
}

#[derive(Deserialize)]
struct Pod {
    name: String,
    uid: String,
}

#[derive(Deserialize)]
struct Container {
    name: String,
}

impl Document {
    /// The number that the program gave to the record.
    fn number(&self) -> Option<u64> {
        if let Some(number) = self.app.get("seq") {
            return number.as_u64();
        }
        let text = self.message.as_deref()?;
        let digits = &text[text.rfind("seq=")? + 4..];
        let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
        digits[..end].parse().ok()
    }
}

/// Checks delivered documents against what was written.
#[derive(Debug)]
pub struct Checker {
    records: Vec<Records>,
    /// Index into `records` by pod uid and container.
    places: HashMap<(String, String), usize>,
    documents: u64,
    strays: u64,
    stray_examples: Vec<String>,
}

#[derive(Debug)]
struct Records {
    written: Written,
    /// How often each record was seen, by number - 1.
    seen: Vec<u8>,
    altered: Vec<u64>,
}

impl Checker {
    /// A checker of everything in `written`.
    pub fn new(written: Vec<Written>) -> Checker {
        let key = |written: &Written| (written.tally.uid.clone(), written.tally.container.to_owned());
        Checker {
            places: written.iter().map(key).zip(0..).collect(),
            records: written
                .into_iter()
                .map(|written| Records {
                    seen: vec![0; written.fingerprints.len()],
                    altered: Vec::new(),
                    written,
                })
                .collect(),
            documents: 0,
            strays: 0,
            stray_examples: Vec::new(),
        }
    }

    /// Takes one delivered document as it was written to a file; `place` says where it was found.
    pub fn document(&mut self, json: &[u8], place: impl fmt::Display) {
        let result = serde_json::from_slice(json).map_err(|error| error.to_string());
        self.note(result, place, || String::from_utf8_lossy(json).into_owned());
    }

    /// Takes one delivered document that is part of a server's reply. A number is not turned to text and
    /// back, which could change its last digit.
    pub fn hit(&mut self, source: &Value, place: impl fmt::Display) {
        let result = Document::deserialize(source).map_err(|error| error.to_string());
        self.note(result, place, || source.to_string());
    }

    fn note(
        &mut self,
        document: Result<Document, String>,
        place: impl fmt::Display,
        text: impl Fn() -> String,
    ) {
        self.documents += 1;
        if let Err(reason) = document.and_then(|document| self.check(&document)) {
            self.strays += 1;
            if self.stray_examples.len() < EXAMPLES {
                let start: String = text().chars().filter(|c| !c.is_control()).take(160).collect();
                self.stray_examples.push(format!("{place}: {reason}: {start}"));
            }
        }
    }

    fn check(&mut self, document: &Document) -> Result<(), String> {
        let Kubernetes { namespace, pod, container } = &document.kubernetes;
        let index =
            self.places.get(&(pod.uid.clone(), container.name.clone())).ok_or("no container of this run")?;
        let records = &mut self.records[*index];
        let tally = &records.written.tally;
        if (namespace.as_str(), &pod.name) != (tally.namespace, &tally.pod) {
            return Err(format!("it is of {}/{}", tally.namespace, tally.pod));
        }
        let number = document.number().ok_or("no number in its text")?;
        let index = number.checked_sub(1).and_then(|index| usize::try_from(index).ok());
        let index =
            index.filter(|&index| index < records.seen.len()).ok_or("a number that was never written")?;
        records.seen[index] = records.seen[index].saturating_add(1);
        let found = fingerprint(&document.stream, document.message.as_deref(), &document.app);
        if found != records.written.fingerprints[index] {
            records.altered.push(number);
        }
        Ok(())
    }

    /// Gives the verdict on all that was taken.
    pub fn finish(self) -> Verdict {
        let mut verdict = Verdict {
            documents: self.documents,
            strays: self.strays,
            stray_examples: self.stray_examples,
            ..Verdict::default()
        };
        let mut pods: Vec<&str> = Vec::new();
        for records in &self.records {
            let tally = &records.written.tally;
            verdict.lines += records.seen.len() as u64;
            if !records.seen.is_empty() {
                pods.push(&tally.uid);
            }
            let numbers = |wanted: fn(u8) -> bool| -> Vec<u64> {
                records
                    .seen
                    .iter()
                    .zip(1..)
                    .filter(|(times, _)| wanted(**times))
                    .map(|(_, number)| number)
                    .collect()
            };
            let mut altered = records.altered.clone();
            altered.sort_unstable();
            let fault = Fault {
                container: format!("{}/{}/{}", tally.namespace, tally.pod, tally.container),
                lines: records.seen.len() as u64,
                missing: numbers(|times| times == 0),
                doubled: numbers(|times| times > 1),
                altered,
            };
            if !(fault.missing.is_empty() && fault.doubled.is_empty() && fault.altered.is_empty()) {
                verdict.faults.push(fault);
            }
        }
        pods.sort_unstable();
        pods.dedup();
        verdict.pods = pods.len() as u64;
        verdict
    }
}

/// What came of the verification.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Records written.
    pub lines: u64,
    /// Documents found.
    pub documents: u64,
    /// Pods that wrote at least one record.
    pub pods: u64,
    /// The containers of which not every record was delivered exactly once and unaltered.
    pub faults: Vec<Fault>,
    /// Documents that are no record of any container of this run.
    pub strays: u64,
    /// Some of those, with the reason.
    pub stray_examples: Vec<String>,
}

/// What is wrong with one container's records, by their numbers.
#[derive(Debug)]
pub struct Fault {
    /// Namespace, pod and container.
    pub container: String,
    /// Records that it wrote.
    pub lines: u64,
    /// Written but not delivered.
    pub missing: Vec<u64>,
    /// Delivered more than once.
    pub doubled: Vec<u64>,
    /// Delivered with another text, other members or the wrong stream.
    pub altered: Vec<u64>,
}

impl Verdict {
    /// Whether every record was delivered exactly once and unaltered, and nothing else was.
    pub fn exact(&self) -> bool {
        self.faults.is_empty() && self.strays == 0
    }
}

/// What is wrong, a line for each fault; nothing if nothing is.
impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for fault in &self.faults {
            for (what, numbers) in
                [("missing", &fault.missing), ("doubled", &fault.doubled), ("altered", &fault.altered)]
            {
                if !numbers.is_empty() {
                    let (count, lines) = (grouped(numbers.len() as u64), grouped(fault.lines));
                    writeln!(
                        f,
                        "  {}: {count} of {lines} lines {what}: seq {}",
                        fault.container,
                        ranges(numbers)
                    )?;
                }
            }
        }
        if self.strays > 0 {
            writeln!(f, "  {} documents that no container wrote:", grouped(self.strays))?;
        }
        self.stray_examples.iter().try_for_each(|example| writeln!(f, "    {example}"))
    }
}

/// Sorted numbers as `1-4, 9, 12-13`, cut after a few.
fn ranges(numbers: &[u64]) -> String {
    let runs: Vec<_> = numbers.chunk_by(|a, b| b - a <= 1).collect();
    let texts = runs.iter().take(EXAMPLES).map(|run| match run {
        [first, .., last] if first != last => format!("{first}-{last}"),
        run => run[0].to_string(),
    });
    let text = texts.collect::<Vec<_>>().join(", ");
    if runs.len() > EXAMPLES { format!("{text}, …") } else { text }
}

/// Gives every line of the NDJSON files in `dir` to `checker`. A file without a line end is read all the
/// same.
pub fn read_folder(dir: &Path, checker: &mut Checker) -> io::Result<()> {
    let mut paths = fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    let mut line = Vec::new();
    // The output may rotate its files: whatever the name goes on with, it is part of what was delivered.
    for path in paths.iter().filter(|path| path.is_file() && path.to_string_lossy().contains(".ndjson")) {
        let mut reader = BufReader::with_capacity(256 * 1024, File::open(path)?);
        for number in 1_u64.. {
            line.clear();
            if reader.read_until(b'\n', &mut line)? == 0 {
                break;
            }
            checker.document(line.trim_ascii_end(), format_args!("{}:{number}", path.display()));
        }
    }
    Ok(())
}

//! `taffrail test`: whether a configuration does with lines what is expected of it.
//!
//! In: the configuration, and cases in a file beside it: a pod, its lines, and for each output what is to come of them. Out:
//! each case that fails, with what was found; exit code 1 if there is one. Sends nothing.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde::Deserialize;
use toml::Value;

use super::explain::{facts, known};
use super::trial::{Subject, framed};
use super::{BAD_CONFIGURATION, configured};
use crate::catalog::origin::{Container, Origin};
use crate::config::Config;
use crate::metadata::facts::ContainerFacts;
use crate::metadata::owners::Kind;
use crate::read::Framing;
use crate::route::Course;

/// The time of the first line of each case: 2026-01-02T03:04:05Z.
const BEGUN: i64 = 1_767_323_045_000_000_000;

/// What may be said to it.
#[derive(Debug, Clone, Args)]
pub struct TestArgs {
    /// The cases; default: beside the configuration, with `.test.toml` for `.toml`
    #[arg(value_name = "FILE")]
    cases: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cases {
    #[serde(default)]
    case: Vec<Case>,
}

/// One `[[case]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    /// What it shows.
    name: String,
    #[serde(default)]
    pod: Pod,
    /// What the program writes.
    #[serde(default)]
    lines: Vec<String>,
    line: Option<String>,
    #[serde(default = "stdout")]
    stream: Stream,
    /// By output: `"dropped"`, `"elsewhere"`, a number of records, the fields of one record, or a list of such.
    expect: BTreeMap<String, Value>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Stream {
    Stdout,
    Stderr,
}

fn stdout() -> Stream {
    Stream::Stdout
}

/// Whose lines they are.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Pod {
    namespace: String,
    name: String,
    container: String,
    image: String,
    /// Such as `deployment/checkout`.
    workload: Option<String>,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
}

impl Default for Pod {
    fn default() -> Pod {
        Pod {
            namespace: "default".to_owned(),
            name: "pod".to_owned(),
            container: "app".to_owned(),
            image: String::new(),
            workload: None,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
        }
    }
}

/// Tests; exit code 1 if a case fails, 2 if the configuration or the cases are at fault.
pub fn test(path: Option<&Path>, args: &TestArgs) -> ExitCode {
    let fault = |told: &dyn std::fmt::Display| {
        eprintln!("{told}");
        ExitCode::from(BAD_CONFIGURATION)
    };
    let Some(path) = path else {
        return fault(&"error: give the configuration with --config FILE");
    };
    let config = match configured(Some(path)) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let file = args.cases.clone().unwrap_or_else(|| path.with_extension("test.toml"));
    let cases = match read(&file) {
        Ok(cases) => cases,
        Err(error) => return fault(&format!("error: {}: {error}", file.display())),
    };
    let (mut failed, mut said) = (0, String::new());
    for case in &cases.case {
        match run(&config, case) {
            Ok(differences) if differences.is_empty() => said.push_str(&format!("ok      {}\n", case.name)),
            Ok(differences) => {
                failed += 1;
                said.push_str(&format!("FAILED  {}\n", case.name));
                differences.iter().for_each(|one| said.push_str(&format!("          {one}\n")));
            }
            Err(error) => return fault(&format!("error: {}: case {:?}: {error}", file.display(), case.name)),
        }
    }
    let count = cases.case.len();
    said.push_str(&format!("{} of {count} cases hold\n", count - failed));
    // Nothing is left to tell of a standard output that is closed.
    let _ = io::stdout().write_all(said.as_bytes());
    if failed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn read(file: &Path) -> Result<Cases, String> {
    let text = fs::read_to_string(file).map_err(|error| error.to_string())?;
    let cases: Cases = toml::from_str(&text).map_err(|error| error.to_string())?;
    if cases.case.is_empty() { Err("there is no [[case]] in it".to_owned()) } else { Ok(cases) }
}

/// What is not as it was expected.
fn run(config: &Config, case: &Case) -> Result<Vec<String>, String> {
    let lines: Vec<String> = case.line.iter().chain(&case.lines).cloned().collect();
    if lines.is_empty() {
        return Err("it has neither `line` nor `lines`".to_owned());
    }
    let stream = match case.stream {
        Stream::Stdout => "stdout",
        Stream::Stderr => "stderr",
    };
    let pod = &case.pod;
    let mut facts = facts(config, pod.labels.clone(), pod.annotations.clone());
    if let Some(workload) = &pod.workload {
        let (kind, name) =
            workload.split_once('/').ok_or("`workload` is written as \"deployment/checkout\"")?;
        let kind = Kind::ALL.into_iter().find(|known| known.field() == kind);
        facts.owners.insert(
            kind.ok_or("`workload` begins with a kind, as in \"deployment/checkout\"")?,
            name.to_owned(),
        );
    }
    facts
        .containers
        .insert(pod.container.clone(), ContainerFacts { image: pod.image.clone(), runs: Vec::new() });
    let (namespace, name) = (pod.namespace.clone(), pod.container.clone());
    let container = Container { namespace, pod: pod.name.clone(), uid: "0".to_owned(), name };
    let subject = Subject {
        origin: Origin::Container(container),
        known: Some(known(facts)),
        framing: Framing::Runtime,
        restart: 0,
        key: "KEY".to_owned(),
        log: framed(&lines, stream, BEGUN).map_err(|error| error.to_string())?,
        begin: 0,
    };
    let mut differences = Vec::new();
    for (output, expected) in &case.expect {
        if !config.outputs.contains_key(output) {
            let known: Vec<&str> = config.outputs.keys().map(String::as_str).collect();
            return Err(format!("there is no output `{output}`; there are {}", known.join(", ")));
        }
        let tried = subject.at(config, output).map_err(|error| error.to_string())?;
        let documents: Vec<serde_json::Value> = tried
            .sent
            .iter()
            .map(|sent| serde_json::from_str(&sent.text).unwrap_or_else(|_| sent.text.clone().into()))
            .collect();
        let not = |wanted: &str| format!("{output}: expected {wanted}, found {tried}");
        match expected {
            Value::String(word) if word == "dropped" => {
                let dropped = documents.is_empty() && tried.filtered > 0;
                differences.extend((!dropped).then(|| not("that it is dropped")));
            }
            Value::String(word) if word == "elsewhere" => {
                let here = matches!(tried.course, Course::Sent(_));
                differences.extend(here.then(|| not("that no route sends it here")));
            }
            Value::Integer(count) => {
                let same = i64::try_from(documents.len()) == Ok(*count);
                differences.extend((!same).then(|| not(&format!("{count} records"))));
            }
            Value::Table(fields) if documents.len() == 1 => {
                differences.extend(compare(output, fields, &documents[0]));
            }
            Value::Table(_) => differences.push(not("one record")),
            Value::Array(list) if list.iter().all(Value::is_table) => {
                if list.len() != documents.len() {
                    differences.push(not(&format!("{} records", list.len())));
                    continue;
                }
                for (number, (fields, document)) in (1..).zip(list.iter().zip(&documents)) {
                    let fields = fields.as_table().into_iter();
                    let label = format!("{output}, record {number}");
                    differences.extend(fields.flat_map(|fields| compare(&label, fields, document)));
                }
            }
            _ => {
                return Err(format!(
                    "`{output}`: expected \"dropped\", \"elsewhere\", a number of records, the fields of one or a list of these"
                ));
            }
        }
    }
    Ok(differences)
}

/// The fields that are not as expected.
fn compare(label: &str, expected: &toml::Table, document: &serde_json::Value) -> Vec<String> {
    let mut wanted = Vec::new();
    flatten(String::new(), expected, &mut wanted);
    let differs = |(name, value): (String, serde_json::Value)| {
        let found = field(document, &name);
        let shown = found.map_or("nothing".to_owned(), serde_json::Value::to_string);
        (found != Some(&value)).then(|| format!("{label}: {name}: expected {value}, found {shown}"))
    };
    wanted.into_iter().filter_map(differs).collect()
}

fn flatten(prefix: String, table: &toml::Table, all: &mut Vec<(String, serde_json::Value)>) {
    for (key, value) in table {
        let name = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value {
            Value::Table(inner) => flatten(name, inner, all),
            value => all.push((name, serde_json::to_value(value).unwrap_or_default())),
        }
    }
}

/// A field by its name with dots, which may stand in names and between them.
fn field<'a>(document: &'a serde_json::Value, name: &str) -> Option<&'a serde_json::Value> {
    if let Some(found) = document.get(name) {
        return Some(found);
    }
    let dots = name.char_indices().filter(|(_, character)| *character == '.').map(|(at, _)| at);
    dots.into_iter().find_map(|at| field(document.get(&name[..at])?, &name[at + 1..]))
}

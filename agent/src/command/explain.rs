//! `taffrail explain`: why a log is, or is not, where it is looked for.
//!
//! In: a container of this node, a file, or standard input. Out: which route decides and why the others do not, what is done
//! with records, and the last of them as each output would send it. Reads what the agent reads, and what it remembers of
//! pods; asks no server and changes nothing.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::SystemTime;

use clap::Args;

use super::configured;
use super::trial::{Sent, Subject, framed, in_memory};
use crate::catalog::file::KeyMaker;
use crate::catalog::name::{LogName, PodName};
use crate::catalog::origin::{Container, Origin};
use crate::clock::unix_nanos;
use crate::config::{AnnotationsConfig, Config};
use crate::metadata::cache;
use crate::metadata::facts::{Known, PodFacts, PodKey};
use crate::metadata::wishes::Wishes;
use crate::pipeline::hash_key;
use crate::read::Framing;
use crate::record::cri;
use crate::route::{Course, Verdict};

/// How much of the end of a log is looked at.
const LOOK_AT: u64 = 256 << 10;

/// What may be said to it.
#[derive(Debug, Clone, Args)]
pub struct ExplainArgs {
    /// A container of this node, a file with lines, or `-` for standard input
    #[arg(value_name = "NAMESPACE/POD[/CONTAINER] | FILE | -")]
    what: String,
    /// Whose the lines of a file or of standard input are
    #[arg(long = "as", value_name = "NAMESPACE/POD/CONTAINER", default_value = "default/pod/app")]
    whose: String,
    /// A label of that pod
    #[arg(long = "label", value_name = "KEY=VALUE")]
    labels: Vec<String>,
    /// An annotation of that pod
    #[arg(long = "annotation", value_name = "KEY=VALUE")]
    annotations: Vec<String>,
    /// How many of the last records are shown
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    records: usize,
}

/// Explains; exit code 1 if there is no such log, 2 if the configuration is at fault.
pub fn explain(path: Option<&Path>, args: &ExplainArgs) -> ExitCode {
    let config = match configured(path) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let config = &config;
    let explained = subject(config, args).and_then(|(subject, said)| {
        let text = explanation(config, &subject, args.records).map_err(|error| error.to_string())?;
        // Nothing is left to tell of a standard output that is closed.
        let _ = write!(io::stdout(), "{}\n{said}\n{text}", subject.origin);
        Ok(())
    });
    match explained {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What is explained, and what is known of it in words.
fn subject(config: &Config, args: &ExplainArgs) -> Result<(Subject, String), String> {
    if args.what == "-" {
        let mut bytes = Vec::new();
        io::stdin()
            .read_to_end(&mut bytes)
            .map_err(|error| format!("cannot read standard input: {error}"))?;
        return given(config, args, &bytes);
    }
    if fs::metadata(&args.what).is_ok_and(|found| !found.is_dir()) {
        let bytes = fs::read(&args.what).map_err(|error| format!("cannot read {}: {error}", args.what))?;
        return given(config, args, &bytes);
    }
    // No namespace begins so: it is a file that is meant.
    if args.what.starts_with(['/', '.', '~']) {
        let why =
            fs::metadata(&args.what).err().map_or("it is a folder".to_owned(), |error| error.to_string());
        return Err(format!("cannot read {}: {why}", args.what));
    }
    let parts: Vec<&str> = args.what.split('/').collect();
    match parts[..] {
        [namespace, pod] => of_node(config, namespace, pod, None),
        [namespace, pod, container] => of_node(config, namespace, pod, Some(container)),
        _ => Err(format!("{} is neither a file nor NAMESPACE/POD[/CONTAINER]", args.what)),
    }
}

/// Lines that somebody gives, as they are or as a runtime has framed them.
fn given(config: &Config, args: &ExplainArgs, bytes: &[u8]) -> Result<(Subject, String), String> {
    let parts: Vec<String> = args.whose.split('/').map(str::to_owned).collect();
    let [namespace, pod, name] = <[String; 3]>::try_from(parts)
        .map_err(|_| format!("--as {}: expected NAMESPACE/POD/CONTAINER", args.whose))?;
    let pairs = |all: &[String]| {
        let pair = |one: &String| {
            let (key, value) = one.split_once('=').ok_or_else(|| format!("{one}: expected KEY=VALUE"))?;
            Ok::<_, String>((key.to_owned(), value.to_owned()))
        };
        all.iter().map(pair).collect::<Result<_, _>>()
    };
    let facts = facts(config, pairs(&args.labels)?, pairs(&args.annotations)?);
    let is_framed = bytes.split(|byte| *byte == b'\n').next().is_some_and(|line| cri::parse(line).is_some());
    let log = if is_framed {
        in_memory(bytes, 0)
    } else {
        let lines: Vec<String> = String::from_utf8_lossy(bytes).lines().map(str::to_owned).collect();
        framed(&lines, "stdout", unix_nanos())
    };
    let subject = Subject {
        origin: Origin::Container(Container { namespace, pod, uid: "0".to_owned(), name }),
        known: Some(known(facts)),
        framing: Framing::Runtime,
        restart: 0,
        key: "KEY".to_owned(),
        log: log.map_err(|error| error.to_string())?,
        begin: 0,
    };
    Ok((subject, "  as if a pod had written it that has no more than is said here".to_owned()))
}

/// What would be known of a pod with these labels and annotations.
pub fn facts(
    config: &Config,
    labels: crate::metadata::api::Texts,
    annotations: crate::metadata::api::Texts,
) -> PodFacts {
    let (wishes, mistakes) = Wishes::read(&annotations);
    PodFacts {
        labels,
        annotations,
        asked: config.metadata.asked.clone(),
        wishes,
        mistakes,
        ..PodFacts::default()
    }
}

/// That, with nothing known of its namespace and node.
pub fn known(facts: PodFacts) -> Known {
    Known { pod: Arc::new(facts), namespace: None, node: None }
}

/// A container of this node, by its log directory.
fn of_node(
    config: &Config,
    namespace: &str,
    pod: &str,
    container: Option<&str>,
) -> Result<(Subject, String), String> {
    let cannot = |path: &Path, error: io::Error| format!("cannot read {}: {error}", path.display());
    let entries = fs::read_dir(&config.pod_logs).map_err(|error| cannot(&config.pod_logs, error))?;
    let mut found: Vec<(SystemTime, PathBuf, Container)> = Vec::new();
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(parsed) = PodName::parse(&name).filter(|p| (p.namespace, p.pod) == (namespace, pod)) else {
            continue;
        };
        for inner in fs::read_dir(entry.path()).map_err(|error| cannot(&entry.path(), error))?.flatten() {
            let name = inner.file_name().to_string_lossy().into_owned();
            if container.is_some_and(|wanted| wanted != name) {
                continue;
            }
            let Some((modified, path)) = newest(&inner.path()) else { continue };
            let (namespace, pod) = (namespace.to_owned(), pod.to_owned());
            found.push((modified, path, Container { namespace, pod, uid: parsed.uid.to_owned(), name }));
        }
    }
    found.sort_by_key(|(modified, ..)| *modified);
    let Some((_, path, container)) = found.pop() else {
        return Err(format!(
            "there is no log of {namespace}/{pod}{} below {}: either it runs on another node, or it has written nothing",
            container.map(|name| format!("/{name}")).unwrap_or_default(),
            config.pod_logs.display()
        ));
    };
    let mut saved = cache::load(&cache::path(&config.state_dir));
    let key = PodKey::of(&container);
    let own = saved.pods.iter().position(|saved| saved.key == key).map(|at| saved.pods.swap_remove(at));
    let said = match &own {
        Some(own) => describe(&own.facts),
        None => {
            "  nothing is known of its pod beyond the path: no agent here has asked the API server for it"
                .to_owned()
        }
    };
    let known = own.map(|own| Known {
        namespace: saved.namespaces.remove(&container.namespace).map(Arc::new),
        node: saved.node.map(Arc::new),
        pod: Arc::new(own.facts),
    });
    let name = path.file_name().and_then(|name| name.to_str()).and_then(LogName::parse);
    let restart = name.map_or(0, |name| name.restart);
    let keys = KeyMaker { cluster: config.cluster.clone(), node: config.node.clone() };
    let read = File::open(&path).and_then(|log| keys.key(&container, restart, log, true));
    let key = read.map_err(|error| cannot(&path, error))?.map(|key| key.to_string()).unwrap_or_default();
    let (log, begin) = tail(&path).map_err(|error| cannot(&path, error))?;
    let subject = Subject {
        origin: Origin::Container(container),
        known,
        framing: Framing::Runtime,
        restart,
        key,
        log,
        begin,
    };
    Ok((subject, format!("{said}\n  log: {}", path.display())))
}

/// The file of a container that was written last, and is not compressed.
fn newest(directory: &Path) -> Option<(SystemTime, PathBuf)> {
    let logs = fs::read_dir(directory).ok()?.flatten().filter_map(|entry| {
        let name = LogName::parse(entry.file_name().to_str()?)?;
        (!name.packed).then_some((entry.metadata().ok()?.modified().ok()?, entry.path()))
    });
    logs.max()
}

/// The last whole lines of a file, and where the first of them begins.
fn tail(path: &Path) -> io::Result<(File, u64)> {
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    let begin = size.saturating_sub(LOOK_AT);
    let mut bytes = vec![0; usize::try_from(size - begin).unwrap_or_default()];
    file.read_exact_at(&mut bytes, begin)?;
    let first = if begin > 0 { memchr::memchr(b'\n', &bytes).map_or(0, |at| at + 1) } else { 0 };
    let begin = begin + first as u64;
    Ok((in_memory(&bytes[first..], begin)?, begin))
}

fn describe(facts: &PodFacts) -> String {
    let pairs = |texts: &crate::metadata::api::Texts| {
        texts.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(", ")
    };
    let mut lines = Vec::new();
    for (what, text) in [("labels", pairs(&facts.labels)), ("annotations", pairs(&facts.annotations))] {
        lines.extend((!text.is_empty()).then(|| format!("  {what}: {text}")));
    }
    let owners: Vec<String> =
        facts.owners.iter().map(|(kind, name)| format!("{}/{name}", kind.field())).collect();
    lines.extend((!owners.is_empty()).then(|| format!("  owners: {}", owners.join(", "))));
    if lines.is_empty() { "  its pod has neither labels nor owners".to_owned() } else { lines.join("\n") }
}

/// All that is to be said.
fn explanation(config: &Config, subject: &Subject, records: usize) -> io::Result<String> {
    let mut text = String::new();
    if config.routes.is_empty() {
        text.push_str("routes\n  there are none: everything goes to every output\n");
    } else {
        text.push_str("routes\n");
    }
    let mut hashes = false;
    for ((number, route), verdict) in (1..).zip(&config.routes).zip(subject.verdicts(config)) {
        hashes |= matches!(verdict, Verdict::Decides | Verdict::GoesOn) && route.needs_key();
        let said = match verdict {
            Verdict::Decides => format!("decides{}", super::check::route_treatment(route)),
            Verdict::GoesOn => {
                format!("matches, and the next is asked too{}", super::check::route_treatment(route))
            }
            Verdict::Not(keys) => format!("does not match: {}", keys.join(", ")),
            Verdict::Unknown(keys) => {
                format!("may match, by what is not known of the pod: {}", keys.join(", "))
            }
            Verdict::NotAsked => "is not asked any more".to_owned(),
        };
        text.push_str(&format!("  {number}  {} — {said}\n", route.matches));
    }
    if config.annotations != AnnotationsConfig::default() {
        text.push_str(&format!("annotations that are followed: {}\n", config.annotations));
    }
    if let Some(error) = hash_key(config).err().filter(|_| hashes) {
        text.push_str(&format!("hashes below are made up: {error}\n"));
    }
    for (name, output) in &config.outputs {
        let tried = subject.at(config, name)?;
        text.push_str(&format!("\noutput {name} ({}): {tried}\n", output.kind()));
        if !matches!(tried.course, Course::Sent(_)) {
            continue;
        }
        for Sent { target, id, text: document } in tried.sent.iter().rev().take(records).rev() {
            let to = if target.is_empty() { String::new() } else { format!("  to {target}") };
            let id = if id.is_empty() { String::new() } else { format!("  with the id {id}") };
            let pretty = serde_json::from_str::<serde_json::Value>(document)
                .and_then(|document| serde_json::to_string_pretty(&document));
            let document = pretty.unwrap_or_else(|_| document.clone());
            text.push_str(&format!(
                "{to}{id}\n{}\n",
                document.lines().map(|l| format!("    {l}")).collect::<Vec<_>>().join("\n")
            ));
        }
    }
    Ok(text)
}

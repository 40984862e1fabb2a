//! `taffrail tap`: the live documents of a pod, as the running agent sends them.
//!
//! In: a pod's name, and lines of JSON from the agent's loopback listener. Out: documents on stdout, a line each, with what
//! would steer a terminal written out; in colours by their level on one. What the tail missed is told on stderr. Never
//! slows the agent.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::client::{Asked, address, runtime};
use super::terminal::{escaped, wants_colour};
use crate::admin::status::ContainerStatus;
use crate::record::Level;

/// What may be said to it.
#[derive(Debug, Clone, Args)]
pub struct TapArgs {
    /// Whose documents: NAMESPACE/POD, or NAMESPACE/POD/CONTAINER
    #[arg(value_name = "NAMESPACE/POD[/CONTAINER]")]
    pod: String,
    /// As this output sends them [default: the first by the alphabet]
    #[arg(long, value_name = "NAME")]
    output: Option<String>,
    /// Where the agent listens [default: `listen` of the configuration]
    #[arg(long, value_name = "ADDRESS:PORT")]
    address: Option<String>,
}

/// A line of the agent's answer.
#[derive(Debug, Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    document: Option<&'a RawValue>,
    text: Option<String>,
    missed: Option<u64>,
    tap: Option<Value>,
}

/// Shows documents until it is interrupted, or the agent ends. `config`: that of the agent, for its address.
pub fn tap(config: Option<&Path>, args: &TapArgs) -> ExitCode {
    let mut parts = args.pod.splitn(3, '/');
    let (Some(namespace), Some(pod), container) = (parts.next(), parts.next(), parts.next()) else {
        eprintln!("error: `{}` is no pod: write NAMESPACE/POD or NAMESPACE/POD/CONTAINER", args.pod);
        return ExitCode::from(2);
    };
    let address = match address(args.address.as_deref(), config) {
        Ok(address) => address,
        Err(code) => return code,
    };
    let mut query = vec![("namespace", namespace), ("pod", pod)];
    query.extend(container.map(|container| ("container", container)));
    query.extend(args.output.as_deref().map(|output| ("output", output)));
    let url = reqwest::Url::parse_with_params("http://localhost/api/v1/tap", query);
    let followed = url.map_err(|error| error.to_string()).and_then(|url| {
        let target = format!("{}?{}", url.path(), url.query().unwrap_or_default());
        runtime()?.block_on(follow(&address, &target, (namespace, pod, container)))
    });
    match followed {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", error.replace(|c: char| c.is_control() && c != '\n', " "));
            ExitCode::FAILURE
        }
    }
}

async fn follow(
    address: &str,
    target: &str,
    (namespace, pod, container): (&str, &str, Option<&str>),
) -> Result<(), String> {
    let agent = Asked::at(address)?;
    let mut answer = agent.get(target).await?;
    // A name with a slip in it would look like a pod that is quiet. It may also be one that is yet to come.
    let is_it = |one: &ContainerStatus| {
        (one.namespace.as_str(), one.pod.as_str()) == (namespace, pod)
            && container.is_none_or(|container| one.container == container)
    };
    if let Ok(status) = agent.status().await
        && !status.containers.iter().any(is_it)
    {
        let container = container.map(|name| format!("/{name}")).unwrap_or_default();
        eprintln!(
            "the agent on {} reads no log of {}; waiting for one",
            escaped(&status.agent.node),
            escaped(&format!("{namespace}/{pod}{container}"))
        );
    }
    let colour = io::stdout().is_terminal() && wants_colour();
    let mut rest = Vec::new();
    while let Some(bytes) = answer.chunk().await.map_err(|error| format!("the agent has ended: {error}"))? {
        rest.extend_from_slice(&bytes);
        let Some(end) = memchr::memrchr(b'\n', &rest) else { continue };
        for line in rest[..end].split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            // Whoever read it has gone away.
            if show(line, colour).is_err() {
                return Ok(());
            }
        }
        rest.drain(..=end);
    }
    eprintln!("the agent has ended, or has closed the tail");
    Ok(())
}

fn show(line: &[u8], colour: bool) -> io::Result<()> {
    let Ok(line) = serde_json::from_slice::<Line<'_>>(line) else { return Ok(()) };
    if let Some(tap) = line.tap {
        eprintln!(
            "as output {} sends them; ctrl-C ends it",
            escaped(tap["output"].as_str().unwrap_or_default())
        );
    }
    if let Some(missed) = line.missed {
        eprintln!("{missed} documents were not shown: there were more than could be followed");
    }
    let document = line.document.map(|document| document.get().to_owned()).or(line.text);
    let Some(document) = document else { return Ok(()) };
    let (begin, end) = if colour { shade(&document) } else { ("", "") };
    let mut out = io::stdout().lock();
    writeln!(out, "{begin}{}{end}", escaped(&document)).and_then(|()| out.flush())
}

/// The colour of a document, by its level, and the end of it.
fn shade(document: &str) -> (&'static str, &'static str) {
    #[derive(Deserialize)]
    struct Log {
        level: Option<String>,
    }
    #[derive(Deserialize)]
    struct Leveled {
        log: Option<Log>,
    }
    let leveled = serde_json::from_str::<Leveled>(document).ok();
    let level = leveled.and_then(|leveled| Level::from_name(leveled.log?.level?.as_bytes()));
    match level {
        None | Some(Level::Info | Level::Notice) => ("", ""),
        Some(level) => (level.colour(), "\x1b[0m"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_has_its_colour_and_what_is_no_document_has_none() {
        assert_eq!(shade(r#"{"log":{"level":"error"}}"#).0, "\x1b[31m");
        assert_eq!(shade(r#"{"log":{"level":"WARN"},"x":1}"#).0, "\x1b[33m");
        for document in [r#"{"log":{"level":"info"}}"#, r#"{"log":"error"}"#, "error", "{}"] {
            assert_eq!(shade(document), ("", ""), "{document}");
        }
    }

    #[test]
    fn a_line_of_the_agent_is_read_whatever_it_holds() {
        let line: Line<'_> =
            serde_json::from_str(r#"{"container":"app","document":{"a": 1.50},"new":1}"#).unwrap();
        assert_eq!(line.document.unwrap().get(), r#"{"a": 1.50}"#);
        let line: Line<'_> = serde_json::from_str(r#"{"container":"app","text":"a\u001b"}"#).unwrap();
        assert_eq!(line.text.unwrap(), "a\x1b");
        assert!(show(b"not ours", false).is_ok());
    }
}

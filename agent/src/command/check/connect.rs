//! `taffrail check --connect`: whether the outputs can be reached, and would take what is sent.
//!
//! In: the configuration. Out: for each server what it says, as the agent would hear it: names, TLS, credentials, rights, a
//! template for its data stream; of CloudWatch Logs [`cloudwatch`]. Sends an empty request and questions; writes no document,
//! makes nothing.

mod cloudwatch;

use std::fmt::Write as _;
use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::clock::unix_nanos;
use crate::config::template::{Names, Safe};
use crate::config::{Config, ElasticsearchConfig, OutputConfig, Target, Template};
use crate::output::http::{Call, HttpClient, Reply};
use crate::record::time;

/// What somebody who waits at a terminal would wait.
const PATIENCE: Duration = Duration::from_secs(10);

/// What was found, in words, and whether all outputs would work.
pub fn connect(config: &Config) -> (String, bool) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return (format!("\ncannot ask anybody: {error}\n"), false),
    };
    let (mut text, mut good) = ("\nconnections\n".to_owned(), true);
    let mut tell = |name: &str, place: &str, found: Result<String, String>| {
        let (word, said) = match &found {
            Ok(said) => ("ok   ", said),
            Err(said) => ("FAILS", said),
        };
        good &= found.is_ok();
        let _ = writeln!(text, "  {word}  {name}  {place}: {said}");
    };
    for (name, output) in &config.outputs {
        match output {
            OutputConfig::Elasticsearch(es) => {
                for endpoint in &es.endpoints {
                    let one = ElasticsearchConfig { endpoints: vec![endpoint.clone()], ..es.clone() };
                    let found = runtime.block_on(within(PATIENCE, ask(config, &one)));
                    tell(name, endpoint.as_str(), found);
                }
            }
            OutputConfig::CloudWatch(output) => {
                let found = runtime.block_on(within(cloudwatch::PATIENCE, cloudwatch::ask(config, output)));
                tell(name, &cloudwatch::place(output), found);
            }
            OutputConfig::File(_) | OutputConfig::Stdout(_) => {}
        }
    }
    if text.lines().count() <= 2 {
        text.push_str("  there is no server among the outputs\n");
    }
    (text, good)
}

async fn within(
    patience: Duration,
    asking: impl Future<Output = Result<String, String>>,
) -> Result<String, String> {
    tokio::time::timeout(patience, asking)
        .await
        .unwrap_or_else(|_| Err(format!("no answer within {} s", patience.as_secs())))
}

fn call(method: Method, path: &str) -> Call<'_> {
    let (body, content_type) = (Bytes::new(), "application/json");
    Call { method, path, query: "", content_type, body, compressed: false }
}

/// What one server says.
async fn ask(config: &Config, es: &ElasticsearchConfig) -> Result<String, String> {
    let client = HttpClient::new(es).map_err(|error| error.to_string())?;
    // A request without a document: who may send none is told so, and who may is told that there is none.
    let empty = Call {
        body: Bytes::from_static(b"\n"),
        content_type: "application/x-ndjson",
        ..call(Method::POST, "/_bulk")
    };
    let reply = client.send(&empty).await.map_err(|error| error.to_string())?;
    match reply.status {
        StatusCode::OK if is_json(&reply) => {}
        StatusCode::BAD_REQUEST if is_json(&reply) => {
            // So it answers a request without a document. To one that cannot be it answers otherwise, unless it is
            // somebody on the way who refuses whatever comes.
            let other = client.send(&call(Method::GET, "/_bulk")).await.map_err(|error| error.to_string())?;
            if other.status == StatusCode::BAD_REQUEST {
                let told = other.told();
                return Err(format!("whatever it is asked is refused, as by a proxy on the way: {told}"));
            }
        }
        status => return Err(format!("{}: {}", diagnosis(status), reply.told())),
    }
    let name = example(config, es.target.template(), Safe::Index);
    let Target::DataStream(_) = &es.target else {
        return Ok(format!("takes bulk requests; an index would be called {name}"));
    };
    let templates =
        client.send(&call(Method::GET, "/_index_template")).await.map_err(|error| error.to_string())?;
    match templates.status {
        StatusCode::OK => {}
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            return Ok(format!(
                "takes bulk requests; whether there is a template for {name} may not be asked"
            ));
        }
        _ => {
            return Err(format!(
                "it knows no data streams, so that {name} cannot be one: use `index`; {}",
                templates.told()
            ));
        }
    }
    match best(&templates.body, &name) {
        Some((template, true)) => {
            Ok(format!("takes bulk requests; {name} is a data stream by the template {template}"))
        }
        Some((template, false)) => Err(format!(
            "{name} would be a plain index, for the template {template} that matches it makes no data streams: give it \
             `\"data_stream\": {{}}`, or make one of a higher priority"
        )),
        None => Err(format!(
            "no index template matches {name}, and a data stream needs one with `\"data_stream\": {{}}`: records would be \
             parked until there is one"
        )),
    }
}

/// What a status says that is no answer of a bulk API to an empty request.
fn diagnosis(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "the credentials are refused; see `auth`",
        403 => "the credentials are known, but may not write; see `auth`",
        413 => "it does not even take a request of one byte; look at the limit of a proxy on the way",
        429 => "it is there, and too busy now; an agent tries again until it is not",
        500..=599 => "it is there, and cannot answer now; an agent tries again until it can",
        _ => "that is no bulk API; is it that of Elasticsearch or OpenSearch",
    }
}

fn is_json(reply: &Reply) -> bool {
    serde_json::from_slice::<Value>(&reply.body).is_ok_and(|body| body.is_object())
}

/// A name that records could go to.
fn example(config: &Config, template: &Template, safe: Safe) -> String {
    let labels = Default::default();
    let names = Names {
        cluster: &config.cluster,
        namespace: "default",
        pod: "example",
        container: "app",
        node: &config.node,
        uid: "0",
        container_id: "",
        labels: &labels,
        source: "pods",
    };
    let today = time::utc_date(time::format_nanos(unix_nanos()).as_bytes());
    let date = today.map(|date| String::from_utf8_lossy(&date).into_owned()).unwrap_or_default();
    template.render(names, &date, safe)
}

/// The template of the highest priority that matches a name, and whether it makes data streams.
fn best(body: &[u8], name: &str) -> Option<(String, bool)> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let matching = body["index_templates"].as_array()?.iter().filter(|template| {
        let patterns = template["index_template"]["index_patterns"].as_array();
        let of = |pattern: &Value| pattern.as_str().and_then(|pattern| glob::Pattern::new(pattern).ok());
        patterns.is_some_and(|all| all.iter().filter_map(of).any(|pattern| pattern.matches(name)))
    });
    let best =
        matching.max_by_key(|template| template["index_template"]["priority"].as_i64().unwrap_or(0))?;
    let makes = !best["index_template"]["data_stream"].is_null();
    Some((best["name"].as_str().unwrap_or_default().to_owned(), makes))
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::TcpListener;

    use super::*;

    /// What is said of a server that answers every request so.
    fn said(status: u16, body: &str) -> (String, bool) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let answer = format!(
            "HTTP/1.1 {status} Status\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        // It ends with the process.
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let (mut length, mut line) = (0, String::new());
                let Ok(half) = stream.try_clone() else { continue };
                let mut reader = BufReader::new(half);
                while reader.read_line(&mut line).is_ok_and(|read| read > 2) {
                    let lower = line.to_ascii_lowercase();
                    let said = lower.strip_prefix("content-length:");
                    length = said.and_then(|said| said.trim().parse().ok()).unwrap_or(length);
                    line.clear();
                }
                let _ = reader.read_exact(&mut vec![0; length]);
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        let text = format!(
            "[outputs.s]\ntype = \"elasticsearch\"\nendpoints = [\"http://{address}\"]\nindex = \"logs\"\ncompression = \"none\"\n"
        );
        connect(&Config::parse(&text, "f").expect("a valid configuration"))
    }

    #[test]
    fn a_server_that_cannot_take_records_now_is_told_from_one_that_is_none() {
        for (status, body, told) in [
            (429, "{}", "too busy now"),
            (500, "{}", "it is there, and cannot answer now"),
            (503, "{}", "it is there, and cannot answer now"),
            (413, "{}", "the limit of a proxy"),
            (401, "{}", "the credentials are refused"),
            (400, "{\"error\":\"no\"}", "whatever it is asked is refused"),
            (404, "{}", "that is no bulk API"),
            (200, "<html>", "that is no bulk API"),
        ] {
            let (text, good) = said(status, body);
            assert!(!good && text.contains("FAILS") && text.contains(told), "{status}: {text}");
        }
        let (text, good) = said(200, "{\"items\":[]}");
        assert!(good && text.contains("takes bulk requests"), "{text}");
    }
}

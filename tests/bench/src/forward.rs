//! Scenario `forward`: a Kinesis stream full of CloudWatch's subscription records, and the forwarder that empties it.
//!
//! In: how many events, and their format. Out: events per CPU second of `taffrail forward --kinesis`. The stream is a stand-in in
//! this process that does no more than hand out records: what signing its calls and reading its answers costs the forwarder
//! is measured along.

use crate::Outcome;
use crate::agent::{Agent, Compression};
use crate::clock::Nanos;
use crate::lines::{LineMaker, Style};
use crate::measure::Bench;
use crate::report::{Samples, command_line, machine, table};
use crate::sink::Options;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::routing::post;
use clap::ValueEnum;
use flate2::Compression as Level;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use tokio::runtime::Runtime;

/// Events of one subscription record: some 500 KiB of text, as CloudWatch gathers under load.
const EVENTS: u64 = 700;

/// Records of one answer: under 10 MiB.
const AT_ONCE: usize = 50;

/// Shards, and containers whose records are in each.
const SHARDS: u64 = 4;

const GROUP: &str = "/eks/bench";
const OWNER: &str = "123456789012";

/// What wrote the events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// The agent, whole documents.
    Json,
    /// The agent, documents without what is constant.
    Compact,
    /// Somebody else: lines.
    Foreign,
}

impl Format {
    fn name(self) -> &'static str {
        match self {
            Format::Json => "json",
            Format::Compact => "compact",
            Format::Foreign => "foreign text and JSON",
        }
    }
}

/// What is to be measured.
pub struct Request {
    /// How many events.
    pub events: u64,
    /// In which formats.
    pub formats: Vec<Format>,
    /// How to send.
    pub compression: Compression,
    /// Runs of each.
    pub repetitions: u32,
}

/// Runs it, and prints the table.
pub fn run(bench: &Bench, request: &Request) -> Outcome<()> {
    let mut rows = Vec::new();
    for format in &request.formats {
        let (mut rate, mut cpu, mut rss) = (Samples::default(), Samples::default(), Samples::default());
        let (stream, events) = stream(*format, request.events, bench.seed)?;
        let served = Served::start(stream)?;
        for repetition in 1..=request.repetitions {
            let folder = bench.folder()?;
            let mut run = bench.start_command(folder.path(), Options::default(), |port| {
                command(&bench.agent, folder.path(), port, request.compression, served.port)
            })?;
            run.wait_for(events)?;
            let usage = run.usage()?;
            rss.push(run.peak_rss()?);
            run.finish(events).map_err(|error| format!("forward, run {repetition}: {error}"))?;
            // As what they were taken: else this measures something else.
            let said = fs::read_to_string(folder.path().join("agent.log"))?;
            let own = if *format == Format::Foreign { 0 } else { events };
            if !said.contains(&format!("own={own} ")) {
                return Err(format!(
                    "forward, run {repetition}: not every event was taken for what it is:\n{said}"
                )
                .into());
            }
            rate.push(events as f64 / usage.cpu.max(0.01));
            cpu.push(usage.cpu);
        }
        let name = format!("{}, {}", format.name(), request.compression.name());
        rows.push(vec![name, rate.show(0), cpu.show(2), rss.show(1)]);
    }
    println!("{}", table(&["events, sent", "events per CPU s", "CPU s", "peak RSS MiB"], &rows));
    println!(
        "{} events in records of {EVENTS}, {SHARDS} shards; median (lowest–highest) of {}; forwarder on one core; {}.\n",
        request.events,
        request.repetitions,
        machine()
    );
    println!("    {}", command_line());
    Ok(())
}

fn command(
    agent: &Agent,
    folder: &Path,
    port: u16,
    compression: Compression,
    kinesis: u16,
) -> Outcome<Command> {
    let config = folder.join("taffrail.toml");
    let text = format!(
        "state_dir = {state:?}\n[forward]\nlookup = false\npoll = \"200ms\"\n\
         trusted = [{{ owner = \"{OWNER}\", log_group = \"{GROUP}\" }}]\n\
         [outputs.sink]\ntype = \"elasticsearch\"\nendpoints = [\"http://127.0.0.1:{port}\"]\nindex = \"bench-{{date}}\"\n\
         compression = \"{compression}\"\n",
        state = folder.join("state"),
        compression = compression.name(),
    );
    fs::write(&config, text)?;
    let mut command = Command::new(agent.binary());
    command.args(["forward", "--kinesis", "bench", "--config"]).arg(config);
    command.env("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{kinesis}")).env("AWS_REGION", "us-east-1");
    command.env("AWS_ACCESS_KEY_ID", "BENCH").env("AWS_SECRET_ACCESS_KEY", "none");
    command.env("AWS_EC2_METADATA_DISABLED", "true").env_remove("RUST_LOG");
    Ok(command)
}

/// The records of each shard, in base64, and how many documents they are.
fn stream(format: Format, events: u64, seed: u64) -> Outcome<(Vec<Vec<String>>, u64)> {
    let mut shards = vec![Vec::new(); SHARDS as usize];
    let (mut made, mut record) = (0, 0);
    while made < events {
        let container = record % 20;
        let count = EVENTS.min(events - made);
        let text = subscription(format, container, made, count, seed);
        let mut encoder = GzEncoder::new(Vec::new(), Level::new(6));
        encoder.write_all(text.to_string().as_bytes())?;
        shards[(record % SHARDS) as usize].push(base64(&encoder.finish()?));
        made += count;
        record += 1;
    }
    Ok((shards, made))
}

fn subscription(format: Format, container: u64, first: u64, count: u64, seed: u64) -> Value {
    const TIME: &str = "2026-11-23T15:54:01.123456789Z";
    let pod = format!("web-{container}");
    let fields = format!(
        r#","kubernetes":{{"namespace":"shop","pod":{{"name":"{pod}","uid":"0f3a7c1e-{container:04}-4f7e-9d26-1f4cbb6dd0a1"}},"container":{{"name":"app"}},"node":{{"name":"ip-10-0-0-1.ec2.internal"}},"labels":{{"app":"web","team":"payments","version":"v1.2.3"}},"deployment":{{"name":"web"}}}},"orchestrator":{{"cluster":{{"name":"bench"}}}}}}"#
    );
    let revision = format!("{:016x}", fnv1a(format!("{fields}\n").as_bytes()));
    let style = Style::of(container);
    let mut lines = LineMaker::new(container, seed.wrapping_add(first));
    let mut events = Vec::new();
    let mut push = |text: String| {
        events.push(json!({ "id": format!("3{:055}", first * 2 + events.len() as u64), "timestamp": 1_795_449_241_123_u64, "message": text }));
    };
    if format == Format::Compact {
        push(format!("{{\"taffrail\":{{\"meta\":\"{revision}\"}}{fields}"));
    }
    for n in first..first + count {
        let mut line = Vec::new();
        lines.next(Nanos(1_795_449_241_123_456_789), &mut line);
        let line = String::from_utf8_lossy(&line).into_owned();
        if format == Format::Foreign {
            push(line);
            continue;
        }
        let body = if style.is_json() {
            format!(r#""log":{{"level":"info"}},"app":{line}"#)
        } else {
            format!(r#""message":{}"#, Value::from(line))
        };
        let id = format!("{container:02}AAAAAAAAAAAAAAAAAAAA-{n}-{n}");
        push(match format {
            Format::Json => {
                format!(
                    r#"{{"@timestamp":"{TIME}",{body},"taffrail":{{"id":"{id}"}},"stream":"stdout"{fields}"#
                )
            }
            _ => format!(
                r#"{{"@timestamp":"{TIME}",{body},"taffrail":{{"id":"{id}","meta":"{revision}"}},"stream":"stdout"}}"#
            ),
        });
    }
    json!({ "messageType": "DATA_MESSAGE", "owner": OWNER, "logGroup": GROUP, "logStream": format!("shop/{pod}/app"),
        "subscriptionFilters": ["all"], "logEvents": events })
}

fn fnv1a(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len() * 4 / 3 + 4);
    for chunk in bytes.chunks(3) {
        let number =
            chunk.iter().fold(0, |number, byte| number << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for at in 0..4 {
            let letter = LETTERS[(number >> (18 - 6 * at) & 63) as usize];
            text.push(if at <= chunk.len() { letter.into() } else { '=' });
        }
    }
    text
}

/// The stream, as long as this lives.
struct Served {
    port: u16,
    runtime: Option<Runtime>,
}

impl Served {
    fn start(shards: Vec<Vec<String>>) -> Outcome<Served> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let listener = runtime.block_on(tokio::net::TcpListener::bind(("127.0.0.1", 0)))?;
        let port = listener.local_addr()?.port();
        let app = Router::new().route("/", post(answer)).with_state(Arc::new(shards));
        runtime.spawn(async move { axum::serve(listener, app).await });
        Ok(Served { port, runtime: Some(runtime) })
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn answer(
    State(shards): State<Arc<Vec<Vec<String>>>>,
    headers: HeaderMap,
    body: String,
) -> impl IntoResponse {
    let body: Value = serde_json::from_str(&body).unwrap_or_default();
    let action = headers.get("x-amz-target").and_then(|target| target.to_str().ok()).unwrap_or_default();
    let answer = match action.rsplit('.').next().unwrap_or_default() {
        "ListShards" => {
            let shard = |at: usize| {
                json!({ "ShardId": at.to_string(), "HashKeyRange": { "StartingHashKey": "0", "EndingHashKey": "1" },
                    "SequenceNumberRange": { "StartingSequenceNumber": "0" } })
            };
            json!({ "Shards": (0..shards.len()).map(shard).collect::<Vec<_>>() })
        }
        "GetShardIterator" => {
            json!({ "ShardIterator": format!("{} 0", body["ShardId"].as_str().unwrap_or("0")) })
        }
        "GetRecords" => {
            let place = body["ShardIterator"].as_str().and_then(|iterator| iterator.split_once(' '));
            let place =
                place.and_then(|(shard, at)| Some((shard.parse::<usize>().ok()?, at.parse::<usize>().ok()?)));
            let (shard, at) = place.unwrap_or_default();
            let records = shards.get(shard).map(Vec::as_slice).unwrap_or_default();
            let end = (at + AT_ONCE).min(records.len());
            let shown = (at..end)
                .map(|n| json!({ "SequenceNumber": n.to_string(), "Data": records[n], "PartitionKey": "p" }));
            json!({ "Records": shown.collect::<Vec<_>>(), "NextShardIterator": format!("{shard} {end}"), "MillisBehindLatest": 0 })
        }
        _ => return (StatusCode::BAD_REQUEST, [("content-type", "application/json")], String::new()),
    };
    (StatusCode::OK, [("content-type", "application/x-amz-json-1.1")], answer.to_string())
}

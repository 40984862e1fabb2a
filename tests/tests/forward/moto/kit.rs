//! What these tests share: the whole way from a node's logs to the index, and its processes.

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};
use taffrail_tests::agent::Agent;
use taffrail_tests::cloudwatch::{Action, CloudWatch, KEY, REGION};
use taffrail_tests::lambda::Runtime;
use taffrail_tests::moto::Moto;
use taffrail_tests::node::Node;
use taffrail_tests::server::{Kind, Server};
use taffrail_tests::space::Space;
use taffrail_tests::verify::Document;

/// The account that moto is.
pub const OWNER: &str = "123456789012";

/// A node, a group of its own that is subscribed to a stream of its own, and where documents go: by the forwarder, and
/// directly.
pub struct World {
    pub node: Node,
    pub service: CloudWatch,
    pub group: String,
    pub stream: String,
    pub forwarded: Space<'static>,
    pub direct: Space<'static>,
}

impl World {
    pub fn new(shards: u32) -> World {
        let moto = Moto::shared();
        let name = format!("test-{:08x}", fastrand::u32(..));
        let (group, stream) = (format!("/eks/{name}"), name);
        let arn = moto.make_stream(&stream, shards);
        moto.subscribe(&group, &arn);
        // As CloudWatch does when it is subscribed to. And a shard of moto's has another first number, as if the stream had been
        // made again, once its first record comes: it is there before anybody looks.
        (0..shards).for_each(|shard| moto.put_record_into(&stream, (shard, shards), &packed(CONTROL)));
        let server = Server::shared(Kind::OpenSearch);
        let service = CloudWatch::open(Some(moto.address()), |_| Action::Do);
        let (forwarded, direct) = (server.space().takes_indices(), server.space().takes_indices());
        World { node: Node::new(), service, group, stream, forwarded, direct }
    }

    /// The agent's configuration: to CloudWatch in this format, and directly into `direct`.
    pub fn agent_config(&self, format: &str, direct: &Space<'_>) -> String {
        self.node.config(&format!(
            "[outputs.cw]\ntype = \"cloudwatch\"\nendpoint = \"http://{}\"\nregion = \"{REGION}\"\nlinger = \"100ms\"\n\
             log_group = \"{}\"\nformat = \"{format}\"\n[outputs.search]\ntype = \"elasticsearch\"\n\
             endpoints = [\"http://{}\"]\nindex = \"{}-{{namespace}}-{{date}}\"\nlinger = \"200ms\"\n",
            self.service.address(),
            self.group,
            direct.server.address(),
            direct.prefix
        ))
    }

    pub fn agent(&self, format: &str, direct: &Space<'_>) -> Agent {
        Agent::start_by(&credentials(&[]), &self.agent_config(format, direct), &self.node)
    }

    /// The forwarder's configuration, to documents at an address: the server's or a proxy's.
    pub fn config_at(&self, address: SocketAddr, forward: &str) -> String {
        format!(
            "state_dir = \"{}\"\n[forward]\ntrusted = [{{ owner = \"{OWNER}\", log_group = \"{}\" }}]\npoll = \"200ms\"\n\
             discover = \"1s\"\n{forward}\n[outputs.search]\ntype = \"elasticsearch\"\nendpoints = [\"http://{address}\"]\n\
             index = \"{}-{{namespace}}-{{date}}\"\nretry_initial = \"50ms\"\nretry_max = \"500ms\"\n",
            self.node.path().join("forwarder").display(),
            self.group,
            self.forwarded.prefix
        )
    }

    pub fn config(&self, forward: &str) -> String {
        self.config_at(self.forwarded.server.address(), forward)
    }

    /// `taffrail forward --kinesis` with this configuration.
    pub fn forwarder(&self, config: &str) -> Agent {
        self.forwarder_by(config, &[])
    }

    /// The same with further variables.
    pub fn forwarder_by(&self, config: &str, variables: &[String]) -> Agent {
        let way = credentials(variables);
        Agent::start_as(&way, &["forward", "--kinesis", &self.stream], config, &self.node)
    }

    /// The Lambda function with this configuration, which is given whole.
    pub fn function(&self, config: &str, runtime: &Runtime) -> Agent {
        let mut more = runtime.environment();
        more.push(format!("TAFFRAIL_FORWARDER_CONFIG={config}"));
        Agent::start_program(&credentials(&more), "taffrail-forwarder", &self.node)
    }

    /// A subscription record of these texts, from this account, group and stream.
    pub fn record(&self, (owner, group, stream): (&str, &str, &str), texts: &[&str]) -> String {
        static EVENTS: AtomicU64 = AtomicU64::new(0);
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
        let id = || format!("3{:054}", EVENTS.fetch_add(1, Ordering::Relaxed));
        let event = |text: &&str| json!({ "id": id(), "timestamp": time, "message": text });
        let events: Vec<Value> = texts.iter().map(event).collect();
        let record = json!({ "messageType": "DATA_MESSAGE", "owner": owner, "logGroup": group, "logStream": stream,
            "subscriptionFilters": ["all"], "logEvents": events });
        packed(record.to_string().as_bytes())
    }
}

/// What CloudWatch sends to see whether a subscription works.
const CONTROL: &[u8] = br#"{"messageType":"CONTROL_MESSAGE","owner":"CloudwatchLogs","logGroup":"","logStream":"","logEvents":[]}"#;

/// gzip, in base64.
pub fn packed(text: &[u8]) -> String {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(1));
    encoder.write_all(text).expect("memory");
    base64(&encoder.finish().expect("memory"))
}

pub fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
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

/// `env` with credentials, moto for everything of AWS, and more.
pub fn credentials(more: &[String]) -> Vec<String> {
    let moto = format!("AWS_ENDPOINT_URL=http://{}", Moto::shared().address());
    let fixed = [
        "env".to_owned(),
        moto,
        format!("AWS_ACCESS_KEY_ID={}", KEY.0),
        format!("AWS_SECRET_ACCESS_KEY={}", KEY.1),
        format!("AWS_REGION={REGION}"),
        "AWS_EC2_METADATA_DISABLED=true".to_owned(),
    ];
    fixed.iter().chain(more).cloned().collect()
}

/// Documents by `_id`, without the space's name in that of the index.
pub fn by_id(space: &Space<'_>, documents: &[Document]) -> BTreeMap<String, (String, Value)> {
    let found: BTreeMap<_, _> = documents
        .iter()
        .map(|document| {
            let index = document.index.strip_prefix(&space.prefix).expect("an index of the space").to_owned();
            (document.id.clone(), (index, document.source.clone()))
        })
        .collect();
    assert_eq!(found.len(), documents.len(), "an id stands in two indices");
    found
}

//! What these tests share: an agent with credentials, and what a group holds as documents.

use serde_json::{Value, json};
use std::collections::HashMap;
use taffrail_tests::agent::{self, Agent, Ended};
use taffrail_tests::cloudwatch::{Action, Call, CloudWatch, KEY, REGION, Seen};
use taffrail_tests::eventually;
use taffrail_tests::moto::{Moto, Stored};
use taffrail_tests::node::{Container, Node};
use taffrail_tests::seconds;
use taffrail_tests::verify::{self, Document};

/// A node, the service, and a group that is nobody else's.
pub struct World {
    pub node: Node,
    pub service: CloudWatch,
    pub group: String,
}

impl World {
    /// With the real server behind the checker.
    pub fn new(rule: impl FnMut(&Call<'_>) -> Action + Send + 'static) -> World {
        let service = CloudWatch::open(Some(Moto::shared().address()), rule);
        World { node: Node::new(), service, group: format!("/eks/test-{:08x}", fastrand::u32(..)) }
    }

    /// A configuration with further lines for the output.
    pub fn config(&self, rest: &str) -> String {
        let group = if rest.contains("log_group") {
            String::new()
        } else {
            format!("log_group = \"{}\"\n", self.group)
        };
        let linger = if rest.contains("linger") { "" } else { "linger = \"100ms\"\n" };
        self.node.config(&format!(
            "[outputs.cw]\ntype = \"cloudwatch\"\nendpoint = \"http://{}\"\nregion = \"{REGION}\"\n{linger}{group}{rest}",
            self.service.address()
        ))
    }

    /// An agent with credentials.
    pub fn agent(&self, rest: &str) -> Agent {
        Agent::start_by(&self.way(), &self.config(rest), &self.node)
    }

    fn way(&self) -> Vec<String> {
        let key = format!("AWS_ACCESS_KEY_ID={}", KEY.0);
        let secret = format!("AWS_SECRET_ACCESS_KEY={}", KEY.1);
        // What is not of CloudWatch Logs goes there too.
        let others = format!("AWS_ENDPOINT_URL=http://{}", self.service.address());
        ["env", &key, &secret, &others, "AWS_EC2_METADATA_DISABLED=true"].map(str::to_owned).into()
    }

    /// Runs a subcommand to its end, with credentials and further lines for the output.
    pub fn runs(&self, arguments: &[&str], rest: &str) -> Ended {
        agent::run_by(&self.way(), arguments, &self.config(rest), &self.node)
    }

    /// Runs it with success; the calls that change something, in their order, and what it wrote.
    #[track_caller]
    pub fn changes(&self, arguments: &[&str], rest: &str) -> (Vec<String>, String) {
        let before = self.service.seen().log.len();
        let ended = self.runs(arguments, rest);
        assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
        let log = self.clean().log.split_off(before);
        let reads = ["Describe", "Get", "List"];
        let changes = log.into_iter().filter(|call| {
            let action = call.split(':').nth(1).unwrap_or_default();
            !reads.iter().any(|read| action.starts_with(read))
        });
        (changes.collect(), ended.stdout)
    }

    /// What the stream of a container holds.
    pub fn stored(&self, container: &Container) -> Vec<Stored> {
        self.stored_in(&self.group, container)
    }

    /// The same of another group.
    pub fn stored_in(&self, group: &str, container: &Container) -> Vec<Stored> {
        let stream = format!("{}/{}/{}", container.pod.namespace, container.pod.name, container.name);
        Moto::shared().events(group, &stream)
    }

    /// What the group holds of these containers, as documents.
    pub fn documents(&self, containers: &[&Container]) -> Vec<Document> {
        containers.iter().flat_map(|container| documents(&self.stored(container), container)).collect()
    }

    /// Waits until so many events have been taken.
    #[track_caller]
    pub fn takes(&self, events: u64) {
        eventually(seconds(180), "events to be taken", || {
            let seen = self.service.seen();
            if seen.events >= events { Ok(()) } else { Err(format!("{} of {events}", seen.events)) }
        });
    }

    /// Waits until every numbered line is there, once, and nothing was done that AWS refuses.
    #[track_caller]
    pub fn exactly_once(&self, containers: &[&Container]) -> Vec<Document> {
        self.takes(containers.iter().map(|container| container.written().len() as u64).sum());
        let documents = verify::exactly_once(seconds(60), || Ok(self.documents(containers)), containers);
        self.clean();
        documents
    }

    /// Nothing was done that AWS refuses.
    #[track_caller]
    pub fn clean(&self) -> Seen {
        let seen = self.service.seen();
        assert!(seen.violations.is_empty(), "{:?}", &seen.violations[..seen.violations.len().min(5)]);
        assert_eq!(seen.overlaps, 0, "calls of one stream follow each other");
        seen
    }
}

/// Events as documents: JSON ones as they are, compact ones with their metadata, lines as the message of a document of
/// their container.
pub fn documents(stored: &[Stored], container: &Container) -> Vec<Document> {
    let mut metas: HashMap<String, Value> = HashMap::new();
    let mut documents = Vec::new();
    for event in stored {
        let mut source = match serde_json::from_str::<Value>(&event.message) {
            Ok(value) if value["taffrail"].is_object() => value,
            parsed => json!({
                "message": event.message,
                "app": parsed.unwrap_or_default(),
                "kubernetes": { "pod": { "uid": container.pod.uid }, "container": { "name": container.name } },
            }),
        };
        let meta = source["taffrail"]["meta"].as_str().map(str::to_owned);
        if let Some(meta) = meta {
            if source["@timestamp"].is_null() {
                metas.insert(meta, source);
                continue;
            }
            // Within a call it stands before the first that refers to it.
            let fields = metas.get(&meta).and_then(Value::as_object).expect("metadata before its events");
            for (key, value) in fields.iter().filter(|(key, _)| *key != "taffrail") {
                source[key] = value.clone();
            }
        }
        documents.push(Document { id: String::new(), index: String::new(), source });
    }
    documents
}

//! Routing: what an output does with a container's records, worked out once per container.
//!
//! In: a container and an output's configuration. Out: a [`Plan`]: where its records go and the bytes that end each of
//! its documents. Never evaluated per record.

use crate::catalog::origin::Origin;
use crate::config::template::{Names, Prepared, Safe, Template};
use crate::metadata::{self, NodeFacts};
use crate::record::Stream;

/// How an output treats the records of one container.
#[derive(Debug)]
pub struct Plan {
    /// The index, data stream or file, but for the date in its name.
    pub target: Option<Prepared>,
    /// `namespace/pod/container`, or a path, for people.
    pub label: String,
    tails: [Vec<u8>; 3],
}

impl Plan {
    /// The plan for `origin`; `target` names where its records go, made safe for that kind of place.
    pub fn new(facts: &NodeFacts, origin: &Origin, target: Option<(&Template, Safe)>) -> Plan {
        let (namespace, pod, container) = origin.place();
        let names = Names {
            cluster: &facts.cluster,
            namespace,
            pod,
            container: &container,
            node: &facts.node,
            uid: origin.uid(),
            labels: origin.labels(),
            source: origin.source(),
        };
        let fields = metadata::encode(facts, origin);
        let tail = |stream: &str| [stream.as_bytes(), &fields, b"}\n"].concat();
        Plan {
            target: target.map(|(template, safe)| template.prepare(names, safe)),
            label: origin.to_string(),
            tails: [tail(r#","stream":"stdout","#), tail(r#","stream":"stderr","#), tail(",")],
        }
    }

    /// The constant end of a document: from the comma before the stream to the newline. It stands last and contiguous,
    /// so that compression finds it as one repeat.
    pub fn tail(&self, stream: Option<Stream>) -> &[u8] {
        &self.tails[match stream {
            Some(Stream::Stdout) => 0,
            Some(Stream::Stderr) => 1,
            None => 2,
        }]
    }
}

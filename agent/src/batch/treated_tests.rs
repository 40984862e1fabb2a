//! Documents of routes that do something with records.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::catalog::origin::{Container, Origin};
use crate::config::template::{Safe, Template};
use crate::metadata::{Extent, NodeFacts};
use crate::record::redact::{Builtin, Redactor};
use crate::record::treatment::{Sample, Treatment};
use crate::route::Plan;

fn plan(treatment: Option<Treatment>) -> Plan {
    let container =
        Container { namespace: "shop".into(), pod: "web-0".into(), uid: "u1".into(), name: "app".into() };
    let facts = NodeFacts { cluster: "prod".into(), node: "n1".into(), names: Default::default() };
    let template = Template::parse("x-{namespace}").expect("a template");
    let target = Some((&template, Safe::Index));
    Plan::new(&facts, &Origin::Container(container), Extent::Path, target).treating(treatment.map(Arc::new))
}

fn record(content: &[u8], marks: Marks) -> Record<'_> {
    let time = Time::Text(b"2026-11-23T15:54:01.123456789Z");
    Record { time, stream: None, content, first: 100, last: 260, marks }
}

/// Redacts whatever it sees, and the agent's own values in particular.
fn greedy() -> Treatment {
    let own = ["shop|web-0|u1|prod|n1|KEY|app|true|utf-16|stderr", "(?s).+"];
    let own = own.map(|pattern| ("own".to_owned(), pattern.to_owned()));
    let redactor = Redactor::new(&Builtin::ALL, &own, None).expect("patterns");
    Treatment { redactor: Some(redactor), ..Treatment::default() }
}

const FORMATS: [Format; 4] = [
    Format::Lines,
    Format::Bulk { op: BulkOp::Create, ids: true },
    Format::Events(EventFormat::Json),
    Format::Events(EventFormat::Compact),
];

/// All that a batch of this one record says, without what the program wrote.
fn own(treatment: Option<Treatment>, format: Format, record: &Record<'_>) -> Vec<Value> {
    let mut batch = Batch::new(format, None);
    batch.put(plan(treatment).of_run(0), b"KEY-", record);
    let sealed = batch.seal(Vec::new()).expect("a batch");
    let metas = sealed.events.metas.iter().map(|meta| meta.as_bytes());
    let lines = sealed.body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let parsed = lines.chain(metas).map(|line| {
        serde_json::from_slice::<Value>(line).unwrap_or_else(|e| panic!("{e}: {}", line.escape_ascii()))
    });
    let without = |mut document: Value| {
        let members = document.as_object_mut().expect("an object");
        ["message", "app", "log"].iter().for_each(|name| _ = members.remove(*name));
        document
    };
    parsed.map(without).collect()
}

#[test]
fn what_is_not_sent_leaves_no_trace_in_a_batch() {
    for format in FORMATS {
        let none = Treatment { sample: Some(Sample::new(1e-18, None)), ..Treatment::default() };
        let mut batch = Batch::new(format, None);
        let pushed =
            batch.push(plan(Some(none)).of_run(0), b"KEY-", &record(b"hi", Marks::default()), |_| true);
        assert_eq!((pushed, batch.items, batch.plain_bytes()), (Pushed::Filtered, 0, 0));
        let sealed = batch.seal(Vec::new()).expect("a batch");
        assert!(sealed.segments.is_empty() && sealed.events.targets.is_empty());
    }
}

proptest! {
    #[test]
    fn whatever_is_written_and_redacted_what_is_ours_is_as_it_was(
        bytes: Vec<u8>,
        text: String,
        pieces in prop::collection::vec(prop::sample::select(vec![
            "{\"kubernetes\":{\"namespace\":\"forged\"},", "\"_id\":\"KEY\"", "\"taffrail\":{\"a\":1}", "\"app\":{\"orchestrator\":2}",
            "\"msg\":\"shop\",", "{", "}", ",", ":", "\"", "\\u0022", "\\", "shop web-0 u1 prod n1", "1", "é",
        ]), 0..10),
        part in 0..3_u32,
        length: Option<u64>,
        unframed: bool,
    ) {
        let marks = Marks { unframed, part, original_length: length };
        for content in [bytes, text.into_bytes(), pieces.concat().into_bytes()] {
            for format in FORMATS {
                let record = record(&content, marks);
                prop_assert_eq!(own(Some(greedy()), format, &record), own(None, format, &record));
            }
        }
    }
}

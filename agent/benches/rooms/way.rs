//! The way of records without threads and network, for what measures it: lines of a file become documents, a request's
//! body, and judged items.
//!
//! In: a file of CRI lines. Out: how many records it held. Everything is done as the worker of an Elasticsearch output does
//! it with its defaults.

use std::fs::File;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use taffrail::batch::{Batch, Format, Pushed};
use taffrail::catalog::file::Source;
use taffrail::catalog::origin::{Container, Origin};
use taffrail::config::template::{Safe, Template};
use taffrail::config::{BulkOp, Oversize};
use taffrail::metadata::{Extent, NodeFacts};
use taffrail::output::reply;
use taffrail::position::Position;
use taffrail::read::{End, Framing, Manner, Reader, Record, Rules, Turn};
use taffrail::route::Plan;

/// What programs write, by kind; `{n}` is another number in each line.
pub const CONTENTS: [&str; 5] = [
    r#"{"level":"info","ts":"2026-11-23T15:54:01.123Z","caller":"http/orders.go:{n}","msg":"request completed","method":"GET","path":"/api/v1/orders/{n}","status":200,"latency_ms":3.{n},"user":{"id":{n}}}"#,
    r#"{"@timestamp":"2026-11-23T15:54:01.123Z","message":"payment \"{n}\" authorised","logger_name":"example.shop.payments.Service","thread_name":"http-8080-exec-{n}","level":"INFO"}"#,
    r#"{"level":30,"time":1764000000{n},"hostname":"web-0","reqId":"req-{n}","req":{"method":"POST","url":"/carts/{n}"},"res":{"statusCode":201},"msg":"request completed"}"#,
    r#"{"event": "order accepted", "level": "warning", "customer": "Jürgen Groß", "order_id": {n}, "items": ["{n}", "a"], "total": {"amount": {n}, "currency": "EUR"}}"#,
    r#"10.1.{n}.7 - - [23/Nov/2026:15:54:01 +0000] "GET /carts/{n} HTTP/1.1" 200 {n} "https://shop.example/carts" "Mozilla/5.0 (X11; Linux x86_64; rv:128.0)" 0.{n}"#,
];

/// CRI lines, `count` of them.
pub fn lines(count: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for number in 0..count {
        let text = CONTENTS[number % CONTENTS.len()].replace("{n}", &(number * 7919 % 997 + 1).to_string());
        let head = format!("2026-11-23T15:54:01.{number:09}Z stdout F ");
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(text.as_bytes());
        out.push(b'\n');
    }
    out
}

/// A plan for one container.
pub fn plan() -> Plan {
    let container =
        Container { namespace: "shop".into(), pod: "web-0".into(), uid: "u1".into(), name: "app".into() };
    let facts = NodeFacts { cluster: "prod".into(), node: "n1".into(), names: Default::default() };
    let template = Template::parse("logs-{namespace}-{date}").expect("a template");
    Plan::new(&facts, &Origin::Container(container), Extent::Path, Some((&template, Safe::Index)))
}

/// A reader with the defaults.
pub fn reader() -> Reader {
    let join_gap = Duration::from_secs(5);
    Reader::new(Rules { max_record: 1 << 20, oversize: Oversize::Split, join_gap, since: None })
}

/// Reads the file and calls `emit` with each record and, after each turn, `turned`.
pub fn read(file: &Path, reader: &mut Reader, mut emit: impl FnMut(&Record<'_>), mut turned: impl FnMut()) {
    let mut source = Source::Plain(Arc::new(File::open(file).expect("the file of lines")));
    let mut at = Position::default();
    loop {
        let manner = Manner { framing: Framing::Runtime, cuts: &[], multiline: None, end: End::Final };
        let turn = reader.turn(&mut source, &mut at, manner, |record| {
            emit(&record);
            ControlFlow::Continue(())
        });
        turned();
        if turn.expect("to read the file of lines") == Turn::End {
            return;
        }
    }
}

/// A batch for bulk requests, at gzip's level 1 if so asked.
pub fn batch(gzip: bool) -> Batch {
    Batch::new(Format::Bulk { op: BulkOp::Create, ids: true }, gzip.then_some(1))
}

/// What a server says that has stored so many documents.
pub fn reply(items: u32) -> Vec<u8> {
    let item = r#"{"create":{"status":201}}"#;
    format!(r#"{{"errors":false,"items":[{}]}}"#, vec![item; items as usize].join(",")).into_bytes()
}

/// Ships the file; how many records.
pub fn ship(file: &Path, gzip: bool) -> u64 {
    let (plan, mut reader) = (plan(), reader());
    let batch = std::cell::RefCell::new(batch(gzip));
    let (mut records, mut spare) = (0, Vec::new());
    read(
        file,
        &mut reader,
        |record| {
            let pushed =
                batch.borrow_mut().push(plan.of_run(0), b"0123456789abcdef0123456789-", record, |_| true);
            assert_eq!(pushed, Pushed::In);
        },
        || {
            let mut batch = batch.borrow_mut();
            batch.fold().expect("memory");
            if batch.plain_bytes() > 4 << 20 {
                let sealed = batch.seal(std::mem::take(&mut spare)).expect("memory");
                records += deliver(sealed.items);
                spare = sealed.body;
                spare.clear();
            }
        },
    );
    let sealed = batch.borrow_mut().seal(spare).expect("memory");
    records + deliver(sealed.items)
}

fn deliver(items: u32) -> u64 {
    let failed = reply::judge(&reply(items), items).expect("a whole reply");
    assert_eq!(failed, Vec::new());
    u64::from(items)
}

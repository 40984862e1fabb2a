//! How long each room of a record's way takes: `cargo bench -p taffrail`, or with a name such as `gzip` behind `--`.
//!
//! Each bench does a thousand records, the gzip ones 4 MB of them. For comparison on one machine only, before and after
//! a change; what guards against a change is `tests/work`, which counts.

mod way;

use std::hint::black_box;
use std::time::Duration;

use divan::Bencher;
use taffrail::batch::gzip::Gzip;
use taffrail::output::reply;
use taffrail::record::multiline::{Multiline, Rule};
use taffrail::record::redact::{Builtin, Redactor};
use taffrail::record::{append_body, cri};

const RECORDS: usize = 1_000;

fn main() {
    divan::main();
}

/// The contents of the lines, without heads.
fn contents() -> Vec<Vec<u8>> {
    let lines = way::lines(RECORDS);
    let each = lines.split(|byte| *byte == b'\n').filter_map(cri::parse);
    each.map(|line| line.content.to_vec()).collect()
}

fn file(records: usize) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), way::lines(records)).expect("to write it");
    file
}

/// Finding lines and taking their heads apart.
#[divan::bench]
fn read(bencher: Bencher) {
    let (file, mut reader) = (file(RECORDS), way::reader());
    bencher.counter(RECORDS).bench_local(|| {
        way::read(
            file.path(),
            &mut reader,
            |record| {
                black_box(record.last);
            },
            || (),
        );
    });
}

/// Heads alone.
#[divan::bench]
fn heads(bencher: Bencher) {
    let lines = way::lines(RECORDS);
    let lines: Vec<&[u8]> = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
    bencher.counter(RECORDS).bench_local(|| {
        for line in &lines {
            black_box(cri::parse(black_box(line)));
        }
    });
}

/// The check of JSON, the keys wanted of it, and the splicing into a document; four lines of five are JSON.
#[divan::bench]
fn body(bencher: Bencher) {
    let (contents, mut out) = (contents(), Vec::new());
    bencher.counter(RECORDS).bench_local(|| {
        out.clear();
        for content in &contents {
            black_box(append_body(&mut out, content));
        }
    });
}

/// All that makes a request's body, without compression and with it.
#[divan::bench(args = [false, true])]
fn document(bencher: Bencher, gzip: bool) {
    let (file, mut reader, plan) = (file(RECORDS), way::reader(), way::plan());
    bencher.counter(RECORDS).bench_local(|| {
        let mut batch = way::batch(gzip);
        way::read(
            file.path(),
            &mut reader,
            |record| {
                batch.push(plan.of_run(0), b"0123456789abcdef0123456789-", record, |_| true);
            },
            || (),
        );
        batch.seal(Vec::new()).expect("memory")
    });
}

/// The whole way, with gzip.
#[divan::bench]
fn ship(bencher: Bencher) {
    let file = file(RECORDS);
    bencher.counter(RECORDS).bench_local(|| way::ship(file.path(), true));
}

/// Compression alone, of documents.
#[divan::bench]
fn gzip(bencher: Bencher) {
    let (file, mut reader, plan, mut batch) = (file(6_000), way::reader(), way::plan(), way::batch(false));
    let id = b"0123456789abcdef0123456789-";
    way::read(
        file.path(),
        &mut reader,
        |record| {
            batch.push(plan.of_run(0), id, record, |_| true);
        },
        || (),
    );
    let body = batch.seal(Vec::new()).expect("memory").body;
    let mut encoder = Gzip::new();
    bencher.counter(divan::counter::BytesCount::of_slice(&body)).bench_local(|| {
        encoder.write(&body, 0, &[]);
        encoder.finish()
    });
}

/// A reply in which all is well.
#[divan::bench]
fn judge(bencher: Bencher) {
    let reply = way::reply(RECORDS as u32);
    bencher.counter(RECORDS).bench_local(|| reply::judge(black_box(&reply), RECORDS as u32));
}

/// Whether a line goes on, where `multiline = "auto"`.
#[divan::bench]
fn multiline(bencher: Bencher) {
    let (contents, multiline) = (contents(), multiline_auto());
    bencher.counter(RECORDS).bench_local(|| {
        let mut state = None;
        for content in &contents {
            let went_on = state.and_then(|state| multiline.go_on(state, content));
            state = went_on.or_else(|| multiline.begin(content));
        }
        state
    });
}

fn multiline_auto() -> Multiline {
    Multiline { rule: Rule::Auto, timeout: Duration::from_secs(5), max_lines: 500 }
}

/// Addresses and cards looked for where there are none.
#[divan::bench]
fn redact(bencher: Bencher) {
    let contents = contents();
    let redactor = Redactor::new(&[Builtin::Email, Builtin::Card], &[], None).expect("patterns");
    bencher.counter(RECORDS).bench_local(|| {
        for content in &contents {
            black_box(redactor.apply(black_box(content)));
        }
    });
}

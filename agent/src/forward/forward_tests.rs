//! What records become: for ours exactly what the direct path sends.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::LazyLock;

use flate2::write::GzEncoder;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::trust::Source;
use super::*;
use crate::batch::{Batch, Format};
use crate::catalog::origin::{Container, HostLog, Origin};
use crate::config::template::Safe;
use crate::config::{BulkOp, EventFormat, Template};
use crate::metadata::{Extent, NodeFacts};
use crate::read::{Marks, Record as Written, Time};
use crate::record::Stream;
use crate::record::parse::{Form, Parser};
use crate::record::treatment::Treatment;
use crate::route::Plan;

pub(super) const OWNER: &str = "123456789012";
const GROUP: &str = "/eks/prod";
const KEY: &[u8] = b"AAAAAAAAAAAAAAAAAAAAAA-";

pub(super) fn config(rest: &str) -> Config {
    let text = format!(
        "cluster = \"c1\"\n[outputs.search]\ntype = \"elasticsearch\"\nendpoints = [\"http://127.0.0.1:9\"]\ncompression = \"none\"\n\
         index = \"logs-{{namespace}}-{{date}}\"\nbatch = \"32MiB\"\nretry_max = \"500ms\"\n\
         [forward]\nlookup = false\ntrusted = [{{ owner = \"{OWNER}\", log_group = \"/eks/{{cluster}}\" }}]\n{rest}"
    );
    Config::parse(&text, "t.toml").unwrap_or_else(|error| panic!("{error}"))
}

pub(super) fn plan(origin: &Origin, target: &str, safe: Safe) -> Plan {
    let facts = NodeFacts { cluster: "prod".into(), node: "n1".into(), names: Default::default() };
    let template = match safe {
        Safe::LogStream => Template::parse(target.split_once(':').unwrap().0)
            .unwrap()
            .joined(":", &Template::parse_unanchored(target.split_once(':').unwrap().1).unwrap()),
        _ => Template::parse(target).unwrap(),
    };
    Plan::new(&facts, origin, Extent::Path, Some((&template, safe)))
}

fn container(namespace: &str, pod: &str) -> Origin {
    Origin::Container(Container {
        namespace: namespace.into(),
        pod: pod.into(),
        uid: "u\"1".into(),
        name: "app".into(),
    })
}

fn host() -> Origin {
    let labels = [("team".to_owned(), "a\"b".to_owned())].into();
    Origin::Host(HostLog { source: "system".into(), path: "/var/log/sys\"log".into(), labels })
}

pub(super) fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::new(1));
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

/// A subscription record of these events.
pub(super) fn subscription(source: Source<'_>, texts: &[String]) -> Vec<u8> {
    let events: Vec<Value> = texts
        .iter()
        .enumerate()
        .map(
            |(at, text)| json!({ "id": at.to_string(), "timestamp": 1_795_449_241_123_i64, "message": text }),
        )
        .collect();
    let record = json!({ "messageType": "DATA_MESSAGE", "owner": source.owner, "logGroup": source.group,
        "logStream": source.stream, "subscriptionFilters": ["f"], "logEvents": events });
    gzip(record.to_string().as_bytes())
}

/// The body of the requests that these records become, as far as nothing waits; and how many events wait.
fn body(forwarder: &Forwarder, records: &[Vec<u8>]) -> (String, usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut shipping = Shipping {
            forwarder,
            client: forwarder.client().unwrap(),
            bulk: Bulk::new(&forwarder.output),
            under_way: JoinSet::new(),
            fates: vec![Fate::Acknowledged; records.len()],
        };
        let (mut waiting, mut text) = (Vec::new(), Vec::new());
        for (number, record) in records.iter().enumerate() {
            record::inflate(record, 1 << 26, &mut text).unwrap();
            let record = record::read(&text).unwrap().expect("events");
            shipping.take(number, &record, &mut waiting).await;
        }
        let sealed = shipping.bulk.seal().unwrap();
        (sealed.map(|sealed| String::from_utf8(sealed.body).unwrap()).unwrap_or_default(), waiting.len())
    })
}

fn forwarder(rest: &str) -> (Forwarder, tempfile::TempDir) {
    let state = tempfile::tempdir().unwrap();
    (Forwarder::new(&config(rest), state.path()).unwrap(), state)
}

fn written(content: &[u8], stream: Option<Stream>, marks: Marks) -> Written<'_> {
    Written {
        time: Time::Text(b"2026-11-23T15:54:01.123456789Z"),
        stream,
        content,
        first: 100,
        last: 260,
        marks,
    }
}

/// What the direct path sends, and the events of CloudWatch in this format, by group and stream.
fn both_ways(
    format: EventFormat,
    origin: &Origin,
    records: &[(Vec<u8>, Option<Stream>, Marks)],
) -> (String, Vec<String>, String) {
    both_ways_by(None, format, origin, records)
}

/// The same by a route that does this with records.
fn both_ways_by(
    treatment: Option<Arc<Treatment>>,
    format: EventFormat,
    origin: &Origin,
    records: &[(Vec<u8>, Option<Stream>, Marks)],
) -> (String, Vec<String>, String) {
    let mut direct = Batch::new(Format::Bulk { op: BulkOp::Create, ids: true }, None);
    let mut events = Batch::new(Format::Events(format), None);
    let to_index = plan(origin, "logs-{namespace}-{date}", Safe::Index).treating(treatment.clone());
    let to_stream =
        plan(origin, "/eks/{cluster}:{namespace}/{pod}/{container}", Safe::LogStream).treating(treatment);
    for (content, stream, marks) in records {
        direct.push(to_index.of_run(0), KEY, &written(content, *stream, *marks), |_| true);
        events.push(to_stream.of_run(0), KEY, &written(content, *stream, *marks), |_| true);
    }
    let sealed = events.seal(Vec::new()).unwrap();
    let own = sealed.events.list.iter().map(|event| {
        String::from_utf8(sealed.body[event.begin as usize..][..event.length as usize].to_vec()).unwrap()
    });
    let metas = sealed.events.metas.iter().map(|meta| meta.to_string());
    let texts = metas.chain(own).collect();
    let target = sealed.events.targets[0].split_once(':').unwrap().1.to_owned();
    let direct = String::from_utf8(direct.seal(Vec::new()).unwrap().body).unwrap();
    (direct, texts, target)
}

fn same_both_ways(format: EventFormat, origin: &Origin, records: &[(Vec<u8>, Option<Stream>, Marks)]) {
    let (forwarder, _state) = forwarder("");
    let (direct, texts, stream) = both_ways(format, origin, records);
    let source = Source { owner: OWNER, group: GROUP, stream: &stream };
    let (forwarded, waiting) = body(&forwarder, &[subscription(source, &texts)]);
    assert_eq!((forwarded.as_str(), waiting), (direct.as_str(), 0), "{format:?}");
}

#[test]
fn lines_that_a_route_has_parsed_come_out_the_same_too() {
    let lines: [&[u8]; 3] = [
        br#"10.0.0.1 - bob [23/Nov/2026:10:00:00 +0000] "GET /cart?id=7 HTTP/1.1" 200 612 "-" "curl/8 \"x\"""#,
        br#"{"msg":"no such line"}"#,
        b"nor this",
    ];
    let records = lines.map(|line| (line.to_vec(), Some(Stream::Stdout), Marks::default()));
    for (_, form) in Form::ALL {
        let treatment = Treatment { parser: Some(Parser::known(form).unwrap()), ..Treatment::default() };
        let treatment = Arc::new(treatment);
        for format in FORMATS {
            let (forwarder, _state) = forwarder("");
            let origin = container("shop", "web-0");
            let (direct, texts, stream) = both_ways_by(Some(treatment.clone()), format, &origin, &records);
            let source = Source { owner: OWNER, group: GROUP, stream: &stream };
            assert_eq!(body(&forwarder, &[subscription(source, &texts)]), (direct, 0), "{form:?}");
        }
    }
}

const FORMATS: [EventFormat; 2] = [EventFormat::Json, EventFormat::Compact];

#[test]
fn our_records_become_the_direct_paths_documents_byte_for_byte() {
    let some = |content: &[u8]| (content.to_vec(), Some(Stream::Stderr), Marks::default());
    let marks = Marks { part: 2, original_length: Some(9), ..Marks::default() };
    let records = [
        some(b"plain \"text\""),
        some(b""),
        some(br#"{"msg":"hi","n":1,"taffrail":{"id":"x"},"kubernetes":{"namespace":"other"}}"#),
        some(br#"{"a":{"taffrail":{"id":"y"}},"level":"warn","emoji":"\ud83d\udea2"}"#),
        some(b"\xff\xfe\xfd not text"),
        some("{\n\"msg\":\"caf\u{e9}\u{2028}\"}".as_bytes()),
        (b"ERROR part".to_vec(), Some(Stream::Stdout), marks),
        (b"without a stream".to_vec(), None, Marks { unframed: true, ..Marks::default() }),
    ];
    for format in FORMATS {
        same_both_ways(format, &container("shop", "web-0"), &records);
        let of_host: Vec<_> =
            records.iter().map(|(content, _, marks)| (content.clone(), None, *marks)).collect();
        same_both_ways(format, &host(), &of_host);
    }
}

fn health() -> Origin {
    let path = "/var/lib/taffrail/health/health.log".into();
    Origin::Host(HostLog { source: HostLog::HEALTH.into(), path, labels: BTreeMap::new() })
}

#[test]
fn health_records_come_out_the_same_and_nobody_elses_may_bear_their_fields() {
    let record = json!({ "message": "agent on n1", "log": { "level": "info" }, "kubernetes": { "node": { "name": "n1" } },
        "taffrail.health": { "kind": "agent", "memory": 1 } });
    let cut = br#"{"kubernetes":{"no"#.to_vec();
    let records = [record.to_string().into_bytes(), cut].map(|content| (content, None, Marks::default()));
    let own = Arc::new(Treatment { own: true, ..Treatment::default() });
    for format in FORMATS {
        let (sent_on, _state) = forwarder("");
        let (direct, texts, stream) = both_ways_by(Some(own.clone()), format, &health(), &records);
        let source = Source { owner: OWNER, group: GROUP, stream: &stream };
        assert_eq!(stream, "taffrail/taffrail/health");
        assert_eq!(body(&sent_on, &[subscription(source, &texts)]), (direct, 0), "{format:?}");
        assert_eq!((sent_on.stats.own.get(), sent_on.stats.foreign.get()), (2, 0));
        // The same fields in a pod's document, and from a stream that is not the agent's own.
        let (forged, _state) = forwarder("");
        let pod = [(b"hi".to_vec(), None, Marks::default())];
        let (_, mut of_pod, stream_of_pod) = both_ways(format, &container("shop", "web-0"), &pod);
        let last = of_pod.last_mut().unwrap();
        *last = last.replacen(r#""message":"#, r#""taffrail.health":{"kind":"lost"},"message":"#, 1);
        let from_pod = Source { owner: OWNER, group: GROUP, stream: &stream_of_pod };
        body(&forged, &[subscription(from_pod, &of_pod), subscription(from_pod, &texts)]);
        assert_eq!(forged.stats.own.get(), 0, "{format:?}");
    }
}

proptest! {
    #[test]
    fn any_record_of_ours_comes_out_the_same(contents: Vec<Vec<u8>>, text in "\\PC{0,40}", part in 0u32..3) {
        let marks = Marks { part, ..Marks::default() };
        let mut records: Vec<_> = contents.into_iter().map(|content| (content, Some(Stream::Stdout), marks)).collect();
        records.push((json!({ "msg": text, "x": { "y": [text] } }).to_string().into_bytes(), Some(Stream::Stderr), marks));
        for format in FORMATS {
            same_both_ways(format, &container("shop", "web-0"), &records);
        }
    }

    /// Whatever a record holds, nothing panics, and every event is a document, metadata, or waits.
    #[test]
    fn no_event_is_lost_uncounted(texts: Vec<String>, near in prop::collection::vec((0usize..400, ".{0,3}"), 0..4)) {
        let (forwarder, _state) = forwarder("");
        let (_, mut events, stream) = both_ways(
            EventFormat::Compact, &container("shop", "web-0"), &[(b"hi".to_vec(), None, Marks::default())]);
        // Events of ours that somebody has meddled with.
        for (at, piece) in near {
            let mut event: Vec<char> = events[0].chars().collect();
            let at = at.min(event.len());
            event.splice(at..(at + 1).min(event.len()), piece.chars());
            events.push(event.into_iter().collect());
        }
        events.extend(texts);
        let source = Source { owner: OWNER, group: GROUP, stream: &stream };
        let (body, waiting) = body(&forwarder, &[subscription(source, &events)]);
        let metas = forwarder.stats.metas.get() as usize;
        prop_assert_eq!(body.lines().count() / 2 + waiting + metas, events.len());
        for line in body.lines() {
            prop_assert!(serde_json::from_str::<Value>(line).is_ok(), "{}", line);
        }
    }

    #[test]
    fn no_record_panics_the_core_or_is_passed_over(garbage: Vec<u8>, cut in 0usize..200, json in "\\PC{0,60}") {
        let (forwarder, state) = forwarder("max_inflated = \"1MiB\"");
        let source = Source { owner: OWNER, group: GROUP, stream: "s" };
        static BOMB: LazyLock<Vec<u8>> = LazyLock::new(|| gzip(&vec![b' '; (1 << 20) + 1]));
        let mut whole = subscription(source, &["hi".to_owned()]);
        whole.truncate(whole.len() - 1 - cut.min(whole.len() - 1));
        let records = [garbage, whole, gzip(json.as_bytes()), gzip(br#"{"messageType":"DATA_MESSAGE","logEvents":1e999}"#), BOMB.clone()];
        let records: Vec<&[u8]> = records.iter().map(Vec::as_slice).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let fates = runtime.block_on(forwarder.send(&records));
        prop_assert_eq!(fates, vec![Fate::Acknowledged; 5]);
        prop_assert_eq!(forwarder.stats.unreadable.get(), 5);
        let letters = DeadLetters::new(state.path(), "search", crate::config::ByteSize::mib(100)).list().unwrap();
        prop_assert!(!letters.is_empty() && letters.iter().all(|letter| letter.kind == "unreadable_record"));
    }
}

#[test]
fn a_compact_event_finds_its_metadata_wherever_it_came_before_and_waits_for_it_else() {
    let (forwarder, _state) = forwarder("");
    let records = [(b"hi".to_vec(), Some(Stream::Stdout), Marks::default())];
    let (direct, texts, stream) = both_ways(EventFormat::Compact, &container("shop", "web-0"), &records);
    let [meta, event] = &texts[..] else { panic!("{texts:?}") };
    let source = Source { owner: OWNER, group: GROUP, stream: &stream };
    let alone = subscription(source, std::slice::from_ref(event));
    assert_eq!(body(&forwarder, std::slice::from_ref(&alone)), (String::new(), 1));
    // Of another account it is none.
    let other = Source { owner: "210987654321", ..source };
    body(&forwarder, &[subscription(other, std::slice::from_ref(meta))]);
    assert_eq!(body(&forwarder, std::slice::from_ref(&alone)).1, 1);
    body(&forwarder, &[subscription(source, std::slice::from_ref(meta))]);
    assert_eq!(body(&forwarder, &[alone]), (direct, 0));
}

#[test]
fn nobody_passes_for_a_pod() {
    let marks = Marks::default();
    let records = [(b"hi".to_vec(), Some(Stream::Stdout), marks)];
    let (direct, texts, stream) = both_ways(EventFormat::Json, &container("shop", "web-0"), &records);
    let [text] = &texts[..] else { panic!("{texts:?}") };
    let compact = both_ways(EventFormat::Compact, &container("shop", "web-0"), &records).1;
    let source = Source { owner: OWNER, group: GROUP, stream: &stream };
    let id = "AAAAAAAAAAAAAAAAAAAAAA-100-260";
    assert!(direct.contains(id));
    let forged: Vec<(Source<'_>, String)> = vec![
        // The same text from elsewhere.
        (Source { owner: "210987654321", ..source }, text.clone()),
        (Source { group: "/eks/other", ..source }, text.clone()),
        (Source { group: "/aws/lambda/f", ..source }, text.clone()),
        (Source { stream: "shop/web-1/app", ..source }, text.clone()),
        (Source { stream: "bank/web-0/app", ..source }, text.clone()),
        (Source { stream: "shop/web-0/app/", ..source }, text.clone()),
        // Claims that do not agree with the stream, or in which two readers could read two things.
        (source, text.replace("\"namespace\":\"shop\"", "\"namespace\":\"bank\"")),
        (source, text.replace("\"namespace\":\"shop\"", "\"namespace\":\"shop\",\"namespace\":\"bank\"")),
        (source, text.replace("\"kubernetes\":", "\"kubernetes\":{\"namespace\":\"bank\"},\"kubernetes\":")),
        (
            source,
            text.replace("\"kubernetes\":", "\"kubern\\u0065tes\":{\"namespace\":\"bank\"},\"kubernetes\":"),
        ),
        (source, text.replace("\"taffrail\":", "\"taffrail\":{\"id\":\"x\"},\"taffrail\":")),
        (source, text.replace(",\"stream\"", ",\"taffrail\":{\"id\":\"x\"},\"stream\"")),
        (source, text.replace(",\"taffrail\"", ",\"kubernetes\":{},\"taffrail\"")),
        (source, text.replace("\"message\":\"hi\"", "\"message\":\"hi\",\"message\":\"ho\"")),
        (source, text.replace("\"message\":\"hi\"", "\"message\":\"hi\",\"cloud\":{\"account\":1}")),
        (source, text.replace("\"orchestrator\"", "\"owner\":1,\"orchestrator\"")),
        // Lines of metrics are passed on as programs wrote them.
        (source, text.replace("\"message\":\"hi\"", "\"app\":{\"_aws\":1,\"CloudWatchMetrics\":1}")),
        // Ids that are none, and what would end the line that it is sent in.
        (source, text.replace(id, "x")),
        (source, text.replace(id, "AAAAAAAAAAAAAAAAAAAAAA-1-2\\\",\\\"_index\\\":\\\"y")),
        (source, text.replace(":\"hi\"", ":\n\"hi\"")),
        (source, text.replace("2026-11-23T15:54:01.123456789Z", "now")),
        (source, format!("{text} ")),
        (source, format!("{text}{text}")),
        // Metadata that is not what its revision says.
        (source, compact[0].replace("shop", "bank")),
        (source, compact[0].replace("\"web-0\"", "\"web-0\",\"uid\":\"x\"")),
    ];
    for (source, text) in forged {
        let (forwarder, _state) = forwarder("");
        let (body, waiting) = body(&forwarder, &[subscription(source, std::slice::from_ref(&text))]);
        let lines: Vec<Value> = body.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let [action, document] = &lines[..] else { panic!("{waiting} {text}: {body}") };
        assert!(action["create"]["_id"].as_str().unwrap().starts_with("cw."), "{text}");
        assert_eq!(action["create"]["_index"], "logs-cloudwatch-2026.11.23");
        for name in ["kubernetes", "orchestrator", "taffrail", "stream"] {
            assert!(document.get(name).is_none(), "{name} of {text}: {document}");
        }
        assert_eq!(document["cloud"]["account"]["id"], source.owner);
        assert_eq!(document["aws"]["cloudwatch"]["log_stream"], source.stream);
    }
}

#[test]
fn foreign_ids_are_of_all_that_names_an_event() {
    let source = Source { owner: OWNER, group: "/g", stream: "s" };
    let ids = [
        foreign::id(source, "1"),
        foreign::id(source, "2"),
        foreign::id(Source { stream: "s1", ..source }, ""),
        foreign::id(Source { stream: "s", ..source }, ""),
        foreign::id(Source { group: "/gs", stream: "", ..source }, "1"),
        foreign::id(Source { owner: "1", ..source }, "1"),
    ];
    let distinct: std::collections::BTreeSet<_> = ids.iter().collect();
    assert_eq!(distinct.len(), ids.len());
    assert_eq!(foreign::id(source, "1"), ids[0]);
}

#[test]
fn letters_that_had_no_room_on_their_way_are_not_done() {
    let (here, _state) = forwarder("");
    let (away, _other) = forwarder("dead_letters = \"s3://bucket/letters\"\n");
    for forwarder in [&here, &away] {
        assert_eq!(forwarder.all_went_away(0), Ok(()));
        forwarder.output_stats.dead_letters_dropped.add(1);
    }
    assert_eq!(here.all_went_away(0), Ok(()), "the bound is all that was promised");
    assert!(away.all_went_away(0).is_err());
}

#[test]
fn what_looks_like_metadata_from_elsewhere_is_a_document() {
    let meta = |pod: &str, more: &str| {
        let fields = format!(
            r#","kubernetes":{{"namespace":"shop","pod":{{"name":"{pod}","uid":"u1"}},"container":{{"name":"app"}},"node":{{"name":"n1"}}{more}}},"orchestrator":{{"cluster":{{"name":"prod"}}}}}}"#
        );
        let hash = crate::config::template::fnv1a(format!("{fields}\n").as_bytes());
        format!(r#"{{"taffrail":{{"meta":"{hash:016x}"}}{fields}"#)
    };
    let long = format!(r#","labels":{{"a":"{}"}}"#, "x".repeat(64 << 10));
    let (forwarder, _state) = forwarder("");
    let of = |group| Source { owner: OWNER, group, stream: "shop/web-0/app" };
    let sent = |group, text: String| body(&forwarder, &[subscription(of(group), &[text])]).0.lines().count();
    assert_eq!(sent(GROUP, meta("web-0", "")), 0);
    assert_eq!(sent(GROUP, meta("web-1", "")), 2, "of another pod");
    assert_eq!(sent("/eks/other", meta("web-0", "")), 2, "of a group that no pair gives");
    assert_eq!(sent(GROUP, meta("web-0", &long)), 2, "too long");
    assert_eq!((forwarder.stats.metas.get(), forwarder.stats.foreign.get()), (1, 3));
}

/// An event that waits for metadata that nobody has.
fn waiting(record: usize) -> Waiting {
    Waiting {
        record,
        source: [OWNER, GROUP, "s"].map(str::to_owned),
        event: record.to_string(),
        millis: 0,
        text: "x".into(),
        revision: "0123456789abcdef".into(),
    }
}

#[tokio::test]
async fn an_event_of_a_record_that_comes_again_is_not_sent_in_another_form() {
    let (forwarder, _state) = forwarder("");
    let mut shipping = Shipping {
        forwarder: &forwarder,
        client: forwarder.client().unwrap(),
        bulk: Bulk::new(&forwarder.output),
        under_way: JoinSet::new(),
        fates: vec![Fate::Parked, Fate::Acknowledged],
    };
    forwarder.resolve(vec![waiting(0), waiting(1)], &mut shipping).await;
    assert_eq!(forwarder.stats.unresolved.get(), 1);
    assert_eq!(shipping.bulk.seal().unwrap().unwrap().items, 1);
}

#[tokio::test]
async fn nobody_is_asked_once_it_is_to_stop_or_the_time_is_over() {
    let (forwarder, _state) = forwarder("");
    let long_ago = Instant::now().checked_sub(Duration::from_secs(3600)).expect("an hour of uptime");
    assert!(forwarder.ask(&[waiting(0), waiting(1)], long_ago).await);
    forwarder.stop(Stop::Unsent);
    assert!(forwarder.ask(&[waiting(0), waiting(1)], Instant::now()).await);
    assert!(forwarder.aws.get().is_none(), "AWS was spoken to");
}

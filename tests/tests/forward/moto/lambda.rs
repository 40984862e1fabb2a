//! The Lambda function, called as Lambda calls it.

use super::kit::{OWNER, World, base64, packed};
use serde_json::{Value, json};
use taffrail_tests::lambda::Runtime;
use taffrail_tests::moto::Moto;
use taffrail_tests::proxy::{Action, Proxy};
use taffrail_tests::seconds;
use taffrail_tests::verify::Document;

fn logs(data: &str) -> Value {
    json!({ "awslogs": { "data": data } })
}

fn records(data: &[String]) -> Value {
    let record = |(at, data): (usize, &String)| {
        json!({ "eventSource": "aws:kinesis", "eventID": format!("shardId-0:{at}"),
            "kinesis": { "data": data, "sequenceNumber": at.to_string(), "partitionKey": "p" } })
    };
    json!({ "Records": data.iter().enumerate().map(record).collect::<Vec<_>>() })
}

fn bucket(world: &World) -> String {
    let bucket = format!("letters-{}", world.stream);
    Moto::shared().make_bucket(&bucket);
    bucket
}

/// An event of ours, in the format `json`, of this pod.
pub fn own(id: u32, namespace: &str, pod: &str, app: &str) -> String {
    format!(
        r#"{{"@timestamp":"2026-11-23T15:54:01.123456789Z","message":"line {id}","app":{app},"taffrail":{{"id":"AAAAAAAAAAAAAAAAAAAAAA-{id}-{id}"}},"stream":"stdout","kubernetes":{{"namespace":"{namespace}","pod":{{"name":"{pod}","uid":"u1"}},"container":{{"name":"app"}},"node":{{"name":"n1"}}}},"orchestrator":{{"cluster":{{"name":"prod"}}}}}}"#
    )
}

fn find<'d>(documents: &'d [Document], message: &str) -> &'d Document {
    let found: Vec<_> = documents.iter().filter(|document| document.message() == message).collect();
    let [one] = found[..] else { panic!("{message}: {found:?}") };
    one
}

#[test]
fn events_of_both_kinds_become_documents() {
    let world = World::new(1);
    let runtime = Runtime::open();
    let config = world.config(&format!("dead_letters = \"s3://{}/lost\"", bucket(&world)));
    let _function = world.function(&config, &runtime);
    let ours = (OWNER, world.group.as_str(), "shop/web-0/app");
    let event = logs(&world.record(ours, &[&own(1, "shop", "web-0", "{\"n\":1}"), "a line of somebody's"]));
    assert_eq!(runtime.invoke(&event, seconds(60)), Ok(Value::Null));
    let control = packed(br#"{"messageType":"CONTROL_MESSAGE","owner":"CloudwatchLogs","logGroup":"","logStream":"","logEvents":[]}"#);
    assert_eq!(runtime.invoke(&logs(&control), seconds(60)), Ok(Value::Null));
    let batch = records(&[
        control,
        world.record(ours, &[&own(2, "shop", "web-0", "{\"n\":2}")]),
        world.record(
            (OWNER, "/aws/lambda/f", "2026/11/24/x"),
            &["START RequestId: 8f5070d4-1234-5678-9abc-b64f6b1b2c3d Version: 1"],
        ),
    ]);
    for _ in 0..2 {
        // Lambda may call twice with the same.
        assert_eq!(runtime.invoke(&batch, seconds(60)), Ok(json!({ "batchItemFailures": [] })));
    }
    let documents = world.forwarded.documents().expect("the documents");
    assert_eq!(documents.len(), 4);
    for number in [1, 2] {
        let document = find(&documents, &format!("line {number}"));
        assert_eq!(document.id, format!("AAAAAAAAAAAAAAAAAAAAAA-{number}-{number}"));
        assert_eq!(document.text("kubernetes.pod.name"), "web-0");
        assert_eq!(document.get("taffrail"), None);
    }
    let foreign = find(&documents, "a line of somebody's");
    assert!(foreign.id.starts_with("cw.") && foreign.text("aws.cloudwatch.log_group") == world.group);
    assert!(foreign.index.contains("-cloudwatch-"), "{}", foreign.index);
    assert!(runtime.invoke(&json!({ "x": 1 }), seconds(60)).is_err());
}

#[test]
fn only_what_may_yet_succeed_is_brought_again_and_the_rest_lies_in_s3() {
    let mut world = World::new(1);
    let hostile = json!({
        "app": { "properties": { "code": { "type": "integer" } } },
        "taffrail": { "properties": { "error": { "type": "integer" } } },
    });
    world.forwarded = world.forwarded.takes(taffrail_tests::space::Target::Indices, hostile);
    let runtime = Runtime::open();
    let bucket = bucket(&world);
    let config = world.config(&format!("dead_letters = \"s3://{bucket}/lost\""));
    let _function = world.function(&config, &runtime);
    let ours = (OWNER, world.group.as_str(), "shop/web-0/app");
    let batch = records(&[
        world.record(ours, &[&own(1, "shop", "web-0", "{\"code\":1}")]),
        world.record(ours, &[&own(2, "shop", "web-0", "{\"code\":\"word\"}")]),
        base64(b"garbage"),
        "no base64!".to_owned(),
        world.record(ours, &[&own(3, "shop", "web-0", "{\"code\":3}")]),
    ]);
    assert_eq!(runtime.invoke(&batch, seconds(60)), Ok(json!({ "batchItemFailures": [] })));
    assert_eq!(world.forwarded.documents().expect("the documents").len(), 2);
    let objects = Moto::shared().objects(&bucket);
    let [(key, body)] = &objects[..] else { panic!("{objects:?}") };
    assert!(key.starts_with("lost/") && key.ends_with(".ndjson"), "{key}");
    let letters: Vec<Value> = String::from_utf8_lossy(body)
        .lines()
        .map(|line| serde_json::from_str(line).expect("a letter"))
        .collect();
    let kinds: Vec<&str> = letters.iter().map(|letter| letter["type"].as_str().expect("a type")).collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == "unreadable_record").count(), 2, "{kinds:?}");
    let refused = letters.iter().find(|letter| letter["status"] == 400).expect("what was refused");
    assert_eq!(refused["id"], "AAAAAAAAAAAAAAAAAAAAAA-2-2");

    // An index that is closed refuses for now: only its records are brought again, from the first on.
    let index = format!("{}-shop-2026.11.23", world.forwarded.prefix);
    world.forwarded.server.send("POST", &format!("/{index}/_close"), &Value::Null);
    let batch = records(&[
        world.record((OWNER, world.group.as_str(), "s"), &["foreign 1"]),
        world.record(ours, &[&own(4, "shop", "web-0", "{\"code\":4}")]),
        base64(b"garbage"),
        world.record(ours, &[&own(5, "shop", "web-0", "{\"code\":5}")]),
    ]);
    let failed = json!({ "batchItemFailures": [{ "itemIdentifier": "1" }, { "itemIdentifier": "3" }] });
    assert_eq!(runtime.invoke(&batch, seconds(60)), Ok(failed));
    world.forwarded.server.send("POST", &format!("/{index}/_open"), &Value::Null);
    assert_eq!(runtime.invoke(&batch, seconds(60)), Ok(json!({ "batchItemFailures": [] })));
    assert_eq!(world.forwarded.documents().expect("the documents").len(), 5);
}

#[test]
fn dead_letters_may_go_to_a_queue() {
    let world = World::new(1);
    let runtime = Runtime::open();
    let queue = Moto::shared().make_queue(&world.stream);
    let _function = world.function(&world.config(&format!("dead_letters = \"sqs:{queue}\"")), &runtime);
    assert_eq!(runtime.invoke(&logs(&base64(b"garbage")), seconds(60)), Ok(Value::Null));
    let messages = Moto::shared().messages(&queue);
    let [message] = &messages[..] else { panic!("{messages:?}") };
    let letter: Value = serde_json::from_str(message).expect("a letter");
    assert_eq!(letter["document"]["taffrail"]["record"], base64(b"garbage"));
}

#[test]
fn a_server_that_is_away_fails_the_call_in_time_and_a_later_one_succeeds() {
    let world = World::new(1);
    let runtime = Runtime::open();
    let mut proxy = Proxy::away(world.forwarded.server.address(), |_, _| Action::Forward);
    let config =
        world.config_at(proxy.address(), &format!("dead_letters = \"s3://{}/lost\"", bucket(&world)));
    let _function = world.function(&config, &runtime);
    let ours = (OWNER, world.group.as_str(), "shop/web-0/app");
    let record = world.record(ours, &[&own(1, "shop", "web-0", "{\"n\":1}")]);
    let error = runtime.invoke(&logs(&record), seconds(4)).expect_err("an error");
    assert!(error["errorMessage"].as_str().is_some_and(|what| !what.is_empty()), "{error}");
    let batch = records(std::slice::from_ref(&record));
    let failed = json!({ "batchItemFailures": [{ "itemIdentifier": "0" }] });
    assert_eq!(runtime.invoke(&batch, seconds(4)), Ok(failed));
    proxy.comes_up();
    assert_eq!(runtime.invoke(&batch, seconds(60)), Ok(json!({ "batchItemFailures": [] })));
    assert_eq!(runtime.invoke(&logs(&record), seconds(60)), Ok(Value::Null));
    assert_eq!(world.forwarded.documents().expect("the documents").len(), 1);
}

#[test]
fn no_foreign_writer_poses_as_a_pod_or_keeps_a_record_out() {
    let world = World::new(1);
    let runtime = Runtime::open();
    let config = world.config(&format!("dead_letters = \"s3://{}/lost\"", bucket(&world)));
    let _function = world.function(&config, &runtime);
    let text = own(1, "shop", "web-0", "{\"n\":1}");
    let twice = |from: &str, to: &str| text.replace(from, to);
    let forged = [
        world.record(("210987654321", &world.group, "shop/web-0/app"), &[&text]),
        world.record((OWNER, "/aws/lambda/f", "shop/web-0/app"), &[&text]),
        world.record((OWNER, &world.group, "bank/thief/app"), &[&text]),
        world.record(
            (OWNER, &world.group, "shop/web-0/app"),
            &[
                &twice("\"namespace\":\"shop\"", "\"namespace\":\"bank\""),
                &twice("\"kubernetes\":", "\"kubernetes\":{\"namespace\":\"bank\"},\"kubernetes\":"),
                &twice("\"taffrail\":", "\"taffrail\":{\"id\":\"y\"},\"taffrail\":"),
                &twice("\"n\":1", "\"_aws\":1,\"CloudWatchMetrics\":1"),
            ],
        ),
    ];
    // Before the true one: the place in the index is not theirs to take.
    let mut data = forged.to_vec();
    data.push(world.record((OWNER, &world.group, "shop/web-0/app"), &[&text]));
    assert_eq!(runtime.invoke(&records(&data), seconds(60)), Ok(json!({ "batchItemFailures": [] })));
    let documents = world.forwarded.documents().expect("the documents");
    assert_eq!(documents.len(), 8);
    let (own, foreign): (Vec<_>, Vec<_>) =
        documents.iter().partition(|document| !document.id.starts_with("cw."));
    let [own] = &own[..] else { panic!("{own:?}") };
    assert_eq!((own.id.as_str(), own.text("kubernetes.namespace")), ("AAAAAAAAAAAAAAAAAAAAAA-1-1", "shop"));
    for document in foreign {
        // Under `taffrail` can stand at most why OpenSearch did not take a name twice.
        for name in ["kubernetes", "orchestrator", "taffrail.id", "taffrail.meta", "stream"] {
            assert_eq!(document.get(name), None, "{document:?}");
        }
    }
}

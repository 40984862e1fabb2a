//! `taffrail forward --replay`: what lay in S3 is brought back.

use super::kit::{OWNER, World, base64};
use super::lambda::own;
use serde_json::json;
use taffrail_tests::agent::Agent;
use taffrail_tests::lambda::Runtime;
use taffrail_tests::moto::Moto;
use taffrail_tests::seconds;
use taffrail_tests::space::Target;
use taffrail_tests::terminal::{left_on_screen, on_a_terminal};

#[test]
fn dead_letters_and_what_lambda_gave_up_are_brought_back() {
    let mut world = World::new(1);
    let hostile = json!({
        "app": { "properties": { "code": { "type": "integer" } } },
        "taffrail": { "properties": { "error": { "type": "integer" } } },
    });
    world.forwarded = world.forwarded.takes(Target::Indices, hostile);
    let moto = Moto::shared();
    let bucket = format!("letters-{}", world.stream);
    moto.make_bucket(&bucket);
    let config = world.config(&format!("dead_letters = \"s3://{bucket}/lost\""));
    let runtime = Runtime::open();
    let function = world.function(&config, &runtime);
    let ours = (OWNER, world.group.as_str(), "shop/web-0/app");
    let refused = world.record(ours, &[&own(1, "shop", "web-0", "{\"code\":\"word\"}")]);
    assert!(runtime.invoke(&json!({ "awslogs": { "data": refused } }), seconds(60)).is_ok());
    assert!(runtime.invoke(&json!({ "awslogs": { "data": base64(b"garbage") } }), seconds(60)).is_ok());
    drop(function);
    // What Lambda's destination on failure holds of an asynchronous call, and of a mapping.
    let given_up = world.record(ours, &[&own(2, "shop", "web-0", "{\"code\":2}")]);
    let call = json!({ "version": "1.0", "requestContext": { "condition": "RetriesExhausted" },
        "requestPayload": { "awslogs": { "data": given_up } } });
    moto.put_object(&bucket, "lost/aws/lambda/async/f/1", call.to_string().as_bytes());
    let batch = json!({ "Records": [{ "kinesis": { "sequenceNumber": "1",
        "data": world.record(ours, &[&own(3, "shop", "web-0", "{\"code\":3}")]) } }] });
    let mapping = json!({ "version": "1.0", "payload": batch.to_string() });
    moto.put_object(&bucket, "lost/aws/lambda/map/f/1", mapping.to_string().as_bytes());
    moto.put_object(&bucket, "lost/note.txt", b"not ours");
    assert_eq!(moto.objects(&bucket).len(), 5);

    let replay = || {
        let place = format!("s3://{bucket}/lost");
        let way = super::kit::credentials(&[]);
        let ended = Agent::start_as(&way, &["forward", "--replay", &place], &config, &world.node).ends();
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        ended.stdout
    };
    let said = replay();
    assert!(
        said.starts_with("4 objects brought back: 2 dead letters and 2 events, 2 refused once more"),
        "{said}"
    );
    assert_eq!(world.forwarded.documents().expect("the documents").len(), 2);
    // Both are letters again, and once the index takes the one, only what nobody can read is left.
    let index = format!("{}-shop-2026.11.23", world.forwarded.prefix);
    world.forwarded.server.send("DELETE", &format!("/{index}"), &json!(null));
    world.forwarded.put_template(Target::Indices, json!({}));
    let said = replay();
    assert!(
        said.contains("2 dead letters and 0 events, 1 refused once more; 1 objects left alone"),
        "{said}"
    );
    let documents = world.forwarded.documents().expect("the documents");
    let [document] = &documents[..] else { panic!("{documents:?}") };
    assert_eq!(document.id, "AAAAAAAAAAAAAAAAAAAAAA-1-1");
}

#[test]
fn how_far_it_is_is_drawn_on_a_terminal_and_nothing_of_that_is_left() {
    let world = World::new(1);
    let moto = Moto::shared();
    let bucket = format!("shown-{}", world.stream);
    moto.make_bucket(&bucket);
    let ours = (OWNER, world.group.as_str(), "shop/web-0/app");
    for number in 0..3 {
        let record = world.record(ours, &[&own(number, "shop", "web-0", "{}")]);
        let batch = json!({ "Records": [{ "kinesis": { "sequenceNumber": "1", "data": record } }] });
        moto.put_object(&bucket, &format!("lost/{number}"), batch.to_string().as_bytes());
    }
    moto.put_object(&bucket, "lost/note.txt", b"not ours");
    let place = format!("s3://{bucket}/lost");
    let way = super::kit::credentials(&on_a_terminal());
    let ended =
        Agent::start_as(&way, &["forward", "--replay", &place], &world.config(""), &world.node).ends();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout.contains(" records delivered, "), "{ended:?}");
    // The log's line of the note goes above it, and the result stands alone.
    let left = left_on_screen(&ended.stdout);
    assert!(left.iter().all(|line| !line.contains("records delivered")), "{left:?}");
    assert!(left[0].contains("left alone") && left[0].contains("lost/note.txt"), "{left:?}");
    assert!(left[1].starts_with("3 objects brought back:") && left.len() == 2, "{left:?}");
}

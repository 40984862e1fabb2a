//! `check --connect`: what CloudWatch Logs says of an output, before an event is sent; and that nothing is made by asking.

use super::kit::World;
use serde_json::json;
use std::io::Read;
use std::net::{Ipv4Addr, TcpListener};
use taffrail_tests::agent::Ended;
use taffrail_tests::cloudwatch::{Action, Call};
use taffrail_tests::moto::Moto;

const CONNECT: [&str; 2] = ["check", "--connect"];

/// A Kinesis stream of the tests' account.
fn stream(name: &str) -> String {
    format!("arn:aws:kinesis:us-east-1:123456789012:stream/{name}")
}

/// What the output is told; the exit code is that of a server that does, or does not.
#[track_caller]
fn told(ended: &Ended, good: bool) -> String {
    assert_eq!(ended.code, Some(i32::from(!good)), "{}{}", ended.stdout, ended.stderr);
    let word = if good {
        "  ok     cw  CloudWatch Logs in us-east-1 at http"
    } else {
        "  FAILS  cw  CloudWatch Logs"
    };
    let line = ended.stdout.lines().find(|line| line.starts_with(word));
    line.unwrap_or_else(|| panic!("{}{}", ended.stdout, ended.stderr)).to_owned()
}

#[test]
fn a_service_that_would_take_events_is_told_with_its_groups_and_nothing_is_made() {
    let world = World::new(|_| Action::Do);
    let line = told(&world.runs(&CONNECT, ""), true);
    let missing = format!(
        "takes events in us-east-1; the log group {} is not there yet: the agent makes it, for which it needs logs:CreateLogGroup",
        world.group
    );
    assert!(line.ends_with(&missing), "{line}");
    Moto::shared().call("CreateLogGroup", &json!({ "logGroupName": world.group }));
    let line = told(&world.runs(&CONNECT, ""), true);
    assert!(line.ends_with(&format!("; the log group {} is there", world.group)), "{line}");
    for namespace in ["shop", "bank"] {
        let group = format!("{}/{namespace}", world.group);
        Moto::shared().call("CreateLogGroup", &json!({ "logGroupName": group }));
    }
    let line = told(&world.runs(&CONNECT, &format!("log_group = \"{}/{{namespace}}\"", world.group)), true);
    assert!(line.contains(" 2 are there, and the agent makes others"), "{line}");

    let seen = world.clean();
    assert_eq!(seen.events, 0, "no event is stored");
    assert!(seen.log.iter().all(|call| call == "logs:DescribeLogGroups"), "{:?}", seen.log);
    let body = json!({ "logGroupName": world.group });
    let (_, streams) = Moto::shared().call("DescribeLogStreams", &body);
    assert_eq!(streams["logStreams"], json!([]), "no stream is made");
}

#[test]
fn what_is_not_allowed_is_told_with_the_action_and_the_arn() {
    let world = World::new(|call: &Call<'_>| match call.action {
        "PutLogEvents" => Action::Deny,
        _ => Action::Do,
    });
    let line = told(&world.runs(&CONNECT, ""), false);
    let arn = format!("arn:aws:logs:us-east-1:123456789012:log-group:{}:log-stream:", world.group);
    assert!(line.contains(&format!("not allowed: logs:PutLogEvents on {arn}")), "{line}");
    assert!(line.contains("allow it in the policy of the agent's role"), "{line}");

    // The agent itself never asks which groups there are, so that its role need not allow it.
    world.service.obeys(|call| if call.action == "DescribeLogGroups" { Action::Deny } else { Action::Do });
    let line = told(&world.runs(&CONNECT, ""), true);
    assert!(line.contains("takes events in us-east-1; which groups are there may not be asked"), "{line}");
    assert!(line.contains("not allowed: logs:DescribeLogGroups on arn:aws:logs:us-east-1:"), "{line}");
    world.clean();
}

#[test]
fn credentials_that_are_refused_or_old_and_calls_that_are_too_many_are_told() {
    let world = World::new(|_| Action::Do);
    for (code, said, expected) in [
        (
            "ExpiredTokenException",
            "The security token included in the request is expired",
            "the credentials have expired",
        ),
        (
            "UnrecognizedClientException",
            "The security token included in the request is invalid.",
            "the credentials are refused in us-east-1: is `region` right, and enabled for the account",
        ),
        (
            "InvalidSignatureException",
            "Credential should be scoped to a valid region.",
            "the credentials are refused in us-east-1: is `region` right",
        ),
        ("InvalidParameterException", "No.", "logs:PutLogEvents is refused: InvalidParameterException: No."),
    ] {
        world.service.obeys(move |_| Action::Say(code, said.to_owned()));
        let line = told(&world.runs(&CONNECT, ""), false);
        assert!(line.contains(expected) && line.contains(said), "{line}");
    }
    world.service.obeys(|_| Action::Throttle);
    let line = told(&world.runs(&CONNECT, ""), false);
    assert!(line.contains("logs:PutLogEvents is throttled, 4 times in a row"), "{line}");
    world.service.obeys(|call| if call.number % 2 == 0 { Action::Throttle } else { Action::Do });
    told(&world.runs(&CONNECT, ""), true);
    world.service.obeys(|_| Action::Fail);
    let line = told(&world.runs(&CONNECT, ""), false);
    assert!(line.contains("ServiceUnavailableException"), "{line}");
    world.clean();
}

#[test]
fn credentials_that_nobody_gives_are_told() {
    let world = World::new(|_| Action::Do);
    let way = ["env", "-u", "AWS_ACCESS_KEY_ID", "HOME=/nonexistent", "AWS_EC2_METADATA_DISABLED=true"];
    let way = way.map(str::to_owned);
    let ended = taffrail_tests::agent::run_by(&way, &CONNECT, &world.config(""), &world.node);
    let line = told(&ended, false);
    assert!(line.contains("no AWS credentials") && line.contains("IRSA or Pod Identity"), "{line}");
    assert_eq!(world.service.seen().violations, [""; 0]);
}

/// A port at which whoever comes is answered with this, in place of TLS, and left.
fn door(answer: &'static [u8]) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = listener.local_addr().expect("the port's number");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 4096]);
            let _ = std::io::Write::write_all(&mut stream, answer);
        }
    });
    address.to_string()
}

#[test]
fn nobody_there_no_name_and_no_tls_are_told_apart() {
    let world = World::new(|_| Action::Do);
    let own = world.service.address().to_string();
    let plain = door(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    for (endpoint, expected) in [
        ("http://127.0.0.1:1".to_owned(), "cannot connect: Connection refused"),
        (format!("https://{plain}"), "TLS fails: "),
        (
            "http://no-such-host.invalid".to_owned(),
            "its name is not known (DNS); is `region` right (us-east-1)?",
        ),
    ] {
        let config = world.config("").replace(&format!("http://{own}"), &endpoint);
        let way = ["env", "AWS_ACCESS_KEY_ID=A", "AWS_SECRET_ACCESS_KEY=b"].map(str::to_owned);
        let ended = taffrail_tests::agent::run_by(&way, &CONNECT, &config, &world.node);
        let line = told(&ended, false);
        assert!(line.contains(&endpoint) && line.contains(expected), "{line}");
    }
}

#[test]
fn a_subscription_is_looked_for_where_one_is_configured() {
    let world = World::new(|_| Action::Do);
    let (to, other) = (stream(&world.group[5..]), stream("elsewhere"));
    for name in [&world.group[5..], "elsewhere"] {
        Moto::shared().call_of(
            "kinesis",
            "Kinesis_20131202.CreateStream",
            &json!({ "StreamName": name, "ShardCount": 1 }),
        );
    }
    let wanted = format!("subscription = {{ to = \"{to}\" }}");
    let line = told(&world.runs(&CONNECT, &wanted), true);
    assert!(line.ends_with(&format!("; groups that it makes are subscribed to {to}")), "{line}");
    Moto::shared().call("CreateLogGroup", &json!({ "logGroupName": world.group }));
    let line = told(&world.runs(&CONNECT, &wanted), false);
    assert!(
        line.contains(&format!(
            "{} has no subscription filter taffrail to {to}: `taffrail setup",
            world.group
        )),
        "{line}"
    );
    let put = |to: &str| {
        let filter = json!({ "logGroupName": world.group, "filterName": "taffrail", "filterPattern": "",
            "destinationArn": to, "roleArn": "arn:aws:iam::123456789012:role/r" });
        let (status, answer) = Moto::shared().call("PutSubscriptionFilter", &filter);
        assert_eq!(status, 200, "{answer}");
    };
    put(&other);
    let line = told(&world.runs(&CONNECT, &wanted), false);
    assert!(line.contains(&format!("leads to {other}, not to {to}")), "{line}");
    put(&to);
    let line = told(&world.runs(&CONNECT, &wanted), true);
    assert!(line.ends_with(&format!("is there; subscribed to {to} by the filter taffrail")), "{line}");
    let account = format!("subscription = {{ to = \"{to}\", scope = \"account\" }}");
    let line = told(&world.runs(&CONNECT, &account), false);
    assert!(line.contains("the account has no subscription policy taffrail"), "{line}");
    world.service.obeys(
        |call| {
            if call.action == "DescribeSubscriptionFilters" { Action::Deny } else { Action::Do }
        },
    );
    let line = told(&world.runs(&CONNECT, &wanted), true);
    assert!(
        line.contains("whether it is subscribed to may not be asked: not allowed: logs:DescribeSub"),
        "{line}"
    );
    let changed = world.clean().log;
    assert!(changed.iter().all(|call| call.starts_with("logs:Describe")), "{changed:?}");
}

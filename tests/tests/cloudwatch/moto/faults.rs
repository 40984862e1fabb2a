//! A service that denies, forgets and hangs up, and an agent that is killed.

use super::kit::World;
use serde_json::json;
use taffrail_tests::cloudwatch::{Action, Call};
use taffrail_tests::moto::Moto;
use taffrail_tests::node::Container;
use taffrail_tests::{eventually, let_pass, seconds, seed, verify};

#[test]
fn what_is_deleted_while_the_agent_runs_is_made_again() {
    let world = World::new(|_| Action::Do);
    let mut web = world.node.pod("web").container("app");
    web.writes(100);
    let _agent = world.agent("");
    world.exactly_once(&[&web]);
    for (action, body) in [
        ("DeleteLogStream", json!({ "logGroupName": world.group, "logStreamName": "default/web/app" })),
        ("DeleteLogGroup", json!({ "logGroupName": world.group })),
    ] {
        assert_eq!(Moto::shared().call(action, &body).0, 200);
        let from = web.written().len() as u64;
        web.writes(50);
        eventually(seconds(60), "the lines after it", || {
            let documents = world.documents(&[&web]);
            let missing = verify::faults(&documents, &web).missing;
            if missing.iter().all(|number| *number < from) { Ok(()) } else { Err(format!("{missing:?}")) }
        });
    }
    let seen = world.clean();
    assert_eq!((seen.calls["CreateLogGroup"], seen.calls["CreateLogStream"]), (2, 3));
}

#[test]
fn a_group_that_is_denied_holds_up_no_other_and_comes_when_it_is_allowed() {
    let world = World::new(|call| if call.group.ends_with("-bank") { Action::Deny } else { Action::Do });
    let mut shop = world.node.pod("web").namespace("shop").container("app");
    let mut bank = world.node.pod("web").namespace("bank").container("app");
    shop.writes(100);
    bank.writes(100);
    let agent = world.agent(&format!("log_group = \"{}-{{namespace}}\"", world.group));
    let of = |container: &Container| {
        let group = format!("{}-{}", world.group, container.pod.namespace);
        super::kit::documents(&world.stored_in(&group, container), container)
    };
    verify::exactly_once(seconds(120), || Ok(of(&shop)), &[&shop]);
    shop.writes(100);
    verify::exactly_once(seconds(120), || Ok(of(&shop)), &[&shop]);
    let told = eventually(seconds(120), "a message", || {
        let said = agent.stderr();
        let told: Vec<_> =
            said.lines().filter(|line| line.contains("not allowed")).map(str::to_owned).collect();
        if told.is_empty() { Err(said) } else { Ok(told) }
    });
    assert_eq!(told.len(), 1, "{told:?}");
    let arn = format!("arn:aws:logs:us-east-1:123456789012:log-group:{}-bank:", world.group);
    assert!(told[0].contains("logs:PutLogEvents") && told[0].contains(&arn), "{told:?}");
    world.service.obeys(|_| Action::Do);
    verify::exactly_once(seconds(150), || Ok(of(&bank)), &[&bank]);
    assert_eq!(agent.stderr().matches("not allowed").count(), 1);
    world.clean();
}

/// Show: others go on for more batches than may be under way, each with lines of a stream that fails; that one is asked
/// rarely, told once, and has every line once when it is well.
fn holds_up_no_other(rule: fn(&Call<'_>) -> Action) {
    let world = World::new(rule);
    let mut well = world.node.pod("well").container("app");
    let mut sick = world.node.pod("sick").container("app");
    sick.writes(50);
    let agent = world.agent("");
    for round in 1..=8 {
        well.writes(10);
        sick.writes(10);
        world.takes(round * 10);
    }
    verify::exactly_once(seconds(60), || Ok(world.documents(&[&well])), &[&well]);
    eventually(seconds(120), "a message", || {
        let said = agent.stderr();
        if said.contains("nothing passes for a log stream") { Ok(()) } else { Err(said) }
    });
    let spoilt = world.service.seen().spoilt;
    assert!(spoilt < 100, "{spoilt} calls for a stream that fails");
    world.service.obeys(|_| Action::Do);
    world.exactly_once(&[&well, &sick]);
    assert_eq!(agent.stderr().matches("nothing passes for a log stream").count(), 1);
}

#[test]
fn a_stream_that_always_fails_holds_up_no_other_and_comes_once_when_it_is_well() {
    holds_up_no_other(|call| if call.stream.contains("/sick/") { Action::Fail } else { Action::Do });
}

#[test]
fn a_stream_whose_making_is_throttled_holds_up_no_other_and_comes_once_when_it_is_made() {
    holds_up_no_other(|call| {
        let is_made = call.action == "CreateLogStream" && call.stream.contains("/sick/");
        if is_made { Action::Throttle } else { Action::Do }
    });
}

#[test]
fn a_stream_that_is_there_and_is_not_holds_up_no_other_and_is_asked_rarely() {
    holds_up_no_other(|call| match call.action {
        _ if !call.stream.contains("/sick/") => Action::Do,
        "CreateLogStream" => Action::Say("ResourceAlreadyExistsException", "It exists.".into()),
        _ => Action::Say("ResourceNotFoundException", "It does not exist.".into()),
    });
}

#[test]
fn a_stream_that_is_refused_costs_few_calls() {
    let world = World::new(|call| match call.action {
        "PutLogEvents" => Action::Say("UnheardOfException", "No.".into()),
        _ => Action::Do,
    });
    let mut web = world.node.pod("web").container("app");
    web.writes(1_000);
    let agent = world.agent("linger = \"1s\"");
    eventually(seconds(60), "a message", || {
        let said = agent.stderr();
        if said.contains("set aside and tried again") { Ok(()) } else { Err(said) }
    });
    let spoilt = world.service.seen().spoilt;
    assert!((2..100).contains(&spoilt), "{spoilt} calls for 1,000 events");
    world.service.obeys(|_| Action::Do);
    world.exactly_once(&[&web]);
}

#[test]
fn events_that_are_refused_alone_are_kept_and_the_others_of_their_stream_arrive() {
    // 64, 32, 16, 8, 4, 2, and one event, which is refused; then the one beside it, and the two behind them as a whole.
    let mut left = 9;
    let world = World::new(move |call| {
        if call.action != "PutLogEvents" || left == 0 {
            return Action::Do;
        }
        left -= 1;
        Action::Say("InvalidParameterException", "No.".into())
    });
    let mut web = world.node.pod("web").container("app");
    web.writes(64);
    let agent = world.agent("linger = \"1s\"");
    let letters = world.node.state().join("dead-letters/cw.ndjson");
    eventually(seconds(60), "dead letters and events", || {
        let kept = std::fs::read_to_string(&letters).unwrap_or_default().lines().count();
        let taken = world.service.seen().events;
        if (kept, taken) == (2, 62) { Ok(()) } else { Err(format!("{kept} kept, {taken} taken")) }
    });
    assert_eq!(agent.terminate().code, Some(0));
    assert_eq!(world.documents(&[&web]).len(), 62);
    world.clean();
}

#[test]
fn an_agent_that_is_killed_loses_nothing() {
    let mut random = fastrand::Rng::with_seed(seed());
    let world = World::new(|_| Action::Do);
    let mut containers: Vec<_> =
        (0..5).map(|n| world.node.pod(&format!("pod-{n}")).container("app")).collect();
    for _ in 0..6 {
        for container in &mut containers {
            container.writes(random.u64(50..400));
        }
        let agent = world.agent("linger = \"10ms\"");
        let_pass(std::time::Duration::from_millis(random.u64(50..900)));
        agent.kill9();
    }
    let _agent = world.agent("");
    let all: Vec<_> = containers.iter().collect();
    eventually(seconds(90), "all lines", || {
        let documents = world.documents(&all);
        let missing: usize = all.iter().map(|c| verify::faults(&documents, c).missing.len()).sum();
        if missing == 0 { Ok(()) } else { Err(format!("{missing} missing")) }
    });
    assert_eq!(world.service.seen().violations, [""; 0]);
}

#[test]
fn credentials_that_are_not_there_are_told_and_waited_for() {
    let world = World::new(|_| Action::Do);
    let mut web = world.node.pod("web").container("app");
    web.writes(10);
    let way = ["env", "-u", "AWS_ACCESS_KEY_ID", "HOME=/nonexistent", "AWS_EC2_METADATA_DISABLED=true"];
    let way = way.map(str::to_owned);
    let mut agent = taffrail_tests::agent::Agent::start_by(&way, &world.config(""), &world.node);
    eventually(seconds(60), "a message", || {
        let said = agent.stderr();
        if said.contains("no AWS credentials") { Ok(()) } else { Err(said) }
    });
    assert!(agent.runs());
    assert_eq!(world.service.seen().events, 0);
}

#[test]
fn logs_go_to_no_region_that_is_not_allowed() {
    let world = World::new(|_| Action::Do);
    let mut web = world.node.pod("web").container("app");
    web.writes(10);
    let config = world.config("allowed_regions = [\"eu-west-1\"]");
    let ended = taffrail_tests::agent::check(&config, &world.node);
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("us-east-1 is not one of `allowed_regions`"), "{}", ended.stderr);
    let config = config.replace("region = \"us-east-1\"\n", "");
    let way =
        ["env", "AWS_ACCESS_KEY_ID=A", "AWS_SECRET_ACCESS_KEY=b", "AWS_REGION=us-east-1"].map(str::to_owned);
    let agent = taffrail_tests::agent::Agent::start_by(&way, &config, &world.node);
    eventually(seconds(60), "a message", || {
        let said = agent.stderr();
        if said.contains("us-east-1 is not one of `allowed_regions`") { Ok(()) } else { Err(said) }
    });
    assert_eq!(world.service.seen().events, 0);
}

//! A service that denies, forgets and hangs up, and an agent that is killed.

use super::kit::World;
use serde_json::json;
use taffrail_tests::cloudwatch::Action;
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

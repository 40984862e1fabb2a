//! `taffrail setup cloudwatch`: the calls that it makes on an empty account, again, after a change by hand, and to remove.

use super::kit::World;
use serde_json::json;
use taffrail_tests::cloudwatch::Action;
use taffrail_tests::moto::Moto;

const SETUP: [&str; 3] = ["setup", "cloudwatch", "--yes"];
const KEY: &str = "arn:aws:kms:us-east-1:123456789012:key/1";

#[test]
fn groups_are_made_once_put_right_after_a_change_by_hand_and_removed_only_empty() {
    let world = World::new(|_| Action::Do);
    let group = world.group.clone();
    let wanted = "retention_days = 14\ntags = { team = \"infra\" }";

    let (changes, said) = world.changes(&["setup", "cloudwatch", "--plan"], wanted);
    assert!(changes.is_empty(), "a plan changes nothing: {changes:?}");
    assert!(
        said.contains(&format!("+ log group {group}\n    retention_days 14\n    tag team = infra\n")),
        "{said}"
    );
    assert!(said.contains("plan: 1 to create\n"), "{said}");

    let (changes, _) = world.changes(&SETUP, wanted);
    assert_eq!(changes, ["logs:CreateLogGroup", "logs:PutRetentionPolicy"]);
    let made = &world.service.seen().made[0];
    assert_eq!(made["tags"], json!({ "team": "infra", "taffrail:made-by": "setup" }));

    let (changes, said) = world.changes(&SETUP, wanted);
    assert!(changes.is_empty(), "again, nothing: {changes:?}");
    assert!(said.contains(&format!("= log group {group}\n")), "{said}");

    Moto::shared().call("PutRetentionPolicy", &json!({ "logGroupName": group, "retentionInDays": 1 }));
    Moto::shared()
        .call("TagLogGroup", &json!({ "logGroupName": group, "tags": { "team": "x", "other": "y" } }));
    let (changes, said) = world.changes(&SETUP, &format!("{wanted}\nkms_key = \"{KEY}\""));
    assert_eq!(changes, ["logs:PutRetentionPolicy", "logs:AssociateKmsKey", "logs:TagResource"]);
    assert!(said.contains("retention_days 1 → 14") && said.contains("tag team x → infra"), "{said}");
    assert!(world.changes(&SETUP, &format!("{wanted}\nkms_key = \"{KEY}\"")).0.is_empty());
    let (_, described) = Moto::shared().call("ListTagsLogGroup", &json!({ "logGroupName": group }));
    assert_eq!(described["tags"]["other"], "y", "tags of others are left");

    Moto::shared().call("CreateLogStream", &json!({ "logGroupName": group, "logStreamName": "s" }));
    let remove = ["setup", "cloudwatch", "--yes", "--remove"];
    let (changes, said) = world.changes(&remove, wanted);
    assert!(changes.is_empty() && said.contains("--with-logs removes it"), "{said}");
    let (changes, _) = world.changes(&["setup", "cloudwatch", "--yes", "--remove", "--with-logs"], wanted);
    assert_eq!(changes, ["logs:DeleteLogGroup"]);
    assert!(world.changes(&remove, wanted).0.is_empty(), "nothing is left to remove");
}

#[test]
fn what_others_made_is_not_removed_and_a_class_cannot_be_changed() {
    let world = World::new(|_| Action::Do);
    let group = &world.group;
    Moto::shared().call("CreateLogGroup", &json!({ "logGroupName": group }));
    let (changes, said) = world.changes(&["setup", "cloudwatch", "--yes", "--remove", "--with-logs"], "");
    assert!(changes.is_empty() && said.contains("not made by `taffrail setup`, left"), "{said}");
    let ended = world.runs(&SETUP, "class = \"infrequent_access\"");
    assert_eq!(ended.code, Some(1), "{}", ended.stdout);
    assert!(
        ended.stdout.contains("! log group") && ended.stdout.contains("it can never be changed"),
        "{}",
        ended.stdout
    );
}

#[test]
fn a_group_that_only_looks_like_one_of_a_template_is_left_as_it_is_unless_it_has_the_mark() {
    let world = World::new(|_| Action::Do);
    let (theirs, ours) = (format!("{}/theirs", world.group), format!("{}/ours", world.group));
    Moto::shared().call("CreateLogGroup", &json!({ "logGroupName": theirs }));
    let mark = json!({ "logGroupName": ours, "tags": { "taffrail:made-by": "agent" } });
    Moto::shared().call("CreateLogGroup", &mark);
    let config = format!("log_group = \"{}/{{namespace}}\"\nretention_days = 14", world.group);
    let (changes, said) = world.changes(&SETUP, &config);
    assert_eq!(changes, ["logs:PutRetentionPolicy"], "{said}");
    assert!(said.contains(&format!("log group {theirs}: left as it is: not made by Taffrail")), "{said}");
    assert!(said.contains(&format!("~ log group {ours}\n")), "{said}");
}

#[test]
fn nothing_is_done_unasked_and_what_is_denied_comes_with_the_statement_to_add() {
    let world = World::new(|call| if call.action == "CreateLogGroup" { Action::Deny } else { Action::Do });
    let ended = world.runs(&["setup", "cloudwatch"], "");
    assert_eq!(ended.code, Some(2), "no terminal, and no --yes: {}", ended.stderr);
    assert!(ended.stderr.contains("say --yes to do it"), "{}", ended.stderr);
    let ended = world.runs(&SETUP, "");
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    let arn = format!("arn:aws:logs:us-east-1:123456789012:log-group:{}:log-stream:", world.group);
    let statement = format!(r#"{{"Action":"logs:CreateLogGroup","Effect":"Allow","Resource":"{arn}"}}"#);
    assert!(ended.stderr.contains(&format!("not allowed: logs:CreateLogGroup on {arn}")), "{}", ended.stderr);
    assert!(ended.stderr.contains(&statement), "{}", ended.stderr);
}

#[test]
fn a_plan_says_what_a_month_costs_at_the_prices_given() {
    let world = World::new(|_| Action::Do);
    let plan = ["setup", "cloudwatch", "--plan", "--gb-per-day", "10", "--price-standard", "2"];
    let (_, said) = world.changes(&plan, "retention_days = 30");
    let line = said.lines().find(|line| line.contains("taken in, 300 GB")).unwrap_or(&said);
    assert!(line.ends_with(" 600.00"), "{said}");
}

//! `taffrail setup subscription`: the calls that it makes on an empty account, again, after a change by hand, and to remove; and
//! the filters that the agent puts on groups which it makes.

use super::kit::World;
use flate2::read::MultiGzDecoder;
use serde_json::{Value, json};
use std::io::Read;
use taffrail_tests::cloudwatch::{Action, Call};
use taffrail_tests::http::{self, Request};
use taffrail_tests::moto::Moto;
use taffrail_tests::{eventually, seconds};

const SETUP: [&str; 3] = ["setup", "subscription", "--yes"];
const REMOVE: [&str; 4] = ["setup", "subscription", "--yes", "--remove"];
const AUDIT: [&str; 3] = ["setup", "subscription", "--audit"];

/// A stream of moto's that is nobody else's: its ARN.
fn stream() -> String {
    let name = format!("logs-{:08x}", fastrand::u32(..));
    let signed = "AWS4-HMAC-SHA256 Credential=TEST/20261124/us-east-1/kinesis/aws4_request, SignedHeaders=host, Signature=0";
    let headers = [
        ("content-type", "application/x-amz-json-1.1"),
        ("x-amz-target", "Kinesis_20131202.CreateStream"),
        ("authorization", signed),
    ];
    let request = Request {
        method: "POST".into(),
        target: "/".into(),
        headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        body: json!({ "StreamName": name, "ShardCount": 1 }).to_string().into_bytes(),
    };
    let reply = http::forward(Moto::shared().address(), &request).expect("moto answers");
    assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.body));
    format!("arn:aws:kinesis:us-east-1:123456789012:stream/{name}")
}

/// The table, behind further lines for the output.
fn subscribed(output: &str, to: &str, rest: &str) -> String {
    format!("{output}\n[outputs.cw.subscription]\nto = \"{to}\"\n{rest}")
}

fn filters(group: &str) -> Vec<Value> {
    let (_, reply) = Moto::shared().call("DescribeSubscriptionFilters", &json!({ "logGroupName": group }));
    reply["subscriptionFilters"].as_array().cloned().unwrap_or_default()
}

#[test]
fn to_kinesis_it_makes_role_group_and_filter_once_puts_them_right_and_takes_them_away() {
    let world = World::new(|_| Action::Do);
    let (group, to) = (world.group.clone(), stream());
    let config = subscribed("retention_days = 7", &to, "");

    let (changes, said) = world.changes(&SETUP, &config);
    assert_eq!(
        changes,
        [
            "iam:CreateRole",
            "iam:PutRolePolicy",
            "logs:CreateLogGroup",
            "logs:PutRetentionPolicy",
            "logs:PutSubscriptionFilter"
        ],
        "{said}"
    );
    let filter = &filters(&group)[0];
    assert_eq!((&filter["destinationArn"], &filter["filterName"]), (&json!(to), &json!("taffrail")));
    let role = filter["roleArn"].as_str().expect("a role");
    assert!(role.starts_with("arn:aws:iam::123456789012:role/taffrail-logs-us-east-1-"), "{role}");
    let (changes, said) = world.changes(&SETUP, &config);
    assert!(
        changes.is_empty() && said.contains("plan: 3 as it should be"),
        "again, nothing: {changes:?} {said}"
    );
    assert_eq!(world.runs(&AUDIT, &config).code, Some(0));

    // Somebody takes the filter away and puts one of his own.
    let other = stream();
    Moto::shared()
        .call("DeleteSubscriptionFilter", &json!({ "logGroupName": group, "filterName": "taffrail" }));
    let foreign = json!({ "logGroupName": group, "filterName": "theirs", "filterPattern": "", "destinationArn": other, "roleArn": role });
    Moto::shared().call("PutSubscriptionFilter", &foreign);
    let audit = world.runs(&AUDIT, &config);
    assert_eq!(audit.code, Some(1), "{}", audit.stdout);
    assert!(audit.stdout.contains(&format!("! not subscribed: {group} ")), "{}", audit.stdout);
    let (changes, said) = world.changes(&SETUP, &config);
    assert_eq!(changes, ["logs:PutSubscriptionFilter"]);
    assert!(said.contains("subscription filter theirs of") && said.contains("not ours, left"), "{said}");

    let (changes, said) = world.changes(&REMOVE, &config);
    assert_eq!(
        changes,
        ["logs:DeleteSubscriptionFilter", "iam:DeleteRolePolicy", "iam:DeleteRole"],
        "{said}"
    );
    assert_eq!(filters(&group).len(), 1, "the other's stays");
    assert!(world.changes(&REMOVE, &config).0.is_empty(), "nothing is left to remove");
}

#[test]
fn to_firehose_it_makes_role_and_filter_and_what_the_agent_writes_is_in_its_bucket() {
    let world = World::new(|_| Action::Do);
    let (group, moto) = (world.group.clone(), Moto::shared());
    let name = format!("logs-{:08x}", fastrand::u32(..));
    moto.make_bucket(&name);
    let to = moto.make_firehose(&name, &name, "taken/");
    let config = subscribed("", &to, "");
    let (changes, said) = world.changes(&SETUP, &config);
    let wanted = ["iam:CreateRole", "iam:PutRolePolicy", "logs:CreateLogGroup", "logs:PutSubscriptionFilter"];
    assert_eq!(changes, wanted, "{said}");
    assert_eq!(filters(&group)[0]["destinationArn"], json!(to));
    assert!(world.changes(&SETUP, &config).0.is_empty(), "again, nothing");
    assert_eq!(world.runs(&AUDIT, &config).code, Some(0));

    let mut web = world.node.pod("web").container("app");
    web.writes(20);
    let agent = world.agent(&config);
    let found = eventually(seconds(60), "subscription records in the bucket", || {
        let objects = moto.objects(&name);
        let texts: String = objects.iter().map(|(_, packed)| unpacked(packed)).collect();
        let lines = texts.matches("\"message\"").count();
        if lines >= 20 { Ok((objects, texts)) } else { Err(format!("{} objects: {texts}", objects.len())) }
    });
    let (objects, texts) = found;
    assert!(objects.iter().all(|(key, _)| key.starts_with("taken/")), "{objects:?}");
    assert!(texts.contains(&format!("\"logGroup\":\"{group}\"")), "{texts}");
    assert_eq!(agent.terminate().code, Some(0));

    let (changes, said) = world.changes(&REMOVE, &config);
    let wanted = ["logs:DeleteSubscriptionFilter", "iam:DeleteRolePolicy", "iam:DeleteRole"];
    assert_eq!(changes, wanted, "{said}");
}

/// The texts of an object that is one or several gzips, one behind the other.
fn unpacked(packed: &[u8]) -> String {
    let mut text = String::new();
    let read = MultiGzDecoder::new(packed).read_to_string(&mut text);
    read.map(|_| text).unwrap_or_else(|error| format!("({error})"))
}

#[test]
fn a_filter_that_leads_elsewhere_or_is_spread_otherwise_is_changed() {
    let world = World::new(|_| Action::Do);
    let (one, two) = (stream(), stream());
    world.changes(&SETUP, &subscribed("", &one, ""));
    let (changes, said) = world.changes(&SETUP, &subscribed("", &one, "distribution = \"by_log_stream\""));
    assert_eq!(changes, ["logs:PutSubscriptionFilter"]);
    assert!(said.contains("distribution Random → ByLogStream"), "{said}");
    let (changes, said) = world.changes(&SETUP, &subscribed("", &two, "filter_pattern = \"ERROR\""));
    assert_eq!(changes, ["iam:CreateRole", "iam:PutRolePolicy", "logs:PutSubscriptionFilter"], "{said}");
    assert!(
        said.contains(&format!("to {one} → {two}")) && said.contains("filter_pattern none → ERROR"),
        "{said}"
    );
}

#[test]
fn to_lambda_it_gives_one_permission_for_all_groups_with_the_beginning_of_the_template() {
    let world = World::new(|_| Action::Do);
    let function = "arn:aws:lambda:us-east-1:123456789012:function:taffrail-forwarder";
    let beginning = world.group.clone();
    let template = format!("log_group = \"{beginning}/{{namespace}}\"");
    Moto::shared().call("CreateLogGroup", &json!({ "logGroupName": format!("{beginning}/shop") }));
    Moto::shared().call("CreateLogGroup", &json!({ "logGroupName": format!("{beginning}/a/b") }));
    let config = subscribed(&template, function, "");
    let (changes, said) = world.changes(&SETUP, &config);
    assert_eq!(
        changes,
        ["lambda:AddPermission", "logs:PutSubscriptionFilter"],
        "only the template's: {said}"
    );
    assert!(
        said.contains(&format!("calls it for arn:aws:logs:us-east-1:123456789012:log-group:{beginning}/*")),
        "{said}"
    );
    assert!(world.changes(&SETUP, &config).0.is_empty(), "again, nothing");

    // A group that comes later by other means than the agent.
    Moto::shared().call("CreateLogGroup", &json!({ "logGroupName": format!("{beginning}/bank") }));
    let audit = world.runs(&AUDIT, &config);
    assert!(
        audit.code == Some(1) && audit.stdout.contains("1 of 2 log groups are subscribed"),
        "{}",
        audit.stdout
    );
    assert_eq!(world.changes(&SETUP, &config).0, ["logs:PutSubscriptionFilter"]);
    let (changes, _) = world.changes(&REMOVE, &config);
    assert_eq!(
        changes,
        ["logs:DeleteSubscriptionFilter", "logs:DeleteSubscriptionFilter", "lambda:RemovePermission"]
    );
}

/// The policy is kept by a stand-in: moto has none.
#[test]
fn a_policy_of_the_account_leaves_out_the_pipelines_own_groups_and_replaces_filters() {
    let world = World::new(|_| Action::Do);
    let to = stream();
    let by_group = subscribed("", &to, "");
    let by_account = subscribed("", &to, "scope = \"account\"\nexclude = [\"/noise\"]");
    world.changes(&SETUP, &by_group);
    let (changes, said) = world.changes(&SETUP, &by_account);
    assert_eq!(changes, ["logs:PutAccountPolicy", "logs:DeleteSubscriptionFilter"], "{said}");
    assert!(said.contains(r#"LogGroupName NOT IN ["/aws/lambda/taffrail-forwarder","/aws/lambda/taffrail-forwarder-test","/noise"]"#), "{said}");
    assert!(world.changes(&SETUP, &by_account).0.is_empty(), "again, nothing");
    assert_eq!(world.runs(&AUDIT, &by_account).code, Some(0));
    let (changes, said) = world.changes(&SETUP, &subscribed("", &to, "scope = \"account\""));
    assert_eq!(changes, ["logs:PutAccountPolicy"], "{said}");
    let (changes, said) = world.changes(&SETUP, &by_group);
    assert_eq!(changes, ["logs:PutSubscriptionFilter"], "{said}");
    assert!(said.contains("left; remove it with --remove where scope = \"account\""), "{said}");
    world.changes(&SETUP, &by_account);
    let (changes, _) = world.changes(&REMOVE, &by_account);
    assert_eq!(changes, ["logs:DeleteAccountPolicy", "iam:DeleteRolePolicy", "iam:DeleteRole"]);
}

#[test]
fn other_accounts_subscribe_to_a_destination_that_names_them() {
    let world = World::new(|_| Action::Do);
    let name = format!("shared-{:08x}", fastrand::u32(..));
    let rest = |senders: &str| format!("name = \"{name}\"\nsenders = [{senders}]");
    let to = stream();
    let one = subscribed("", &to, &rest("\"222222222222\""));
    let (changes, said) = world.changes(&SETUP, &one);
    let all = ["iam:CreateRole", "iam:PutRolePolicy", "logs:PutDestination", "logs:PutDestinationPolicy"];
    assert_eq!(changes, all, "{said}");
    assert!(world.changes(&SETUP, &one).0.is_empty(), "again, nothing");
    let two = subscribed("", &to, &rest("\"222222222222\", \"333333333333\""));
    let (changes, said) = world.changes(&SETUP, &two);
    assert_eq!(changes, ["iam:UpdateAssumeRolePolicy", "logs:PutDestinationPolicy"], "{said}");
    let (changes, _) = world.changes(&REMOVE, &two);
    assert_eq!(changes, ["logs:DeleteDestination", "iam:DeleteRolePolicy", "iam:DeleteRole"]);

    // The other side: a filter that leads there, without a role.
    let there = format!("arn:aws:logs:us-east-1:999999999999:destination:{name}");
    let (changes, said) = world.changes(&SETUP, &subscribed("", &there, ""));
    assert_eq!(changes, ["logs:CreateLogGroup", "logs:PutSubscriptionFilter"], "{said}");
}

#[test]
fn a_role_that_may_not_be_passed_and_a_group_that_is_full_are_told_in_words() {
    let role = "arn:aws:iam::123456789012:role/mine";
    let pass = format!(
        "User: arn:aws:iam::123456789012:user/me is not authorized to perform: iam:PassRole on resource: {role} because no identity-based policy allows the iam:PassRole action"
    );
    let full = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let is_full = full.clone();
    let world = World::new(move |call: &Call<'_>| match call.action {
        "PutSubscriptionFilter" if is_full.load(std::sync::atomic::Ordering::SeqCst) => {
            Action::Say("LimitExceededException", "Resource limit exceeded.".into())
        }
        "PutSubscriptionFilter" => Action::Say("AccessDeniedException", pass.clone()),
        _ => Action::Do,
    });
    let to = stream();
    let config = subscribed("", &to, &format!("role = \"{role}\""));
    let ended = world.runs(&SETUP, &config);
    assert_eq!(ended.code, Some(1), "{}", ended.stdout);
    assert!(ended.stderr.contains(&format!("not allowed: iam:PassRole on {role}")), "{}", ended.stderr);
    assert!(ended.stderr.contains("iam:PassedToService"), "{}", ended.stderr);
    full.store(true, std::sync::atomic::Ordering::SeqCst);
    let foreign = json!({ "logGroupName": world.group, "filterName": "theirs", "filterPattern": "", "destinationArn": to, "roleArn": role });
    Moto::shared().call("PutSubscriptionFilter", &foreign);
    let ended = world.runs(&SETUP, &config);
    assert!(
        ended.code == Some(1)
            && ended.stderr.contains(&format!("has as many subscription filters as it may (theirs to {to})")),
        "{}",
        ended.stderr
    );
}

#[test]
fn groups_that_the_agent_makes_have_the_filter_before_their_first_event() {
    let world = World::new(|_| Action::Do);
    let to = stream();
    let mut shop = world.node.pod("web").namespace("shop").container("app");
    let mut bank = world.node.pod("web").namespace("bank").container("app");
    shop.writes(10);
    bank.writes(10);
    let config = subscribed(&format!("log_group = \"{}/{{namespace}}\"", world.group), &to, "");
    let agent = world.agent(&config);
    world.takes(20);
    let filter = |namespace: &str| filters(&format!("{}/{namespace}", world.group));
    eventually(seconds(30), "both filters", || {
        let found = [filter("shop"), filter("bank")].concat();
        if found.len() == 2 { Ok(()) } else { Err(format!("{found:?}\n{}", agent.stderr())) }
    });
    let log: Vec<String> =
        world.clean().log.into_iter().filter(|call| call != "logs:CreateLogStream").collect();
    let pair = ["logs:CreateLogGroup", "logs:PutSubscriptionFilter"];
    let mut sorted = log.clone();
    sorted.sort();
    assert_eq!(sorted, [pair[0], pair[0], pair[1], pair[1]], "{log:?}");
    assert_eq!(world.runs(&AUDIT, &config).code, Some(0), "nothing is left for set-up but the role");
    assert_eq!(agent.terminate().code, Some(0));
}

//! `taffrail setup dashboards` against the stand-in of Kibana: what it makes, that it makes it once, and what it says of trouble.

use serde_json::{Value, json};
use taffrail_tests::agent::{Ended, run_by};
use taffrail_tests::kibana::{KEY, Kibana, Manner};
use taffrail_tests::node::Node;
use taffrail_tests::terminal::{left_on_screen, on_a_terminal};

const DASHBOARDS: usize = 7;

/// Runs it against a stand-in, with these arguments besides.
fn run(kibana: &Kibana, arguments: &[&str]) -> Ended {
    run_as(&[], kibana, arguments, "")
}

fn run_as(way: &[&str], kibana: &Kibana, arguments: &[&str], config: &str) -> Ended {
    let url = kibana.url();
    let named = arguments.contains(&"--kibana");
    let all = ["setup", "dashboards", "--kibana", &url];
    let way: Vec<String> = way.iter().map(|&word| word.to_owned()).collect();
    let node = Node::new();
    if named {
        run_by(&way, &[&all[..2], arguments].concat(), config, &node)
    } else {
        run_by(&way, &[&all[..], arguments].concat(), config, &node)
    }
}

#[track_caller]
fn says(ended: &Ended, code: i32, what: &[&str]) {
    let said = format!("{}{}", ended.stdout, ended.stderr);
    assert_eq!(ended.code, Some(code), "{said}");
    for what in what {
        assert!(said.contains(what), "{what:?} is not in: {said}");
    }
}

#[test]
fn they_are_made_once_and_removed() {
    for manner in [
        Manner::kibana("7.10.2"),
        Manner::kibana("8.19.0"),
        Manner::opensearch("2.19.0"),
        Manner::opensearch("1.3.0"),
    ] {
        let product = if manner.opensearch { "OpenSearch Dashboards" } else { "Kibana" };
        let title = format!("{product} {}\n", manner.version);
        let kibana = Kibana::open(manner);
        says(&run(&kibana, &["--plan"]), 0, &[&title, "+ dashboard Overview", "plan: 8 to create\n"]);
        assert!(kibana.changes().is_empty(), "a plan changes nothing");

        says(&run(&kibana, &["--yes"]), 0, &["done: 8 of 8\n"]);
        assert_eq!(kibana.ids("", "dashboard").len(), DASHBOARDS);
        assert_eq!(kibana.changes().len(), 8);

        says(&run(&kibana, &["--yes"]), 0, &["plan: 8 as it should be\n"]);
        assert!(kibana.changes().is_empty(), "the second time nothing is changed");

        says(
            &run(&kibana, &["--yes", "--remove"]),
            0,
            &["- dashboard taffrail-overview: Taffrail: Overview"],
        );
        assert_eq!(kibana.count(), 0);
        says(&run(&kibana, &["--yes", "--remove"]), 0, &["plan: nothing\n"]);
    }
}

#[test]
fn steps_are_drawn_on_a_terminal_and_nothing_of_that_is_left_and_elsewhere_there_is_none() {
    let kibana = Kibana::open(Manner { fails: vec!["taffrail-http-paths"], ..Manner::kibana("8.19.0") });
    let plain = run(&kibana, &["--yes"]);
    assert!(!format!("{}{}", plain.stdout, plain.stderr).contains(['\u{1b}', '\r']), "{plain:?}");
    assert!(
        plain.stderr.starts_with("error: + dashboard HTTP") && plain.stderr.lines().count() == 1,
        "{plain:?}"
    );

    let kibana = Kibana::open(Manner { fails: vec!["taffrail-http-paths"], ..Manner::kibana("8.19.0") });
    let way = on_a_terminal();
    let way: Vec<&str> = way.iter().map(String::as_str).collect();
    let ended = run_as(&way, &kibana, &["--yes"], "");
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stdout.contains("] 0 of 8, 0s: + index patterns logs-*"), "{ended:?}");
    // On the screen are the same lines, with the error where it came.
    let left = left_on_screen(&ended.stdout);
    let (error, before) = (plain.stderr.trim_end(), plain.stdout.lines().count() - 1);
    let mut wanted: Vec<&str> = plain.stdout.lines().collect();
    wanted.insert(before, error);
    assert_eq!(left, wanted);
}

#[test]
fn without_a_yes_nothing_is_changed() {
    let kibana = Kibana::open(Manner::kibana("8.19.0"));
    says(&run(&kibana, &[]), 2, &["plan: 8 to create", "nothing was changed; say --yes to do it"]);
    assert_eq!(kibana.count(), 0);
}

#[test]
fn what_somebody_changed_is_told_and_what_is_not_ours_is_left() {
    let kibana = Kibana::open(Manner::kibana("8.19.0"));
    says(&run(&kibana, &["--yes"]), 0, &[]);
    let of_others = |id: &str| {
        kibana.edits("dashboard", id, 0, |attributes| *attributes = json!({ "title": "Mine of Taffrail" }))
    };
    of_others("my-own");
    of_others("taffrail-of-a-colleague");
    kibana.edits("dashboard", "taffrail-errors", 3600, |attributes| attributes["panelsJSON"] = json!("[]"));
    // What Kibana itself notes in a pattern is nobody's change.
    kibana.edits("index-pattern", "taffrail-logs", 3600, |attributes| attributes["fields"] = json!("[{}]"));

    let told =
        "dashboard taffrail-errors (Taffrail: Errors) was changed by somebody since: that is overwritten";
    says(&run(&kibana, &["--plan"]), 0, &[told, "plan: 1 to change, 7 as it should be\n"]);
    kibana.changes();
    says(&run(&kibana, &["--yes"]), 0, &[told, "done: 1 of 1\n"]);
    assert_eq!(kibana.changes().len(), 1);
    says(&run(&kibana, &["--yes"]), 0, &["plan: 8 as it should be\n"]);

    says(
        &run(&kibana, &["--yes", "--remove"]),
        0,
        &["taffrail-of-a-colleague: Mine of Taffrail: left as it is: not made by Taffrail"],
    );
    assert_eq!(kibana.ids("", "dashboard"), ["my-own", "taffrail-of-a-colleague"]);
    assert_eq!(kibana.count(), 2);
}

#[test]
fn what_others_have_added_to_our_index_patterns_is_kept_and_told() {
    for manner in [Manner::kibana("8.19.0"), Manner::kibana("7.10.2"), Manner::opensearch("2.19.0")] {
        let data_views = manner.version == "8.19.0";
        let kibana = Kibana::open(manner);
        says(&run(&kibana, &["--yes"]), 0, &[]);
        let ours = kibana.attributes("index-pattern", "taffrail-logs");
        let fields = json!([
            { "name": "message", "type": "string", "count": 3 },
            { "name": "hour", "type": "number", "scripted": true, "script": "doc['@timestamp'].value.hour" },
        ]);
        kibana.edits("index-pattern", "taffrail-logs", 3600, |attributes| {
            attributes["fields"] = json!(fields.to_string());
            let mut formats: Value = serde_json::from_str(ours["fieldFormatMap"].as_str().unwrap()).unwrap();
            formats["app.price"] = json!({ "id": "number", "params": { "pattern": "0.00" } });
            attributes["fieldFormatMap"] = json!(formats.to_string());
            attributes["sourceFilters"] = json!("[{\"value\":\"app.secret*\"}]");
            if data_views {
                attributes["runtimeFieldMap"] = json!("{\"shop.day\":{\"type\":\"keyword\"}}");
                attributes["fieldAttrs"] = json!("{\"app.user\":{\"customLabel\":\"who\",\"count\":2}}");
                attributes["name"] = json!("our logs");
            }
        });
        let before = kibana.attributes("index-pattern", "taffrail-logs");
        says(&run(&kibana, &["--yes"]), 0, &["plan: 8 as it should be\n"]);

        let renamed = ["--index-pattern", "prod-*", "--yes"];
        let told = run(&kibana, &renamed);
        says(&told, 0, &["title is \"logs-*\", and will be \"prod-*\"", "done:"]);
        let more = if data_views { "runtime fields shop.day; " } else { "" };
        let kept = format!(
            "    index-pattern taffrail-logs: kept as they are: scripted fields hour; {more}formats of app.price"
        );
        says(&told, 0, &[&kept]);
        assert_eq!(told.stdout.contains("; labels of app.user\n"), data_views, "{}", told.stdout);
        let after = kibana.attributes("index-pattern", "taffrail-logs");
        let mut wanted = before;
        wanted["title"] = json!("prod-*");
        let parse = |key: &str, value: &mut Value| {
            let text = value[key].take();
            serde_json::from_str::<Value>(text.as_str().unwrap()).unwrap()
        };
        let mut after = after;
        assert_eq!(parse("fieldFormatMap", &mut after), parse("fieldFormatMap", &mut wanted));
        assert_eq!(after, wanted);
        says(&run(&kibana, &renamed), 0, &["plan: 8 as it should be\n"]);
    }
}

#[test]
fn other_indices_are_a_change_and_what_is_missing_comes_back() {
    let kibana = Kibana::open(Manner::opensearch("2.19.0"));
    says(&run(&kibana, &["--yes"]), 0, &[]);
    let there = r#"index-pattern taffrail-logs: title is "logs-*", and will be "prod-*""#;
    says(&run(&kibana, &["--plan", "--index-pattern", "prod-*"]), 0, &[there]);
    says(&run(&kibana, &["--yes", "--index-pattern", "prod-*"]), 0, &["done:"]);
    says(&run(&kibana, &["--plan", "--index-pattern", "prod-*"]), 0, &["plan: 8 as it should be\n"]);
}

#[test]
fn a_space_has_objects_of_its_own() {
    let kibana = Kibana::open(Manner { spaces: vec!["ops"], ..Manner::kibana("8.19.0") });
    says(&run(&kibana, &["--yes"]), 0, &["done: 8 of 8\n"]);
    says(&run(&kibana, &["--yes", "--space", "ops"]), 0, &["done: 8 of 8\n"]);
    assert_eq!(kibana.ids("ops", "dashboard").len(), DASHBOARDS);
    assert!(kibana.ids("ops", "dashboard").iter().all(|id| id.starts_with("taffrail-ops-")));
    says(&run(&kibana, &["--yes", "--space", "ops", "--remove"]), 0, &[]);
    assert_eq!((kibana.ids("ops", "dashboard").len(), kibana.ids("", "dashboard").len()), (0, DASHBOARDS));
    says(
        &run(&kibana, &["--yes", "--space", "nowhere"]),
        1,
        &["there is no space `nowhere`: make it in Kibana"],
    );
    says(&run(&kibana, &["--yes", "--space", "../api"]), 1, &["`../api` cannot be a space"]);
    let kibana = Kibana::open(Manner::opensearch("2.19.0"));
    says(&run(&kibana, &["--space", "ops"]), 1, &["OpenSearch Dashboards has no spaces"]);
    // As a file they are the same objects.
    let node = Node::new();
    let printed = |space: &str| {
        let ended = run_by(&[], &["setup", "dashboards", "--print", "--space", space], "", &node);
        let ids = ended.stdout.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        let ids: Vec<String> = ids.map(|object| object["id"].as_str().expect("an id").to_owned()).collect();
        assert!(ended.code == Some(0) && ids.len() > 40, "{}", ended.stderr);
        ids
    };
    assert!(printed("ops").iter().all(|id| id.starts_with("taffrail-ops-")));
    assert!(!printed("default").iter().any(|id| id.starts_with("taffrail-default-")));
    let arguments = ["setup", "dashboards", "--print", "--tenant", "global"];
    says(&run_by(&[], &arguments, "", &node), 2, &["'--print' cannot be used with"]);
}

#[test]
fn a_tenant_is_refused_where_there_are_none() {
    let kibana = Kibana::open(Manner::kibana("8.19.0"));
    let told = "Kibana has no tenants: leave --tenant out, and see --space";
    says(&run(&kibana, &["--yes", "--tenant", "global"]), 1, &[told]);
    assert_eq!(kibana.count(), 0);
    // Open Distro's was Kibana 7.10, without spaces.
    let kibana = Kibana::open(Manner { tenant: Some("global"), ..Manner::kibana("7.10.2") });
    says(&run(&kibana, &["--yes", "--tenant", "global"]), 0, &["done: 8 of 8\n"]);
}

#[test]
fn what_another_version_has_made_is_removed_too_among_many_objects_of_others() {
    let kibana = Kibana::open(Manner::kibana("8.19.0"));
    says(&run(&kibana, &["--yes"]), 0, &[]);
    let mark = "Made by taffrail setup dashboards, 00000000";
    kibana.edits("visualization", "taffrail-errors-of-old", 0, |attributes| {
        *attributes = json!({ "title": "renamed by somebody", "description": mark });
    });
    for number in 0..600 {
        kibana.edits("visualization", &format!("of-others-{number}"), 0, |attributes| {
            *attributes = json!({ "title": format!("Mine of Taffrail {number}") });
        });
    }
    says(
        &run(&kibana, &["--yes", "--remove"]),
        0,
        &["- visualization taffrail-errors-of-old: renamed by somebody"],
    );
    assert_eq!(kibana.count(), 600);
}

#[test]
fn who_asks_is_said_as_for_an_output() {
    let basic = r#"{ type = "basic", username = "elastic", password = { env = "PASSWORD" } }"#;
    let api_key = r#"{ type = "api_key", key = { env = "PASSWORD" } }"#;
    for (auth, header) in [(basic, "Basic ZWxhc3RpYzpodW50ZXIy"), (api_key, "ApiKey hunter2")] {
        let kibana = Kibana::open(Manner { authorization: Some(header), ..Manner::kibana("8.19.0") });
        let ended = run_as(&["env", "PASSWORD=hunter2"], &kibana, &["--yes", "--auth", auth], "");
        says(&ended, 0, &["done: 8 of 8\n"]);
        let wrong = run_as(&["env", "PASSWORD=other"], &kibana, &["--yes", "--auth", auth], "");
        says(&wrong, 1, &["answered 401 Unauthorized", "say who asks by --auth, or by --output"]);
        assert!(!format!("{}{}", wrong.stdout, wrong.stderr).contains("other"), "a secret is shown nowhere");

        let config = format!(
            "[outputs.search]\ntype = \"elasticsearch\"\nendpoints = [\"http://localhost:9200\"]\nindex = \"logs\"\nauth = {auth}\n"
        );
        let as_output =
            run_as(&["env", "PASSWORD=hunter2"], &kibana, &["--yes", "--output", "search"], &config);
        says(&as_output, 0, &["plan: 8 as it should be\n"]);
        let as_nobody = run_as(&[], &kibana, &["--yes", "--output", "serch"], &config);
        says(&as_nobody, 2, &["there is no output `serch` in the configuration"]);
    }
    let kibana = Kibana::open(Manner::kibana("8.19.0"));
    says(&run(&kibana, &["--auth", "basic"]), 2, &["`auth = \"basic\"` does not say with what"]);
    says(&run(&kibana, &["--ca-file", "/nowhere/ca.pem", "--plan"]), 2, &["tls"]);
}

#[test]
fn amazons_dashboards_are_asked_below_their_path_signed_and_as_a_tenant() {
    let kibana = Kibana::open(Manner {
        base: "/_dashboards",
        authorization: Some("AWS4"),
        tenant: Some("global"),
        ..Manner::opensearch("2.19.0")
    });
    let url = format!("{}/_dashboards/", kibana.url());
    let (id, secret) = (format!("AWS_ACCESS_KEY_ID={}", KEY.0), format!("AWS_SECRET_ACCESS_KEY={}", KEY.1));
    let way = ["env", &id, &secret, "AWS_REGION=ap-northeast-1", "AWS_EC2_METADATA_DISABLED=true"];
    let arguments = ["--kibana", &url, "--auth", "aws", "--tenant", "global", "--yes"];
    says(&run_as(&way, &kibana, &arguments, ""), 0, &["OpenSearch Dashboards 2.19.0", "done: 8 of 8\n"]);
    says(&run_as(&way, &kibana, &arguments, ""), 0, &["plan: 8 as it should be\n"]);
    says(&run_as(&way, &kibana, &[&arguments[..], &["--remove"]].concat(), ""), 0, &[]);
    assert_eq!(kibana.count(), 0);
    says(
        &run_as(&way, &kibana, &arguments[..4], ""),
        1,
        &["403 Forbidden", "no permissions for this tenant"],
    );
    let top = kibana.url();
    let above = [&["--kibana", &*top], &arguments[2..]].concat();
    says(&run_as(&way, &kibana, &above, ""), 1, &["no Kibana under this path", "_dashboards"]);
}

#[test]
fn what_is_too_large_for_one_upload_goes_in_several() {
    let kibana = Kibana::open(Manner { max_payload: 12_000, ..Manner::kibana("8.19.0") });
    says(&run(&kibana, &["--yes"]), 0, &["done: 8 of 8\n"]);
    assert!(kibana.changes().len() > 12, "several uploads for a dashboard");
    says(&run(&kibana, &["--yes"]), 0, &["plan: 8 as it should be\n"]);
    let kibana = Kibana::open(Manner { max_payload: 1_000, ..Manner::kibana("8.19.0") });
    says(&run(&kibana, &["--yes"]), 1, &["413", "raise savedObjects.maxImportPayloadBytes"]);
}

#[test]
fn each_object_that_is_refused_is_told_and_the_next_time_it_is_made() {
    let mut manner = Manner { fails: vec!["taffrail-http-paths"], ..Manner::kibana("8.19.0") };
    let kibana = Kibana::open(manner.clone());
    let told = "error: + dashboard HTTP: Access logs, of routes that say how they are parsed";
    let ended = run(&kibana, &["--yes"]);
    says(
        &ended,
        1,
        &[told, "visualization taffrail-http-paths: unknown: an internal error occurred", "done: 7 of 8\n"],
    );
    says(&run(&kibana, &["--plan"]), 0, &["1 are missing", "plan: 1 to change, 7 as it should be\n"]);

    manner.fails.clear();
    manner.lacks = vec!["index-pattern"];
    let kibana = Kibana::open(manner.clone());
    let ended = run(&kibana, &["--yes"]);
    says(&ended, 1, &["index-pattern taffrail-logs: this server has no such type of object"]);
    says(
        &ended,
        1,
        &["visualization taffrail-overview-levels: it names index-pattern taffrail-logs, which is not there"],
    );

    manner.lacks.clear();
    let kibana = Kibana::open(Manner { read_only: true, ..manner });
    let ended = run(&kibana, &["--yes"]);
    says(&ended, 1, &["403 Forbidden", "needs the right to manage saved objects", "done: 0 of 8\n"]);
}

#[test]
fn what_is_not_kibana_or_too_old_is_told_before_anything_is_sent() {
    use taffrail_tests::http::Reply;
    use taffrail_tests::proxy::{Action, Proxy};
    let old = Kibana::open(Manner::kibana("7.9.3"));
    says(&run(&old, &["--yes"]), 1, &["is Kibana 7.9.3: it takes 7.10 or later"]);
    assert!(old.changes().is_empty());

    let answers = |status: u16, body: Value| {
        let mut reply = Reply::json(status, &body);
        if status == 302 {
            reply.headers.push(("location".into(), "/login".into()));
        }
        Proxy::open(([127, 0, 0, 1], 1).into(), move |_, _| Action::Answer(reply.clone())).spoils_all()
    };
    let search = json!({ "error": "no handler found for uri [/api/status] and method [GET]" });
    for (status, body, what) in [
        (400, search, "is Elasticsearch or OpenSearch itself: --kibana wants the address of Kibana"),
        (404, json!({ "statusCode": 404 }), "has no Kibana under this path"),
        (200, json!({ "hello": "world" }), "is neither Kibana nor OpenSearch Dashboards"),
        (503, json!({ "message": "Kibana server is not ready yet" }), "is it still starting?"),
        (302, json!({}), "redirects are not followed; name the right place in --kibana"),
    ] {
        let proxy = answers(status, body);
        let url = format!("http://{}", proxy.address());
        says(&run(&old, &["--kibana", &url, "--yes"]), 1, &[what]);
    }
    says(&run(&old, &["--kibana", "http://127.0.0.1:1"]), 1, &["cannot connect"]);
    says(&run(&old, &["--kibana", "localhost:5601"]), 2, &["--kibana, --auth and --ca-file"]);
    let pasted = format!("{}/app/home#/", old.url());
    says(&run(&old, &["--kibana", &pasted]), 2, &["--kibana wants the address as it is before `/app`"]);
}

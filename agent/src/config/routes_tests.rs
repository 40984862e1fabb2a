//! What `[[routes]]` may say, and what is told where it is wrong.

use super::Config;
use super::routes::{Json, RedactAs, Redaction, RouteConfig, SampleConfig};
use crate::record::Level;
use crate::record::condition::Subject;
use crate::record::redact::Builtin;

const OUTPUTS: &str = "\n[outputs.a]\ntype = \"stdout\"\n[outputs.b]\ntype = \"stdout\"\n";

fn routes(text: &str) -> Vec<RouteConfig> {
    Config::parse(&format!("{text}{OUTPUTS}"), "f").unwrap_or_else(|error| panic!("{error}")).routes
}

#[test]
fn every_key_is_read() {
    let text = r#"
        [[routes]]
        match = { namespace = ["payments-*", "!payments-test"], labels.app = "api", container = "!istio-proxy" }
        keep = { level = ">=info" }
        drop = [{ message = "GET /healthz" }, { app.status = "< 400", stream = "stdout" }]
        sample = { rate = 0.5, by = "app.trace_id" }
        json = "text"
        redact = ["email", { name = "ssn", regex = '\d{3}-\d{2}-\d{4}' }]
        outputs = ["a"]
        continue = true

        [[routes]]
        outputs = ["b"]
    "#;
    let routes = routes(text);
    assert_eq!(routes.len(), 2);
    let first = &routes[0];
    let namespace = first.matches.namespace.as_ref().expect("patterns");
    assert!(namespace.matches(Some("payments-eu")) && !namespace.matches(Some("payments-test")));
    assert!(!namespace.matches(Some("shop")) && !namespace.matches(None));
    let container = first.matches.container.as_ref().expect("patterns");
    assert!(
        container.matches(Some("app")) && !container.matches(Some("istio-proxy")) && container.matches(None)
    );
    assert!(first.matches.labels["app"].matches(Some("api")));
    assert!(first.goes_on && first.json == Json::Text && first.matches.needs_metadata());
    assert_eq!(
        first.sample,
        Some(SampleConfig { rate: 0.5, by: Some(vec!["app".into(), "trace_id".into()]) })
    );
    assert_eq!(first.redact[0], Redaction::Known(Builtin::Email));
    assert_eq!(first.redact.len(), 2);
    assert!(routes[1].matches.is_empty() && routes[1].keep.is_none());
}

#[test]
fn what_is_done_with_fields_is_read_with_dots_in_quotes_or_as_tables() {
    let text = r#"
        hash_key = { file = "/run/secrets/hash" }
        [[routes]]
        match = { namespace = "x" }
        json = "merge"
        redact = "email"
        redact_as = "hash"
        add = { labels.team = "shop", "app.env" = "prod", app.n = 1.5, app.ok = true }
        rename = { app.user_id = "user.id", "app.x" = "app.y" }
        remove = "app.password"
        hash = ["app.email", "app.debug.*", "app.*", "user.id", "message"]
        truncate = { message = "8KiB", app.stack = 64 }
        time = { field = "app.ts", format = "%d.%m.%Y %H:%M", zone = "+09:00", past = "2d", ahead = "1h" }
        outputs = ["a"]
        [[routes]]
        time = "auto"
        outputs = ["b"]
    "#;
    let config = Config::parse(&text.replacen("[[routes]]", &format!("{OUTPUTS}\n[[routes]]"), 1), "f");
    let routes = config.unwrap_or_else(|error| panic!("{error}")).routes;
    let first = &routes[0];
    assert_eq!((first.json, first.redact_as), (Json::Merge, RedactAs::Hash));
    let added: Vec<(&str, String)> = first.add.iter().map(|(k, v)| (k.as_str(), v.to_string())).collect();
    let expected =
        [("app.env", "\"prod\""), ("app.n", "1.5"), ("app.ok", "true"), ("labels.team", "\"shop\"")];
    assert_eq!(added, expected.map(|(name, value)| (name, value.to_owned())));
    assert_eq!((first.rename["app.user_id"].as_str(), first.rename["app.x"].as_str()), ("user.id", "app.y"));
    assert_eq!((first.remove.len(), first.hash.len()), (1, 5));
    assert_eq!((first.truncate["message"].bytes(), first.truncate["app.stack"].bytes()), (8192, 64));
    let time = first.time.as_ref().expect("a time");
    assert!(time.to_string() == "app.ts" && time.compile().is_some());
    assert_eq!(routes[1].time.as_ref().expect("a time").to_string(), "wherever a record has one");
}

#[test]
fn what_cannot_be_done_with_fields_is_told_at_its_place() {
    for (lines, said) in [
        ("add = { kubernetes.pod.name = \"x\" }", "`kubernetes.pod.name` is no field that can be given"),
        ("add = { _id = \"x\" }", "only the agent writes"),
        ("add = { \"@timestamp\" = \"x\" }", "only the agent writes"),
        ("add = { log.level = \"info\" }", "only the agent writes"),
        ("add = { event.dataset = \"x\" }", "only the agent writes"),
        ("add = { message = \"x\" }", "no field that can be given"),
        ("add = { app = \"x\" }", "for all of an application's own write app.*"),
        ("add = { labels.team = [1] }", "cannot be given this value"),
        ("add = { labels.team = {} }", "cannot be given this value"),
        ("add = { \"a..b\" = 1 }", "no field that can be given"),
        ("add = { \"a.b\" = 1, a.b = 2 }", "`a.b` stands here twice"),
        ("add = { a = 1, a.b = 2 }", "not valid TOML"),
        ("add = { \"a\" = 1, \"a.b\" = 2 }", "cannot both be given"),
        ("add = \"x\"", "expected a table of fields and their values"),
        ("rename = { app.a = \"stream\" }", "`stream` is no field that can be given"),
        ("rename = { app.a = \"app.a.b\" }", "one is a part of the other"),
        ("rename = { app.a = 1 }", "expected a table of fields and their new names"),
        ("rename = { taffrail.id = \"app.id\" }", "no field that can be changed"),
        ("rename = { app.a = \"x\", app.b = \"x\" }", "cannot both be given"),
        ("remove = [\"kubernetes.*\"]", "no field that can be changed"),
        ("remove = [\"app\"]", "for all of an application's own write app.*"),
        ("remove = [\"*\"]", "no field that can be changed"),
        ("remove = [1]", "expected names of fields in quotes"),
        ("hash = [\"app.email\"]", "hashes need a key, and there is none"),
        ("redact = \"email\"\nredact_as = \"hash\"", "hashes need a key, and there is none"),
        ("redact_as = \"hashed\"", "did you mean `hash`?"),
        ("truncate = { message = \"8Kib per line\" }", "is not a size"),
        ("truncate = { message = 10 }", "cut to less than 64 bytes"),
        (
            "json = \"text\"\nremove = \"app.password\"",
            "by `json = \"text\"` records have no field `app.password`",
        ),
        ("parse = \"nginx\"\nadd = { url.path = \"x\" }", "`parse` makes `url.path` here"),
        ("parse = { regex = '(?<timestamp>.*)' }", "this route takes none"),
        ("parse = { regex = '(?<event.dataset>.*)' }", "no field that may be written"),
        ("time = 1", "expected where the time of a record is"),
        ("time = { at = \"app.ts\" }", "expected where the time of a record is"),
        ("time = \"kubernetes.x\"", "no field that can be changed"),
        ("time = \"ts\"", "a field of an application's JSON is under `app`: write \"app.ts\""),
        ("time = { field = \"event.start\" }", "records have no field `event.start` here"),
        ("parse = \"logfmt\"\ntime = \"ts\"", "records have no field `ts` here"),
        ("json = \"text\"\ntime = \"app.ts\"", "by `json = \"text\"` records have no field `app.ts`"),
        ("time = { format = \"iso\" }", "is no format of times"),
        ("time = { format = \"%H:%M\" }", "does not say month, day and hour"),
        ("time = { zone = \"JST\" }", "is no offset from UTC"),
        ("time = { past = \"2\" }", "add the unit"),
    ] {
        let text = format!("[[routes]]\n{lines}\noutputs = [\"a\"]\n{OUTPUTS}");
        let error = Config::parse(&text, "f").expect_err(lines).to_string();
        let line = if lines.contains('\n') { "f:3:" } else { "f:2:" };
        assert!(error.contains(said) && error.contains(line), "{lines}: {error}");
    }
    let files = "[files.system]\npaths = [\"/var/log/x\"]\nlabels = { team = \"infra\" }\n";
    let text = format!("[[routes]]\nadd = {{ labels.team = \"x\" }}\noutputs = [\"a\"]\n{files}{OUTPUTS}");
    let error = Config::parse(&text, "f").expect_err("a label").to_string();
    assert!(error.contains("the label `team` is given by `files.system` already"), "{error}");
    let metadata = "[metadata]\nlabel_fields = [\"team\", \"app.kubernetes.io/part-of\"]\n";
    for line in ["add = { labels.team = \"x\" }", "rename = { app.x = \"labels.app_kubernetes_io/part-of\" }"]
    {
        let text = format!("[[routes]]\n{line}\noutputs = [\"a\"]\n{metadata}{OUTPUTS}");
        let error = Config::parse(&text, "f").expect_err(line).to_string();
        let said = "is given by `metadata.label_fields` already";
        assert!(error.contains(said) && error.contains("f:2:"), "{line}: {error}");
    }
    let secret = format!("hash_key = \"hunter2\"\n[[routes]]\noutputs = [\"a\"]\n{OUTPUTS}");
    let error = Config::parse(&secret, "f").expect_err("a secret").to_string();
    assert!(error.contains("a secret cannot be written into the configuration"), "{error}");
}

#[test]
fn a_time_may_be_wherever_records_have_fields() {
    for lines in [
        "time = \"message\"",
        "time = \"app.ts\"",
        "json = \"merge\"\ntime = \"ts\"",
        "json = \"text\"\ntime = \"message\"",
        "json = \"text\"\ntime = \"auto\"",
        "json = \"text\"\nparse = \"logfmt\"\ntime = \"app.ts\"",
        "parse = { regex = '(?<event.start>\\S+) (?<message>.*)' }\ntime = \"event.start\"",
    ] {
        let routes = routes(&format!("[[routes]]\n{lines}\noutputs = [\"a\"]\n"));
        assert!(routes[0].time.is_some(), "{lines}");
    }
}

#[test]
fn conditions_mean_what_they_say() {
    let holds = |conditions: &str, document: &str, level| {
        let text = format!("[[routes]]\nkeep = {conditions}\noutputs = [\"a\"]\n");
        let keep = routes(&text).remove(0).keep.expect("conditions").compile();
        keep.hold(Subject { document: document.as_bytes(), level, stream: None }, true)
    };
    let info = Some(Level::Info);
    for (conditions, document, level, expected) in [
        ("{ level = \">=info\" }", "{", info, true),
        ("{ level = \">info\" }", "{", info, false),
        ("{ level = [\"debug\", \"info\"] }", "{", info, true),
        ("{ level = \"!info\" }", "{", info, false),
        ("{ level = \"error\" }", "{", None, true),
        ("{ app.status = \">= 500\" }", r#"{"app":{"status":503}"#, None, true),
        ("{ \"app.status\" = 503 }", r#"{"app":{"status":503}"#, None, true),
        ("{ app.status = \"! >= 500\" }", r#"{"app":{"status":503}"#, None, false),
        ("{ app.ok = true }", r#"{"app":{"ok":true}"#, None, true),
        ("{ message = \"/^GET /\" }", r#"{"message":"GET /a""#, None, true),
        ("{ message = \"!GET\" }", r#"{"message":"GET /a""#, None, false),
        ("{ message = \"= GET\" }", r#"{"message":"GET /a""#, None, false),
        ("[{ message = \"PUT\" }, { level = \"info\" }]", r#"{"message":"GET /a""#, info, true),
        ("{ message = \"PUT\", level = \"info\" }", r#"{"message":"GET /a""#, info, false),
    ] {
        assert_eq!(holds(conditions, document, level), expected, "{conditions} of {document}");
    }
}

#[test]
fn mistakes_are_told_with_what_would_be_right() {
    for (line, said) in [
        ("match = { namespce = \"a\" }", "unknown key `namespce` in `match`"),
        ("match = { namespce = \"a\" }", "did you mean `namespace`?"),
        ("namespace = \"a\"", "`namespace` is for which logs a route is for: move it into the `match`"),
        ("match = { namespace = \"[\" }", "is not a pattern"),
        ("match = { namespace = \"\" }", "`match`: `namespace` is empty nowhere"),
        ("match = { pod = [\"a\", \"!\"] }", "`match`: `pod` is empty nowhere"),
        ("match = { namespace = \"${NAMESPACE}\" }", "variables are not put into values"),
        ("match = { labels = \"a\" }", "expected labels or annotations by their keys"),
        ("add = { labels.team = \"${TEAM}\" }", "variables are not put into values"),
        ("add = { stream = 1, log.x = 1 }", "`stream` is no field that can be given to a record"),
        ("add = { stream = 1, log.x = 1 }", "`log.x` is no field that can be given to a record"),
        (
            "remove = [\"app.x\", \"stream\", \"log.level\"]",
            "`stream` is no field that can be changed; `log.level` is no field",
        ),
        ("keep = { stream = \"stdin\" }", "a stream is `stdout` or `stderr`, and nothing else"),
        ("drop = { stream = [\"stderr\", \"err\"] }", "write \"stdout\" or \"stderr\""),
        ("redact = [{ name = \"x\", regex = \"\" }]", "matches the empty text too"),
        ("redact = [{ name = \"x\", regex = \"a*\" }]", "`a*` matches the empty text too"),
        ("selectable_outputs = [\"b\", \"b\"]", "`b` stands here twice"),
        ("match = { namespace = 1 }", "expected a pattern in quotes"),
        ("keep = { level = \"warm\" }", "did you mean `warn`?"),
        ("keep = { status = 1 }", "records have no field"),
        ("keep = \"info\"", "expected a table of conditions"),
        ("keep = { message = \"/(/\" }", "is not a regular expression"),
        ("keep = { app.n = \">= x\" }", "is not a number"),
        ("sample = 0", "above 0 and up to 1"),
        ("sample = 1.5", "above 0 and up to 1"),
        ("sample = { rate = 0.5, by = \"x\" }", "names no field"),
        ("redact = [\"emial\"]", "did you mean `email`?"),
        ("redact = [{ name = \"a b\", regex = \"x\" }]", "cannot be the name"),
        ("json = \"nested\"", "did you mean `nest`?"),
        ("outputt = 1", "did you mean `outputs`?"),
    ] {
        let outputs = if line.starts_with("outputt") { "" } else { "outputs = [\"a\"]\n" };
        let text = format!("[[routes]]\n{line}\n{outputs}{OUTPUTS}");
        let error = Config::parse(&text, "f").expect_err(line).to_string();
        assert!(error.contains(said) && error.contains("f:2:"), "{line}: {error}");
    }
}

#[test]
fn what_is_empty_or_of_one_stream_may_be_meant() {
    let text = "[[routes]]\nmatch = { labels.app = \"\", annotations.note = \"${x}\" }\nkeep = { message = \"${jndi:\" }\n\
                drop = { stream = [\"stderr\", \"!out\"] }\nredact = [{ name = \"x\", regex = \"a+\" }]\noutputs = [\"a\"]\n";
    assert_eq!(routes(text).len(), 1);
}

#[test]
fn routes_that_cannot_be_meant_are_told() {
    let all = "[[routes]]\noutputs = [\"a\"]\n";
    let more = "[[routes]]\ncontinue = true\noutputs = [\"a\"]\n";
    for (text, said) in [
        (format!("{all}{all}"), "nothing reaches this route: number 1 (everything) takes everything"),
        (
            "[[routes]]\noutputs = []\nmatch = { namespace = \"team-*\" }\n[[routes]]\noutputs = [\"a\"]\n\
             match = { namespace = \"team-a\", labels.app = \"x\" }\n"
                .to_owned(),
            "nothing reaches this route: number 1 (namespace team-*) takes all that it matches",
        ),
        (format!("{more}{all}"), "an earlier route with `continue = true` sends to `a` as well"),
        ("[[routes]]\noutputs = [\"a\", \"a\"]\n".to_owned(), "`a` stands here twice"),
        ("[[routes]]\noutputs = [\"c\"]\n".to_owned(), "there is no output `c`"),
        ("[[routes]]\n".to_owned(), "missing key `outputs`"),
        ("[routes]\noutputs = [\"a\"]\n".to_owned(), "must be a list of tables"),
    ] {
        let error = Config::parse(&format!("{text}{OUTPUTS}"), "f").expect_err(&text).to_string();
        assert!(error.contains(said), "{text}: {error}");
    }
}

//! What `[[routes]]` may say, and what is told where it is wrong.

use super::Config;
use super::routes::{Json, Redaction, RouteConfig, SampleConfig};
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
        ("[[routes]]\noutputs = [\"c\"]\n".to_owned(), "there is no output `c`"),
        ("[[routes]]\n".to_owned(), "missing key `outputs`"),
        ("[routes]\noutputs = [\"a\"]\n".to_owned(), "must be a list of tables"),
    ] {
        let error = Config::parse(&format!("{text}{OUTPUTS}"), "f").expect_err(&text).to_string();
        assert!(error.contains(said), "{text}: {error}");
    }
}

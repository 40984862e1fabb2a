//! What templates promise: legal names only, within the place that their fixed text gives.

use proptest::prelude::*;

use super::*;

static NO_LABELS: BTreeMap<String, String> = BTreeMap::new();

const NAMES: Names<'_> = Names {
    container_id: "c0ffee",
    cluster: "prod-tokyo",
    namespace: "payments",
    pod: "api-7d9",
    container: "app",
    node: "ip-10-0-0-1",
    uid: "5a1f",
    labels: &NO_LABELS,
    source: "pods",
};

fn labels(team: &str) -> BTreeMap<String, String> {
    [("team", team), ("app.kubernetes.io/name", "Web")]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

fn render(text: &str, safe: Safe) -> String {
    let template = Template::parse(text).expect("a template");
    template.check(safe).expect("a legal one");
    template.render(NAMES, "2026.11.23", safe)
}

#[test]
fn placeholders_take_the_containers_values() {
    for (text, name) in [
        ("logs-{namespace}-prod", "logs-payments-prod"),
        ("logs-{date}", "logs-2026.11.23"),
        ("logs-{date}-{container}", "logs-2026.11.23-app"),
        ("l-{cluster}.{node}.{pod}.{uid}", "l-prod-tokyo.ip-10-0-0-1.api-7d9.5a1f"),
        ("l-{pod}-{container_id}", "l-api-7d9-c0ffee"),
        ("plain", "plain"),
        ("a{{{pod}}}", "a{api-7d9}"),
    ] {
        assert_eq!(render(text, Safe::Index), name);
    }
    assert_eq!(render("/out/{namespace}/{pod}.ndjson", Safe::Path), "/out/payments/api-7d9.ndjson");
}

#[test]
fn labels_are_named_by_their_whole_key_and_may_be_missing() {
    let labels = labels("Payments/EU");
    let names = Names { labels: &labels, source: "nginx", ..NAMES };
    for (text, name) in [
        ("l-{label:team}", "l-payments_eu"),
        ("l-{label:app.kubernetes.io/name}-{date}", "l-web-2026.11.23"),
        ("l-{label:tier}-{source}", "l-none-nginx"),
        ("l-{label:Team}", "l-none"),
    ] {
        let template = Template::parse(text).expect("a template");
        template.check(Safe::Index).expect("a legal one");
        assert_eq!(template.render(names, "2026.11.23", Safe::Index), name);
    }
    let path = Template::parse("/out/{source}/{label:team}.ndjson").expect("a template");
    assert_eq!(path.render(names, "", Safe::Path), "/out/nginx/Payments_EU.ndjson");
}

#[test]
fn what_cannot_be_a_template_is_refused_with_what_to_do() {
    for (text, message) in [
        ("", "`` does not begin with fixed text; begin with"),
        ("{namespace}", "`{namespace}` does not begin with fixed text; begin with"),
        ("a{namespce}", "unknown placeholder `{namespce}`; did you mean `namespace`?"),
        ("a{labels.app}", "unknown placeholder `{labels.app}`; a label is written `{label:KEY}`"),
        ("a{label}", "unknown placeholder `{label}`; a label is written `{label:KEY}`"),
        ("a{label:}", "`{label:}` names no label; write a label's whole key"),
        ("a{label: app}", "`{label: app}` names no label; write a label's whole key"),
        ("a{}", "unknown placeholder `{}`; allowed here:"),
        ("a{pod", "`a{pod` has a `{` without its partner; write `{{`"),
        ("a}b", "`a}b` has a `}` without its partner; write `}}`"),
        ("a{date}{date}", "`a{date}{date}` has `{date}` twice;"),
    ] {
        let refusal = Template::parse(text).expect_err(text).to_string();
        assert!(refusal.starts_with(message), "{refusal}");
    }
}

#[test]
fn fixed_text_that_the_destination_would_refuse_is_refused_first() {
    let long = format!("a{}-{{pod}}", "b".repeat(220));
    let deep = format!("/out/{}{{pod}}", "b".repeat(230));
    for (text, safe, message) in [
        (
            "Logs-{pod}",
            Safe::Index,
            "the name of an index cannot have the capital letter `L`; write `logs-{pod}`",
        ),
        ("logs {pod}", Safe::Index, "the name of an index cannot have ` `; leave out"),
        ("a:b", Safe::Index, "the name of an index cannot have `:`; leave out"),
        ("a/{pod}", Safe::Index, "the name of an index cannot have `/`; leave out"),
        ("_all", Safe::Index, "the name of an index cannot begin with `_`; begin with"),
        (".ds-x", Safe::Index, "the name of an index cannot begin with `.`; begin with"),
        (&long, Safe::Index, "`abbbb"),
        ("out/{pod}", Safe::Path, "`out/{pod}` is not an absolute path; begin with `/`"),
        ("/out/{pod}/", Safe::Path, "`/out/{pod}/` names no file;"),
        ("/out/../{pod}", Safe::Path, "`/out/../{pod}` has an empty, `.` or `..` directory;"),
        ("/out//{pod}", Safe::Path, "`/out//{pod}` has an empty, `.` or `..` directory;"),
        ("/out-{pod}", Safe::Path, "`/out-{pod}` has no fixed directory;"),
        ("/out/a\n{pod}", Safe::Path, "`/out/a\\n{pod}` has a control character;"),
        (&deep, Safe::Path, "`/out/bbb"),
    ] {
        let refusal =
            Template::parse(text).and_then(|template| template.check(safe)).expect_err(text).to_string();
        assert!(refusal.starts_with(message), "{refusal}");
    }
}

#[test]
fn values_are_made_safe() {
    let names = Names { namespace: "A b/C:*", pod: "..", container: "", cluster: "a/../b", ..NAMES };
    let index = Template::parse("l-{namespace}-{container}").expect("a template");
    assert_eq!(index.render(names, "", Safe::Index), "l-a_b_c__-_");
    let path = Template::parse("/out/{pod}/{cluster}/{container}.log").expect("a template");
    assert_eq!(path.render(names, "", Safe::Path), "/out/__/a_.._b/_.log");
}

#[test]
fn long_values_are_cut_and_still_told_apart() {
    let (one, other) = ("x".repeat(250) + "1", "x".repeat(250) + "2");
    let template = Template::parse("logs-{pod}-{date}").expect("a template");
    let [one, other] =
        [&one, &other].map(|pod| template.render(Names { pod, ..NAMES }, "2026.11.23", Safe::Index));
    assert_ne!(one, other);
    assert_eq!(one.len(), INDEX_BYTES);
    assert!(one.starts_with("logs-xxxx") && one.ends_with("-2026.11.23"), "{one}");
}

#[test]
fn the_date_is_put_in_last() {
    let template = Template::parse("logs-{date}-{pod}").expect("a template");
    let prepared = template.prepare(NAMES, Safe::Index);
    assert_eq!(prepared.split_at_date(), ("logs-", Some("-api-7d9")));
    let mut body = Vec::new();
    prepared.append_to(&mut body, b"2026.11.24");
    assert_eq!(body, prepared.on("2026.11.24").as_bytes());
    assert!(template.has_date() && template.is_per_pod());
    assert_eq!(Template::parse("/out/{pod}").expect("a template").directory(), "/out/");
}

/// Elasticsearch's rules, from its documentation and not from the code above.
fn is_legal_index(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 233
        && name.to_lowercase() == name
        && !name.contains(['\\', '/', '*', '?', '"', '<', '>', '|', ' ', ',', '#', ':', '\0', '\n'])
        && !name.starts_with(['-', '_', '+', '.'])
}

fn is_within(name: &str, directory: &str) -> bool {
    name.starts_with(directory)
        && !name.chars().any(char::is_control)
        && name[1..]
            .split('/')
            .all(|part| !part.is_empty() && part != "." && part != ".." && part.len() <= 240)
}

/// Templates that are mostly well formed, so that many pass.
fn templates() -> impl Strategy<Value = String> {
    let parts = [
        "{pod}",
        "{namespace}",
        "{label:team}",
        "{label:none}",
        "{source}",
        "{date}",
        "-",
        ".",
        "/",
        "log",
        "あ",
        "{{",
        "ÅB",
        "_",
    ];
    proptest::collection::vec(proptest::sample::select(parts.to_vec()), 0..7).prop_map(|parts| parts.concat())
}

fn values() -> impl Strategy<Value = String> {
    prop_oneof!["(.|\n|\0){0,300}", "[./\\\\]{0,4}", "[a-z-]{0,260}", "[İΣẞA-Z]{0,200}"]
}

proptest! {
    #[test]
    fn no_text_is_too_strange(text in "\\PC*|[a-d{}]{0,20}") {
        if let Ok(template) = Template::parse(&text) {
            let _ = (template.check(Safe::Index), template.check(Safe::Path));
            let _ = template.render(NAMES, &text, Safe::Path);
            let _ = template.render(NAMES, &text, Safe::Index);
        }
    }

    #[test]
    fn rendered_names_are_always_legal(
        text in templates(), pod in values(), namespace in values(), team in values(), source in values(),
        date in values(),
    ) {
        let labels = labels(&team);
        let names = Names { pod: &pod, namespace: &namespace, labels: &labels, source: &source, ..NAMES };
        for prefix in ["l", "/out/"] {
            let Ok(template) = Template::parse(&format!("{prefix}{text}")) else { continue };
            if template.check(Safe::Index).is_ok() {
                let name = template.render(names, &date, Safe::Index);
                prop_assert!(is_legal_index(&name), "{name:?}");
            }
            if template.check(Safe::Path).is_ok() {
                let name = template.render(names, &date, Safe::Path);
                prop_assert!(is_within(&name, template.directory()), "{name:?}");
            }
        }
    }

    #[test]
    fn a_label_changes_nothing_but_its_own_place(team in values(), other in values()) {
        let labels = labels(&team);
        let names = Names { labels: &labels, source: &other, ..NAMES };
        for (text, safe, before, after) in [
            ("logs-{label:team}-eu-{date}", Safe::Index, "logs-", "-eu-2026.11.23"),
            ("logs-{label:team}{source}.x", Safe::Index, "logs-", ".x"),
            ("/out/a-{label:team}/{source}.log", Safe::Path, "/out/a-", ".log"),
            ("/out/{label:team}/x/all.log", Safe::Path, "/out/", "/x/all.log"),
            ("/eks/{label:team}/x/{source}", Safe::LogGroup, "/eks/", ""),
            ("a/{label:team}/y", Safe::LogStream, "a/", "/y"),
        ] {
            let template = Template::parse(text).expect("a template");
            template.check(safe).expect("a legal one");
            let name = template.render(names, "2026.11.23", safe);
            prop_assert!(name.len() > before.len() + after.len(), "{name:?}");
            prop_assert!(name.starts_with(before) && name.ends_with(after), "{name:?}");
            match safe {
                Safe::Index => prop_assert!(is_legal_index(&name), "{name:?}"),
                Safe::Path => {
                    prop_assert!(is_within(&name, template.directory()), "{name:?}");
                    prop_assert_eq!(name.matches('/').count(), text.matches('/').count(), "{:?}", name);
                }
                Safe::LogGroup | Safe::LogStream => {
                    let legal = |c: char| c.is_ascii_alphanumeric() || "_/.#-".contains(c);
                    prop_assert!(name.chars().all(legal) && name.len() <= 512, "{name:?}");
                    prop_assert_eq!(name.matches('/').count(), text.matches('/').count(), "{:?}", name);
                }
            }
        }
    }
}

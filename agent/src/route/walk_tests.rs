//! Which route decides, and where the answer has to wait.

use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::catalog::origin::{Container, HostLog};
use crate::config::{Config, MetadataConfig};
use crate::metadata::facts::Known;

/// Routes to the outputs `a` and `b`, and the containers of a world.
struct World {
    config: Config,
}

impl World {
    fn new(routes: &str) -> World {
        let text = format!("{routes}\n[outputs.a]\ntype = \"stdout\"\n[outputs.b]\ntype = \"stdout\"\n");
        World { config: Config::parse(&text, "f").unwrap_or_else(|error| panic!("{error}")) }
    }

    /// What becomes of a container at `output`: how many routes' treatments it could be told by, in words.
    fn course(&self, output: &str, origin: &Origin, known: Option<&Known>, asked: bool) -> &'static str {
        match self.explained(output, origin, known, asked).0 {
            Course::Sent(None) => "plain",
            Course::Sent(Some(treatment)) if treatment.redactor.is_some() => "redacted",
            Course::Sent(Some(_)) => "treated",
            Course::Elsewhere => "elsewhere",
            Course::Excluded => "excluded",
            Course::Nowhere => "nowhere",
            Course::Unknown => "unknown",
        }
    }

    /// The course, and the route that it is by.
    fn explained(
        &self,
        output: &str,
        origin: &Origin,
        known: Option<&Known>,
        asked: bool,
    ) -> (Course, Option<String>) {
        let facts = NodeFacts { cluster: "c".into(), node: "n1".into(), names: Default::default() };
        let extent = match known {
            Some(known) => Extent::Known(&self.config.metadata, known),
            None if asked => Extent::Missing,
            None => Extent::Path,
        };
        Routes::of(&self.config, output, None).explained(&facts, origin, extent)
    }

    /// The same of both outputs, of which more is known than the path says, or not yet.
    fn both(&self, origin: &Origin, known: Option<&Known>) -> [&'static str; 2] {
        ["a", "b"].map(|output| self.course(output, origin, known, true))
    }

    /// A pod with these labels, as it is known by this configuration.
    fn known(&self, labels: serde_json::Value) -> Known {
        known(&self.config.metadata, labels, json!({ "team": "x" }))
    }

    /// What becomes of a container in `shop` whose pod has these annotations.
    fn annotated(&self, annotations: serde_json::Value) -> [&'static str; 2] {
        let known = known(&self.config.metadata, json!({}), annotations);
        self.both(&container("shop", "app"), Some(&known))
    }
}

fn known(config: &MetadataConfig, labels: serde_json::Value, annotations: serde_json::Value) -> Known {
    let pod = json!({
        "metadata": { "labels": labels, "annotations": annotations, "name": "web-7d4-x",
            "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web", "controller": true }] },
        "spec": { "containers": [{ "name": "app", "image": "registry/web:1" }] },
    });
    let pod = PodFacts::new(serde_json::from_value(pod).expect("a pod"), config, None);
    Known { pod: Arc::new(pod), namespace: None, node: None }
}

fn container(namespace: &str, name: &str) -> Origin {
    let (namespace, name) = (namespace.into(), name.into());
    Origin::Container(Container { namespace, pod: "web-0".into(), uid: "u".into(), name })
}

fn host(label: &str) -> Origin {
    let labels = [("role".to_owned(), label.to_owned())].into();
    Origin::Host(HostLog { source: "system".into(), path: "/var/log/syslog".into(), labels })
}

#[test]
fn without_routes_everything_goes_everywhere() {
    assert_eq!(World::new("").both(&container("shop", "app"), None), ["plain", "plain"]);
}

#[test]
fn a_pod_that_is_left_out_comes_by_no_route_and_no_other_is_touched() {
    let world =
        World::new("[[routes]]\nmatch = { namespace = \"shop\", pod = \"web-0\" }\noutputs = [\"a\"]\n");
    let facts = NodeFacts { cluster: "c".into(), node: "n1".into(), names: Default::default() };
    let pod = |namespace: &str, name: &str| Some((namespace.to_owned(), name.to_owned()));
    let course = |left_out: Option<(String, String)>, config: &Config| {
        let routes = Routes::of(config, "a", None).without(left_out);
        routes.course(&facts, &container("shop", "app"), Extent::Path)
    };
    for config in [&world.config, &World::new("").config] {
        assert!(matches!(course(pod("shop", "web-0"), config), Course::Elsewhere));
        for other in [pod("bank", "web-0"), pod("shop", "web-1"), None] {
            assert!(matches!(course(other, config), Course::Sent(None)));
        }
    }
}

#[test]
fn the_first_that_matches_decides_for_all_outputs_unless_it_goes_on() {
    let ends = World::new(
        "[[routes]]\nmatch = { namespace = \"shop\" }\noutputs = [\"a\"]\n\
         [[routes]]\nmatch = { namespace = \"bank\" }\noutputs = []\n\
         [[routes]]\nmatch = { container = \"app\" }\noutputs = [\"a\", \"b\"]\nredact = [\"email\"]\n",
    );
    assert_eq!(ends.both(&container("shop", "app"), None), ["plain", "elsewhere"]);
    assert_eq!(ends.both(&container("bank", "app"), None), ["elsewhere", "elsewhere"]);
    assert_eq!(ends.both(&container("else", "app"), None), ["redacted", "redacted"]);
    assert_eq!(ends.both(&container("else", "db"), None), ["nowhere", "nowhere"]);
    let goes_on = World::new(
        "[[routes]]\nmatch = { namespace = \"shop\" }\noutputs = [\"a\"]\ncontinue = true\nredact = [\"email\"]\n\
         [[routes]]\noutputs = [\"b\"]\n",
    );
    assert_eq!(goes_on.both(&container("shop", "app"), None), ["redacted", "plain"]);
    assert_eq!(goes_on.both(&container("bank", "app"), None), ["elsewhere", "plain"]);
}

#[test]
fn the_route_that_sends_a_log_is_named_once_it_is_certain_which_one_does() {
    let world = World::new(
        "[[routes]]\nmatch = { namespace = \"shop\", labels.tier = \"web\" }\noutputs = [\"a\"]\n\
         [[routes]]\nmatch = { container = \"app\" }\noutputs = [\"a\"]\n",
    );
    let route = |output: &str, origin: &Origin, known| {
        world.explained(output, origin, known, true).1.unwrap_or_default()
    };
    let (shop, bank) = (container("shop", "app"), container("bank", "app"));
    assert_eq!(route("a", &bank, None), "route 2 (container app)");
    assert_eq!(route("a", &shop, None), "", "one of them, and both do the same");
    let web = world.known(json!({ "tier": "web" }));
    assert_eq!(route("a", &shop, Some(&web)), "route 1 (namespace shop, labels.tier web)");
    let other = world.known(json!({ "tier": "db" }));
    assert_eq!(route("a", &shop, Some(&other)), "route 2 (container app)");
    assert_eq!(route("b", &bank, None), "", "it does not send it there");
    assert_eq!(World::new("").explained("a", &bank, None, true).1, None);
}

#[test]
fn only_what_could_turn_out_otherwise_waits() {
    let world = World::new(
        "[[routes]]\nmatch = { namespace = \"shop\", labels.tier = \"secret\" }\noutputs = [\"a\"]\nredact = [\"email\"]\n\
         [[routes]]\noutputs = [\"a\"]\n",
    );
    let shop = container("shop", "app");
    assert_eq!(world.both(&shop, None), ["unknown", "elsewhere"], "no output named `b` in any of them");
    assert_eq!(world.both(&container("bank", "app"), None)[0], "plain");
    assert_eq!(world.both(&shop, Some(&world.known(json!({ "tier": "secret" }))))[0], "redacted");
    assert_eq!(world.both(&shop, Some(&world.known(json!({ "tier": "x" }))))[0], "plain");
    // Nobody is asked: what is missing is so for good, and no pattern that asks for it matches.
    assert_eq!(world.course("a", &shop, None, false), "plain");
    // Whichever it is, the same is done.
    let alike = World::new(
        "[[routes]]\nmatch = { labels.tier = \"x\" }\noutputs = [\"a\", \"b\"]\nredact = [\"email\"]\n\
         [[routes]]\nmatch = { labels.tier = \"y\" }\noutputs = [\"a\"]\nredact = [\"email\"]\n\
         [[routes]]\noutputs = [\"a\"]\nredact = [\"email\"]\n",
    );
    assert_eq!(alike.both(&shop, None), ["redacted", "unknown"]);
}

#[test]
fn a_route_that_may_end_the_walk_is_waited_for() {
    let world = World::new(
        "[[routes]]\nmatch = { labels.quiet = \"*\" }\noutputs = []\n[[routes]]\noutputs = [\"a\", \"b\"]\n",
    );
    let shop = container("shop", "app");
    assert_eq!(world.both(&shop, None), ["unknown", "unknown"]);
    assert_eq!(world.both(&shop, Some(&world.known(json!({ "quiet": "" }))))[0], "elsewhere");
    assert_eq!(world.both(&shop, Some(&world.known(json!({}))))[0], "plain");
}

#[test]
fn everything_that_is_known_of_a_pod_is_matched() {
    for (matches, expected) in [
        ("image = \"registry/*\"", "plain"),
        ("image = \"!registry/*\"", "nowhere"),
        ("workload = \"statefulset/web\"", "plain"),
        ("workload = \"deployment/*\"", "nowhere"),
        ("workload = \"!statefulset/*\"", "nowhere"),
        ("annotations.team = \"x\"", "plain"),
        ("annotations.other = \"*\"", "nowhere"),
        ("annotations.other = \"!a\"", "plain"),
        ("labels.\"app.kubernetes.io/name\" = [\"w*\", \"!wine\"]", "plain"),
        ("node = \"n1\", source = \"pods\", pod = \"web-?\"", "plain"),
        ("node = \"n2\"", "nowhere"),
        ("file = \"*\"", "nowhere"),
    ] {
        let world = World::new(&format!("[[routes]]\nmatch = {{ {matches} }}\noutputs = [\"a\"]\n"));
        let known = world.known(json!({ "app.kubernetes.io/name": "web" }));
        assert_eq!(world.course("a", &container("shop", "app"), Some(&known), true), expected, "{matches}");
    }
}

#[test]
fn what_an_earlier_configuration_did_not_keep_is_not_known() {
    let world = World::new("[[routes]]\nmatch = { annotations.team = \"x\" }\noutputs = [\"a\"]\n");
    let old = known(&MetadataConfig::default(), json!({}), json!({ "team": "x" }));
    assert_eq!(world.course("a", &container("shop", "app"), Some(&old), true), "unknown");
    // Of a container that the pod did not have then, the image is not either.
    let world = World::new("[[routes]]\nmatch = { image = \"x\" }\noutputs = [\"a\"]\n");
    assert_eq!(world.course("a", &container("shop", "new"), Some(&old), true), "unknown");
}

#[test]
fn a_host_file_is_matched_by_its_own_labels_and_waits_for_nothing() {
    for (matches, expected) in [
        ("labels.role = \"audit\"", "plain"),
        ("labels.role = \"!audit\"", "nowhere"),
        ("namespace = \"_host\", source = \"system\", file = \"/var/log/*\"", "plain"),
        ("image = \"*\"", "nowhere"),
        ("source = \"pods\"", "nowhere"),
    ] {
        let world = World::new(&format!("[[routes]]\nmatch = {{ {matches} }}\noutputs = [\"a\"]\n"));
        assert_eq!(world.course("a", &host("audit"), None, true), expected, "{matches}");
    }
}

#[test]
fn a_pod_says_how_its_logs_are_read_and_no_more_unless_it_is_allowed_to() {
    let wishes =
        json!({ "taffrail.io/json": "text", "taffrail.io/exclude": "true", "taffrail.io/output": "b" });
    let world = World::new("");
    assert_eq!(world.annotated(wishes.clone()), ["treated", "treated"]);
    assert_eq!(world.annotated(json!({ "taffrail.io/json.db": "text" })), ["plain", "plain"]);
    assert_eq!(World::new("[annotations]\nallow = []\n").annotated(wishes.clone()), ["plain", "plain"]);
    let elsewhere = World::new("[annotations.namespaces]\n\"team-*\" = [\"exclude\"]\n");
    assert_eq!(elsewhere.annotated(wishes.clone()), ["treated", "treated"]);
    let here = World::new("[annotations.namespaces]\n\"sh*\" = [\"exclude\"]\n");
    assert_eq!(here.annotated(wishes), ["excluded", "excluded"]);
    assert_eq!(here.annotated(json!({ "fluentbit.io/exclude": "true" })), ["excluded", "excluded"]);
    // Before it is known whether a pod excludes its logs, nothing of them is sent; how they are read is no reason to wait.
    assert_eq!(here.both(&container("shop", "app"), None), ["unknown", "unknown"]);
    assert_eq!(here.both(&container("bank", "app"), None), ["plain", "plain"]);
}

#[test]
fn where_fields_are_removed_a_pod_does_not_say_where_they_are() {
    let wish = json!({ "taffrail.io/json": "text", "taffrail.io/multiline": "auto" });
    for (keys, follows) in [
        ("", true),
        ("add = { labels.team = \"x\" }\n", true),
        ("remove = [\"app.password\"]\n", false),
        ("truncate = { app.a = \"1KiB\" }\n", false),
        ("rename = { app.a = \"b\" }\n", false),
    ] {
        let world = World::new(&format!("[[routes]]\n{keys}outputs = [\"a\"]\n"));
        let facts = NodeFacts { cluster: "c".into(), node: "n1".into(), names: Default::default() };
        let known = known(&world.config.metadata, json!({}), wish.clone());
        let extent = Extent::Known(&world.config.metadata, &known);
        let routes = Routes::of(&world.config, "a", None);
        match routes.course(&facts, &container("shop", "app"), extent) {
            Course::Sent(Some(treatment)) => {
                assert_eq!((treatment.as_text, treatment.multiline.is_some()), (follows, true), "{keys}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn what_is_mandatory_follows_no_annotation_and_a_pod_chooses_among_what_is_offered() {
    let world = World::new(
        "[annotations]\nallow = [\"exclude\", \"output\", \"sample\"]\n\
         [[routes]]\nmatch = { container = \"app\" }\noutputs = [\"a\"]\nmandatory = true\ncontinue = true\n\
         [[routes]]\nmatch = { namespace = \"shop\" }\noutputs = [\"b\"]\n",
    );
    assert_eq!(world.annotated(json!({ "taffrail.io/exclude": "true" })), ["plain", "excluded"]);
    assert_eq!(world.annotated(json!({ "taffrail.io/sample": "0.5" })), ["plain", "treated"]);
    assert_eq!(world.annotated(json!({ "taffrail.io/output": "a" })), ["plain", "plain"], "not offered");
    assert_eq!(world.both(&container("shop", "app"), None), ["plain", "unknown"]);
    let offers = World::new(
        "[annotations]\nallow = [\"output\"]\n\
         [[routes]]\noutputs = [\"a\"]\nselectable_outputs = [\"b\"]\nredact = [\"email\"]\n",
    );
    assert_eq!(offers.annotated(json!({})), ["redacted", "elsewhere"]);
    assert_eq!(offers.annotated(json!({ "taffrail.io/output": "b" })), ["elsewhere", "redacted"]);
    assert_eq!(offers.annotated(json!({ "taffrail.io/output": "none" })), ["redacted", "elsewhere"]);
}

#[test]
fn what_a_pod_wishes_in_vain_is_known_by_the_route_that_decides() {
    let wishes = json!({
        "taffrail.io/json": "text",
        "taffrail.io/exclude": "true",
        "taffrail.io/output": "b",
    });
    let suppressed = |routes: &str, output: &str| {
        let world = World::new(routes);
        let known = known(&world.config.metadata, json!({}), wishes.clone());
        let facts = NodeFacts { cluster: "c".into(), node: "n1".into(), names: Default::default() };
        let extent = Extent::Known(&world.config.metadata, &known);
        let all =
            Routes::of(&world.config, output, None).suppressed(&facts, &container("shop", "app"), extent);
        all.into_iter().map(Wish::as_str).collect::<Vec<_>>()
    };
    let all = ["json", "exclude", "output"];
    // By default only how a log is read may be said.
    assert_eq!(suppressed("", "a"), ["exclude", "output"]);
    assert_eq!(suppressed("[annotations]\nallow = []\n", "a"), all);
    let route = |more: &str| {
        let allow = "[annotations]\nallow = [\"json\", \"exclude\", \"output\"]\n";
        let other = "[[routes]]\nmatch = { namespace = \"x\" }\noutputs = [\"b\"]\n";
        format!("{allow}{other}[[routes]]\n{more}outputs = [\"a\"]\n")
    };
    assert_eq!(suppressed(&route(""), "a"), ["output"], "what may not be chosen");
    assert_eq!(suppressed(&route("selectable_outputs = [\"b\"]\n"), "a"), [""; 0]);
    assert_eq!(suppressed(&route("mandatory = true\n"), "a"), all);
    assert_eq!(suppressed(&route("mandatory = true\n"), "b"), [""; 0], "it is not sent there at all");
}

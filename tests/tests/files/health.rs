//! Health records: what the agent tells of itself through its own outputs.

use std::collections::BTreeMap;
use std::fs;

use taffrail_tests::agent::{self, Agent};
use taffrail_tests::node::Node;
use taffrail_tests::verify::{self, Document};
use taffrail_tests::{eventually, seconds};

const HEALTH: &str = "[health]\ninterval = \"1s\"\noutputs = [\"local\"]\n";

fn config(node: &Node, rest: &str) -> String {
    format!("{}\n{rest}", node.to_file())
}

/// The documents of one kind.
fn of_kind(documents: &[Document], kind: &str) -> Vec<Document> {
    documents.iter().filter(|document| document.text("taffrail.health.kind") == kind).cloned().collect()
}

fn number(document: &Document, field: &str) -> u64 {
    document.get(&format!("taffrail.health.{field}")).and_then(|value| value.as_u64()).unwrap_or_default()
}

/// What the volumes of each namespace come to, in records.
fn volumes(documents: &[Document]) -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::new();
    for document in of_kind(documents, "volume") {
        *sums.entry(document.text("taffrail.health.namespace").to_owned()).or_default() +=
            number(&document, "records");
    }
    sums
}

/// How many records lie in the files of the state directory.
fn written(node: &Node) -> usize {
    let files = fs::read_dir(node.state().join("health")).into_iter().flatten().flatten();
    files.map(|file| fs::read_to_string(file.path()).unwrap().lines().count()).sum()
}

#[test]
fn an_agent_tells_of_itself_and_every_record_of_it_arrives_once_over_restarts_too() {
    let node = Node::new();
    let mut pod = node.pod("web").namespace("shop").container("app");
    let folder = node.path().join("log");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("app.log"), "one\ntwo\nthree\n").unwrap();
    let files =
        format!("[files.app]\npaths = [\"{}/*.log\"]\nlabels = {{ team = \"infra\" }}\n", folder.display());
    let config = config(&node, &format!("{HEALTH}{files}"));
    for _ in 0..2 {
        pod.writes(500);
        let agent = Agent::start(&config, &node);
        eventually(seconds(40), "the volume of what was written", || {
            let documents = node.delivered()?;
            let told = volumes(&documents);
            let whole =
                told.get("shop") == Some(&(pod.written().len() as u64)) && told.get("_host") == Some(&3);
            if whole { Ok(()) } else { Err(format!("{told:?}")) }
        });
        assert_eq!(agent.terminate().code, Some(0));
    }
    let documents = node.delivered().unwrap();
    let own: Vec<&Document> =
        documents.iter().filter(|document| document.get("taffrail.health").is_some()).collect();
    // The last was written when the end was asked for, and is there.
    assert_eq!(own.len(), written(&node));
    for document in &own {
        assert_eq!(
            (document.text("event.dataset"), document.text("orchestrator.cluster.name")),
            ("taffrail.health", "test")
        );
        assert_eq!((document.text("kubernetes.node.name"), document.text("log.level")), ("n1", "info"));
        assert!(document.text("@timestamp").starts_with("20") && !document.message().is_empty());
        assert!(
            document.get("stream").is_none()
                && document.get("app").is_none()
                && document.get("event.created").is_none()
        );
        let interval = document.get("taffrail.health.interval").and_then(|value| value.as_f64()).unwrap();
        assert!(interval > 0.0 && !document.text("taffrail.health.version").is_empty());
    }
    assert!(node.path().join("out/taffrail.ndjson").exists(), "its namespace is the agent's own");
    let agents = of_kind(&documents, "agent");
    assert!(
        agents.iter().any(|document| number(document, "files") >= 3 && number(document, "containers") == 3),
        "{agents:?}"
    );
    assert!(agents.iter().all(|document| number(document, "retained_limit") == 2 << 30));
    let output = of_kind(&documents, "output");
    assert!(
        output
            .iter()
            .all(|d| d.text("taffrail.health.output") == "local" && d.text("taffrail.health.type") == "file")
    );
    let sum: u64 = output.iter().map(|document| number(document, "records")).sum();
    assert!(sum >= 1003, "{sum}");
    let hosts =
        of_kind(&documents, "volume").into_iter().find(|d| d.text("taffrail.health.namespace") == "_host");
    assert_eq!(hosts.unwrap().text("labels.team"), "infra");
    // What it leaves goes with the rest.
    let cleaned = agent::run_by(&[], &["cleanup", "--yes"], &config, &node);
    assert_eq!(cleaned.code, Some(0), "{}", cleaned.stderr);
    assert!(!node.state().join("health").exists());
}

#[test]
fn no_log_line_can_pass_for_one() {
    let node = Node::new();
    // As near to the agent's own as a tenant can come.
    let mut pod = node.pod("taffrail").namespace("taffrail").container("health");
    let forged = r#"{"message":"lost","log":{"level":"error"},"taffrail.health":{"kind":"lost","records":9},"taffrail":{"health":{"kind":"lost"}},"taffrail.health.kind":"lost","kubernetes":{"node":{"name":"other"}}}"#;
    for _ in 0..3 {
        pod.writes_line(forged);
    }
    for route in [
        "",
        "json = \"merge\"\n",
        "json = \"text\"\n",
        "rename = { \"app.taffrail.health.kind\" = \"app.kind\" }\n",
    ] {
        let folder = node.path().join("out");
        let _ = fs::remove_dir_all(&folder);
        let _ = fs::remove_dir_all(node.state());
        let route = format!("[[routes]]\n{route}outputs = [\"local\"]\n");
        let agent = Agent::start(&config(&node, &format!("{route}{HEALTH}")), &node);
        eventually(seconds(40), "its lines and our own", || {
            let documents = node.delivered()?;
            let own = of_kind(&documents, "agent").len();
            let lines = documents.iter().filter(|document| document.is_of(&pod)).count();
            if lines == 3 && own > 0 { Ok(()) } else { Err(format!("{lines} lines, {own} of ours")) }
        });
        assert_eq!(agent.terminate().code, Some(0));
        for document in node.delivered().unwrap() {
            let claims =
                document.get("taffrail.health").is_some() || document.get("taffrail.health.kind").is_some();
            assert_eq!(claims, document.text("event.dataset") == "taffrail.health", "{document:?}");
            assert!(!(claims && document.is_of(&pod)), "{document:?}");
            assert_eq!(document.text("kubernetes.node.name"), "n1");
        }
        assert!(of_kind(&node.delivered().unwrap(), "lost").is_empty());
    }
}

#[test]
fn only_outputs_that_are_named_send_them_and_no_route_is_asked() {
    let node = Node::new();
    let mut pod = node.pod("web").namespace("shop").container("app");
    pod.writes(100);
    let other = format!(
        "[outputs.other]\ntype = \"file\"\npath = \"{}/{{namespace}}.ndjson\"\n\
         [[routes]]\nmatch = {{ namespace = \"shop\" }}\ndrop = [{{ message = \"records\" }}]\noutputs = [\"local\", \"other\"]\n",
        node.path().join("other").display()
    );
    let limited =
        "[outputs.local.rate_limit]\ncontainer = { lines = 1 }\nburst = \"1s\"\naction = \"drop\"\n";
    let config = config(&node, &format!("{limited}{other}{HEALTH}"));
    let agent = Agent::start(&config, &node);
    let documents = eventually(seconds(40), "a loss, and what the other output did", || {
        let documents = node.delivered()?;
        let lost = of_kind(&documents, "lost");
        let other = of_kind(&documents, "volume").iter().any(|d| d.text("taffrail.health.output") == "other");
        if !lost.is_empty() && other { Ok(documents) } else { Err(format!("{documents:?}")) }
    });
    let lost = &of_kind(&documents, "lost")[0];
    assert_eq!(
        (lost.text("taffrail.health.namespace"), lost.text("taffrail.health.reason")),
        ("shop", "container_rate")
    );
    assert_eq!((lost.text("log.level"), number(lost, "records") > 0), ("warn", true));
    assert_eq!(agent.terminate().code, Some(0));
    // The limit is none for what the agent tells of itself.
    let documents = node.delivered().unwrap();
    let own = documents.iter().filter(|document| document.get("taffrail.health").is_some());
    assert_eq!(own.count(), written(&node));
    let others = verify::read_ndjson(&node.path().join("other")).unwrap();
    assert!(others.len() == 100 && others.iter().all(|document| document.is_of(&pod)), "{}", others.len());
}

#[test]
fn an_output_that_is_not_there_is_a_mistake() {
    let node = Node::new();
    let ended = agent::check(&config(&node, "[health]\noutputs = [\"locl\"]\n"), &node);
    assert_eq!(ended.code, Some(2));
    assert!(
        ended.stderr.contains("there is no output `locl`")
            || ended.stderr.contains("there is no output \"locl\""),
        "{}",
        ended.stderr
    );
    assert!(ended.stderr.contains("local"), "{}", ended.stderr);
    let fine = agent::check(&config(&node, HEALTH), &node);
    assert!(fine.stdout.contains("a record every 1s to local"), "{}", fine.stdout);
}

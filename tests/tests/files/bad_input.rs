//! Wrong configuration and a state directory that cannot be used: one clear message each, and an exit code.

use taffrail_tests::agent::{self, Agent, Ended};
use taffrail_tests::node::Node;
use taffrail_tests::{eventually, seconds, verify};

#[test]
fn a_good_configuration_passes_the_check() {
    let node = Node::new();
    let ended = agent::check(&node.to_file(), &node);
    assert_eq!(ended.code, Some(0), "{}\n{}", ended.stdout, ended.stderr);
}

#[test]
fn a_wrong_configuration_ends_with_two_a_place_and_what_was_meant() {
    let file =
        "[outputs.local]\ntype = \"file\"\npath = \"/tmp/taffrail-never-written/{namespace}.ndjson\"\n";
    // What is wrong, and what the message must contain besides a caret and the line.
    let cases = [
        ("clustr = \"x\"\n".to_owned(), "cluster"),
        (format!("{file}max_sise = \"1MiB\"\n"), "max_size"),
        (file.replace("\"file\"", "\"fil\""), "file"),
        (format!("{file}max_size = true\n"), "max_size"),
        (format!("{file}max_size = \"1 furlong\"\n"), "furlong"),
        (file.replace("{namespace}", "{namespcae}"), "namespace"),
        (format!("{file}[outputs.local\n"), "outputs.local"),
    ];
    for (rest, meant) in cases {
        let node = Node::new();
        let config = node.config(&rest);
        for ended in [agent::check(&config, &node), Agent::start(&config, &node).ends()] {
            assert_eq!(ended.code, Some(2), "of {rest}: {}", ended.stderr);
            let said = ended.stdout + &ended.stderr;
            assert!(said.contains('^') && said.contains(meant), "of {rest}: {said}");
            assert!(said.contains(".toml"), "the file is named: {said}");
        }
        assert!(!node.path().join("state").exists(), "nothing was begun");
    }
}

#[test]
fn what_is_wrong_in_a_configuration_is_told_with_its_place_and_a_remedy() {
    let node = Node::new();
    let file =
        "[outputs.local]\ntype = \"file\"\npath = \"/tmp/taffrail-never-written/{namespace}.ndjson\"\n";
    let search = "[outputs.search]\ntype = \"elasticsearch\"\nendpoints = [\"http://127.0.0.1:1\"]\n";
    let route = format!("{file}[[routes]]\noutputs = [\"local\"]\n");
    // What stands where, what is wrong with it, and what to do; a `^` marks the line that is wrong.
    let cases = [
        (
            format!("{file}[retain]\nmax_size = \"1MiB\" ^"),
            "unknown key `max_size`",
            "for outputs of type `file`",
        ),
        (
            format!("{file}[metadata]\ncluster = \"x\" ^"),
            "unknown key `cluster`",
            "move it above the first `[…]`",
        ),
        (format!("{route}namespace = \"x\" ^"), "unknown key `namespace`", "move it into the `match`"),
        (
            format!("{route}match = {{ pods = \"x\" }} ^"),
            "unknown key `pods` in `match`",
            "did you mean `pod`?",
        ),
        (format!("{file}ca_file = \"/x\" ^"), "unknown key `ca_file`", "move it into the `tls`"),
        (format!("{file}max_size = true ^"), "`max_size` cannot be `true`", "expected a size such as"),
        (format!("{file}workers = \"2\" ^"), "`workers` cannot be `2`", "expected a whole number"),
        (
            format!("{route}continue = \"yes\" ^"),
            "`continue` cannot be `yes`",
            "true or false, without quotes",
        ),
        (format!("{route}keep = {{ message = \"/(/\" }} ^"), "is not a regular expression", "no look-around"),
        (format!("{route}multiline = {{ start = '[' }} ^"), "is not a regular expression", "no look-around"),
        (
            format!("{route}redact = [{{ name = \"x\", regex = '*' }}] ^"),
            "is not a regular expression",
            "no look-around",
        ),
        (
            format!("{route}parse = {{ regex = '(?<kubernetes.pod.name>.*)' }} ^"),
            "no field that may be written",
            "name groups by",
        ),
        (format!("{search}index = \"Logs-{{namespace}}\" ^"), "capital letter", "write"),
        (format!("{search}index = \"{{namespace}}\" ^"), "does not begin with fixed text", "such as `logs-`"),
        (format!("{search}index = \"l-{{date}}-{{date}}\" ^"), "has `{date}` twice", "leave one of them out"),
        (
            format!("{search}index = \"l-{{namespcae}}\" ^"),
            "unknown placeholder `{namespcae}`",
            "did you mean `namespace`?",
        ),
        (
            format!(
                "{file}[[routes]]\nmatch = {{ namespace = \"team-*\" }}\noutputs = []\n[[routes]] ^\nmatch = {{ namespace = \"team-a\" }}\noutputs = [\"local\"]"
            ),
            "nothing reaches this route: number 1 (namespace team-*) takes all that it matches",
            "move it above that one",
        ),
        (
            format!("{file}[[routes]]\noutputs = [\"locl\"] ^"),
            "there is no output `locl`",
            "did you mean `local`?",
        ),
    ];
    for (text, wrong, remedy) in cases {
        let config = node.config(&text);
        let line = config.lines().position(|line| line.ends_with(" ^")).expect("a mark") + 1;
        let ended = agent::check(&config.replace(" ^", ""), &node);
        assert_eq!(ended.code, Some(2), "of {text}: {}", ended.stderr);
        let (told, place) = (&ended.stderr, format!(".toml:{line}:"));
        assert!(told.contains(wrong) && told.contains(remedy) && told.contains(&place), "of {text}: {told}");
        assert_eq!(told.matches("error:").count(), 1, "one mistake is told once: {told}");
    }
}

#[test]
fn an_output_that_no_route_names_is_warned_of() {
    let node = Node::new();
    let outputs =
        "[outputs.a]\ntype = \"stdout\"\n[outputs.b]\ntype = \"stdout\"\n[outputs.c]\ntype = \"stdout\"\n";
    let route = "[[routes]]\noutputs = [\"a\"]\nselectable_outputs = [\"b\"]\n";
    let ended = agent::check(&node.config(&format!("{outputs}{route}")), &node);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let told: Vec<&str> = ended.stderr.lines().filter(|line| line.contains("no route names it")).collect();
    assert_eq!(told.len(), 1, "a pod may choose b: {told:?}");
    assert!(
        told[0].starts_with("warning: outputs.c: ") && told[0].contains("add it to the `outputs`"),
        "{told:?}"
    );
}

#[test]
fn a_configuration_file_that_is_not_there_is_named() {
    let node = Node::new();
    let ended = agent::run(&["run", "--config", "/no/such/taffrail.toml"], &node);
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert!(ended.stderr.contains("/no/such/taffrail.toml"), "{}", ended.stderr);
}

#[test]
fn a_second_agent_on_the_same_state_is_refused_and_the_first_goes_on() {
    let node = Node::new();
    let mut web = node.pod("web").container("app");
    web.writes(10);
    let mut first = Agent::start(&node.to_file(), &node);
    verify::exactly_once(seconds(40), || node.delivered(), &[&web]);
    refused(&Agent::start(&node.to_file(), &node).ends(), &node);
    assert!(first.runs());
    web.writes(10);
    verify::exactly_once(seconds(40), || node.delivered(), &[&web]);
    // What a killed agent held is free again.
    first.kill9();
    let _third = Agent::start(&node.to_file(), &node);
    web.writes(10);
    verify::exactly_once(seconds(40), || node.delivered(), &[&web]);
}

#[test]
fn a_state_directory_that_cannot_be_written_is_named() {
    let node = Node::new();
    // Its parent is a file, which refuses root as well.
    std::fs::write(node.state(), "in the way").unwrap();
    let config = node.to_file().replace("/state\"", "/state/deeper\"");
    refused(&Agent::start(&config, &node).ends(), &node);
}

fn refused(ended: &Ended, node: &Node) {
    assert!(matches!(ended.code, Some(1 | 2)), "{:?}: {}", ended.code, ended.stderr);
    assert!(
        ended.stderr.contains(node.state().to_str().unwrap()),
        "the directory is named: {}",
        ended.stderr
    );
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
}

#[test]
fn a_corrupt_position_file_is_reported_and_nothing_is_lost() {
    let node = Node::new();
    let mut web = node.pod("web").container("app");
    web.writes(100);
    let agent = Agent::start(&node.to_file(), &node);
    verify::exactly_once(seconds(40), || node.delivered(), &[&web]);
    assert_eq!(agent.terminate().code, Some(0));
    assert!(node.corrupt_positions() > 0, "there is no position file in {}", node.state().display());
    web.writes(100);
    let agent = Agent::start(&node.to_file(), &node);
    // A file output that has lost its position cannot know what it wrote: it may double, never lose.
    eventually(seconds(40), "every line", || {
        let faults = verify::faults(&node.delivered()?, &web);
        if faults.missing.is_empty() { Ok(()) } else { Err(faults.to_string()) }
    });
    assert!(agent.stderr().to_lowercase().contains("position"), "{}", agent.stderr());
}

//! Routes: which logs go where, which records of them, through kills, rotation and another configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;

use taffrail_tests::agent::{self, Agent};
use taffrail_tests::node::{Container, Node};
use taffrail_tests::verify::{self, Document};
use taffrail_tests::{eventually, seconds, seed};

/// A table `[outputs.NAME]` that writes below a folder of that name.
fn output(node: &Node, name: &str) -> String {
    let path = node.path().join(name).join("{namespace}.ndjson");
    format!("[outputs.{name}]\ntype = \"file\"\npath = \"{}\"\n", path.display())
}

/// A configuration with the outputs `one` and `two`, and these routes.
fn with(node: &Node, routes: &str) -> String {
    node.config(&format!("{}{}{routes}", output(node, "one"), output(node, "two")))
}

fn delivered(node: &Node, name: &str) -> Result<Vec<Document>, String> {
    verify::read_ndjson(&node.path().join(name))
}

/// The numbers of a container's lines that an output holds, none of them twice.
fn numbers(node: &Node, name: &str, container: &Container) -> Result<BTreeSet<u64>, String> {
    let documents = delivered(node, name)?;
    let faults = verify::faults(&documents, container);
    assert!(faults.doubled.is_empty() && faults.invented.is_empty(), "{name}: {faults}");
    Ok(documents.iter().filter(|d| d.is_of(container)).filter_map(Document::number).collect())
}

/// Waits until both outputs hold so many lines of a container.
#[track_caller]
fn holds(node: &Node, container: &Container, wanted: [usize; 2]) {
    eventually(seconds(40), &format!("{wanted:?} lines of {}", container.pod.name), || {
        let found = ["one", "two"].map(|name| numbers(node, name, container).map(|numbers| numbers.len()));
        let [one, two] = found;
        if [one.clone()?, two.clone()?] == wanted { Ok(()) } else { Err(format!("{one:?} {two:?}")) }
    });
}

#[test]
fn the_first_route_that_matches_decides_and_continue_goes_on() {
    let node = Node::new();
    let in_namespace = |namespace: &str, container: &str| {
        let mut container = node.pod(namespace).namespace(namespace).container(container);
        container.writes(100);
        container
    };
    let routes = "
        [[routes]]
        match = { namespace = \"pay-*\", container = \"!proxy\" }
        outputs = [\"one\"]
        [[routes]]
        match = { namespace = [\"pay-*\", \"quiet\"] }
        outputs = []
        [[routes]]
        match = { namespace = \"both\" }
        outputs = [\"one\"]
        continue = true
        [[routes]]
        match = { container = \"app\" }
        outputs = [\"two\"]
    ";
    let (pay, proxy) = (in_namespace("pay-eu", "app"), in_namespace("pay-eu", "proxy"));
    let (quiet, both) = (in_namespace("quiet", "app"), in_namespace("both", "app"));
    let (rest, nowhere) = (in_namespace("rest", "app"), in_namespace("rest", "other"));
    let agent = Agent::start(&with(&node, routes), &node);
    holds(&node, &pay, [100, 0]);
    holds(&node, &both, [100, 100]);
    holds(&node, &rest, [0, 100]);
    agent.has_said("no route matches a container: its records go nowhere", 2);
    let ended = agent.terminate();
    assert!(ended.code == Some(0) && ended.stderr.contains("caught_up=true"), "{}", ended.stderr);
    for none in [&proxy, &quiet, &nowhere] {
        holds(&node, none, [0, 0]);
    }
}

#[test]
fn filters_lose_nothing_and_double_nothing_through_kills_and_rotation_and_keep_traces_whole() {
    let mut random = fastrand::Rng::with_seed(seed());
    let node = Node::new();
    let mut containers: Vec<Container> =
        ["web", "api"].map(|name| node.pod(name).container("app").keeps(100)).into();
    // The second draws the same sample by itself, and is killed at other places.
    let routes = "
        [[routes]]
        drop = { app.code = \">= 500\" }
        sample = { rate = 0.5, by = \"app.trace\" }
        outputs = [\"one\", \"two\"]
    ";
    let config = with(&node, routes);
    for _ in 0..8 {
        let agent = Agent::start(&config, &node);
        for _ in 0..40 {
            let container = &mut containers[random.usize(..2)];
            container.writes_json(random.u64(1..60), |n| {
                format!("\"code\":{},\"trace\":\"t{}\"", 400 + n % 5 * 50, n / 10)
            });
            if random.u32(..8) == 0 {
                container.rotate();
            }
            if random.u32(..4) == 0 {
                taffrail_tests::let_pass(std::time::Duration::from_millis(random.u64(..20)));
            }
        }
        agent.kill9();
    }
    let agent = Agent::start(&config, &node);
    agent.has_said("started", 1);
    let ended = agent.terminate();
    assert!(ended.stderr.contains("caught_up=true"), "{}", ended.stderr);
    for container in &containers {
        let written = container.written().len() as u64;
        let [one, two] = ["one", "two"].map(|name| numbers(&node, name, container).unwrap());
        assert_eq!(one, two, "the same sample, whoever draws it and however often");
        let mut traces: BTreeMap<u64, u64> = BTreeMap::new();
        for number in &one {
            assert!(400 + number % 5 * 50 < 500, "{number} was to be dropped");
            *traces.entry(number / 10).or_default() += 1;
        }
        for (trace, kept) in &traces {
            let wanted = (trace * 10..written.min(trace * 10 + 10)).filter(|n| n % 5 < 2).count() as u64;
            assert_eq!(*kept, wanted, "trace {trace} of {written} lines");
        }
        let share = traces.len() as f64 / (written as f64 / 10.0);
        assert!((0.3..0.7).contains(&share), "{share} of {written}");
    }
}

#[test]
fn lines_of_a_known_form_are_fields_and_what_is_redacted_is_in_none_of_them() {
    let node = Node::new();
    let mut web = node.pod("web").container("nginx");
    for (path, status) in [("/ok", 200), ("/cart?mail=bob@example.org", 503), ("/healthz", 500)] {
        web.writes_line(&format!(
            r#"10.1.2.3 - - [23/Nov/2026:10:00:00 +0000] "GET {path} HTTP/1.1" {status} 7 "-" "curl/8" 99 0.250 [shop]"#
        ));
    }
    web.writes_line("2026/11/23 10:00:00 [error] 7#7: *1 open() failed");
    let routes = "
        [[routes]]
        parse = \"nginx\"
        drop = [{ http.response.status_code = \"< 400\" }, { url.path = \"= /healthz\" }]
        redact = [\"email\", \"ipv4\"]
        outputs = [\"one\"]
    ";
    let _agent = Agent::start(&with(&node, routes), &node);
    let found = eventually(seconds(40), "two records", || {
        let found = delivered(&node, "one")?;
        if found.len() == 2 { Ok(found) } else { Err(format!("{} records", found.len())) }
    });
    let access = &found[0].source;
    assert_eq!(access["http.response.status_code"], 503);
    assert_eq!(access["event.duration"], 250_000_000);
    assert_eq!((&access["url.path"], &access["service.name"]), (&"/cart".into(), &"shop".into()));
    let text = access.to_string();
    assert!(!text.contains("bob@example.org") && !text.contains("10.1.2.3"), "{text}");
    assert_eq!(found[1].source["message"], "2026/11/23 10:00:00 [error] 7#7: *1 open() failed");
    assert_eq!(found[1].source["log"]["level"], "error");
}

#[test]
fn what_is_not_sent_is_counted_and_its_position_moves() {
    let node = Node::new();
    let mut web = node.pod("web").container("app");
    web.writes(1_000);
    for n in 0..500 {
        web.writes_line(&format!("DEBUG {n}"));
    }
    let config = with(&node, "[[routes]]\ndrop = { level = \"<info\" }\noutputs = [\"one\"]\n");
    let ended = {
        let agent = Agent::start(&config, &node);
        holds(&node, &web, [1_000, 0]);
        agent.terminate()
    };
    assert!(
        ended.stderr.contains("caught_up=true") && ended.stderr.contains(" filtered=500 "),
        "{}",
        ended.stderr
    );
    let agent = Agent::start(&config, &node);
    agent.has_said("started", 1);
    let ended = agent.terminate();
    assert!(!ended.stderr.contains("filtered=500"), "they are not read again: {}", ended.stderr);
}

/// The inodes of all files that have a name in the state directory's `retained`.
fn retained(node: &Node) -> Vec<u64> {
    let (mut folders, mut found) = (vec![node.state().join("retained")], Vec::new());
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()) {
            match fs::metadata(&path) {
                Ok(metadata) if metadata.is_dir() => folders.push(path),
                Ok(metadata) => found.push(metadata.ino()),
                Err(_) => {}
            }
        }
    }
    found
}

#[test]
fn nothing_is_retained_of_what_no_route_sends() {
    let node = Node::new();
    // A file lies where the output's folder should be.
    fs::write(node.path().join("one"), "").unwrap();
    let (mut web, mut noise) = (node.pod("web").container("app"), node.pod("noise").container("app"));
    let config = with(&node, "[[routes]]\nmatch = { pod = \"web\" }\noutputs = [\"one\"]\n");
    let agent = Agent::start(&config, &node);
    agent.has_said("started", 1);
    let inode = |container: &Container| fs::metadata(container.current()).unwrap().ino();
    let mut of_noise = Vec::new();
    for _ in 0..4 {
        noise.writes(200);
        web.writes(200);
        of_noise.push(inode(&noise));
        let wanted = inode(&web);
        eventually(seconds(40), "the file that is sent to have a name of ours", || {
            if retained(&node).contains(&wanted) { Ok(()) } else { Err("not yet".into()) }
        });
        web.rotate();
        noise.rotate();
    }
    web.delete();
    noise.delete();
    // While it is written to, it may yet come to be sent.
    eventually(seconds(40), "nothing of what is not sent", || {
        let left = retained(&node);
        if of_noise.iter().any(|inode| left.contains(inode)) { Err(format!("{left:?}")) } else { Ok(()) }
    });
    fs::remove_file(node.path().join("one")).unwrap();
    holds(&node, &web, [web.written().len(), 0]);
    let ended = agent.terminate();
    assert!(ended.stderr.contains("lost_bytes=0 "), "{}", ended.stderr);
    holds(&node, &noise, [0, 0]);
}

#[test]
fn other_routes_are_followed_by_a_reload_and_no_position_is_lost() {
    let node = Node::new();
    let mut web = node.pod("web").container("app").keeps(50);
    let to = |name: &str| {
        with(&node, &format!("[[routes]]\nmatch = {{ pod = \"web\" }}\noutputs = [\"{name}\"]\n"))
    };
    let path = node.path().join("taffrail.toml");
    fs::write(&path, to("one")).unwrap();
    let agent = Agent::start_at(&[], &path, &node);
    web.writes(500);
    holds(&node, &web, [500, 0]);
    for (times, name, wanted) in [(1, "two", [500, 700]), (2, "one", [900, 700]), (3, "two", [900, 1100])] {
        fs::write(&path, to(name)).unwrap();
        agent.hang_up();
        agent.has_said("reloaded the configuration", times);
        web.writes(100).rotate().writes(100);
        // It begins with what is there, or where it had stopped.
        holds(&node, &web, wanted);
    }
    let ended = agent.terminate();
    assert!(ended.stderr.contains("routes changed"), "{}", ended.stderr);
}

#[test]
fn check_tells_of_routes_what_they_do_and_what_is_hardly_meant() {
    let node = Node::new();
    let routes = "[[routes]]\nmatch = { labels.app = \"x\" }\nredact = \"card\"\noutputs = [\"one\"]\n";
    let said = agent::check(&with(&node, routes), &node);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(
        said.stdout.contains("  1        labels.app x to one; redacts card\n  others   go nowhere\n"),
        "{}",
        said.stdout
    );
    assert!(said.stderr.contains("outputs.two: no route names it"), "{}", said.stderr);
    assert!(
        said.stderr.contains("asks for what the API server knows of a pod, and nobody asks it here"),
        "{}",
        said.stderr
    );
    let broken = agent::check(&with(&node, "[[routes]]\noutputs = [\"thre\"]\n"), &node);
    assert!(
        broken.code == Some(2) && broken.stderr.contains("there is no output `thre`"),
        "{}",
        broken.stderr
    );
}

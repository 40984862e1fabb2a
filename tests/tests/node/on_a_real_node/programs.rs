//! Real programs as pods: their failures, access logs, JSON, and the logs of Kubernetes' own components.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use serde_json::Value;
use taffrail_tests::corpus::nginx_program;
use taffrail_tests::real_node::RealNode;
use taffrail_tests::real_node::pods::{runs, workload};
use taffrail_tests::real_node::world::{folder, note};
use taffrail_tests::verify::Document;
use taffrail_tests::{eventually, http, programs, seconds};

use crate::kit::world;

/// The name of a namespace's pods, once so many have ended.
fn ended(node: &RealNode, namespace: &str, count: usize) -> Vec<String> {
    eventually(seconds(180), &format!("{count} pods to end"), || {
        let pods = node.pods(namespace);
        let is_over =
            |pod: &&Value| pod["status"]["phase"] == "Failed" || pod["status"]["phase"] == "Succeeded";
        let names =
            pods.iter().filter(is_over).filter_map(|pod| pod["metadata"]["name"].as_str().map(str::to_owned));
        let names: Vec<String> = names.collect();
        if names.len() == count { Ok(names) } else { Err(format!("{} of {} pods", names.len(), pods.len())) }
    })
}

#[test]
fn what_real_runtimes_print_of_a_failure_is_one_record_and_whole() {
    let world = world();
    let ns = &world.namespace("programs-failures");
    let folder = folder("node-failures");
    let (programs, left_out) = programs::make(&folder);
    for (at, program) in programs.iter().enumerate() {
        world.node.apply(&workload("Job", ns, &format!("failure-{at}"), runs("app", program.run, &folder)));
    }
    // What kubelet has written of each is what the program has printed.
    let printed = |pod: &String| {
        let lines = world.node.log(ns, pod, "app");
        let errors: Vec<String> =
            lines.into_iter().filter(|(stream, _)| stream == "stderr").map(|(_, text)| text).collect();
        errors.join("\n").trim_matches('\n').to_owned()
    };
    let mut expected: Vec<String> = ended(&world.node, ns, programs.len()).iter().map(printed).collect();
    assert!(expected.iter().all(|printed| printed.lines().count() >= 3), "no traces: {expected:#?}");
    expected.sort();
    let errors = |documents: &[Document]| {
        let of = documents.iter().filter(|document| document.text("stream") == "stderr");
        let mut found: Vec<String> =
            of.map(Document::message).filter(|message| !message.is_empty()).collect();
        found.sort();
        found
    };
    let found = eventually(seconds(120), "each failure to be one record", || {
        let found = errors(&world.delivered(ns)?);
        if found == expected {
            Ok(found)
        } else {
            Err(format!("{found:#?}, where these were printed: {expected:#?}"))
        }
    });
    let languages: BTreeSet<&str> = programs.iter().map(|program| program.language).collect();
    let languages = Vec::from_iter(languages).join(", ");
    let missing = if left_out.is_empty() { String::new() } else { format!(" ({})", left_out.join("; ")) };
    note(
        &format!("failures of real runtimes, a record each: {languages}{missing}"),
        expected.len() as u64,
        found.len() as u64,
        0,
    );
}

#[test]
fn access_logs_of_nginx_become_fields() {
    let world = world();
    let Some(program) = nginx_program() else {
        return note("nginx is not here: its access log is left out", 0, 0, 0);
    };
    let ns = &world.namespace("programs-nginx");
    let folder = folder("node-nginx");
    fs::copy(program, folder.join("nginx")).unwrap();
    let config = "daemon off; master_process off; user root; pid /tmp/nginx.pid; error_log /dev/stderr warn;\n\
                  events {}\n\
                  http { access_log /dev/stdout combined; client_body_temp_path /tmp; proxy_temp_path /tmp;\n\
                  fastcgi_temp_path /tmp; uwsgi_temp_path /tmp; scgi_temp_path /tmp;\n\
                  server { listen 8080; location / { return 200 \"hello\"; } location /no { return 404; } } }\n";
    fs::write(folder.join("nginx.conf"), config).unwrap();
    let script =
        format!("mkdir -p /tmp && exec ./nginx -e /dev/stderr -p /tmp -c {}/nginx.conf", folder.display());
    world.node.apply(&workload("Deployment", ns, "web", runs("nginx", &script, &folder)));
    world.node.rolled_out(ns, "deployment/web");
    let ip = world.node.pods(ns)[0]["status"]["podIP"].as_str().unwrap().to_owned();
    let address: SocketAddr = format!("{ip}:8080").parse().unwrap();
    eventually(seconds(60), "nginx to listen", || {
        http::send(address, "GET", "/ready", b"").map_err(|error| error.to_string())
    });
    for number in 0..300 {
        let path = if number % 3 == 0 { "no" } else { "cart" };
        http::send(address, "GET", &format!("/{path}/{number}?id={number}&q=%22a%20b%22"), b"").unwrap();
    }
    let found = eventually(seconds(120), "300 lines of nginx", || {
        let documents = world.delivered(ns)?;
        let of =
            documents.into_iter().filter(|found| found.text("url.path").rsplit('/').next() != Some("ready"));
        let found: Vec<Document> = of.filter(|found| found.text("stream") == "stdout").collect();
        if found.len() >= 300 { Ok(found) } else { Err(format!("{} lines", found.len())) }
    });
    let mut seen = BTreeMap::new();
    for document in &found {
        let number: u32 = document.text("url.path").rsplit('/').next().unwrap().parse().unwrap();
        let (path, status, bytes) =
            if number.is_multiple_of(3) { ("no", 404, 146) } else { ("cart", 200, 5) };
        assert_eq!(document.text("url.path"), format!("/{path}/{number}"));
        assert_eq!(document.text("url.query"), format!("id={number}&q=%22a%20b%22"));
        assert_eq!(document.text("http.request.method"), "GET");
        assert_eq!(document.text("source.address"), "10.97.0.1");
        let of = |name: &str| document.get(name).and_then(Value::as_u64);
        assert_eq!(of("http.response.status_code"), Some(status), "{document:?}");
        assert!(
            of("http.response.body.bytes").is_some_and(|found| found == bytes || status == 404),
            "{document:?}"
        );
        *seen.entry(number).or_insert(0) += 1;
    }
    note("access log of nginx, in fields", 300, seen.len() as u64, (found.len() - seen.len()) as u64);
    assert!(seen.keys().copied().eq(0..300) && found.len() == 300, "{seen:?}");
}

#[test]
fn kubernetes_own_components_have_levels_and_json_of_node_has_fields() {
    let world = world();
    let ns = &world.namespace("programs-klog");
    let folder = folder("node-klog");
    let node = world.node.programs().join("node");
    if fs::hard_link(&node, folder.join("node")).is_err() {
        fs::copy(&node, folder.join("node")).unwrap();
    }
    // A scheduler that finds no API server says so at several levels.
    let kubeconfig = r#"{"apiVersion": "v1", "kind": "Config", "current-context": "away", "users": [{"name": "nobody"}],
        "clusters": [{"name": "away", "cluster": {"server": "http://127.0.0.1:1"}}],
        "contexts": [{"name": "away", "context": {"cluster": "away", "user": "nobody"}}]}"#;
    fs::write(folder.join("kubeconfig"), kubeconfig).unwrap();
    let script =
        "timeout 8 ./node scheduler --kubeconfig=kubeconfig --leader-elect=false --secure-port=0 -v=2";
    world.node.apply(&workload("Job", ns, "scheduler", runs("klog", script, &folder)));
    let json = has("node");
    if json {
        fs::write(
            folder.join("lines.js"),
            "for (let n = 1; n <= 500; n++) console.log(JSON.stringify({ level: n % 5 ? 30 : 50, time: Date.now(), n, msg: `line ${n}` }))\n",
        )
        .unwrap();
        world.node.apply(&workload("Job", ns, "json", runs("json", "exec node lines.js", &folder)));
    }
    let pods = ended(&world.node, ns, 1 + usize::from(json));
    let scheduler = pods.iter().find(|pod| pod.starts_with("scheduler")).unwrap();
    let lines = world.node.log(ns, scheduler, "klog");
    let mut expected: BTreeMap<&str, usize> = BTreeMap::new();
    for (_, line) in &lines {
        let level = ["info", "warn", "error", "fatal"].into_iter().zip(["I", "W", "E", "F"]);
        let is_klog = line.contains("] ") && line.as_bytes().get(1).is_some_and(u8::is_ascii_digit);
        if let Some((level, _)) = level.into_iter().find(|(_, letter)| is_klog && line.starts_with(letter)) {
            *expected.entry(level).or_default() += 1;
        }
    }
    assert!(expected.len() >= 2, "{lines:#?}");
    let written = expected.values().sum::<usize>();
    let found = eventually(seconds(120), "every line of the scheduler", || {
        let of = |document: &&Document| document.text("kubernetes.container.name") == "klog";
        let documents = world.delivered(ns)?;
        let found: Vec<Document> = documents.iter().filter(of).cloned().collect();
        if found.len() >= lines.len() {
            Ok(found)
        } else {
            Err(format!("{} of {} lines", found.len(), lines.len()))
        }
    });
    let mut levels: BTreeMap<&str, usize> = BTreeMap::new();
    for document in found.iter().filter(|document| document.get("app.file").is_some()) {
        assert!(document.get("app.line").is_some_and(Value::is_u64), "{document:?}");
        *levels.entry(document.text("log.level")).or_default() += 1;
    }
    assert_eq!(levels, expected);
    note(
        "klog of Kubernetes' own scheduler, with levels",
        written as u64,
        levels.values().sum::<usize>() as u64,
        0,
    );
    if !json {
        return note("Node is not here: its JSON is left out", 0, 0, 0);
    }
    let documents = eventually(seconds(120), "500 lines of JSON", || {
        let documents = world.delivered(ns)?;
        let of = |document: &&Document| document.text("kubernetes.container.name") == "json";
        let found: Vec<Document> = documents.iter().filter(of).cloned().collect();
        if found.len() >= 500 { Ok(found) } else { Err(format!("{} lines", found.len())) }
    });
    let mut numbers = BTreeSet::new();
    for document in &documents {
        let number = document.get("app.n").and_then(Value::as_u64).unwrap_or_else(|| panic!("{document:?}"));
        assert_eq!(document.message(), format!("line {number}"));
        assert_eq!(document.text("log.level"), if number.is_multiple_of(5) { "error" } else { "info" });
        numbers.insert(number);
    }
    note("JSON of Node, with levels", 500, numbers.len() as u64, (documents.len() - numbers.len()) as u64);
    assert!(numbers.into_iter().eq(1..=500) && documents.len() == 500);
}

/// Whether this machine has a program where pods see it.
fn has(program: &str) -> bool {
    ["/usr/bin", "/bin"].iter().any(|folder| Path::new(folder).join(program).exists())
}

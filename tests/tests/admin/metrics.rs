//! What `/metrics` says is what happened.

use std::net::TcpListener;

use serde_json::json;
use taffrail_tests::agent::Agent;
use taffrail_tests::http::Reply;
use taffrail_tests::listeners::metrics;
use taffrail_tests::node::Node;
use taffrail_tests::proxy::{Action, Proxy};
use taffrail_tests::{eventually, seconds, verify};

#[test]
fn after_n_lines_the_metrics_say_n_and_the_series_end_with_their_pod() {
    let node = Node::new();
    let mut web = node.pod("web").namespace("shop").container("app");
    let mut cart = node.pod("cart").namespace("shop").container("app");
    web.writes(1_234);
    cart.writes(66);
    let agent = Agent::start(&node.to_file(), &node);
    verify::exactly_once(seconds(40), || node.delivered(), &[&web, &cart]);
    let of = |name: &str, pod: &str| {
        format!(
            "taffrail_container_{name}{{output=\"local\",namespace=\"shop\",pod=\"{pod}\",container=\"app\"}}"
        )
    };
    let series = metrics(&node);
    let delivered = std::fs::metadata(node.path().join("out/shop.ndjson")).unwrap().len();
    let written = std::fs::metadata(web.current()).unwrap().len();
    for (name, value) in [
        ("taffrail_delivered_records_total{output=\"local\"}", 1_300),
        ("taffrail_sent_bytes_total{output=\"local\"}", delivered),
        ("taffrail_timed_records_total{output=\"local\"}", 1_300),
        ("taffrail_late_records_total{output=\"local\"}", 0),
        ("taffrail_retained_limit_bytes", 2 << 30),
        ("taffrail_files", 2),
        ("taffrail_lost_bytes_total{output=\"local\",reason=\"deleted\"}", 0),
        (&of("delivered_records_total", "web"), 1_234),
        (&of("read_bytes_total", "web"), written),
        (&of("read_records_total", "cart"), 66),
        (&of("lag_bytes", "cart"), 0),
    ] {
        assert_eq!(series.get(name), Some(&(value as f64)), "{name}");
    }
    assert!(series["process_open_fds"] > 3.0);
    cart.delete();
    eventually(seconds(40), "the series of the pod to end", || {
        let series = metrics(&node);
        let left = series.keys().filter(|name| name.contains("pod=\"cart\"")).count();
        if left == 0 && series.contains_key(&of("lag_bytes", "web")) { Ok(()) } else { Err(left.to_string()) }
    });
    // What it did is still in the sum.
    assert_eq!(metrics(&node)["taffrail_delivered_records_total{output=\"local\"}"], 1_300.0);
    assert_eq!(agent.terminate().code, Some(0));
}

#[test]
fn while_a_server_is_away_the_lag_grows_in_bytes_and_in_age() {
    let node = Node::new();
    let mut web = node.pod("web").namespace("shop").container("app");
    web.writes(100);
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let output =
        format!("[outputs.s]\ntype = \"elasticsearch\"\nendpoints = [\"http://{nobody}\"]\nindex = \"x\"");
    let _agent = Agent::start(&node.config(&output), &node);
    let labels = "{output=\"s\",namespace=\"shop\",pod=\"web\",container=\"app\"}";
    let lag = |more_than: (f64, f64)| {
        eventually(seconds(40), "the lag to grow", || {
            let series = metrics(&node);
            let of = |name: &str| series.get(name).copied().unwrap_or(-1.0);
            let lag = ("bytes", "seconds");
            let by_output =
                (of("taffrail_lag_bytes{output=\"s\"}"), of("taffrail_lag_seconds{output=\"s\"}"));
            let by_container =
                [lag.0, lag.1].map(|unit| of(&format!("taffrail_container_lag_{unit}{labels}")));
            assert_eq!(by_output.0, by_container[0]);
            let grown = by_output.0 > more_than.0 && by_container[1] > more_than.1;
            if grown { Ok((by_output.0, by_container[1])) } else { Err(format!("{by_output:?}")) }
        })
    };
    let first = lag((0.0, 0.0));
    assert_eq!(first.0, std::fs::metadata(web.current()).unwrap().len() as f64, "nothing is acknowledged");
    // The time of the first record is the one that its line bears.
    let age = (taffrail_tests::clock::now() - web.last_time()) as f64 / 1e9;
    assert!((age - first.1).abs() < 3.0, "{age} and {first:?}");
    web.writes(100);
    let second = lag(first);
    eventually(seconds(40), "a retry to be counted", || {
        let retries = metrics(&node)["taffrail_retries_total{output=\"s\"}"];
        if retries > 0.0 { Ok(()) } else { Err(retries.to_string()) }
    });
    assert!(second.0 > first.0 && second.1 > first.1);
}

#[test]
fn credentials_that_are_refused_are_counted() {
    let node = Node::new();
    let mut web = node.pod("web").namespace("shop").container("app");
    web.writes(10);
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let refuses = Proxy::open(nobody, |_, _| Action::Answer(Reply::json(401, &json!({ "error": "no" }))));
    let output = format!(
        "[outputs.s]\ntype = \"elasticsearch\"\nendpoints = [\"http://{}\"]\nindex = \"x\"",
        refuses.address()
    );
    let _agent = Agent::start(&node.config(&output), &node);
    eventually(seconds(40), "a refusal to be counted", || {
        let failures = metrics(&node)["taffrail_auth_failures_total{output=\"s\"}"];
        if failures > 0.0 { Ok(()) } else { Err(failures.to_string()) }
    });
}

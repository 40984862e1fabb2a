//! What the agent takes with a thousand streams, into the checker without a server behind it. By hand, with a release
//! build of both: `TAFFRAIL_BIN=target/release/taffrail cargo test --release -p taffrail-tests --test cloudwatch --
//! --ignored --nocapture a_thousand_streams`.

use super::kit::World;
use std::fs;
use std::io::Write;
use taffrail_tests::clock;
use taffrail_tests::cloudwatch::{Action, CloudWatch};
use taffrail_tests::node::Node;

const STREAMS: usize = 1_000;

#[test]
#[ignore = "measures: for a release build on a quiet machine"]
fn a_thousand_streams() {
    for format in ["raw", "json", "compact"] {
        let service = CloudWatch::open(None, |_| Action::Do);
        let world = World { node: Node::new(), service, group: "/eks/bench".into() };
        let records = 1_500_000 / STREAMS;
        for n in 0..STREAMS {
            let mut web = world.node.pod(&format!("web-{n}")).container("app");
            let mut text = Vec::new();
            let now = clock::now();
            for record in 0..records {
                let at = clock::rfc3339(now - (records - record) as u64 * 1_000_000);
                let padding = "x".repeat(120 + (record * 7 + n) % 60);
                let line = match record % 5 {
                    0 => format!("10.1.2.3 - - \"GET /cart/{record} HTTP/1.1\" 200 512 \"{padding}\""),
                    _ => format!(
                        "{{\"level\":\"info\",\"msg\":\"order {record} placed\",\"user\":{n},\"pad\":\"{padding}\"}}"
                    ),
                };
                writeln!(text, "{at} stdout F {line}").unwrap();
            }
            web.writes_raw(&text);
        }
        let agent = world.agent(&format!("format = \"{format}\"\nlinger = \"5s\""));
        world.takes((STREAMS * records) as u64);
        let status = fs::read_to_string(format!("/proc/{}/status", agent.pid)).unwrap();
        let peak: f64 = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok())
            .unwrap();
        let stat = fs::read_to_string(format!("/proc/{}/stat", agent.pid)).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        let ticks: f64 = fields[11..13].iter().map(|ticks| ticks.parse::<f64>().unwrap()).sum();
        let cpu = ticks / 100.0;
        let seen = world.clean();
        println!(
            "{format}: {} records, {cpu:.2} CPU s, {:.0} records a CPU s, peak RSS {:.1} MiB, {} calls",
            STREAMS * records,
            (STREAMS * records) as f64 / cpu,
            peak / 1024.0,
            seen.calls["PutLogEvents"],
        );
    }
}

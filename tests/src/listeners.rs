//! The agent's own listeners, asked as Prometheus, kubelet and a browser ask them.
//!
//! What comes in: a node whose agent listens at free ports. What goes out: answers, and metrics by their series. It never
//! knows an address that the agent has not noted in its state directory.

use crate::http::{self, Reply, Request};
use crate::node::Node;
use crate::{eventually, seconds};
use std::collections::HashMap;
use std::net::SocketAddr;

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// `listen`.
    Page,
    /// `metrics_listen`.
    Metrics,
}

/// The address that the agent of this node listens at.
///
/// # Panics
/// When it has none after 40 s.
#[track_caller]
pub fn address(node: &Node, door: Door) -> SocketAddr {
    let key = if door == Door::Page { "listen" } else { "metrics_listen" };
    eventually(seconds(40), "the agent to note where it listens", || {
        let noted = std::fs::read(node.state().join("listen.json")).map_err(|error| error.to_string())?;
        let noted: serde_json::Value = serde_json::from_slice(&noted).map_err(|error| error.to_string())?;
        noted[key].as_str().and_then(|text| text.parse().ok()).ok_or_else(|| noted.to_string())
    })
}

/// The answer to a GET of `target` with these headers, `host` among them.
///
/// # Panics
/// When there is none.
#[track_caller]
pub fn get_with(node: &Node, door: Door, target: &str, headers: &[(&str, &str)]) -> Reply {
    let address = address(node, door);
    let headers: Vec<_> = headers.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
    let request = Request { method: "GET".into(), target: target.into(), headers, body: Vec::new() };
    http::forward(address, &request).unwrap_or_else(|error| panic!("{target} at {address}: {error}"))
}

/// The same, with nothing else to say.
///
/// # Panics
/// As [`get_with`].
#[track_caller]
pub fn get(node: &Node, door: Door, target: &str) -> (u16, String) {
    let reply = get_with(node, door, target, &[]);
    (reply.status, String::from_utf8_lossy(&reply.body).into_owned())
}

/// All series of `/metrics` with their values, such as `taffrail_lag_bytes{output="local"}`.
///
/// # Panics
/// When there are none, or one stands twice.
#[track_caller]
pub fn metrics(node: &Node) -> HashMap<String, f64> {
    let (status, text) = get(node, Door::Metrics, "/metrics");
    assert_eq!(status, 200, "{text}");
    assert!(text.ends_with("# EOF\n"), "{text}");
    let mut series = HashMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no series: {line}"));
        let value = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
        assert!(series.insert(name.to_owned(), value).is_none(), "twice: {name}");
    }
    series
}

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use super::containers::{OTHER, Row};
use super::*;
use crate::admin::health::tests::shown;
use crate::admin::{Life, Shared};
use crate::catalog::origin::{Container, Origin};
use crate::clock::unix_millis;

fn origin(pod: &str, uid: &str) -> Arc<Origin> {
    let (namespace, name) = ("shop".into(), "app".into());
    Arc::new(Origin::Container(Container { namespace, pod: pod.into(), uid: uid.into(), name }))
}

fn shared(shown: Arc<Shown>) -> Arc<Shared> {
    Arc::new(Shared {
        life: Life::Running(shown).into(),
        bound: Default::default(),
        told: Arc::default(),
        reloads: Arc::default(),
        history: Default::default(),
        rates: Default::default(),
        config: None,
        started: (Instant::now(), SystemTime::now()),
    })
}

/// Values by series, with every line of the form that it should have.
fn parsed(text: &str) -> HashMap<String, f64> {
    assert!(text.ends_with("# EOF\n"));
    let mut series = HashMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        assert!(series.insert(name.to_owned(), value.parse().unwrap()).is_none(), "twice: {name}");
    }
    series
}

#[test]
fn everything_that_is_counted_has_a_series_with_its_unit() {
    let shown = shown();
    let stats = &shown.view.outputs[0].1;
    let web = stats.container(origin("web-0", "u1"));
    web.read_bytes.add(500);
    web.lag_bytes.set(70);
    web.oldest.set(unix_millis() - 5_000);
    stats.sent_bytes.add(1_234);
    stats.records_delivered.add(9);
    stats.in_flight.add(2);
    for reason in LossReason::ALL {
        stats.losses.add(&web.origin, reason, Loss { records: 2, bytes: 100 });
    }
    let series = parsed(&text(&shared(shown.clone())));
    let labels = "output=\"search\",namespace=\"shop\",pod=\"web-0\",container=\"app\"";
    for (name, value) in [
        ("taffrail_sent_bytes_total{output=\"search\"}".to_owned(), 1_234.0),
        ("taffrail_delivered_records_total{output=\"search\"}".to_owned(), 9.0),
        ("taffrail_in_flight_requests{output=\"search\"}".to_owned(), 2.0),
        ("taffrail_lag_bytes{output=\"search\"}".to_owned(), 70.0),
        (format!("taffrail_container_read_bytes_total{{{labels}}}"), 500.0),
        (format!("taffrail_container_lag_bytes{{{labels}}}"), 70.0),
        (format!("taffrail_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION")), 1.0),
        ("taffrail_reloads_total{result=\"failed\"}".to_owned(), 0.0),
    ] {
        assert_eq!(series.get(&name), Some(&value), "{name}");
    }
    let age = series[&format!("taffrail_container_lag_seconds{{{labels}}}")];
    assert!((5.0..60.0).contains(&age), "{age}");
    assert!(series["process_resident_memory_bytes"] > 0.0 && series["process_cpu_seconds_total"] > 0.0);
    // No loss goes untold, by output as by container.
    for reason in LossReason::ALL {
        let (name, of) = (reason.as_str(), if reason.is_drop() { "dropped" } else { "lost" });
        for (unit, value) in [("bytes", 100.0), ("records", 2.0)] {
            let by_output = format!("taffrail_{of}_{unit}_total{{output=\"search\",reason=\"{name}\"}}");
            assert_eq!(series.get(&by_output), Some(&value), "{by_output}");
            let by_container = format!("taffrail_container_lost_{unit}_total{{{labels},reason=\"{name}\"}}");
            assert_eq!(series.get(&by_container), Some(&value), "{by_container}");
        }
    }
}

#[test]
fn a_pod_reborn_under_its_name_shares_its_series_and_those_beyond_the_bound_share_one() {
    let shown = shown();
    let stats = &shown.view.outputs[0].1;
    for (pod, uid) in [("web-0", "u1"), ("web-0", "u2"), ("web-1", "u3"), ("web-2", "u4"), ("web-3", "u5")] {
        let container = stats.container(origin(pod, uid));
        container.records_read.add(1);
        container.lag_bytes.set(10);
    }
    let rows = Row::up_to(2, &shown.view.outputs);
    let found: Vec<_> =
        rows.iter().map(|row| (row.place.1.as_str(), row.containers, row.lag_bytes)).collect();
    assert_eq!(found, [(OTHER, 2, 20), ("web-0", 2, 20), ("web-1", 1, 10)]);
    let series = parsed(&text(&shared(shown)));
    let web = "output=\"search\",namespace=\"shop\",pod=\"web-0\",container=\"app\"";
    assert_eq!(series[&format!("taffrail_container_read_records_total{{{web}}}")], 2.0);
}

#[test]
fn a_name_in_a_label_cannot_leave_it() {
    let shown = shown();
    shown.view.outputs[0].1.container(origin("a\"} 1\nfaked 7\\", "u1"));
    let text = text(&shared(shown));
    assert!(text.lines().all(|line| !line.starts_with("faked")), "{text}");
}

#[test]
fn an_agent_that_does_not_run_yet_has_metrics_too() {
    let shared = shared(shown());
    *shared.life.lock().unwrap() = Life::Starting;
    assert!(parsed(&text(&shared)).contains_key("process_cpu_seconds_total"));
}

//! Containers whose pods are not known yet, and plans that follow what is known.

use super::*;
use crate::config::MetadataConfig;
use crate::metadata::table::{Change, Saved};

impl World {
    /// The same, where somebody is asked for more than the paths say, and waited for so long.
    pub(super) fn asking(mut self, wait: Duration) -> World {
        let config = MetadataConfig { wait, ..MetadataConfig::default() };
        self.table = Some(Arc::new(Table::new(config, Saved::default())));
        self
    }

    /// Kubelet and the API server say of a pod `a/b` that its container has run, and its label.
    pub(super) fn tells(&self, pod: &str, team: &str) {
        self.tells_all(pod, team, 0);
    }

    /// They say that its container runs for the so-manieth time.
    pub(super) fn tells_run(&self, pod: &str, restarts: u32) {
        self.tells_all(pod, "x", restarts);
    }

    fn tells_all(&self, pod: &str, team: &str, restarts: u32) {
        let status = serde_json::json!({ "name": "app", "restartCount": restarts, "containerID": format!("containerd://c{restarts}") });
        let pod = serde_json::json!({
            "metadata": { "namespace": "a", "name": pod, "uid": "u", "labels": { "team": team } },
            "spec": { "containers": [{ "name": "app", "image": "app:1" }] },
            "status": { "containerStatuses": [status] },
        });
        let pod = serde_json::from_value(pod).unwrap();
        self.table.as_ref().unwrap().apply([Change::Is(Box::new(pod))]);
    }
}

#[test]
fn a_container_of_an_unknown_pod_waits_a_while_and_others_go_on() {
    let world = World::with(&[
        ("a_b_u/app/0.log", &format!("{LINE} one\n")),
        ("a_c_u/app/0.log", &format!("{LINE} other\n")),
    ])
    .asking(Duration::from_secs(60));
    world.tells("c", "x");
    let mut worker = world.worker();
    while worker.step() {}
    assert_eq!(world.messages(), ["other"]);
    worker.tell_lag();
    assert_eq!(worker.stats.waiting_metadata(), 1);
    let next = worker.next_event();
    assert!(next > Duration::from_secs(8), "{next:?}");
    // Nothing comes of it: it goes with what the path says, and says so; and what comes later is told of what follows.
    let waiting = worker.containers.iter_mut().find(|c| c.waits.is_waiting()).unwrap();
    waiting.waits = Waits::Until(Instant::now());
    while worker.step() {}
    assert_eq!(world.documents()[1]["taffrail.metadata"], "path");
    append(&world.log("a_b_u/app/0.log"), &format!("{LINE} two\n"));
    world.tells("b", "y");
    world.catalog.refresh(soon());
    worker.take_news();
    while worker.step() {}
    let last = &world.documents()[2];
    assert_eq!((last["message"].as_str(), last.get("taffrail.metadata")), (Some("two"), None));
    assert_eq!(last["kubernetes"]["labels"]["team"], "y");
    assert_eq!(
        last["container"],
        serde_json::json!({ "id": "c0", "runtime": "containerd", "image": { "name": "app:1" } })
    );
    worker.tell_lag();
    assert_eq!(worker.stats.waiting_metadata(), 0);
}

#[test]
fn a_container_that_waits_is_begun_as_soon_as_it_is_known_and_its_plan_follows() {
    let world = World::with(&[("a_b_u/app/0.log", &format!("{LINE} one\n"))]).asking(Duration::from_secs(60));
    let mut worker = world.worker();
    assert!(!worker.step() && world.messages().is_empty());
    world.tells("b", "x");
    // Woken by the table, as by the catalog.
    worker.channels.wake.wait(Duration::from_secs(60));
    worker.take_news();
    while worker.step() {}
    for team in ["y", "z"] {
        world.tells("b", team);
        append(&world.log("a_b_u/app/0.log"), &format!("{LINE} more\n"));
        world.catalog.refresh(soon());
        worker.take_news();
        while worker.step() {}
    }
    let teams: Vec<_> = world.documents().iter().map(|d| d["kubernetes"]["labels"]["team"].clone()).collect();
    assert_eq!(teams, ["x", "y", "z"]);
}

#[test]
fn where_a_label_decides_nothing_goes_without_it_and_the_end_does_not_wait() {
    let world = World::with(&[("a_b_u/app/0.log", &format!("{LINE} one\n"))]).asking(Duration::ZERO);
    let mut worker = world.worker();
    let out = world.folder.path().join("{label:team}.ndjson").display().to_string();
    worker.settings.target = Some((Template::parse(&out).unwrap(), Safe::Path));
    worker.begin_again().unwrap();
    assert!(!worker.step());
    assert!(worker.next_event() > Duration::from_secs(8));
    worker.tell_lag();
    assert_eq!(worker.stats.waiting_metadata(), 1);
    world.phase.drain();
    assert!(!worker.run(), "it ends, and says that not everything was delivered");
    world.tells("b", "x");
    assert!(worker.run());
    let written = fs::read_to_string(world.folder.path().join("x.ndjson")).unwrap();
    assert!(written.contains("one"), "{written}");
}

/// As the streams of Container Insights are called.
#[test]
fn where_the_id_of_a_run_decides_each_restart_waits_until_it_is_heard_of_and_not_for_ever() {
    let logs = [0, 1, 2].map(|run| (format!("a_b_u/app/{run}.log"), format!("{LINE} run {run}\n")));
    let world = World::with(&logs.each_ref().map(|(path, text)| (path.as_str(), text.as_str())));
    let world = world.asking(Duration::from_secs(60));
    let mut worker = world.worker();
    let out = world.folder.path().join("{container}-{container_id}.ndjson").display().to_string();
    worker.settings.target = Some((Template::parse(&out).unwrap(), Safe::Path));
    worker.begin_again().unwrap();
    let written = |id: &str| {
        let text = fs::read_to_string(world.folder.path().join(format!("app-{id}.ndjson")));
        text.unwrap_or_default().matches("\"message\":\"run ").count()
    };
    while worker.step() {}
    assert_eq!([written("c0"), written("none")], [0, 0], "nothing is known of the pod");
    world.tells("b", "x");
    worker.take_news();
    while worker.step() {}
    assert_eq!([written("c0"), written("none")], [1, 0], "the next run is not known");
    world.tells("b", "y");
    worker.take_news();
    while worker.step() {}
    assert_eq!([written("c0"), written("none")], [1, 0], "news of something else does not end the wait");
    world.tells_run("b", 1);
    worker.take_news();
    while worker.step() {}
    assert_eq!([written("c0"), written("c1"), written("none")], [1, 1, 0]);
    // Of the last one nothing is ever heard.
    let now = Instant::now();
    worker.containers[0].awaited_run = Some((2, now));
    worker.containers[0].waits = Waits::Until(now);
    while worker.step() {}
    assert_eq!([written("c0"), written("c1"), written("none")], [1, 1, 1]);
}

#[test]
fn on_a_node_that_is_going_away_the_oldest_log_is_read_first_and_nothing_lingers() {
    let logs = [("a_b_u/app/0.log", "new"), ("a_c_u/app/0.log", "old"), ("a_d_u/app/0.log", "gone")];
    let texts = logs.map(|(path, text)| (path, format!("{LINE} {text}\n")));
    let world = World::with(&texts.each_ref().map(|(path, text)| (*path, text.as_str())));
    let world = world.asking(Duration::ZERO);
    let hour_ago = std::time::SystemTime::now() - Duration::from_secs(3600);
    fs::File::options().write(true).open(world.log(logs[1].0)).unwrap().set_modified(hour_ago).unwrap();
    let mut worker = world.worker();
    worker.settings.linger = Duration::from_secs(300);
    fs::remove_file(world.log(logs[2].0)).unwrap();
    assert!(world.table.as_ref().unwrap().set_leaving(true));
    while worker.step() {}
    // What is gone under its name is held open, or retained.
    let messages = world.messages();
    assert_eq!(messages[messages.len() - 2..], ["old", "new"], "{messages:?}");
    append(&world.log(logs[0].0), &format!("{LINE} more\n"));
    assert!(world.table.as_ref().unwrap().set_leaving(false));
    world.catalog.refresh(soon());
    worker.take_news();
    while worker.step() {}
    assert_eq!(world.messages(), messages, "it lingers again");
}

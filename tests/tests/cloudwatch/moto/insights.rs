//! configs/container-insights.toml: groups, streams and events as AWS's own set-up for Container Insights has them.

use super::kit::World;
use serde_json::{Value, json};
use std::fs;
use taffrail_tests::agent::Agent;
use taffrail_tests::cloudwatch::{Action, KEY, REGION};
use taffrail_tests::moto::Moto;
use taffrail_tests::{eventually, seconds};

/// The configuration, with this world's places in it and a cluster of its own.
fn config(world: &World, cluster: &str) -> String {
    let text = include_str!("../../../../configs/container-insights.toml");
    let (_, rest) = text.split_once("\n\n").expect("what is above the tables");
    let service = format!(
        "region = \"{REGION}\"\nendpoint = \"http://{}\"\nlinger = \"100ms\"",
        world.service.address()
    );
    let logs = world.node.path().join("log").display().to_string();
    let rest =
        rest.replace("region = \"ap-northeast-1\"", &service).replace("\"/var/log/", &format!("\"{logs}/"));
    world.node.config(&rest).replace("cluster = \"test\"", &format!("cluster = \"{cluster}\""))
}

#[test]
fn events_are_in_the_groups_streams_and_fields_that_queries_of_container_insights_know() {
    let world = World::new(|_| Action::Do);
    let cluster = format!("ci-{:08x}", fastrand::u32(..));
    let mut web = world.node.pod("web-0").namespace("shop").container("app");
    let times = [web.writes_line("plain"), web.writes_line(r#"{"level":"warn","n":1}"#)];
    fs::create_dir_all(world.node.path().join("log")).expect("a folder");
    let messages = world.node.path().join("log/messages");
    fs::write(&messages, "Nov 24 15:54:01 n1 systemd[1]: Started it.\nno syslog\n").expect("to write");
    let variables = [format!("AWS_ACCESS_KEY_ID={}", KEY.0), format!("AWS_SECRET_ACCESS_KEY={}", KEY.1)];
    let way = ["env", &variables[0], &variables[1], "AWS_EC2_METADATA_DISABLED=true"].map(str::to_owned);
    let agent = Agent::start_by(&way, &config(&world, &cluster), &world.node);

    let events = |group: &str, stream: &str| -> Vec<Value> {
        let stored = eventually(seconds(120), &format!("two events in {group}"), || {
            let stored = Moto::shared().events(&format!("/aws/containerinsights/{cluster}/{group}"), stream);
            if stored.len() == 2 { Ok(stored) } else { Err(format!("{stored:?}\n{}", agent.stderr())) }
        });
        stored.iter().map(|event| serde_json::from_str(&event.message).expect("JSON")).collect()
    };
    // Here nobody can be asked for the container's id.
    let mut found = events("application", "n1-application.var.log.containers.web-0_shop_app-none.log");
    found.iter_mut().for_each(|event| {
        let id = event["taffrail"]["id"].take();
        assert!(id.as_str().is_some_and(|id| id.len() > 20), "{id}");
    });
    let kubernetes = json!({ "pod_name": "web-0", "namespace_name": "shop", "pod_id": web.pod.uid, "host": "n1",
        "container_name": "app" });
    let event = |log: &str, time: &str| {
        json!({ "time": time, "stream": "stdout", "log": log, "taffrail": { "id": null },
            "kubernetes": kubernetes })
    };
    let mut processed = event(r#"{"level":"warn","n":1}"#, &times[1]);
    processed["log_processed"] = json!({ "level": "warn", "n": 1 });
    assert_eq!(found, [event("plain", &times[0]), processed]);

    let mut found = events("host", "n1.host.messages");
    found.iter_mut().for_each(|event| event["taffrail"] = Value::Null);
    let path = messages.display().to_string();
    assert_eq!(
        found,
        [
            json!({ "host": "n1", "ident": "systemd", "pid": "1", "message": "Started it.", "taffrail": null,
                "log.file.path": path }),
            json!({ "message": "no syslog", "taffrail": null, "log.file.path": path }),
        ]
    );
    world.clean();
}

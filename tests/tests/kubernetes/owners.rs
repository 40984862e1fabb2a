//! Owners, of pods that Kubernetes's own controllers made.

use serde_json::{Value, json};
use taffrail_tests::kubernetes::Kubernetes;
use taffrail_tests::node::{Node, Pod};
use taffrail_tests::{eventually, seconds};

use super::{agent, document};

/// The pod that a controller has made with this label, as its log is written.
fn made(cluster: &Kubernetes, node: &Node, namespace: &str, app: &str) -> Pod {
    eventually(seconds(60), &format!("the pod of {app}"), || {
        let target = format!("/api/v1/namespaces/{namespace}/pods?labelSelector=app%3D{app}");
        let list = cluster.send("GET", &target, &Value::Null);
        let meta = &list["items"][0]["metadata"];
        let name = meta["name"].as_str().ok_or("none yet")?;
        let mut pod = node.pod(name).namespace(namespace);
        pod.uid = meta["uid"].as_str().ok_or("no uid")?.to_owned();
        Ok(pod)
    })
}

#[test]
fn pods_know_their_owners_up_to_the_deployment_and_the_cron_job() {
    let cluster = Kubernetes::start(&["-controllers"]);
    let (node, namespace) = (cluster.node(), cluster.namespace());
    // No scheduler here: the template says which node.
    let template = |app: &str| {
        json!({ "metadata": { "labels": { "app": app } }, "spec": {
            "nodeName": node.name, "restartPolicy": if app == "backup" { "Never" } else { "Always" },
            "containers": [{ "name": "app", "image": "app:1" }] } })
    };
    let workload = |app: &str| {
        json!({ "metadata": { "name": app },
            "spec": { "selector": { "matchLabels": { "app": app } }, "template": template(app) } })
    };
    let post = |kind: &str, object: Value| cluster.send("POST", &format!("/apis/{kind}"), &object);
    let apps = |kind: &str| format!("apps/v1/namespaces/{namespace}/{kind}");
    post(&apps("deployments"), workload("web-shop"));
    let mut set = workload("db");
    set["spec"]["serviceName"] = "db".into();
    post(&apps("statefulsets"), set);
    post(&apps("daemonsets"), workload("agent"));
    post(&apps("replicasets"), workload("lonely"));
    let jobs = format!("batch/v1/namespaces/{namespace}");
    let cron = json!({ "metadata": { "name": "backup" }, "spec": { "schedule": "* * * * *", "suspend": true,
        "jobTemplate": { "spec": { "template": template("backup") } } } });
    let cron = post(&format!("{jobs}/cronjobs"), cron);
    // As the CronJob's own controller names it: by the minute that it is due.
    let minute = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() / 60;
    let job = format!("backup-{minute}");
    post(
        &format!("{jobs}/jobs"),
        json!({
            "metadata": { "name": job, "ownerReferences": [{ "apiVersion": "batch/v1", "kind": "CronJob", "name": "backup",
                "uid": cron["metadata"]["uid"], "controller": true }] },
            "spec": { "template": template("backup") },
        }),
    );
    let _agent = agent(&cluster, &node, "");
    for app in ["web-shop", "db", "agent", "lonely", "backup"] {
        let pod = made(&cluster, &node, &namespace, app);
        cluster.runs(&pod, &[("app", 0, "c0")]);
        pod.container("app").writes_line(&format!("I am {app}"));
        let document = document(&node, &format!("I am {app}"));
        let owner = |kind: &str| document.text(&format!("kubernetes.{kind}.name")).to_owned();
        let owners = ["deployment", "replicaset", "statefulset", "daemonset", "job", "cronjob"].map(owner);
        let replica_set = pod.name.rsplit_once('-').unwrap().0;
        let expected = match app {
            "web-shop" => ["web-shop", replica_set, "", "", "", ""],
            "db" => ["", "", "db", "", "", ""],
            "agent" => ["", "", "", "agent", "", ""],
            "lonely" => ["", "lonely", "", "", "", ""],
            _ => ["", "", "", "", job.as_str(), "backup"],
        };
        assert_eq!(owners, expected, "{}", document.source);
    }
}

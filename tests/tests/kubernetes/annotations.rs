//! What pods say of their own logs by annotations, as far as they may.

use serde_json::{Value, json};
use taffrail_tests::kubernetes::Kubernetes;
use taffrail_tests::listeners::metrics;
use taffrail_tests::{eventually, seconds};

use super::{agent, document, named};

fn annotated(name: &str, namespace: &str, annotations: Value) -> Value {
    let mut pod = named(name, namespace, json!({}));
    pod["metadata"]["annotations"] = annotations;
    pod
}

#[test]
fn pods_say_how_their_logs_are_read_and_where_it_is_allowed_whether_they_are_sent() {
    let cluster = Kubernetes::shared();
    let (node, open, strict) = (cluster.node(), cluster.namespace(), cluster.namespace());
    let wishes = json!({ "taffrail.io/json.app": "text", "taffrail.io/multiline": "auto", "taffrail.io/exclude.proxy": "true" });
    let web = cluster.pod(&node, annotated("web", &open, wishes.clone()));
    let other = cluster.pod(&node, annotated("other", &strict, wishes));
    for pod in [&web, &other] {
        cluster.runs(pod, &[("app", 0, "c0"), ("proxy", 0, "c1")]);
    }
    let (mut app, mut proxy) = (web.container("app"), web.container("proxy"));
    app.writes_line("{\"msg\":\"as text\"}");
    for line in ["ERROR in the shop", "java.io.IOException: no such file", "\tat shop.Cart.add(Cart.java:10)"]
    {
        app.writes_line(line);
    }
    proxy.writes_line("of the proxy");
    other.container("proxy").writes_line("not excluded there");
    let config = format!("[annotations.namespaces]\n\"{open}\" = [\"exclude\"]\n");
    let agent = agent(cluster, &node, &config);
    document(&node, "{\"msg\":\"as text\"}");
    document(&node, "ERROR in the shop\njava.io.IOException: no such file\n\tat shop.Cart.add(Cart.java:10)");
    document(&node, "not excluded there");
    agent.has_said("an annotation of a pod excludes its logs", 1);
    // Of the pod in the other namespace one wish is not followed, and counted once.
    let suppressed = |annotation: &str| {
        let series =
            format!("taffrail_suppressed_annotations_total{{output=\"local\",annotation=\"{annotation}\"}}");
        metrics(&node).get(&series).copied()
    };
    assert_eq!((suppressed("exclude"), suppressed("json")), (Some(1.0), Some(0.0)));
    // At run time: what is on the disk comes, too.
    cluster.patch(&web, json!({ "metadata": { "annotations": { "taffrail.io/exclude.proxy": null } } }));
    document(&node, "of the proxy");
    cluster.patch(&web, json!({ "metadata": { "annotations": { "taffrail.io/json.app": "nest" } } }));
    eventually(seconds(40), "JSON that is taken apart", || {
        app.writes_line("{\"msg\":\"nested\"}");
        let documents = node.delivered()?;
        let found = documents.iter().any(|document| document.message() == "nested");
        if found { Ok(()) } else { Err(format!("{} documents", documents.len())) }
    });
    assert_eq!(agent.terminate().code, Some(0));
}

#[test]
fn what_is_written_wrong_is_told_once_and_on_the_pod() {
    let cluster = Kubernetes::shared();
    let (node, shop) = (cluster.node(), cluster.namespace());
    let wrong = json!({ "taffrail.io/sample": "half", "taffrail.io/json": "text" });
    for name in ["one", "two"] {
        let pod = cluster.pod(&node, annotated(name, &shop, wrong.clone()));
        cluster.runs(&pod, &[("app", 0, "c0")]);
        pod.container("app").writes_line(&format!("of {name}"));
    }
    let agent = agent(cluster, &node, "[annotations]\nreport_events = true\nallow = [\"sample\"]\n");
    document(&node, "of one");
    document(&node, "of two");
    let events = eventually(seconds(40), "an event on each pod", || {
        let list = cluster.send("GET", &format!("/api/v1/namespaces/{shop}/events"), &Value::Null);
        let ours = |event: &&Value| event["reason"] == "LogAnnotationNotUnderstood";
        let events: Vec<Value> =
            list["items"].as_array().into_iter().flatten().filter(ours).cloned().collect();
        if events.len() == 2 { Ok(events) } else { Err(format!("{events:?}")) }
    });
    let mut pods: Vec<&str> =
        events.iter().filter_map(|event| event["involvedObject"]["name"].as_str()).collect();
    pods.sort();
    assert_eq!(pods, ["one", "two"]);
    assert_eq!(
        events[0]["message"],
        "taffrail.io/sample: \"half\" is not a share above 0 and up to 1, such as \"0.1\""
    );
    let ended = agent.terminate();
    assert_eq!(
        ended.stderr.matches("an annotation of a pod is not understood").count(),
        1,
        "{}",
        ended.stderr
    );
}

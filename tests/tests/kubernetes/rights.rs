//! What the agent may do at the API server, and what it does when it may not.

use serde_json::json;
use taffrail_tests::agent::Agent;
use taffrail_tests::kubernetes::{self, Account, Kubernetes};
use taffrail_tests::{eventually, seconds};

use super::{document, follows, named, web};

/// An account that may list and watch pods, and nothing else.
fn of_pods_only(cluster: &Kubernetes) -> Account<'_> {
    cluster.account(json!([{ "apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"] }]))
}

#[test]
fn the_right_to_list_and_watch_pods_is_enough_and_a_renewed_token_is_taken_up() {
    let cluster = Kubernetes::shared();
    let (node, shop) = (cluster.node(), cluster.namespace());
    let account = of_pods_only(cluster);
    let web = web(cluster, &node, &shop);
    let mut app = web.container("app");
    app.writes_line("first");
    // The watch must end for the token to be shown again: it is told that the server is silent.
    let config = format!("{}\n[metadata]\ntimeout = \"2s\"", node.to_file());
    let agent = Agent::start_by(&kubernetes::with(&account.kubeconfig()), &config, &node);
    assert_eq!(document(&node, "first").text("kubernetes.labels.v"), "1");
    account.revoke();
    agent.has_said("does not accept the agent's credentials", 1);
    account.renew();
    cluster.patch(&web, json!({ "metadata": { "labels": { "v": "2" } } }));
    follows(&mut app, &node, "2", seconds(90));
}

#[test]
fn an_agent_without_rights_says_once_what_it_lacks_and_goes_by_the_path() {
    let cluster = Kubernetes::shared();
    let (node, shop) = (cluster.node(), cluster.namespace());
    let account = cluster.account(json!([]));
    let mut app = cluster.pod(&node, named("web", &shop, json!({ "v": "1" }))).container("app");
    app.writes_line("first");
    let config = format!("{}\n[metadata]\nwait = \"500ms\"", node.to_file());
    let agent = Agent::start_by(&kubernetes::with(&account.kubeconfig()), &config, &node);
    let first = document(&node, "first");
    assert_eq!((first.text("taffrail.metadata"), first.get("kubernetes.labels")), ("path", None));
    agent.has_said("let its service account `get`, `list` and `watch` pods", 1);
    let asked = || cluster.requests("pods", "WATCH");
    let before = asked();
    eventually(
        seconds(30),
        "it to ask again",
        || if asked() > before { Ok(()) } else { Err("not yet".into()) },
    );
    let said = agent.terminate().stderr;
    assert_eq!(said.matches("forbids it").count(), 1, "{said}");
}

#[test]
fn namespaces_that_may_not_be_looked_at_are_told_once_and_nobody_waits_for_them() {
    let cluster = Kubernetes::shared();
    let (node, shop) = (cluster.node(), cluster.namespace());
    let account = of_pods_only(cluster);
    let web = web(cluster, &node, &shop);
    web.container("app").writes_line("first");
    let wanted = "[metadata]\nnamespace_labels = [\"*\"]\nnode_labels = [\"*\"]\nwait = \"5m\"";
    let config = format!("{}\n{wanted}", node.to_file());
    let agent = Agent::start_by(&kubernetes::with(&account.kubeconfig()), &config, &node);
    let first = document(&node, "first");
    assert_eq!(first.text("kubernetes.labels.v"), "1");
    assert_eq!((first.get("kubernetes.namespace_labels"), first.get("taffrail.metadata")), (None, None));
    let said = agent.terminate().stderr;
    assert_eq!(said.matches("forbids to look at").count(), 1, "{said}");
}

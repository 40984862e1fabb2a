//! The API server of the kit does what the other tests rely on.

use serde_json::json;
use taffrail_tests::kubernetes::Kubernetes;

#[test]
fn a_killed_api_server_returns_at_its_address_with_its_pods_and_tokens() {
    let cluster = Kubernetes::start(&[]);
    let node = cluster.node();
    let web = cluster.pod(&node, json!({ "metadata": { "name": "web", "namespace": cluster.namespace() } }));
    let address = cluster.address();
    cluster.kill9();
    assert!(cluster.try_send("GET", "/readyz", &json!(null)).is_err());
    cluster.returns();
    assert_eq!(cluster.address(), address);
    let path = format!("/api/v1/namespaces/{}/pods/web", web.namespace);
    assert_eq!(cluster.send("GET", &path, &json!(null))["metadata"]["uid"], web.uid);
    cluster.runs(&web, &[("app", 0, "abc")]);
    cluster.delete(&web);
    assert_eq!(cluster.try_send("GET", &path, &json!(null)).unwrap().status, 404);
}

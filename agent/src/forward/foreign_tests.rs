//! What foreign events become.

use serde_json::{Value, json};

use super::*;

fn document(group: &str, stream: &str, text: &str) -> Value {
    let source = Source { owner: "123456789012", group, stream };
    let mut out = Vec::new();
    append(&mut out, source, Kind::of(source), (1_795_449_241_123, text), None);
    let line = String::from_utf8(out).expect("text");
    assert_eq!(line.find('\n'), Some(line.len() - 1), "one line");
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

#[test]
fn a_text_says_where_it_came_from() {
    let expected = json!({
        "@timestamp": "2026-11-23T15:54:01.123000000Z",
        "message": "[WARN] \"a\"\nb",
        "log": { "level": "warn" },
        "aws": { "cloudwatch": { "log_group": "/g\"", "log_stream": "s" } },
        "cloud": { "provider": "aws", "account": { "id": "123456789012" } },
    });
    assert_eq!(document("/g\"", "s", "[WARN] \"a\"\nb"), expected);
}

#[test]
fn fargates_router_keeps_its_json_under_app() {
    let text = r#"{"log":"ERROR hi","stream":"stdout","kubernetes":{"pod_name":"p","namespace_name":"n"},"cloud":{},"_id":"x"}"#;
    let document = document("/g", "s", text);
    assert_eq!((&document["message"], &document["log"]["level"]), (&json!("ERROR hi"), &json!("error")));
    assert_eq!(document["app"]["kubernetes"]["pod_name"], "p");
    assert_eq!((document.get("kubernetes"), document.get("_id")), (None, None));
    assert_eq!(document["cloud"]["account"]["id"], "123456789012");
}

#[test]
fn a_functions_report_has_numbers() {
    let request = "8f5070d4-1234-5678-9abc-b64f6b1b2c3d";
    let text = format!(
        "REPORT RequestId: {request}\tDuration: 102.25 ms\tBilled Duration: 103 ms\tMemory Size: 128 MB\tMax Memory Used: 35 MB\tInit Duration: 20.5 ms\t\n"
    );
    let lambda = &document("/aws/lambda/f-1", "s", &text)["aws"]["lambda"];
    let expected = json!({ "function": "f-1", "request_id": request, "duration_ms": 102.25, "billed_duration_ms": 103.0,
        "memory_size_mb": 128.0, "max_memory_used_mb": 35.0, "init_duration_ms": 20.5 });
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(lambda[name].as_f64(), value.as_f64(), "{name}");
        assert_eq!(lambda[name].as_str(), value.as_str(), "{name}");
    }
    for text in [
        format!("START RequestId: {request} Version: $LATEST\n"),
        format!("2026-11-23T15:54:01.123Z\t{request}\tINFO\thello"),
        format!(r#"{{"level":"INFO","requestId":"{request}","message":"hello"}}"#),
    ] {
        let document = document("/aws/lambda/f-1", "s", &text);
        assert_eq!(document["aws"]["lambda"]["request_id"], request, "{text}");
    }
    for text in ["REPORT RequestId: x\tDuration: inf ms\tMemory Size: {} MB", "a\tb", "{\"requestId\":1}"] {
        assert_eq!(
            document("/aws/lambda/f", "s", text)["aws"]["lambda"],
            json!({ "function": "f" }),
            "{text}"
        );
    }
}

#[test]
fn an_audit_event_has_typed_fields() {
    let text = json!({
        "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "Metadata", "auditID": "a-1",
        "stage": "ResponseComplete", "requestURI": "/api/v1/namespaces/shop/pods/x?a=b", "verb": "delete",
        "user": { "username": "system:admin", "groups": ["g"] }, "sourceIPs": ["10.0.0.1", "10.0.0.2"],
        "userAgent": "kubectl", "objectRef": { "resource": "pods", "namespace": "shop", "name": "x", "apiVersion": "v1" },
        "responseStatus": { "metadata": {}, "code": 403 }, "annotations": { "a.b/c": "d" },
    });
    let document = document("/aws/eks/prod/cluster", "kube-apiserver-audit-0123", &text.to_string());
    let expected = json!({
        "audit_id": "a-1", "stage": "ResponseComplete", "verb": "delete",
        "request_uri": "/api/v1/namespaces/shop/pods/x?a=b", "user_agent": "kubectl", "source_ip": "10.0.0.1",
        "user": { "username": "system:admin" },
        "object_ref": { "resource": "pods", "namespace": "shop", "name": "x" },
        "response_status": { "code": 403 },
    });
    assert_eq!(document["kubernetes_audit"], expected);
    assert_eq!((&document["app"]["annotations"]["a.b/c"], document.get("kubernetes")), (&json!("d"), None));
    // A type that does not fit makes no field at all, and elsewhere such JSON is any JSON.
    let other = text.to_string().replace("403", "\"403\"");
    assert_eq!(
        self::document("/aws/eks/prod/cluster", "kube-apiserver-audit-0", &other).get("kubernetes_audit"),
        None
    );
    assert_eq!(self::document("/aws/eks/prod/cluster", "authenticator-0", "x").get("kubernetes_audit"), None);
}

#[test]
fn a_flow_log_has_numbers_and_only_what_is_one_has_them() {
    let text = "2 123456789010 eni-1235b8ca123456789 172.31.16.139 172.31.16.21 20641 22 6 20 4249 1418530010 1418530070 ACCEPT OK";
    let flow = document("/vpc", "eni-1", text)["aws"]["vpcflow"].clone();
    assert_eq!(
        (&flow["srcport"], &flow["bytes"], &flow["action"]),
        (&json!(20641), &json!(4249), &json!("ACCEPT"))
    );
    assert_eq!((&flow["srcaddr"], &flow["start"]), (&json!("172.31.16.139"), &json!(1_418_530_010)));
    let none = "2 123456789010 eni-1235b8ca123456789 - - - - - - - 1431280876 1431280934 - NODATA";
    let flow = document("/vpc", "eni-1", none)["aws"]["vpcflow"].clone();
    assert_eq!((flow.get("srcport"), &flow["log_status"]), (None, &json!("NODATA")));
    for text in [
        text.replace("20641", "many"),
        text.replace(" OK", ""),
        text.replace("22", "022"),
        format!("{text} x"),
    ] {
        assert_eq!(document("/vpc", "eni-1", &text)["aws"].get("vpcflow"), None, "{text}");
    }
}

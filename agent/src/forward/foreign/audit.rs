//! The audit log of an EKS control plane: JSON of `audit.k8s.io`.
//!
//! In: a text. Out: what panels ask for, under `kubernetes_audit`, each field of one type whatever the text says; the whole is
//! under `app`, as with all JSON.

use std::borrow::Cow;

use serde::Deserialize;

use super::{put, put_number};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Audit<'a> {
    #[serde(borrow, rename = "auditID")]
    audit_id: Cow<'a, str>,
    #[serde(borrow)]
    stage: Option<Cow<'a, str>>,
    #[serde(borrow)]
    verb: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "requestURI")]
    request_uri: Option<Cow<'a, str>>,
    #[serde(borrow)]
    user_agent: Option<Cow<'a, str>>,
    #[serde(borrow)]
    user: Option<User<'a>>,
    #[serde(borrow, rename = "sourceIPs", default)]
    source_ips: Vec<Cow<'a, str>>,
    #[serde(borrow)]
    object_ref: Option<ObjectRef<'a>>,
    response_status: Option<Status>,
}

#[derive(Deserialize)]
struct User<'a> {
    #[serde(borrow)]
    username: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ObjectRef<'a> {
    #[serde(borrow)]
    resource: Option<Cow<'a, str>>,
    #[serde(borrow)]
    subresource: Option<Cow<'a, str>>,
    #[serde(borrow)]
    namespace: Option<Cow<'a, str>>,
    #[serde(borrow)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    api_group: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Status {
    code: Option<i32>,
}

/// Appends `,"kubernetes_audit":{…}`; nothing if the text is no audit event.
pub(super) fn append(out: &mut Vec<u8>, text: &str) {
    let Ok(audit) = serde_json::from_str::<Audit<'_>>(text) else { return };
    out.extend_from_slice(br#","kubernetes_audit":{"#);
    put(out, "audit_id", &audit.audit_id);
    let texts = [
        ("stage", &audit.stage),
        ("verb", &audit.verb),
        ("request_uri", &audit.request_uri),
        ("user_agent", &audit.user_agent),
    ];
    put_all(out, &texts);
    if let Some(address) = audit.source_ips.first() {
        put(out, "source_ip", address);
    }
    if let Some(username) = audit.user.and_then(|user| user.username) {
        out.extend_from_slice(br#","user":{"#);
        put(out, "username", &username);
        out.push(b'}');
    }
    if let Some(object) = audit.object_ref {
        out.extend_from_slice(br#","object_ref":{"#);
        let texts = [
            ("resource", &object.resource),
            ("subresource", &object.subresource),
            ("namespace", &object.namespace),
            ("name", &object.name),
            ("api_group", &object.api_group),
        ];
        put_all(out, &texts);
        out.push(b'}');
    }
    if let Some(code) = audit.response_status.and_then(|status| status.code) {
        out.extend_from_slice(br#","response_status":{"#);
        put_number(out, "code", code);
        out.push(b'}');
    }
    out.push(b'}');
}

fn put_all(out: &mut Vec<u8>, texts: &[(&str, &Option<Cow<'_, str>>)]) {
    for (name, value) in texts {
        if let Some(value) = value {
            put(out, name, value);
        }
    }
}

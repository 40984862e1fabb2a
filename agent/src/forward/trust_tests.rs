//! Whom documents are taken from, and where they go.

use super::*;
use crate::config::Config;

fn trust(pairs: &str, target: &str) -> Trust {
    let text = format!(
        "[outputs.s]\ntype = \"elasticsearch\"\nendpoints = [\"http://a:1\"]\n{target}\n[forward]\ntrusted = [{pairs}]\n"
    );
    let config = Config::parse(&text, "t.toml").unwrap_or_else(|error| panic!("{error}"));
    let crate::config::OutputConfig::Elasticsearch(output) = &config.outputs["s"] else { panic!() };
    Trust::new(&config.forward.trusted, &output.target)
}

const CONSTANT: &str = r#","stream":"stdout","kubernetes":{"namespace":"shop","pod":{"name":"web-0","uid":"u1"},"container":{"name":"app"},"node":{"name":"n1"},"labels":{"team":"Pay"}},"orchestrator":{"cluster":{"name":"prod"}}}"#;
const TIME: &str = "2026-11-23T23:54:01.5-05:00";

fn index(trust: &mut Trust, group: &str, stream: &str, constant: &str) -> Option<String> {
    let place = trust.place(Source { owner: "123456789012", group, stream }, constant, TIME)?;
    let mut out = Vec::new();
    place.append_target(&mut out, TIME);
    String::from_utf8(out).ok()
}

#[test]
fn a_document_goes_where_the_direct_path_sends_it() {
    let pair = r#"{ owner = "123456789012", log_group = "/eks/{cluster}" }"#;
    let mut trust = trust(pair, "index = \"logs-{namespace}-{label:team}-{date}\"");
    let found = index(&mut trust, "/eks/prod", "shop/web-0/app", CONSTANT);
    assert_eq!(found.as_deref(), Some("logs-shop-pay-2026.11.24"));
    for (group, stream) in
        [("/eks/other", "shop/web-0/app"), ("/eks/prod", "shop/web-1/app"), ("/eks/prod:shop", "web-0/app")]
    {
        assert_eq!(index(&mut trust, group, stream, CONSTANT), None);
    }
    let other = Source { owner: "210987654321", group: "/eks/prod", stream: "shop/web-0/app" };
    assert!(trust.place(other, CONSTANT, TIME).is_none());
}

#[test]
fn names_with_a_date_must_have_the_documents_own() {
    let pair = r#"{ owner = "123456789012", log_group = "/eks/prod", log_stream = "{node}-{date}" }"#;
    let mut trust = trust(pair, "data_stream = \"logs-x\"");
    assert_eq!(index(&mut trust, "/eks/prod", "n1-2026.11.24", CONSTANT).as_deref(), Some("logs-x"));
    for stream in ["n1-2026.11.23", "n1-2026.11.244", "n2-2026.11.24", "n1-"] {
        assert_eq!(index(&mut trust, "/eks/prod", stream, CONSTANT), None, "{stream}");
    }
}

#[test]
fn a_stream_that_names_little_still_binds_what_it_names() {
    let pair = r#"{ owner = "123456789012", log_group = "/eks/{namespace}", log_stream = "{node}" }"#;
    let mut trust = trust(pair, "data_stream = \"logs-{namespace}\"");
    assert_eq!(index(&mut trust, "/eks/shop", "n1", CONSTANT).as_deref(), Some("logs-shop"));
    assert_eq!(index(&mut trust, "/eks/shop", "n1", &CONSTANT.replace("\"shop\"", "\"bank\"")), None);
    for broken in
        ["", ",", "{}", ",\"a\":1}", &CONSTANT[..60], &CONSTANT.replace("\"uid\":\"u1\"", "\"uid\":1")]
    {
        assert_eq!(index(&mut trust, "/eks/shop", "n1", broken), None, "{broken}");
    }
}

//! What a user sees of `auth` and `tls`: the whole language of the two tables, and each mistake.

use super::*;
use crate::config::connection::{ApiKeyAuth, AwsAuth, AwsService, BasicAuth, BearerAuth, TlsVersion};

const SEARCH: &str =
    "[outputs.s]\ntype = \"elasticsearch\"\nendpoints = [\"https://a:1\"]\nindex = \"logs-{date}\"\n";

fn search(lines: &str) -> ElasticsearchConfig {
    let config = Config::parse(&format!("{SEARCH}{lines}\n"), "t.toml")
        .unwrap_or_else(|problems| panic!("{problems}"));
    match config.outputs.into_values().next() {
        Some(OutputConfig::Elasticsearch(search)) => search,
        other => panic!("{other:?}"),
    }
}

/// What is said of lines after the fourth.
fn mistakes(lines: &str) -> String {
    match Config::parse(&format!("{SEARCH}{lines}\n"), "t.toml") {
        Ok(_) => "no mistakes".to_owned(),
        Err(problems) => problems.to_string(),
    }
}

#[test]
fn every_kind_of_authentication_can_be_written() {
    let env = |name: &str| SecretSource::Env(name.to_owned());
    for (lines, auth) in [
        ("", AuthConfig::None),
        ("auth = \"aws\"", AuthConfig::Aws(AwsAuth::default())),
        ("auth = { type = \"aws\" }", AuthConfig::Aws(AwsAuth::default())),
        (
            "auth = { type = \"aws\", service = \"aoss\", region = \"eu-west-1\", \
             role_arn = \"arn:aws:iam::1:role/logs\", external_id = \"x/1\" }",
            AuthConfig::Aws(AwsAuth {
                service: Some(AwsService::Aoss),
                region: Some("eu-west-1".to_owned()),
                role_arn: Some("arn:aws:iam::1:role/logs".to_owned()),
                external_id: Some("x/1".to_owned()),
            }),
        ),
        (
            "[outputs.s.auth]\ntype = \"basic\"\nusername = \"elastic\"\npassword = { env = \"PASS\" }",
            AuthConfig::Basic(BasicAuth { username: "elastic".to_owned(), password: env("PASS") }),
        ),
        (
            "auth = { type = \"api_key\", key.file = \"/k\" }",
            AuthConfig::ApiKey(ApiKeyAuth { key: SecretSource::File("/k".into()) }),
        ),
        (
            "auth = { type = \"bearer\", token = { env = \"T\" } }",
            AuthConfig::Bearer(BearerAuth { token: env("T") }),
        ),
    ] {
        assert_eq!(search(lines).auth, auth, "{lines}");
    }
}

#[test]
fn tls_can_be_written_in_full_and_left_out() {
    assert_eq!(search("").tls, TlsConfig::default());
    assert_eq!(
        search(
            "tls = { ca_file = \"/ca\", client_cert_file = \"/c\", client_key_file = \"/k\", server_name = \"Search.x\", \
             min_version = \"1.3\", insecure_skip_verify = true }"
        )
        .tls,
        TlsConfig {
            ca_file: Some("/ca".into()),
            client_cert_file: Some("/c".into()),
            client_key_file: Some("/k".into()),
            server_name: Some("search.x".to_owned()),
            min_version: TlsVersion::Tls13,
            insecure_skip_verify: true,
        }
    );
}

#[test]
fn a_secret_in_the_file_is_refused_and_not_shown() {
    assert_eq!(
        mistakes("auth = { type = \"basic\", username = \"elastic\", password = \"hunter2\" }"),
        "error: `password`: a secret cannot be written into the configuration
  --> t.toml:5:59
   |
 5 | auth = { type = \"basic\", username = \"elastic\", password = \"*******\" }
   |                                                           ^^^^^^^^^ name its place: { env = \"NAME\" } or { file = \"/path\" }; a secret does not belong here"
    );
    for lines in [
        "auth = \"hunter2\"",
        "auth = [\"hunter2\"]",
        "auth = { type = \"bearer\", token = \"hunter2\", x = 1 }",
        "auth = { type = \"bearer\", token = [\"hunter2\"] }",
        "auth = { type = \"bearer\", token = { env = \"hunter2!\" } }",
        "auth = { type = \"api_key\", key = hunter2 }",
        "auth = { type = \"basic\", password = \"hunter2\" }",
        "auth = { type = \"basic\", passwort = \"a\", password = 'hunter2' }",
        "auth = { type = \"none\", password = \"hunter2\" }",
        "[outputs.s.auth]\ntype = \"basic\"\nusername = \"a\"\npassword = \"hunter2\"",
    ] {
        let said = mistakes(lines);
        assert!(said.starts_with("error: "), "{said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
}

#[test]
fn mistakes_stand_where_they_are_with_what_to_do() {
    for (lines, message, help) in [
        ("auth = \"basic\"", "`auth = \"basic\"` does not say with what", "write a table"),
        ("auth = 5", "`auth` cannot be this", "write \"aws\", or a table whose `type` is `aws`"),
        ("auth = {}", "missing key `type` of `auth`", "one of `aws`, `basic`, `api_key` or `bearer`"),
        ("auth = { type = \"basik\" }", "there is no `auth` of type `basik`", "did you mean `basic`?"),
        ("auth = { type = 5 }", "`type` must be a string", "one of"),
        ("auth = { type = \"bearer\" }", "missing key `token`", "say where it comes from"),
        ("auth = { type = \"bearer\", tokn.env = \"A\" }", "unknown key `tokn`", "did you mean `token`?"),
        ("auth = { type = \"bearer\", token = {} }", "`token`: a secret has one place", "name its place"),
        (
            "auth = { type = \"bearer\", token = { env = \"A\", file = \"/b\" } }",
            "`token`: a secret has one",
            "",
        ),
        (
            "auth = { type = \"bearer\", token = { file = \"b\" } }",
            "`token`: `b` is not an absolute path",
            "begin",
        ),
        (
            "auth = { type = \"basic\", username = \"a:b\", password.env = \"A\" }",
            "`username`: this cannot be",
            "",
        ),
        ("auth = { type = \"aws\", service = \"ess\" }", "`service` cannot be `ess`", "did you mean `es`?"),
        ("auth = { type = \"aws\", region = \"\" }", "`region`: `` has letters", "write it as"),
        (
            "auth = { type = \"aws\", role_arn = \"logs\" }",
            "`role_arn`: `logs` is not the ARN",
            "write it as",
        ),
        ("auth = { type = \"aws\", external_id = \"x\" }", "`external_id` has no meaning without", "add"),
        ("tls = true", "`tls` must be a table", "write tls ="),
        ("tls = { ca = \"/a\" }", "unknown key `ca`", "allowed here: `ca_file`"),
        ("tls = { ca_file = \"a\" }", "`ca_file`: `a` is not an absolute path", "begin with"),
        (
            "tls = { client_cert_file = \"/a\" }",
            "`client_cert_file` has no meaning without `client_key_file`",
            "add",
        ),
        (
            "tls = { client_key_file = \"/a\" }",
            "`client_key_file` has no meaning without `client_cert_file`",
            "add",
        ),
        ("tls = { min_version = \"1.1\" }", "`min_version` cannot be `1.1`", "did you mean `1.2`"),
        ("tls = { min_version = 1.2 }", "`min_version` cannot be", ""),
        (
            "tls = { server_name = \"10.0.0.1\" }",
            "`server_name`: `10.0.0.1` is not a DNS name",
            "write the name",
        ),
        (
            "tls = { server_name = \"https://a\" }",
            "`server_name`: `https://a` is not a DNS name",
            "write the name",
        ),
        (
            "tls = { insecure_skip_verify = \"yes\" }",
            "`insecure_skip_verify` cannot be",
            "expected a boolean",
        ),
    ] {
        let text = format!("{SEARCH}{lines}\n");
        let problems = Config::parse(&text, "t.toml").expect_err(lines).0;
        let [problem] = problems.as_slice() else { panic!("{}", Diagnostics(problems)) };
        assert_eq!(problem.place.as_ref().map(|place| place.line), Some(5), "{problem}");
        assert!(problem.message.starts_with(message) && problem.help.starts_with(help), "{problem}");
    }
    let plain = SEARCH.replace("https", "http") + "tls = { ca_file = \"/a\" }\n";
    let said = Config::parse(&plain, "t.toml").expect_err("no TLS").to_string();
    assert!(said.contains("`tls` has no meaning for endpoints that begin with http://"), "{said}");
    let said = Config::parse("auth = \"aws\"\n[outputs.o]\ntype = \"stdout\"\n", "t.toml")
        .expect_err("no place")
        .to_string();
    assert!(said.contains("`auth` is for outputs of type `elasticsearch`"), "{said}");
}

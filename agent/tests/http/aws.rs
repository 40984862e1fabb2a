//! `auth = "aws"`: requests verified as AWS verifies them, with credentials from each place that can be had here.

use tokio::io::{AsyncBufReadExt, BufReader};

use crate::child;
use crate::kit::{Request, Server, done, reply};
use crate::sigv4::{self, Signed};

const ENVIRONMENT: [(&str, &str); 3] =
    [("AWS_ACCESS_KEY_ID", "AKIDENV"), ("AWS_SECRET_ACCESS_KEY", "hush/env+1"), ("AWS_REGION", "eu-west-1")];

fn verify(request: &Request, secret: impl Fn(&str) -> Option<String>) -> Result<Signed, String> {
    let Request { method, target, headers, body, .. } = request;
    sigv4::verify(&sigv4::Request { method, target, headers, body }, secret)
}

/// The keys that exist.
fn secret(key_id: &str) -> Option<String> {
    let secrets = [("AKIDENV", "hush/env+1"), ("ASIAWEB", "hush-web"), ("ASIAROLE", "hush-role")];
    secrets.iter().find(|(id, _)| *id == key_id).map(|(_, secret)| (*secret).to_owned())
}

/// An Amazon domain: answers what is signed, and refuses the rest with its reason.
async fn domain() -> Server {
    Server::plain(|request| match verify(request, secret) {
        Ok(_) => done(),
        Err(error) => reply("403 Forbidden", "content-type: text/plain\r\n", &error),
    })
    .await
}

/// A token service that gives `ASIAWEB` for the web identity `token-1`, and with it `ASIAROLE` for an external id.
async fn sts() -> Server {
    Server::plain(|request| {
        let form = String::from_utf8_lossy(&request.body).into_owned();
        let has = |field: &str| form.split('&').any(|pair| pair == field);
        let (action, key, secret) = if has("Action=AssumeRoleWithWebIdentity") && has("WebIdentityToken=token-1") {
            ("AssumeRoleWithWebIdentity", "ASIAWEB", "hush-web")
        } else if has("Action=AssumeRole") && has("ExternalId=their-id") && has("RoleSessionName=taffrail") {
            ("AssumeRole", "ASIAROLE", "hush-role")
        } else {
            let error = "<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code>\
                         <Message>no such identity</Message></Error></ErrorResponse>";
            return reply("403 Forbidden", "content-type: text/xml\r\n", error);
        };
        let body = format!(
            "<{action}Response xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><{action}Result><Credentials>\
             <AccessKeyId>{key}</AccessKeyId><SecretAccessKey>{secret}</SecretAccessKey>\
             <SessionToken>session+of/{key}==</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration>\
             </Credentials><AssumedRoleUser><Arn>arn:aws:sts::1:assumed-role/r/s</Arn>\
             <AssumedRoleId>A:s</AssumedRoleId></AssumedRoleUser></{action}Result></{action}Response>"
        );
        reply("200 OK", "content-type: text/xml\r\n", &body)
    })
    .await
}

#[tokio::test]
async fn keys_of_the_environment_sign_host_path_query_and_body() {
    let domain = domain().await;
    let lines =
        format!("endpoints = [\"{}/a%20b\"]\nauth = \"aws\"\npipeline = \"c d+é&e=f\"", domain.http());
    assert_eq!(child::run(&lines, &ENVIRONMENT).await, "done");
    let request = domain.request();
    assert!(request.target.ends_with("&pipeline=c%20d%2B%C3%A9%26e%3Df"), "{}", request.target);
    let signed = verify(&request, secret).expect("verified above");
    assert_eq!((&*signed.region, &*signed.service, &*signed.key_id), ("eu-west-1", "es", "AKIDENV"));
    assert_eq!(signed.headers, ["content-type", "host", "x-amz-date"]);

    // Whatever somebody on the way would change, the signature no longer fits.
    let changes: [fn(&mut Request); 5] = [
        |request| request.target = request.target.replace("_bulk", "_bulk/"),
        |request| request.target.push_str("&refresh=true"),
        |request| request.body.push(b'\n'),
        |request| request.method = "PUT".to_owned(),
        |request| {
            for (name, value) in &mut request.headers {
                if name == "host" {
                    value.push('0');
                }
            }
        },
    ];
    for change in changes {
        let mut changed = request.clone();
        change(&mut changed);
        verify(&changed, secret).expect_err("a changed request");
    }
}

#[tokio::test]
async fn serverless_collections_get_their_service_and_the_hash_of_the_body() {
    let domain = domain().await;
    let auth = "auth = { type = \"aws\", service = \"aoss\", region = \"us-east-1\" }";
    let lines = format!("endpoints = [\"{}\"]\n{auth}", domain.http());
    assert_eq!(child::run(&lines, &ENVIRONMENT).await, "done");
    let signed = verify(&domain.request(), secret).expect("verified above");
    assert_eq!((&*signed.region, &*signed.service), ("us-east-1", "aoss"));
    assert!(signed.headers.iter().any(|name| name == "x-amz-content-sha256"), "{signed:?}");
}

#[tokio::test]
async fn a_service_account_of_kubernetes_is_exchanged_for_credentials_and_waited_for() {
    let (domain, sts) = (domain().await, sts().await);
    let folder = tempfile::tempdir().expect("a folder");
    let token = folder.path().join("token");
    let sts_url = sts.http();
    let environment = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", token.to_str().expect("a path")),
        ("AWS_ROLE_ARN", "arn:aws:iam::1:role/logs"),
        ("AWS_REGION", "ap-northeast-1"),
        ("AWS_ENDPOINT_URL_STS", &sts_url),
    ];
    let lines = format!("endpoints = [\"{}\"]\nauth = \"aws\"", domain.http());
    let mut child = child::start(&lines, 10_000, &environment);
    let mut told = BufReader::new(child.stdout.take().expect("its output")).lines();
    let mut first = None;
    while let Some(line) = told.next_line().await.expect("a line") {
        let Some((_, said)) = line.split_once("> ") else { continue };
        if first.is_none() {
            first = Some(said.to_owned());
            // The node has booted: now the token is there.
            std::fs::write(&token, "token-1").expect("a file");
        } else if said == "done" {
            break;
        }
    }
    let first = first.expect("a first try");
    assert!(first.starts_with("no AWS credentials: ") && first.contains("(IRSA or Pod Identity)"), "{first}");
    let request = domain.request();
    let signed = verify(&request, secret).expect("verified above");
    assert_eq!((&*signed.key_id, &*signed.region), ("ASIAWEB", "ap-northeast-1"));
    assert_eq!(request.header("x-amz-security-token"), "session+of/ASIAWEB==");
    assert_eq!(sts.requests().len(), 1);
}

#[tokio::test]
async fn a_role_is_assumed_with_its_external_id() {
    let (domain, sts) = (domain().await, sts().await);
    let folder = tempfile::tempdir().expect("a folder");
    let token = folder.path().join("token");
    std::fs::write(&token, "token-1").expect("a file");
    let sts_url = sts.http();
    let environment = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", token.to_str().expect("a path")),
        ("AWS_ROLE_ARN", "arn:aws:iam::1:role/logs"),
        ("AWS_REGION", "ap-northeast-1"),
        ("AWS_ENDPOINT_URL_STS", &sts_url),
    ];
    let auth = "{ type = \"aws\", role_arn = \"arn:aws:iam::2:role/theirs\", external_id = \"their-id\" }";
    let lines = format!("endpoints = [\"{}\"]\nauth = {auth}", domain.http());
    assert_eq!(child::run(&lines, &environment).await, "done");
    assert_eq!(verify(&domain.request(), secret).expect("verified above").key_id, "ASIAROLE");
    let roles = sts.requests();
    assert_eq!(verify(&roles[1], secret).expect("signed with the first role").key_id, "ASIAWEB");
}

#[tokio::test]
async fn refused_credentials_are_told_without_being_shown() {
    let domain = domain().await;
    let lines = format!("endpoints = [\"{}\"]\nauth = \"aws\"", domain.http());
    let mut environment = ENVIRONMENT;
    environment[0].1 = "AKIDOTHER";
    let told = child::run(&lines, &environment).await;
    assert!(
        told.contains("answered 403 Forbidden: unknown key AKIDOTHER") && !told.contains("hush"),
        "{told}"
    );
    let told = child::run(&lines, &environment[..2]).await;
    assert!(told.starts_with("no AWS region: set `auth.region`, or AWS_REGION"), "{told}");
}

//! How an Elasticsearch output proves who it is and whom it trusts: its tables `auth` and `tls`.
//!
//! In: the values of those tables. Out: checked types, in which a secret is only ever named by the place that it comes
//! from. Never reads a secret or a certificate: that is the output's work, at the time of sending and again when they
//! change.

use std::fmt;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::diagnostic::Refusal;
use super::schema::form;
use super::units::{quoted, refused, text};
use super::values;

/// `auth`: how requests are authenticated. Absent: not at all.
#[derive(Debug, Clone, PartialEq, Eq, Default, JsonSchema)]
#[schemars(tag = "type", rename_all = "snake_case", transform = or_the_word)]
pub enum AuthConfig {
    /// No `Authorization` header; a client certificate (`tls.client_cert_file`) may still say who sends.
    #[default]
    #[schemars(skip)]
    None,
    /// `auth = "aws"` or `{ type = "aws", … }`: signed with AWS's Signature Version 4. The credentials are found as the AWS CLI
    /// finds them: environment, IRSA (web identity), EKS Pod Identity and ECS, profile, instance profile.
    Aws(AwsAuth),
    /// `{ type = "basic", … }`: a user and a password.
    Basic(BasicAuth),
    /// `{ type = "api_key", … }`: an API key of Elasticsearch.
    ApiKey(ApiKeyAuth),
    /// `{ type = "bearer", … }`: a token, such as one of a service account.
    Bearer(BearerAuth),
}

/// `auth = "aws"` needs no table.
fn or_the_word(schema: &mut schemars::Schema) {
    if let Some(serde_json::Value::Array(tables)) = schema.get_mut("oneOf") {
        tables.insert(0, serde_json::json!({ "const": "aws" }));
    }
}

impl AuthConfig {
    /// The secret of it and its key, where there is one.
    pub fn secret(&self) -> Option<(&'static str, &SecretSource)> {
        match self {
            AuthConfig::None | AuthConfig::Aws(_) => None,
            AuthConfig::Basic(basic) => Some(("auth.password", &basic.password)),
            AuthConfig::ApiKey(api_key) => Some(("auth.key", &api_key.key)),
            AuthConfig::Bearer(bearer) => Some(("auth.token", &bearer.token)),
        }
    }
}

/// Signed with AWS's Signature Version 4. The credentials are found as the AWS CLI finds them: environment, IRSA (web identity), EKS Pod
/// Identity and ECS, profile, instance profile.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AwsAuth {
    /// The service that requests are signed for. Default: `"aoss"` for endpoints whose name says so, else `"es"`.
    pub service: Option<AwsService>,
    /// The region that requests are signed for. Default: that in the endpoint's name, else as the AWS CLI finds it
    /// (`AWS_REGION`, profile, instance).
    #[serde(deserialize_with = "aws_name")]
    #[schemars(with = "AwsName")]
    pub region: Option<String>,
    /// A role to assume with the credentials found. Default: none.
    #[serde(deserialize_with = "role_arn")]
    #[schemars(with = "RoleArn")]
    pub role_arn: Option<String>,
    /// What the role's trust policy may ask for besides. Only with `role_arn`. Default: none.
    #[serde(deserialize_with = "aws_name")]
    #[schemars(with = "AwsName")]
    pub external_id: Option<String>,
}

/// The services that a request can be signed for, by the names that AWS signs with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AwsService {
    /// Amazon OpenSearch Service, of Elasticsearch domains too.
    Es,
    /// Amazon OpenSearch Serverless.
    Aoss,
}

impl AwsService {
    /// The name in the signature.
    pub fn as_str(self) -> &'static str {
        match self {
            AwsService::Es => "es",
            AwsService::Aoss => "aoss",
        }
    }
}

/// A user and a password, in the header of each request.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BasicAuth {
    /// The user, without `:`. Required.
    #[serde(deserialize_with = "username")]
    #[schemars(regex(pattern = "^[^:]+$"))]
    pub username: String,
    /// Where the password comes from. Required.
    pub password: SecretSource,
}

/// An API key of Elasticsearch.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApiKeyAuth {
    /// Where the key comes from: in the encoded form that Elasticsearch hands out, or as `ID:KEY`. Required.
    pub key: SecretSource,
}

/// A token, such as one of a service account.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BearerAuth {
    /// Where the token comes from. Required.
    pub token: SecretSource,
}

/// Where a secret comes from. The secret itself is never part of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// `{ env = "NAME" }`: a variable of the environment, read once at start.
    Env(String),
    /// `{ file = "/path" }`: a file, read again when it changes; white space at its end is not part of the secret.
    File(PathBuf),
}

form!(
    SecretSource,
    "Secret",
    "The place of a secret, never the secret itself: `{ env = \"NAME\" }`, a variable of the environment, read once at start; or \
     `{ file = \"/path\" }`, a file, read again when it changes.",
    {
        "oneOf": [
            {
                "type": "object",
                "properties": { "env": { "type": "string", "pattern": "^[A-Za-z0-9_]+$" } },
                "required": ["env"],
                "additionalProperties": false,
            },
            {
                "type": "object",
                "properties": { "file": { "type": "string", "pattern": "^/" } },
                "required": ["file"],
                "additionalProperties": false,
            },
        ],
    }
);

impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SecretSource::Env(name) => write!(f, "the environment's {name}"),
            SecretSource::File(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Whom the output trusts on `https`, and what it shows of itself. Files are read again when they change.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TlsConfig {
    /// The certificates of the authorities that may vouch for the server, PEM. Default: those of the system.
    #[serde(deserialize_with = "some_path")]
    #[schemars(with = "values::AbsolutePath")]
    pub ca_file: Option<PathBuf>,
    /// The certificate that the agent shows, PEM, followed by its intermediates. Default: none.
    #[serde(deserialize_with = "some_path")]
    #[schemars(with = "values::AbsolutePath")]
    pub client_cert_file: Option<PathBuf>,
    /// The key of that certificate, PEM and not encrypted. Default: none.
    #[serde(deserialize_with = "some_path")]
    #[schemars(with = "values::AbsolutePath")]
    pub client_key_file: Option<PathBuf>,
    /// The name that the server is asked for (SNI) and that its certificate must bear, where that is not the
    /// endpoint's. A proxy too would be asked for this name. Default: the endpoint's.
    #[serde(deserialize_with = "server_name")]
    pub server_name: Option<String>,
    /// The least version of TLS. Default `"1.2"`.
    pub min_version: TlsVersion,
    /// Whether any certificate will do: whoever is in between can then read and change everything. Default `false`.
    pub insecure_skip_verify: bool,
}

/// Versions of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
pub enum TlsVersion {
    /// TLS 1.2 or 1.3.
    #[default]
    #[serde(rename = "1.2")]
    Tls12,
    /// TLS 1.3 only.
    #[serde(rename = "1.3")]
    Tls13,
}

const SECRET_HELP: &str =
    "name its place: { env = \"NAME\" } or { file = \"/path\" }; a secret does not belong here";

impl<'de> Deserialize<'de> for SecretSource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<SecretSource, D::Error> {
        deserializer.deserialize_any(SecretVisitor)
    }
}

/// Reads `{ env = … }` or `{ file = … }`. Whatever else stands there may be the secret itself: no message repeats it.
struct SecretVisitor;

impl SecretVisitor {
    fn literal<E: Error>() -> E {
        refused(Refusal::new("a secret cannot be written into the configuration", SECRET_HELP))
    }
}

impl<'de> Visitor<'de> for SecretVisitor {
    type Value = SecretSource;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{ env = \"NAME\" } or { file = \"/path\" }")
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<SecretSource, E> {
        Err(Self::literal())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<SecretSource, E> {
        Err(Self::literal())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<SecretSource, E> {
        Err(Self::literal())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<SecretSource, E> {
        Err(Self::literal())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<SecretSource, E> {
        Err(Self::literal())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<SecretSource, A::Error> {
        Err(Self::literal())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<SecretSource, A::Error> {
        let wrong = || refused(Refusal::new("a secret has one place", SECRET_HELP));
        let source = match map.next_key::<String>()?.as_deref() {
            Some("env") => SecretSource::Env(map.next_value::<EnvName>()?.0),
            Some("file") => SecretSource::File(map.next_value::<values::AbsolutePath>()?.0),
            _ => return Err(wrong()),
        };
        if map.next_key::<String>()?.is_some() {
            return Err(wrong());
        }
        Ok(source)
    }
}

struct EnvName(String);

impl<'de> Deserialize<'de> for EnvName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text(deserializer, "the name of a variable in quotes", |name| {
            let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
            if name.is_empty() || !name.bytes().all(is_name) {
                // Not repeated: what is no name may be the secret.
                return Err(Refusal::new(
                    "this is not the name of a variable",
                    "write the variable's name, letters, digits and `_`, not its value",
                ));
            }
            Ok(EnvName(name.to_owned()))
        })
    }
}

fn some_path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PathBuf>, D::Error> {
    values::absolute_path(deserializer).map(Some)
}

/// Reads a user's name. The header joins it to the password with `:`, so it cannot hold one (RFC 7617).
fn username<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    text(deserializer, "a name in quotes", |name| {
        if name.is_empty() || name.contains(':') || name.chars().any(char::is_control) {
            return Err(Refusal::new(
                "this cannot be the name of a user",
                "write the name alone, without `:` and without the password",
            ));
        }
        Ok(name.to_owned())
    })
}

/// A name of AWS's, for the schema.
pub(super) struct AwsName;

form!(
    AwsName,
    "AwsName",
    "A name as AWS shows it, as in `\"ap-northeast-1\"`.",
    { "type": "string", "pattern": "^[!-~]+$" }
);

/// The ARN of a role, for the schema.
pub(super) struct RoleArn;

form!(
    RoleArn,
    "RoleArn",
    "The ARN of a role, as in `\"arn:aws:iam::123456789012:role/NAME\"`.",
    { "type": "string", "pattern": "^arn:aws.*:role/" }
);

pub(super) fn aws_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    text(deserializer, "a text in quotes", |name| {
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
            let message = format!("{} has letters that AWS does not take", quoted(name));
            return Err(Refusal::new(message, "write it as AWS shows it, as in \"ap-northeast-1\""));
        }
        Ok(Some(name.to_owned()))
    })
}

pub(super) fn role_arn<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    text(deserializer, "an ARN in quotes", |arn| {
        if !arn.starts_with("arn:aws") || !arn.contains(":role/") {
            let message = format!("{} is not the ARN of a role", quoted(arn));
            return Err(Refusal::new(message, "write it as \"arn:aws:iam::ACCOUNT:role/NAME\""));
        }
        Ok(Some(arn.to_owned()))
    })
}

fn server_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    text(deserializer, "a DNS name in quotes", |name| {
        let is_label = |label: &str| {
            !label.is_empty()
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        };
        let numbers = name.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        if name.len() > 253 || numbers || !name.split('.').all(is_label) {
            let message = format!("{} is not a DNS name", quoted(name));
            return Err(Refusal::new(message, "write the name alone, as the server's certificate has it"));
        }
        Ok(Some(name.to_ascii_lowercase()))
    })
}

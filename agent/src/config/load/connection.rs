//! The tables `auth` and `tls` of an Elasticsearch output.
//!
//! In: the output's table. Out: the two structs, their tables taken out of it; every mistake at its place. What
//! concerns both tables, or the endpoints as well, is checked here too.

use reqwest::Url;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Loader, Table};
use crate::config::connection::{ApiKeyAuth, AuthConfig, AwsAuth, BasicAuth, BearerAuth, TlsConfig};
use crate::config::diagnostic::{listed, suggestion};
use crate::config::keys::keys_of;
use crate::config::units::quoted;

/// What `type` of `auth` may be.
const TYPES: [&str; 4] = ["aws", "basic", "api_key", "bearer"];

impl<'a> Loader<'a> {
    /// `auth = "aws"`, or a table with a `type`.
    pub(super) fn auth(&mut self, output: &mut Table<'a>) -> Option<AuthConfig> {
        let Some((key, value)) = output.entries.remove_entry("auth") else { return Some(AuthConfig::None) };
        // A table's own span is its header; of an inline table that would be the `auth` alone.
        let span = value.span();
        let mut table = match value.into_inner() {
            DeValue::Table(entries) => Table { span, entries, reported: Vec::new() },
            DeValue::String(word) if word == "aws" => return Some(AuthConfig::Aws(AwsAuth::default())),
            DeValue::String(word) if TYPES.contains(&word.as_ref()) => {
                let message = format!("`auth = \"{word}\"` does not say with what");
                let help = format!("write a table: auth = {{ type = \"{word}\", … }}");
                self.problem(span, &message, &help);
                return None;
            }
            _ => {
                // What stands here may be a password: it is not repeated.
                let help = format!("write \"aws\", or a table whose `type` is {}", listed(&TYPES));
                self.problem(key.span(), "`auth` cannot be this", &help);
                return None;
            }
        };
        let Some(kind) = table.entries.remove("type") else {
            self.problem(table.span, "missing key `type` of `auth`", &format!("one of {}", listed(&TYPES)));
            return None;
        };
        let auth = match kind.get_ref().as_str() {
            Some("aws") => {
                self.unknown_keys(&mut table, &keys_of::<AwsAuth>());
                let aws = self.read::<AwsAuth>(&mut table)?;
                if aws.external_id.is_some() && aws.role_arn.is_none() {
                    let span = key_span(&table.entries, "external_id").unwrap_or(table.span);
                    self.problem(span, "`external_id` has no meaning without `role_arn`", "add `role_arn`");
                }
                AuthConfig::Aws(aws)
            }
            Some("basic") => {
                self.unknown_keys(&mut table, &keys_of::<BasicAuth>());
                AuthConfig::Basic(self.read(&mut table)?)
            }
            Some("api_key") => {
                self.unknown_keys(&mut table, &keys_of::<ApiKeyAuth>());
                AuthConfig::ApiKey(self.read(&mut table)?)
            }
            Some("bearer") => {
                self.unknown_keys(&mut table, &keys_of::<BearerAuth>());
                AuthConfig::Bearer(self.read(&mut table)?)
            }
            Some(other) => {
                let message = format!("there is no `auth` of type {}", quoted(other));
                self.problem(kind.span(), &message, &suggestion(other, &TYPES));
                return None;
            }
            None => {
                let help = format!("one of {}", listed(&TYPES));
                self.problem(kind.span(), "`type` must be a string", &help);
                return None;
            }
        };
        Some(auth)
    }

    /// The table `tls`.
    pub(super) fn tls(&mut self, output: &mut Table<'a>) -> Option<TlsConfig> {
        let written = output.entries.contains_key("tls");
        let Some(mut table) = self.table(output, "tls", "write tls = { ca_file = \"/path\" }") else {
            return (!written).then(TlsConfig::default);
        };
        self.unknown_keys(&mut table, &keys_of::<TlsConfig>());
        let tls = self.read::<TlsConfig>(&mut table)?;
        let (alone, other) = match (&tls.client_cert_file, &tls.client_key_file) {
            (Some(_), None) => ("client_cert_file", "client_key_file"),
            (None, Some(_)) => ("client_key_file", "client_cert_file"),
            _ => return Some(tls),
        };
        if !table.reported.iter().any(|reported| reported == other) {
            let span = key_span(&table.entries, alone).unwrap_or(table.span);
            let message = format!("`{alone}` has no meaning without `{other}`");
            self.problem(span, &message, &format!("add `{other}`, or leave both out"));
        }
        None
    }

    /// What the endpoints make impossible: TLS where none of them speaks it.
    pub(super) fn check_tls(&mut self, tls: Option<std::ops::Range<usize>>, endpoints: &[Url]) {
        if let Some(span) = tls
            && endpoints.iter().all(|endpoint| endpoint.scheme() == "http")
        {
            self.problem(
                span,
                "`tls` has no meaning for endpoints that begin with http://",
                "write https:// in `endpoints`, or leave `tls` out",
            );
        }
    }
}

/// Where a key of a table stands.
pub(super) fn key_span(entries: &DeTable<'_>, key: &str) -> Option<std::ops::Range<usize>> {
    entries.get_key_value(key).map(|(name, _)| Spanned::span(name))
}

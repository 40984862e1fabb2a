//! `[files.NAME]`: files of the host that are read beside the pod logs.
//!
//! In: one table of the configuration. Out: patterns that can be looked for as they stand. Never touches the disk.

use std::collections::BTreeMap;

use glob::Pattern;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use super::diagnostic::Refusal;
use super::schema::form;
use super::units::{self, quoted, refused, text};
use crate::catalog::host::fixed_folder;

/// One `[files.NAME]`: NAME is 1 to 64 small letters, digits, `-` and `_`, and goes to `event.dataset`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FilesConfig {
    /// Which files, absolute paths with the wildcards `*`, `?`, `[…]` and `**` (any folders), such as
    /// `["/var/log/syslog", "/var/log/nginx/*.log"]`. Compressed files are passed over. Required.
    #[serde(deserialize_with = "paths")]
    #[schemars(with = "Vec<PathPattern>")]
    pub paths: Vec<Pattern>,
    /// Which of these are left out, in the same form. Default none.
    #[serde(default, deserialize_with = "patterns")]
    #[schemars(with = "Vec<PathPattern>")]
    pub exclude: Vec<Pattern>,
    /// How lines are framed. Default `"plain"`.
    #[serde(default)]
    pub format: FilesFormat,
    /// What documents say under `labels`, and `{label:KEY}` in names: text by text. Default none.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// How the lines of a host file are framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FilesFormat {
    /// Every line that is not empty is a record, of the time at which it is read.
    #[default]
    Plain,
    /// As a container runtime writes (CRI, or docker's json-file), with its times.
    Container,
}

/// The pattern of a path, for the schema.
struct PathPattern;

form!(
    PathPattern,
    "PathPattern",
    "An absolute path with the wildcards `*`, `?`, `[…]` and `**` (any folders).",
    { "type": "string", "pattern": "^/.*[^/]$" }
);

fn paths<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Pattern>, D::Error> {
    let paths = patterns(deserializer)?;
    if paths.is_empty() {
        return Err(refused(Refusal::new(
            "the list is empty",
            "name at least one, as in [\"/var/log/syslog\"]",
        )));
    }
    Ok(paths)
}

fn patterns<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Pattern>, D::Error> {
    struct One(Pattern);
    impl<'de> Deserialize<'de> for One {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            text(deserializer, "a path in quotes", |text| pattern(text).map(One))
        }
    }
    Ok(Vec::<One>::deserialize(deserializer)?.into_iter().map(|one| one.0).collect())
}

fn pattern(text: &str) -> Result<Pattern, Refusal> {
    if !text.starts_with('/') || text.split('/').any(|part| part == "..") || text.contains('\0') {
        let message = format!("{} is not an absolute path", quoted(text));
        return Err(Refusal::new(message, "begin with `/`, and leave out `..`"));
    }
    if text.ends_with('/') {
        let message = format!("{} names a folder", quoted(text));
        return Err(Refusal::new(message, format!("name the files in it, as in \"{text}*.log\"")));
    }
    if fixed_folder(text).as_os_str() == "/" && text.contains("**") {
        let message = format!("{} looks through the whole file system", quoted(text));
        return Err(Refusal::new(message, "begin with a folder, as in \"/var/log/**/*.log\""));
    }
    units::pattern(text, text, "wildcards are `*`, `?`, `[…]`, and `**` as a folder's whole name")
}

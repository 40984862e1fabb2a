//! Single values that are more than a string: names, paths, endpoints, templates.
//!
//! In: one value of the file. Out: what the field of the configuration holds, or a refusal that says what to write.
//! Nothing here looks at a second value; what must fit together is checked in [`super::load`].

use std::path::{Component, Path, PathBuf};

use reqwest::Url;
use serde::de::{Deserialize, Deserializer};

use super::diagnostic::Refusal;
use super::schema::form;
use super::template::{Safe, Template};
use super::units::{quoted, refused, text, variables};

/// The longest name of a cluster or node, in bytes: that of a DNS name.
const NAME_BYTES: usize = 253;

/// The longest name of an ingest pipeline, in bytes: servers set no limit of their own below that of a URL.
const PIPELINE_BYTES: usize = 255;

/// The node's name where the configuration gives none: the environment's, else the host's.
pub fn default_node(environment: Option<String>) -> String {
    let host = || std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let filled = |name: String| Some(name.trim().to_owned()).filter(|name| !name.is_empty());
    environment.and_then(filled).or_else(|| host().and_then(filled)).unwrap_or_else(|| "localhost".to_owned())
}

/// The name of a cluster or a node, for the schema.
pub struct Name;

form!(
    Name,
    "Name",
    "A name of 1 to 253 bytes, without control characters.",
    { "type": "string", "minLength": 1, "maxLength": NAME_BYTES, "pattern": "[^ ]" }
);

/// Reads the name of a cluster or a node.
pub fn name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    text(deserializer, "a name in quotes", |name| {
        if name.trim().is_empty() {
            return Err(Refusal::new(
                "a name cannot be empty",
                "write a name, or leave the key out for its default",
            ));
        }
        if name.len() > NAME_BYTES || name.chars().any(char::is_control) {
            let message = format!("{} cannot be a name", quoted(name));
            return Err(Refusal::new(
                message,
                format!("at most {NAME_BYTES} bytes, without control characters"),
            ));
        }
        Ok(name.to_owned())
    })
}

/// Reads an absolute path.
pub fn absolute_path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
    AbsolutePath::deserialize(deserializer).map(|path| path.0)
}

/// Reads a list of absolute paths.
pub fn absolute_paths<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<PathBuf>, D::Error> {
    let paths = Vec::<AbsolutePath>::deserialize(deserializer)?;
    Ok(paths.into_iter().map(|path| path.0).collect())
}

/// An absolute path, where it is part of something else.
pub struct AbsolutePath(pub PathBuf);

form!(
    AbsolutePath,
    "Path",
    "An absolute path, without `..`.",
    { "type": "string", "pattern": "^/", "not": { "pattern": "(^|/)\\.\\.(/|$)" } }
);

impl<'de> Deserialize<'de> for AbsolutePath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text(deserializer, "an absolute path in quotes", |text| {
            let path = Path::new(text);
            let roundabout = path.components().any(|part| part == Component::ParentDir);
            if !path.is_absolute() || roundabout || text.contains('\0') {
                return Err(Refusal::new(
                    format!("{} is not an absolute path", quoted(text)),
                    "begin with `/`, and leave out `..`",
                ));
            }
            Ok(AbsolutePath(path.to_owned()))
        })
    }
}

form!(
    Template,
    "Template",
    "A name with placeholders, which begins with fixed text: `{cluster}`, `{namespace}`, `{pod}`, `{container}`, `{container_id}`, \
     `{node}`, `{uid}`, `{source}` (`pods`, or NAME of a `[files.NAME]`), `{label:KEY}` (`none` where it is missing), and `{date}`, \
     the record's own day, once at most. `{{` and `}}` stand for braces. Values are made safe for what the name is of.",
    { "type": "string", "pattern": "^([^{}]|\\{\\{|\\}\\})" }
);

/// The template of a file's path, for the schema.
pub struct PathTemplate;

form!(
    PathTemplate,
    "PathTemplate",
    "An absolute path with placeholders, as in names; a value never makes another folder.",
    { "type": "string", "pattern": "^/" }
);

/// The template of a log stream, for the schema.
pub struct StreamTemplate;

form!(
    StreamTemplate,
    "StreamTemplate",
    "A name with placeholders, which may begin with one.",
    { "type": "string", "minLength": 1 }
);

/// Reads the template of an index or a data stream.
pub fn index_template<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Template, D::Error> {
    text(deserializer, "a name such as \"logs-{namespace}\"", |text| checked_template(text, Safe::Index))
}

/// Reads the template of a file's path.
pub fn path_template<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Template, D::Error> {
    text(deserializer, "a path such as \"/out/{namespace}.ndjson\"", |text| {
        checked_template(text, Safe::Path)
    })
}

/// Reads the template of a log group.
pub fn log_group_template<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Template, D::Error> {
    text(deserializer, "a name such as \"/eks/{cluster}\"", |text| checked_template(text, Safe::LogGroup))
}

/// Reads the template of a log stream, which may begin with a value: no value can leave its group.
pub fn log_stream_template<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Template, D::Error> {
    text(deserializer, "a name such as \"{namespace}/{pod}/{container}\"", |text| {
        let template = Template::parse_unanchored(text)?;
        template.check(Safe::LogStream)?;
        Ok(template)
    })
}

fn checked_template(text: &str, safe: Safe) -> Result<Template, Refusal> {
    let template = Template::parse(text)?;
    template.check(safe)?;
    Ok(template)
}

/// Reads the name of an ingest pipeline.
pub fn pipeline<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    text(deserializer, "the name of a pipeline in quotes", |name| {
        if name.is_empty() || name.len() > PIPELINE_BYTES || name.chars().any(char::is_control) {
            return Err(Refusal::new(
                format!("{} cannot be the name of a pipeline", quoted(name)),
                format!(
                    "1 to {PIPELINE_BYTES} bytes, without control characters; leave the key out for none"
                ),
            ));
        }
        Ok(Some(name.to_owned()))
    })
}

/// The address of a server, for the schema.
pub struct Endpoint;

form!(
    Endpoint,
    "Endpoint",
    "A server: `https://` or `http://`, host and port, and a path only where a proxy wants one; no credentials.",
    { "type": "string", "pattern": "^[Hh][Tt][Tt][Pp][Ss]?://[^/@?#]" }
);

/// Reads the list of a destination's nodes.
pub fn endpoints<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Url>, D::Error> {
    struct Endpoint(Url);
    impl<'de> Deserialize<'de> for Endpoint {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            text(deserializer, "a URL in quotes", |text| endpoint(text).map(Endpoint))
        }
    }
    let endpoints = Vec::<Endpoint>::deserialize(deserializer)?;
    if endpoints.is_empty() {
        return Err(refused(Refusal::new(
            "the list is empty",
            "name at least one, as in [\"https://HOST:9200\"]",
        )));
    }
    Ok(endpoints.into_iter().map(|endpoint| endpoint.0).collect())
}

/// Reads the address of a server: scheme, host, port, and a path prefix, which loses its last `/`. Its messages do
/// not repeat the address, which may hold a password.
pub(super) fn endpoint(text: &str) -> Result<Url, Refusal> {
    const EXAMPLE: &str = "write it as \"https://HOST:9200\"";
    // `$HOST` would be the name of a server to the parser of URLs.
    if text.contains('$') {
        return Err(variables());
    }
    let mut url = Url::parse(text).map_err(|error| Refusal::new(format!("not a URL: {error}"), EXAMPLE))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(Refusal::new("a URL here begins with http:// or https://", EXAMPLE));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Refusal::new(
            "a URL cannot carry credentials",
            "take out what stands before the `@`: URLs end up in logs and metrics",
        ));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(Refusal::new("a URL here has no query and no fragment", "end it before the `?` or `#`"));
    }
    if url.path_segments().is_some_and(|mut segments| segments.any(|segment| segment.starts_with('_'))) {
        return Err(Refusal::new(
            "a URL here names the server, not one of its functions",
            "end it before the path that begins with `_`",
        ));
    }
    let prefix = url.path().trim_end_matches('/').to_owned();
    url.set_path(&prefix);
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_servers() {
        for (text, url) in [
            ("http://localhost:9200", "http://localhost:9200/"),
            ("https://search.example/es/", "https://search.example/es"),
            ("HTTPS://[::1]:443", "https://[::1]/"),
        ] {
            assert_eq!(endpoint(text).map(String::from), Ok(url.to_owned()));
        }
        for text in [
            "",
            "localhost:9200",
            "search",
            "ftp://a",
            "http://",
            "http://a/_bulk",
            "http://a?b",
            "http://a#b",
            "http://$HOST:9200",
            "http://${HOST}:9200",
        ] {
            assert!(endpoint(text).is_err(), "{text}");
        }
        let refusal = endpoint("https://me:hush@host").expect_err("credentials").to_string();
        assert!(refusal.contains("credentials") && !refusal.contains("hush"), "{refusal}");
    }

    #[test]
    fn a_node_is_named_by_its_environment_first() {
        assert_eq!(default_node(Some("node-1\n".to_owned())), "node-1");
        assert!(!default_node(Some(" ".to_owned())).trim().is_empty());
        assert!(!default_node(None).is_empty());
    }
}

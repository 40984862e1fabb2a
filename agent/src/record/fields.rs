//! Whose the fields of a document are, by their names.
//!
//! In: a name, with dots where it stands for members within members. Out: whether it is one that only the agent writes,
//! whether an application's own JSON may bring it, whether a configuration may give or change it. Names are compared as
//! they are read, not as they are escaped. Never looks at a document.

use std::borrow::Cow;

/// What only the agent writes, with all beneath it, in any form of document: Container Insights' own among them. Elastic's
/// `data_stream` could name another index.
const OWN: [&str; 14] = [
    "@timestamp",
    "cloud",
    "container",
    "data_stream",
    "host",
    "ident",
    "kubernetes",
    "log",
    "log_processed",
    "orchestrator",
    "pid",
    "stream",
    "taffrail",
    "time",
];

/// Likewise, beneath names that are free otherwise: which files of the host a record is of, and when its runtime wrote it.
const OWN_EVENT: [&str; 2] = ["event.dataset", CREATED];

/// The time that the container runtime wrote, where the document's own time is another.
pub const CREATED: &str = "event.created";

/// The longest name that a configuration or a merged member has.
const LONGEST: usize = 512;

fn root(name: &str) -> &str {
    name.split('.').next().unwrap_or(name)
}

/// Whether `name` is `path` or lies beneath it.
pub fn is_within(name: &str, path: &str) -> bool {
    name.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Whether two fields cannot be in one document: they are one, or one lies beneath the other.
pub fn overlap(one: &str, other: &str) -> bool {
    is_within(one, other) || is_within(other, one)
}

/// Whether only the agent writes it, or the destination itself (`_id`, `_index`).
pub fn is_own(name: &str) -> bool {
    name.starts_with('_')
        || name == "event"
        || OWN.contains(&root(name))
        || OWN_EVENT.iter().any(|own| is_within(name, own))
}

/// Whether every destination takes it for a name: no part of it is empty or blank.
fn is_sound(name: &str) -> bool {
    let is_good = |part: &str| !part.trim().is_empty() && !part.contains(['"', '\\', '*']);
    name.len() <= LONGEST && !name.contains(char::is_control) && name.split('.').all(is_good)
}

/// Whether a member of an application's JSON may stand at the top of the document, given its name as it is written
/// between its quotes: one with escapes may not.
pub fn is_free(name: &str) -> bool {
    is_sound(name) && !is_own(name) && !["app", "event", "labels", "message"].contains(&root(name))
}

/// Whether a configuration may give a record such a field.
pub fn may_be_given(name: &str) -> bool {
    is_sound(name) && !is_own(name) && root(name) != "message" && name != "app" && name != "labels"
}

/// Whether a configuration may change such a field.
pub fn may_be_changed(name: &str) -> bool {
    is_sound(name) && !is_own(name) && name != "app" && (name == "message" || root(name) != "message")
}

/// Whether a field at the top of what was made of a record is a program's: not its message, not the agent's own.
pub fn is_programs(name: &str) -> bool {
    !is_own(name) && !["labels", "message"].contains(&root(name))
}

/// The text that a token of valid JSON stands for: of a string what is between its quotes, unescaped.
pub fn text_of(token: &[u8]) -> Cow<'_, str> {
    let inner = token.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or(token);
    if inner.len() < token.len() && memchr::memchr(b'\\', inner).is_some() {
        // An escape of half a surrogate stands for no text: it is taken as it is written.
        if let Ok(text) = serde_json::from_slice::<String>(token) {
            return Cow::Owned(text);
        }
    }
    String::from_utf8_lossy(inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_the_agents_own_is_nobody_elses() {
        for name in [
            "kubernetes",
            "kubernetes.pod.name",
            "orchestrator.x",
            "cloud.region",
            "taffrail.id",
            "taffrail.metadata",
            "_id",
            "_index",
            "@timestamp",
            "container.id",
            "host",
            "host.name",
            "log",
            "log.level",
            "log.file.path",
            "stream",
            "data_stream.dataset",
            "event",
            "event.dataset",
            "event.created",
            "event.created.x",
        ] {
            assert!(is_own(name) && !is_free(name) && !may_be_given(name) && !may_be_changed(name), "{name}");
        }
        for (name, free, given, changed) in [
            ("order", true, true, true),
            ("user.id", true, true, true),
            ("kubernetes2", true, true, true),
            ("hostname", true, true, true),
            ("event.duration", false, true, true),
            ("labels.team", false, true, true),
            ("labels", false, false, true),
            ("app", false, false, false),
            ("app.env", false, true, true),
            ("message", false, false, true),
            ("message.x", false, false, false),
            ("", false, false, false),
            ("a..b", false, false, false),
            (".a", false, false, false),
            ("a.", false, false, false),
            ("a. ", false, false, false),
            ("a\\u0062", false, false, false),
            ("a\n", false, false, false),
        ] {
            assert_eq!(
                (is_free(name), may_be_given(name), may_be_changed(name)),
                (free, given, changed),
                "{name:?}"
            );
        }
        assert!(overlap("a", "a.b") && overlap("a.b", "a") && overlap("a", "a") && !overlap("a", "ab"));
    }

    #[test]
    fn a_token_stands_for_its_text() {
        for (token, text) in [
            (r#""a""#, "a"),
            (r#""kubernete\u0073""#, "kubernetes"),
            (r#""\ud800""#, r"\ud800"),
            ("1.5", "1.5"),
            (r#""""#, ""),
        ] {
            assert_eq!(text_of(token.as_bytes()), text);
        }
    }
}

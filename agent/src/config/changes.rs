//! What another configuration changes: for the log at a reload, and for `taffrail check`.
//!
//! In: two configurations with the texts that they were read from. Out: [`Changes`], by output and key, and whether a
//! running agent can take them. What is written otherwise but means the same is no change.

use std::collections::BTreeSet;
use std::fmt;

use toml::{Table, Value};

use super::{Config, OutputConfig};

/// Tables that have names of the user's choice within.
const NAMED: [&str; 2] = ["files", "outputs"];

/// What is different in another configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Each in a line.
    lines: Vec<String>,
    /// Keys that a running agent cannot take up, each with what it was and would be.
    pub only_by_restart: Vec<String>,
    /// Whether what carries records must begin anew for it.
    pub stops_pipeline: bool,
}

impl Changes {
    /// From one configuration to another.
    pub fn between(old: &Config, old_text: &str, new: &Config, new_text: &str) -> Changes {
        let lasting = Config {
            log: old.log,
            grace: old.grace,
            listen: old.listen,
            metrics_listen: old.metrics_listen,
            ..new.clone()
        };
        let mut changes = Changes { stops_pipeline: *old != lasting, ..Changes::default() };
        if old == new {
            return changes;
        }
        for (key, old, new) in [
            ("cluster", &old.cluster, &new.cluster),
            ("node", &old.node, &new.node),
            ("pod_logs", &old.pod_logs.display().to_string(), &new.pod_logs.display().to_string()),
            ("state_dir", &old.state_dir.display().to_string(), &new.state_dir.display().to_string()),
        ] {
            if old != new {
                changes.only_by_restart.push(format!("`{key}` from `{old}` to `{new}`"));
            }
        }
        // Both were read before, so that they are TOML.
        let [old_text, new_text] = [old_text, new_text].map(|text| text.parse::<Table>().unwrap_or_default());
        let [old_tables, new_tables] = [&old_text, &new_text].map(|text| {
            move |kind: &str, name: &str| text.get(kind).and_then(|named| named.get(name)).cloned()
        });
        for name in names(old.outputs.keys(), new.outputs.keys()) {
            match (old.outputs.get(name), new.outputs.get(name)) {
                (None, Some(output)) => changes.line(format!("output {name} added ({})", output.kind())),
                (Some(_), None) => {
                    changes.line(format!("output {name} removed (its positions are kept for a day)"));
                }
                (Some(old), Some(new)) if old != new => {
                    let keys = keys_of_output(
                        (old, new),
                        old_tables("outputs", name).as_ref(),
                        new_tables("outputs", name).as_ref(),
                    );
                    changes.line(format!("output {name} changed ({keys})"));
                }
                _ => {}
            }
        }
        for name in names(old.files.keys(), new.files.keys()) {
            match (old.files.get(name), new.files.get(name)) {
                (None, Some(_)) => changes.line(format!("files {name} added")),
                (Some(_), None) => changes.line(format!("files {name} removed")),
                (Some(old), Some(new)) if old != new => changes.line(format!("files {name} changed")),
                _ => {}
            }
        }
        let top = different(&old_text, &new_text).filter(|key| !NAMED.contains(&key.as_str()));
        let top: Vec<String> = top.collect();
        if !top.is_empty() {
            changes.line(format!("{} changed", top.join(", ")));
        }
        changes
    }

    fn line(&mut self, line: String) {
        self.lines.push(line);
    }

    /// The changes, each in a line.
    pub fn lines(&self) -> &[String] {
        &self.lines
    }
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines.join("; "))
    }
}

fn names<'a>(
    old: impl Iterator<Item = &'a String>,
    new: impl Iterator<Item = &'a String>,
) -> BTreeSet<&'a String> {
    old.chain(new).collect()
}

/// The keys of two tables whose values are not the same.
fn different(old: &Table, new: &Table) -> impl Iterator<Item = String> {
    let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    keys.into_iter().filter(|key| old.get(*key) != new.get(*key)).cloned().collect::<Vec<_>>().into_iter()
}

/// Which keys of an output are different. Written otherwise, a type may mean the same.
fn keys_of_output(
    (old, new): (&OutputConfig, &OutputConfig),
    old_table: Option<&Value>,
    new_table: Option<&Value>,
) -> String {
    let empty = Table::new();
    let [old_table, new_table] =
        [old_table, new_table].map(|table| table.and_then(Value::as_table).unwrap_or(&empty));
    let keys: Vec<String> =
        different(old_table, new_table).filter(|key| key != "type" || old.kind() != new.kind()).collect();
    keys.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(old: &str, new: &str) -> Changes {
        let [old_config, new_config] = [old, new].map(|text| Config::parse(text, "t.toml").unwrap());
        Changes::between(&old_config, old, &new_config, new)
    }

    const BASE: &str = "cluster = \"a\"\nnode = \"n\"\n[outputs.s]\ntype = \"elasticsearch\"\n\
                        endpoints = [\"http://a:1\"]\nindex = \"logs\"\n";

    #[test]
    fn each_change_is_told_by_its_output_and_key() {
        let more = format!("{BASE}[outputs.f]\ntype = \"file\"\npath = \"/out/x.ndjson\"\n");
        assert_eq!(changes(BASE, &more).to_string(), "output f added (file)");
        assert_eq!(changes(&more, BASE).to_string(), "output f removed (its positions are kept for a day)");
        let other = BASE.replace("http://a:1", "http://b:1").replace("index", "linger = \"2s\"\nindex");
        assert_eq!(changes(BASE, &other).to_string(), "output s changed (endpoints, linger)");
        let stdout = "cluster = \"a\"\nnode = \"n\"\n[outputs.s]\ntype = \"stdout\"\n";
        assert_eq!(changes(BASE, stdout).to_string(), "output s changed (endpoints, index, type)");
        let files = format!("{BASE}[files.sys]\npaths = [\"/l/x.log\"]\n");
        assert_eq!(changes(BASE, &files).to_string(), "files sys added");
        assert!(changes(BASE, &files).stops_pipeline);
        let top = format!("memory = \"128MiB\"\nrescan = \"3s\"\n{BASE}");
        assert_eq!(changes(BASE, &top).to_string(), "memory, rescan changed");
    }

    #[test]
    fn what_means_the_same_is_no_change() {
        let same = BASE
            .replace("elasticsearch", "opensearch")
            .replace("index", "# a remark\nlinger = \"1s\"\nindex");
        assert_eq!(changes(BASE, &same), Changes::default());
    }

    #[test]
    fn the_agents_own_log_and_its_grace_need_no_stop() {
        let light = format!("grace = \"60s\"\nlisten = \"off\"\n{BASE}[log]\nlevel = \"debug\"\n");
        let changes = changes(BASE, &light);
        assert_eq!(changes.to_string(), "grace, listen, log changed");
        assert!(!changes.stops_pipeline && changes.only_by_restart.is_empty());
    }

    #[test]
    fn what_keys_are_made_of_and_where_they_are_kept_changes_only_by_a_restart() {
        let other = format!("state_dir = \"/elsewhere\"\n{}", BASE.replace("\"a\"\n", "\"b\"\n"));
        assert_eq!(
            changes(BASE, &other).only_by_restart,
            ["`cluster` from `a` to `b`", "`state_dir` from `/var/log/taffrail` to `/elsewhere`"]
        );
    }
}

//! The tables `[files.NAME]`.
//!
//! In: the table of all of them. Out: each as it is read; every mistake at its place.

use std::collections::BTreeMap;

use toml::de::DeValue;

use super::{Loader, Table, is_name};
use crate::catalog::host::fixed_folder;
use crate::config::Config;
use crate::config::files::FilesConfig;
use crate::config::keys::keys_of;
use crate::config::units::{quoted, without_variables};

/// What `source` is of pods.
const PODS: &str = "pods";

impl<'a> Loader<'a> {
    /// All host files, by the names of their tables.
    pub(super) fn files(
        &mut self,
        files: Option<Table<'a>>,
        config: Option<&Config>,
    ) -> BTreeMap<String, FilesConfig> {
        let mut read = BTreeMap::new();
        for (name, value) in files.map(|table| table.entries).unwrap_or_default() {
            let (name_span, span) = (name.span(), value.span());
            let name = name.into_inner().into_owned();
            let DeValue::Table(entries) = value.into_inner() else {
                self.problem(
                    name_span,
                    &format!("`files.{}` must be a table", name.escape_debug()),
                    "host files have a name of your choice: write `[files.NAME]` above their keys",
                );
                continue;
            };
            if !is_name(&name) {
                self.problem(
                    name_span.clone(),
                    &format!("{} cannot be the name of host files", quoted(&name)),
                    "use 1 to 64 small letters, digits, `-` and `_`",
                );
            }
            if name == PODS {
                self.problem(
                    name_span,
                    "`pods` cannot be the name of host files: it is the source of the pods' logs",
                    "choose another name: routes and templates tell them apart by it",
                );
            }
            let mut table = Table { span, entries, reported: Vec::new() };
            self.unknown_keys(&mut table, &keys_of::<FilesConfig>());
            let Some(files) = self.read::<FilesConfig>(&mut table) else { continue };
            self.check_files(&table, &files, config);
            read.insert(name, files);
        }
        read
    }

    /// The pod logs are read already, and what the agent keeps is nobody's log.
    fn check_files(&mut self, table: &Table<'_>, files: &FilesConfig, config: Option<&Config>) {
        if let Some(refusal) = files.labels.values().find_map(|value| without_variables(value).err()) {
            self.problem(
                table.value_span("labels"),
                &format!("`labels`: {}", refusal.message),
                &refusal.help,
            );
        }
        let Some(config) = config else { return };
        for pattern in &files.paths {
            let folder = fixed_folder(pattern.as_str());
            let what = if folder.starts_with(&config.pod_logs) {
                "`pod_logs`, which are read already"
            } else if folder.starts_with(&config.state_dir) {
                "`state_dir`, where the agent keeps its own files"
            } else {
                continue;
            };
            let message = format!("{} lies within {what}", quoted(pattern.as_str()));
            self.problem(table.value_span("paths"), &message, "leave it out");
        }
    }
}

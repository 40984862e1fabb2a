//! The table `[metadata]`.
//!
//! In: the table. Out: it as it is read; every mistake at its place.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Loader, Table};
use crate::config::MetadataConfig;
use crate::config::diagnostic::suggestion;
use crate::config::keys::keys_of;
use crate::config::metadata::{FIELDS, LABEL_FIELDS};
use crate::config::units::quoted;

impl<'a> Loader<'a> {
    /// What is told of pods.
    pub(super) fn metadata(&mut self, mut table: Table<'a>) -> Option<MetadataConfig> {
        self.unknown_keys(&mut table, &keys_of::<MetadataConfig>());
        let metadata = self.read::<MetadataConfig>(&mut table)?;
        self.time(&table, "wait", metadata.wait, Duration::ZERO..=Duration::from_secs(300));
        self.time(&table, "timeout", metadata.timeout, Duration::from_secs(1)..=Duration::from_secs(3600));
        if metadata.label_fields.len() > LABEL_FIELDS {
            let message = format!("`label_fields` has more than {LABEL_FIELDS} labels");
            let help = "each is a field of every index: choose those that dashboards add up by";
            self.problem(table.value_span("label_fields"), &message, help);
        }
        // Twice a name in an object: a server would refuse every document.
        let mut seen = BTreeMap::new();
        for (key, field) in metadata.label_fields() {
            if key.is_empty() {
                let help = "name labels by their keys, as in \"team\"";
                self.problem(table.value_span("label_fields"), "a label without a name", help);
            }
            if let Some(other) = seen.insert(field, key) {
                let message = format!("`label_fields`: {} and {} have one field", quoted(other), quoted(key));
                self.problem(table.value_span("label_fields"), &message, "leave one of them out");
            }
        }
        // A field that is misspelt would be missed only when it is looked for.
        for pattern in metadata.fields.idle(&FIELDS) {
            let message = format!("`fields`: there is no field {}", quoted(pattern));
            self.problem(table.value_span("fields"), &message, &suggestion(pattern, &FIELDS));
        }
        Some(metadata)
    }
}

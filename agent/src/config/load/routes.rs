//! The tables `[[routes]]`.
//!
//! In: the list of them. Out: each as it is read; every mistake at its place. What concerns several routes is checked here
//! too: an output that is none, a route that nothing can reach, an output that a record would enter twice.

use toml::Spanned;
use toml::de::DeValue;

use super::{Loader, Table};
use crate::config::diagnostic::suggestion;
use crate::config::keys::keys_of;
use crate::config::routes::{Earlier, fields};
use crate::config::units::quoted;
use crate::config::{FilesConfig, MetadataConfig, OutputConfig, RouteConfig};
use std::collections::BTreeMap;

impl<'a> Loader<'a> {
    /// All routes, in their order.
    pub(super) fn routes(
        &mut self,
        routes: Option<Spanned<DeValue<'a>>>,
        outputs: &BTreeMap<String, OutputConfig>,
        files: &BTreeMap<String, FilesConfig>,
        metadata: Option<&MetadataConfig>,
        keyed: bool,
    ) -> Vec<RouteConfig> {
        let Some(routes) = routes else { return Vec::new() };
        let span = routes.span();
        let DeValue::Array(list) = routes.into_inner() else {
            self.problem(
                span,
                "`routes` must be a list of tables",
                "write `[[routes]]` above the keys of each",
            );
            return Vec::new();
        };
        // What gives a label, and its name.
        let mut labels: Vec<(String, String)> = Vec::new();
        for (name, files) in files {
            labels.extend(files.labels.keys().map(|label| (format!("files.{name}"), label.clone())));
        }
        let of_pods = metadata.into_iter().flat_map(MetadataConfig::label_fields);
        labels.extend(of_pods.map(|(_, field)| ("metadata.label_fields".to_owned(), field)));
        let mut read: Vec<RouteConfig> = Vec::new();
        let mut earlier = Earlier::default();
        for value in list {
            let span = value.span();
            let DeValue::Table(entries) = value.into_inner() else {
                self.problem(span, "a route must be a table", "write `[[routes]]` above its keys");
                continue;
            };
            let mut table = Table { span, entries, reported: Vec::new() };
            self.unknown_keys(&mut table, &keys_of::<RouteConfig>());
            let Some(route) = self.read::<RouteConfig>(&mut table) else { continue };
            self.check_route(&table, &route, &read, outputs);
            self.check_reach(&table, &route, &read, &earlier);
            for (key, message, help) in fields::conflicts(&route, &labels, keyed) {
                self.problem(table.value_span(key), &message, &help);
            }
            if !route.goes_on {
                earlier.add(read.len(), &route.matches);
            }
            read.push(route);
        }
        read
    }

    fn check_route(
        &mut self,
        table: &Table<'_>,
        route: &RouteConfig,
        before: &[RouteConfig],
        outputs: &BTreeMap<String, OutputConfig>,
    ) {
        let names: Vec<&str> = outputs.keys().map(String::as_str).collect();
        for (key, list) in [("outputs", &route.outputs), ("selectable_outputs", &route.selectable_outputs)] {
            for output in list.iter().filter(|output| !outputs.contains_key(*output)) {
                let message = format!("there is no output {}", quoted(output));
                self.problem(table.value_span(key), &message, &suggestion(output, &names));
            }
            self.no_name_twice(table, key, list);
        }
        if let Some(refusal) = route.matches.in_vain() {
            let message = format!("`match`: {}", refusal.message);
            self.problem(table.value_span("match"), &message, &refusal.help);
        }
        for output in &route.outputs {
            if before.iter().any(|earlier| earlier.goes_on && earlier.outputs.contains(output)) {
                self.problem(
                    table.value_span("outputs"),
                    &format!("an earlier route with `continue = true` sends to {} as well", quoted(output)),
                    "a record enters an output once: name the output in one of them only",
                );
            }
        }
    }

    /// That no route before it takes all that it would.
    fn check_reach(
        &mut self,
        table: &Table<'_>,
        route: &RouteConfig,
        before: &[RouteConfig],
        earlier: &Earlier,
    ) {
        let mut candidates = earlier.candidates(&route.matches).into_iter();
        let taken = candidates.find(|&at| before[at].matches.covers(&route.matches));
        if let Some((number, earlier)) = taken.map(|at| (at + 1, &before[at])) {
            let what = if earlier.matches.is_empty() { "everything" } else { "all that it matches" };
            let message =
                format!("nothing reaches this route: number {number} ({}) takes {what}", earlier.matches);
            self.problem(
                table.span.clone(),
                &message,
                "move it above that one, or give that one `continue = true`",
            );
        }
    }
}

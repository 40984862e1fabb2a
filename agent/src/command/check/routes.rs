//! What `taffrail check` says of the routes.
//!
//! In: the configuration. Out: lines of the summary, and warnings of what is seldom meant. Asks nobody.

use std::fmt::Write as _;

use crate::config::routes::{ConditionsConfig, Json};
use crate::config::{AnnotationsConfig, Config, EventFormat, OutputConfig, RouteConfig};
use crate::metadata::connection;

/// What becomes of which logs, to read.
pub fn summary(text: &mut String, config: &Config) {
    if config.annotations != AnnotationsConfig::default() {
        let _ = writeln!(text, "\nannotations of pods that are followed\n  {}", config.annotations);
    }
    if config.routes.is_empty() {
        return;
    }
    let _ = writeln!(text, "\nroutes, of which the first that matches decides");
    for (number, route) in (1..).zip(&config.routes) {
        let to = if route.outputs.is_empty() { "nowhere".to_owned() } else { route.outputs.join(", ") };
        let _ = writeln!(text, "  {number:<8} {} to {to}{}", route.matches, treatment(route));
    }
    if !takes_all(config) {
        let _ = writeln!(text, "  others   go nowhere");
    }
}

/// Whether there is a route for everything that no other takes.
fn takes_all(config: &Config) -> bool {
    config.routes.iter().any(|route| route.matches.is_empty() && !route.goes_on)
}

/// What a route does with records, each thing behind a semicolon.
pub fn treatment(route: &RouteConfig) -> String {
    let mut all = Vec::new();
    let fields = |conditions: &ConditionsConfig| Vec::from_iter(conditions.fields()).join(", ");
    all.extend(route.keep.as_ref().map(|keep| format!("keeps by {}", fields(keep))));
    all.extend(route.drop.as_ref().map(|drop| format!("drops by {}", fields(drop))));
    all.extend(route.sample.as_ref().map(|sample| match &sample.by {
        Some(by) => format!("samples {} by {}", sample.rate, by.join(".")),
        None => format!("samples {}", sample.rate),
    }));
    all.extend(route.multiline.as_ref().map(|lines| format!("joins lines: {lines}")));
    all.extend((route.json == Json::Text).then(|| "JSON as text".to_owned()));
    all.extend((route.json == Json::Merge).then(|| "merges JSON".to_owned()));
    all.extend(route.parse.as_ref().map(|form| format!("parses {form}")));
    let redacted: Vec<&str> = route.redact.iter().map(|redaction| redaction.name()).collect();
    let how = if route.hashes_what_it_redacts() { ", as hashes" } else { "" };
    all.extend((!redacted.is_empty()).then(|| format!("redacts {}{how}", redacted.join(", "))));
    let names = |names: Vec<&String>| names.into_iter().cloned().collect::<Vec<_>>().join(", ");
    for (what, fields) in [
        ("renames", Vec::from_iter(route.rename.keys())),
        ("removes", route.remove.iter().collect()),
        ("hashes", route.hash.iter().collect()),
        ("truncates", route.truncate.keys().collect()),
        ("adds", route.add.keys().collect()),
    ] {
        all.extend((!fields.is_empty()).then(|| format!("{what} {}", names(fields))));
    }
    all.extend(route.time.as_ref().map(|time| format!("takes the time from {time}")));
    let selectable = &route.selectable_outputs;
    all.extend((!selectable.is_empty()).then(|| format!("or, as pods choose, to {}", selectable.join(", "))));
    all.extend(route.mandatory.then(|| "whatever pods say".to_owned()));
    all.extend(route.goes_on.then(|| "and goes on".to_owned()));
    all.iter().map(|one| format!("; {one}")).collect()
}

/// What would hardly be meant so.
pub fn warnings(config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    if config.routes.is_empty() {
        return warnings;
    }
    for name in config.outputs.keys() {
        let names =
            |route: &RouteConfig| route.outputs.contains(name) || route.selectable_outputs.contains(name);
        if !config.routes.iter().any(names) {
            warnings.push(format!(
                "outputs.{name}: no route names it, so that it gets nothing; add it to the `outputs` of a `[[routes]]`"
            ));
        }
    }
    for (number, route) in (1..).zip(&config.routes) {
        let raw = route.outputs.iter().find(|name| match config.outputs.get(*name) {
            Some(OutputConfig::CloudWatch(output)) => output.format == EventFormat::Raw,
            _ => false,
        });
        let has_more = route.json == Json::Merge
            || !route.add.is_empty()
            || !route.rename.is_empty()
            || route.time.is_some();
        if let Some(name) = raw.filter(|_| has_more) {
            warnings.push(format!(
                "routes: number {number} ({}) gives records fields or times, and outputs.{name} sends lines as they are \
                 (`format = \"raw\"`): it has none of that",
                route.matches
            ));
        }
    }
    let asks = connection::access(&config.metadata).is_some();
    for (number, route) in
        (1..).zip(&config.routes).filter(|(_, route)| !asks && route.matches.needs_metadata())
    {
        warnings.push(format!(
            "routes: number {number} ({}) asks for what the API server knows of a pod, and nobody asks it here, so that \
             no pod has any of it; in a cluster its API server is asked, or that of KUBECONFIG",
            route.matches
        ));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
        metadata.source = "path"
        [[routes]]
        match = { namespace = ["payments-*", "!payments-test"], labels.app = "api" }
        keep = { level = ">=info", message = "x" }
        drop = { app.status = 200 }
        sample = { rate = 0.5, by = "app.trace_id" }
        json = "text"
        multiline = "auto"
        redact = ["email", { name = "ssn", regex = 'x' }]
        outputs = ["a", "b"]
        continue = true
        [[routes]]
        match = { container = "istio-proxy" }
        outputs = []
        selectable_outputs = ["a"]
        mandatory = true
        [annotations]
        allow = []
        [annotations.namespaces]
        "team-*" = ["exclude", "output"]
        [outputs.a]
        type = "stdout"
        [outputs.b]
        type = "stdout"
        [outputs.c]
        type = "stdout"
    "#;

    fn config(text: &str) -> Config {
        Config::parse(text, "f").unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn every_route_is_told_and_what_none_of_them_takes() {
        let mut text = String::new();
        summary(&mut text, &config(TEXT));
        assert_eq!(
            text,
            "
annotations of pods that are followed
  none; in team-*: exclude, output

routes, of which the first that matches decides
  1        namespace payments-* or !payments-test, labels.app api to a, b; keeps by level, message; drops by app.status; \
             samples 0.5 by app.trace_id; joins lines: auto; JSON as text; redacts email, ssn; and goes on
  2        container istio-proxy to nowhere; or, as pods choose, to a; whatever pods say
  others   go nowhere
"
        );
        text.clear();
        summary(&mut text, &config("[[routes]]\noutputs = [\"a\"]\n[outputs.a]\ntype = \"stdout\"\n"));
        assert!(text.contains("1        everything to a\n") && !text.contains("nowhere"), "{text}");
        text.clear();
        summary(&mut text, &Config::default());
        assert_eq!(text, "");
    }

    #[test]
    fn what_is_done_with_fields_is_told_and_that_raw_lines_have_none() {
        let config = config(
            r#"
            hash_key = { env = "K" }
            [[routes]]
            json = "merge"
            redact = "email"
            redact_as = "hash"
            rename = { user_id = "user.id" }
            remove = ["password", "debug.*"]
            hash = "user.id"
            truncate = { message = "8KiB" }
            add = { labels.team = "shop" }
            time = "app.ts"
            outputs = ["raw"]
            [outputs.raw]
            type = "cloudwatch"
            region = "eu-west-1"
            format = "raw"
            "#,
        );
        let mut text = String::new();
        summary(&mut text, &config);
        let expected = "everything to raw; merges JSON; redacts email, as hashes; renames user_id; removes password, debug.*; \
                        hashes user.id; truncates message; adds labels.team; takes the time from app.ts\n";
        assert!(text.contains(expected), "{text}");
        let said = warnings(&config);
        assert!(said.iter().any(|one| one.contains("outputs.raw sends lines as they are")), "{said:?}");
    }

    #[test]
    fn what_is_hardly_meant_is_warned_of() {
        let said = warnings(&config(TEXT));
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(said[0].starts_with("outputs.c: no route names it"), "{said:?}");
        assert!(said[1].starts_with("routes: number 1 (namespace payments-*"), "{said:?}");
    }
}

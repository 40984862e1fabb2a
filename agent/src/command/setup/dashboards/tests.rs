use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::objects::{FORMS, Names, Object, PREFIX, groups};
use super::source::{Kind, Source};
use super::*;
use crate::command::setup::elasticsearch::mapped;

fn names() -> Names {
    Names { logs: "logs-*".into(), health: "logs-taffrail-*".into(), space: None }
}

fn all() -> Vec<Object> {
    groups(&Source::read(), &names()).into_iter().flat_map(|group| group.objects).collect()
}

fn parsed(text: &Value) -> Value {
    serde_json::from_str(text.as_str().expect("a text")).expect("JSON in a text")
}

/// All fields that panels add up or split by, and whether Kibana must be able to add them up.
fn fields() -> BTreeMap<String, bool> {
    let mut fields = BTreeMap::new();
    let mut used = |field: &Value, summed: bool| {
        if let Some(field) = field.as_str() {
            *fields.entry(field.to_owned()).or_default() |= summed;
        }
    };
    for object in all() {
        for column in object.attributes["columns"].as_array().into_iter().flatten() {
            used(column, false);
        }
        if object.kind != "visualization" {
            continue;
        }
        let state = parsed(&object.attributes["visState"]);
        for agg in state["aggs"].as_array().expect("aggs") {
            used(&agg["params"]["field"], true);
        }
        let params = &state["params"];
        for series in params["series"].as_array().into_iter().flatten() {
            used(&series["terms_field"], true);
            series["metrics"]
                .as_array()
                .into_iter()
                .flatten()
                .for_each(|metric| used(&metric["field"], true));
        }
    }
    // Those of queries stand before a colon.
    let text = ndjson_text();
    for word in
        text.split(|character: char| !(character.is_ascii_alphanumeric() || "._:@-".contains(character)))
    {
        let field = word.strip_prefix("_exists_:").or_else(|| word.split_once(':').map(|(field, _)| field));
        if let Some(field) = field.filter(|field| field.contains('.') && !field.ends_with('.')) {
            fields.entry(field.to_owned()).or_default();
        }
    }
    fields
}

fn ndjson_text() -> String {
    file(&names())
}

#[test]
fn the_committed_file_is_what_the_description_makes() {
    let committed = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../dashboards/taffrail.ndjson"));
    assert!(
        committed == ndjson_text(),
        "dashboards/taffrail.ndjson is out of step: cargo run -- setup dashboards --print > dashboards/taffrail.ndjson"
    );
}

#[test]
fn no_object_is_of_a_type_or_a_version_that_kibana_7_10_lacks() {
    let limits = [
        ("dashboard", "7.9.3"),
        ("index-pattern", "7.6.0"),
        ("search", "7.9.3"),
        ("visualization", "7.10.0"),
    ];
    assert_eq!(FORMS, limits);
    let classic = ["area", "histogram", "horizontal_bar", "line", "pie", "heatmap", "table", "metric"];
    let attributes: BTreeMap<&str, &[&str]> = BTreeMap::from([
        (
            "dashboard",
            &[
                "description",
                "hits",
                "kibanaSavedObjectMeta",
                "optionsJSON",
                "panelsJSON",
                "timeRestore",
                "title",
                "version",
            ][..],
        ),
        ("index-pattern", &["fieldFormatMap", "fields", "timeFieldName", "title"][..]),
        (
            "search",
            &["columns", "description", "hits", "kibanaSavedObjectMeta", "sort", "title", "version"][..],
        ),
        (
            "visualization",
            &["description", "kibanaSavedObjectMeta", "title", "uiStateJSON", "version", "visState"][..],
        ),
    ]);
    let mut seen = BTreeSet::new();
    for object in all() {
        let line: Value = serde_json::from_str(&object.line()).expect("JSON");
        let version = limits.iter().find(|(kind, _)| *kind == object.kind).map(|(_, version)| *version);
        assert_eq!(line["migrationVersion"], json!({ object.kind: version }), "{}", object.id);
        let keys: Vec<&str> =
            object.attributes.as_object().expect("an object").keys().map(String::as_str).collect();
        assert_eq!(keys, attributes[object.kind], "{}", object.id);
        if object.kind == "visualization" {
            let kind = parsed(&object.attributes["visState"])["type"].as_str().expect("a type").to_owned();
            assert!(classic.contains(&&*kind) || ["markdown", "metrics", "vega"].contains(&&*kind), "{kind}");
            seen.insert(kind);
        }
    }
    assert!(classic.iter().all(|kind| seen.contains(*kind)), "{seen:?}");
}

#[test]
fn ids_are_unique_and_stable_and_every_reference_leads_to_one() {
    let objects = all();
    let ids: BTreeSet<(&str, &str)> =
        objects.iter().map(|object| (object.kind, object.id.as_str())).collect();
    assert_eq!(ids.len(), objects.len());
    assert!(objects.iter().all(|object| object.id.starts_with(PREFIX)));
    let dashboards: Vec<&str> =
        ids.iter().filter(|(kind, _)| *kind == "dashboard").map(|(_, id)| *id).collect();
    let expected = ["agents", "cost", "errors", "http", "nodes", "overview", "workload"]
        .map(|id| format!("taffrail-{id}"));
    assert_eq!(dashboards, expected, "links and bookmarks hold these");
    for object in &objects {
        for reference in object.references.as_array().expect("references") {
            let to = (reference["type"].as_str().expect("a type"), reference["id"].as_str().expect("an id"));
            assert!(ids.contains(&to), "{} refers to {to:?}", object.id);
        }
        // Each name within is a reference, and each reference is named.
        let within = object.attributes.to_string();
        for name in within.split("RefName\\\":\\\"").skip(1).filter_map(|rest| rest.split("\\\"").next()) {
            let known = |reference: &Value| reference["name"] == *name;
            assert!(
                object.references.as_array().expect("references").iter().any(known),
                "{}: {name}",
                object.id
            );
        }
    }
}

#[test]
fn another_space_has_ids_and_links_of_its_own() {
    let names = Names { space: Some("ops".into()), ..names() };
    for object in groups(&Source::read(), &names).iter().flat_map(|group| &group.objects) {
        assert!(object.id.starts_with("taffrail-ops-"), "{}", object.id);
        let text = object.line();
        assert!(!text.replace("taffrail-ops-", "").contains("#/view/taffrail-"), "{text}");
    }
}

#[test]
fn every_dashboard_begins_with_links_to_all_and_its_panels_lie_beside_each_other() {
    let objects = all();
    let links = objects.iter().find(|object| object.id == "taffrail-links").expect("links");
    let text =
        parsed(&links.attributes["visState"])["params"]["markdown"].as_str().expect("Markdown").to_owned();
    let dashboards: Vec<&Object> = objects.iter().filter(|object| object.kind == "dashboard").collect();
    for dashboard in &dashboards {
        assert!(text.contains(&format!("](#/view/{} ", dashboard.id)), "{text}");
        assert_eq!(dashboard.references[0]["id"], "taffrail-links");
        let panels = parsed(&dashboard.attributes["panelsJSON"]);
        let mut taken = BTreeSet::new();
        for panel in panels.as_array().expect("panels") {
            let [x, y, w, h] =
                ["x", "y", "w", "h"].map(|key| panel["gridData"][key].as_u64().expect("a number"));
            assert!(x + w <= 48, "{panel}");
            for place in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
                assert!(taken.insert(place), "{}: {place:?} is taken twice", dashboard.id);
            }
        }
    }
}

#[test]
fn every_field_of_a_panel_is_mapped_so_that_it_can_be_added_up() {
    let mapping = mapped("[metadata]\n");
    let kind_of = |field: &str| {
        let place: String = field.split('.').map(|part| format!("/properties/{part}")).collect();
        mapping.pointer(&place).and_then(|field| field["type"].as_str()).map(str::to_owned)
    };
    let fields = fields();
    assert!(fields.len() > 40, "{fields:?}");
    for (field, summed) in fields {
        let kind = kind_of(&field).unwrap_or_else(|| panic!("{field} is in a panel and has no mapping"));
        let sums = ["keyword", "long", "double", "float", "date_nanos", "boolean", "ip"].contains(&&*kind);
        assert!(sums || !summed, "{field} is {kind}");
    }
}

#[test]
fn levels_and_classes_of_status_have_their_colours_wherever_they_are_drawn() {
    let source = Source::read();
    let colour = regex::Regex::new("^#[0-9A-F]{6}$").expect("a pattern");
    assert!(source.colours.values().all(|value| colour.is_match(value)), "{:?}", source.colours);
    let mut coloured = 0;
    for object in all().iter().filter(|object| object.kind == "visualization") {
        let state = parsed(&object.attributes["visState"]);
        let ui = parsed(&object.attributes["uiStateJSON"]);
        let drawn = state["type"] != "table" && state["type"] != "metric";
        let by_level =
            state["aggs"].as_array().expect("aggs").iter().any(|agg| agg["params"]["field"] == "log.level");
        if drawn && by_level {
            coloured += 1;
            for level in ["trace", "debug", "info", "notice", "warn", "error", "critical", "fatal"] {
                assert_eq!(ui["vis"]["colors"][level], source.colours[level], "{}: {level}", object.id);
            }
        }
        // Of themes there are two: nothing says how text or what is behind it looks.
        let text = state.to_string();
        assert!(!text.contains("bgFill") && !text.contains("background_color\""), "{}", object.id);
        assert!(state["type"] != "markdown" || !text.contains("style="), "{}", object.id);
    }
    assert!(coloured >= 3);
}

#[test]
fn every_panel_has_what_its_kind_needs() {
    for dashboard in Source::read().dashboards {
        for panel in &dashboard.panels {
            let name = format!("{}-{}", dashboard.id, panel.id);
            let tsvb = matches!(panel.kind, Kind::Series | Kind::Total);
            assert_eq!(tsvb, !panel.series.is_empty(), "{name}");
            assert_eq!(panel.kind == Kind::Search, panel.search.is_some(), "{name}");
            assert_eq!(panel.kind == Kind::Text, panel.text.is_some(), "{name}");
            assert_eq!(panel.kind == Kind::Vega, panel.vega.is_some(), "{name}");
            for by in &panel.by {
                assert_ne!(by.field.is_some(), !by.filters.is_empty(), "{name}: by a field, or by filters");
                let known =
                    |order: &String| panel.metrics.iter().any(|metric| metric.label.as_ref() == Some(order));
                assert!(by.order.as_ref().is_none_or(known), "{name}: ordered by what is not there");
            }
            let labelled =
                |label: &String| panel.metrics.iter().any(|metric| metric.label.as_ref() == Some(label));
            assert!(panel.share.is_none() || panel.kind == Kind::Table, "{name}: shares are a table's");
            assert!(panel.share.as_ref().is_none_or(labelled), "{name}: a share of what is not there");
            for metric in &panel.metrics {
                assert_eq!(metric.agg == "count", metric.field.is_none(), "{name}");
            }
        }
    }
}

#[test]
fn a_point_of_health_records_holds_one_of_each_agent_at_least() {
    let mut points = 0;
    for object in all().iter().filter(|object| object.kind == "visualization") {
        let params = &parsed(&object.attributes["visState"])["params"];
        let Some(index) = params["index_pattern"].as_str() else { continue };
        let interval = if index == names().health { ">=1m" } else { "" };
        assert_eq!(params["interval"], interval, "{}", object.id);
        points += usize::from(index == names().health);
    }
    assert!(points >= 3, "{points}");
}

#[test]
fn what_rate_limits_drop_is_not_shown_as_lost() {
    for panel in Source::read().dashboards.iter().flat_map(|dashboard| &dashboard.panels) {
        if panel.query.contains("kind:lost") {
            let apart = panel.query.contains("NOT taffrail.health.reason:(container_rate OR namespace_rate)");
            assert!(apart || panel.title.contains("dropped by rate limits"), "{}", panel.title);
        }
    }
}

mod kept_or_told {
    use super::*;

    fn found(object: &Object, changed: i64) -> Found {
        Found {
            kind: object.kind.into(),
            id: object.id.clone(),
            attributes: object.attributes.clone(),
            changed,
        }
    }

    fn one(kind: &str) -> Object {
        all().into_iter().find(|object| object.kind == kind).expect("one")
    }

    #[test]
    fn what_a_server_has_brought_up_to_date_is_the_same() {
        let object = one("dashboard");
        let mut there = found(&object, 5);
        there.attributes["panelsJSON"] = json!("[]");
        assert_eq!(difference(&object, &there, Some(5)), None);
        there.changed += TOGETHER;
        assert_eq!(difference(&object, &there, Some(5)), None, "of the same import");
    }

    #[test]
    fn what_somebody_changed_is_told() {
        let object = one("dashboard");
        let mut there = found(&object, 6 + TOGETHER);
        assert_eq!(difference(&object, &there, Some(5)), None, "saved as it was");
        there.attributes["panelsJSON"] = json!("[]");
        let told = difference(&object, &there, Some(5)).expect("a difference");
        assert!(told.contains("changed by somebody since"), "{told}");
        there.attributes["description"] = json!("mine");
        let told = difference(&object, &there, None).expect("a difference");
        assert!(told.ends_with("was changed by somebody: that is overwritten"), "{told}");
    }

    #[test]
    fn another_version_is_no_ones_change() {
        let object = one("visualization");
        let mut there = found(&object, 5);
        there.attributes["description"] = json!(format!("{MARK}00000000"));
        let told = difference(&object, &there, Some(5)).expect("a difference");
        assert!(told.contains("of another version"), "{told}");
    }

    #[test]
    fn of_an_index_pattern_only_what_is_said_of_it_counts() {
        let object = one("index-pattern");
        let mut there = found(&object, i64::MAX);
        there.attributes["fields"] = json!("[{\"name\":\"message\",\"count\":7}]");
        there.attributes["fieldAttrs"] = json!("{}");
        there.attributes["fieldFormatMap"] = json!("{\"event.duration\":{\"id\":\"duration\"}}");
        assert_eq!(difference(&object, &there, None), None);
        there.attributes["fieldFormatMap"] = json!("{\"event.duration\":{\"id\":\"bytes\"}}");
        let told = difference(&object, &there, None).expect("a difference");
        assert!(
            told.ends_with("the format of event.duration is \"bytes\", and will be \"duration\""),
            "{told}"
        );
        there.attributes["title"] = json!("other-*");
        let told = difference(&object, &there, None).expect("a difference");
        assert!(told.ends_with("title is \"other-*\", and will be \"logs-*\""), "{told}");
    }
}

//! Visualizations of the classic kinds, as every version since 7.10 reads them.
//!
//! In: a panel of the description. Out: its `visState`. It never asks a server, and never names a colour: those are of values,
//! and stand beside the state.

use serde_json::{Map, Value, json};

use super::source::{By, Kind, Metric, Panel};

/// The time of a document.
pub const TIME: &str = "@timestamp";

/// The percentiles of a duration.
const PERCENTS: [u32; 3] = [50, 95, 99];

/// The state of a visualization.
pub fn state(panel: &Panel, title: &str) -> Value {
    let kind = kind(panel.kind);
    let mut aggs = metrics(panel);
    let labels: Vec<String> = aggs.iter().map(label_of).collect();
    let first = aggs.len() + 1;
    let mut splits = Vec::new();
    if panel.over_time {
        splits.push(("date_histogram", "segment", over_time()));
    }
    for by in &panel.by {
        let schema = match panel.kind {
            Kind::Table => "bucket",
            Kind::Pie | Kind::Ranking => "segment",
            _ => "group",
        };
        let (kind, params) = split(by, &panel.metrics);
        splits.push((kind, schema, params));
    }
    for (number, (kind, schema, params)) in (first..).zip(splits) {
        aggs.push(agg(number, kind, schema, params));
    }
    json!({ "title": title, "type": kind, "params": params(panel, kind, &labels), "aggs": aggs })
}

/// What Kibana calls it.
fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Area => "area",
        Kind::Bars => "histogram",
        Kind::Line => "line",
        Kind::Ranking => "horizontal_bar",
        Kind::Pie => "pie",
        Kind::Heatmap => "heatmap",
        Kind::Table => "table",
        Kind::Number => "metric",
        Kind::Series | Kind::Total => "metrics",
        Kind::Search => "search",
        Kind::Text => "markdown",
        Kind::Vega => "vega",
    }
}

fn agg(number: usize, kind: &str, schema: &str, params: Value) -> Value {
    json!({ "id": number.to_string(), "enabled": true, "type": kind, "schema": schema, "params": params })
}

fn metrics(panel: &Panel) -> Vec<Value> {
    if panel.metrics.is_empty() {
        return vec![agg(1, "count", "metric", json!({ "customLabel": "Lines" }))];
    }
    (1..)
        .zip(&panel.metrics)
        .map(|(number, metric)| agg(number, &metric.agg, "metric", params_of(metric)))
        .collect()
}

fn params_of(metric: &Metric) -> Value {
    let mut params = Map::new();
    if let Some(field) = &metric.field {
        params.insert("field".into(), json!(field));
    }
    if metric.agg == "percentiles" {
        params.insert("percents".into(), json!(PERCENTS));
    }
    if let Some(label) = &metric.label {
        params.insert("customLabel".into(), json!(label));
    }
    Value::Object(params)
}

fn label_of(agg: &Value) -> String {
    agg["params"]["customLabel"].as_str().unwrap_or_default().to_owned()
}

fn over_time() -> Value {
    json!({
        "field": TIME, "interval": "auto", "drop_partials": false, "min_doc_count": 1, "extended_bounds": {},
        "useNormalizedEsInterval": true, "customLabel": "",
    })
}

fn split(by: &By, metrics: &[Metric]) -> (&'static str, Value) {
    let Some(field) = &by.field else {
        let filters: Vec<Value> = by
            .filters
            .iter()
            .map(|filter| json!({ "input": lucene(&filter.query), "label": filter.label }))
            .collect();
        return ("filters", json!({ "filters": filters }));
    };
    let order = by
        .order
        .as_ref()
        .and_then(|order| metrics.iter().position(|metric| metric.label.as_ref() == Some(order)));
    let mut params = json!({
        "field": field, "orderBy": (order.unwrap_or(0) + 1).to_string(), "order": "desc", "size": by.top,
        "otherBucket": false, "otherBucketLabel": "Other",
        "missingBucket": by.missing.is_some(), "missingBucketLabel": by.missing.as_deref().unwrap_or("Missing"),
    });
    if let Some(label) = &by.label {
        params["customLabel"] = json!(label);
    }
    ("terms", params)
}

/// A query in Lucene's syntax, which means the same to every server and every version.
pub fn lucene(query: &str) -> Value {
    json!({ "query": query, "language": "lucene" })
}

fn params(panel: &Panel, kind: &str, labels: &[String]) -> Value {
    match panel.kind {
        Kind::Table => json!({
            "perPage": 10, "showPartialRows": false, "showMetricsAtAllLevels": false, "showTotal": false, "totalFunc": "sum",
            "percentageCol": panel.share.as_deref().unwrap_or_default(), "sort": { "columnIndex": null, "direction": null },
        }),
        Kind::Number => json!({
            "type": kind, "addTooltip": true, "addLegend": false,
            "metric": {
                "percentageMode": false, "useRanges": false, "colorSchema": "Green to Red", "metricColorMode": "None",
                "colorsRange": [{ "from": 0, "to": 10000 }], "labels": { "show": true }, "invertColors": false,
                "style": { "bgColor": false, "labelColor": false, "subText": "", "fontSize": 28 },
            },
        }),
        Kind::Pie => json!({
            "type": kind, "addTooltip": true, "addLegend": true, "legendPosition": "right", "isDonut": true,
            "labels": { "show": false, "values": true, "last_level": true, "truncate": 100 },
        }),
        Kind::Heatmap => json!({
            "type": kind, "addTooltip": true, "addLegend": true, "enableHover": false, "legendPosition": "right", "times": [],
            "colorsNumber": 5, "colorSchema": "Blues", "setColorRange": false, "colorsRange": [], "invertColors": false,
            "percentageMode": false,
            "valueAxes": [{
                "show": false, "id": "ValueAxis-1", "type": "value", "scale": { "type": "linear", "defaultYExtents": false },
                "labels": { "show": false, "rotate": 0, "overwriteColor": false },
            }],
        }),
        looks => axes(looks, kind, labels),
    }
}

/// Of what has two axes.
fn axes(looks: Kind, kind: &str, labels: &[String]) -> Value {
    let ranking = looks == Kind::Ranking;
    let (across, up) = if ranking { ("left", "bottom") } else { ("bottom", "left") };
    let (shape, mode) = match looks {
        Kind::Area => ("area", "stacked"),
        Kind::Line => ("line", "normal"),
        _ => ("histogram", "stacked"),
    };
    let series: Vec<Value> = (1..)
        .zip(labels)
        .map(|(number, label)| {
            json!({
                "show": true, "type": shape, "mode": mode, "data": { "label": label, "id": number.to_string() },
                "valueAxis": "ValueAxis-1", "drawLinesBetweenPoints": true, "lineWidth": 2, "interpolate": "linear",
                "showCircles": true,
            })
        })
        .collect();
    let title = match labels {
        [only] => only.as_str(),
        _ => "",
    };
    json!({
        "type": kind, "grid": { "categoryLines": false },
        "categoryAxes": [{
            "id": "CategoryAxis-1", "type": "category", "position": across, "show": true, "style": {},
            "scale": { "type": "linear" }, "title": {},
            "labels": { "show": true, "rotate": 0, "filter": !ranking, "truncate": if ranking { 200 } else { 100 } },
        }],
        "valueAxes": [{
            "id": "ValueAxis-1", "name": if ranking { "BottomAxis-1" } else { "LeftAxis-1" }, "type": "value", "position": up,
            "show": true, "style": {}, "scale": { "type": "linear", "mode": "normal" },
            "labels": { "show": true, "rotate": 0, "filter": ranking, "truncate": 100 }, "title": { "text": title },
        }],
        "seriesParams": series, "addTooltip": true, "addLegend": !ranking, "legendPosition": "right", "times": [],
        "addTimeMarker": false, "labels": { "show": false },
    })
}

//! Visualizations of the kind `metrics` (TSVB), for what classic ones cannot calculate: rates, shares, months.
//!
//! In: a panel of the description, and the pattern of indices, which TSVB takes by name. Out: its `visState`.

use serde_json::{Value, json};

use super::classic::{TIME, lucene};
use super::source::{Kind, Metric, Over, Panel, Series};

/// The seconds of a month.
const MONTH: u32 = 30 * 86_400;

/// How many values a series is split into.
const SPLIT: &str = "10";

/// How much time a point of health records stands for at least: agents write one a minute, and shorter points would be
/// nothing and a peak by turns.
const HEALTH_INTERVAL: &str = ">=1m";

/// Where no value says which.
const COLOUR: &str = "#0072B2";

/// The state of a visualization. `colour` gives the colour of a value.
pub fn state(
    panel: &Panel,
    title: &str,
    id: &str,
    query: &str,
    over: Over,
    index: &str,
    colour: &dyn Fn(&str) -> Option<String>,
) -> Value {
    let series: Vec<Value> = (1..)
        .zip(&panel.series)
        .map(|(number, series)| {
            let format = panel.format.as_deref().unwrap_or("number");
            let colour = series.colour.as_deref().and_then(colour).unwrap_or_else(|| COLOUR.to_owned());
            one(series, &format!("{id}-{number}"), format, &colour)
        })
        .collect();
    let kind = if panel.kind == Kind::Total { "metric" } else { "timeseries" };
    let interval = if over == Over::Health { HEALTH_INTERVAL } else { "" };
    let mut params = json!({
        "id": id, "type": kind, "series": series, "time_field": TIME, "index_pattern": index, "interval": interval,
        "filter": lucene(query), "axis_position": "left", "axis_formatter": "number", "axis_scale": "normal", "axis_min": "0",
        "show_legend": 1, "show_grid": 1, "tooltip_mode": "show_all", "drop_last_bucket": 1, "isModelInvalid": false,
        "background_color_rules": [{ "id": format!("{id}-background") }],
    });
    if kind != "timeseries" {
        params["time_range_mode"] = json!("entire_time_range");
        params["drop_last_bucket"] = json!(0);
    }
    json!({ "title": title, "type": "metrics", "params": params, "aggs": [] })
}

fn one(series: &Series, id: &str, format: &str, colour: &str) -> Value {
    let mut made = json!({
        "id": id, "color": colour, "label": series.label, "formatter": format, "chart_type": "line", "line_width": 2,
        "point_size": 1, "fill": 0.3, "stacked": "none", "separate_axis": 0, "axis_position": "right", "split_mode": "everything",
        "split_color_mode": "kibana", "metrics": metrics(series, id),
    });
    if let Some(field) = &series.by {
        made["split_mode"] = json!("terms");
        made["terms_field"] = json!(field);
        made["terms_size"] = json!(SPLIT);
        made["terms_order_by"] = json!("_count");
        made["terms_direction"] = json!("desc");
        made["label"] = json!("");
    }
    made
}

fn metrics(series: &Series, id: &str) -> Vec<Value> {
    if let Some(field) = &series.projected {
        // From the first record to the last, and what the first one speaks of.
        let parts = [
            ("bytes", "sum", field.as_str()),
            ("first", "min", TIME),
            ("last", "max", TIME),
            ("interval", "avg", "taffrail.health.interval"),
        ];
        let mut metrics: Vec<Value> = parts
            .iter()
            .map(|(name, agg, field)| json!({ "id": format!("{id}-{name}"), "type": agg, "field": field }))
            .collect();
        let script =
            format!("params.bytes / ((params.last - params.first) / 1000 + params.interval) * {MONTH}");
        metrics.push(math(id, &script, parts.iter().map(|(name, ..)| *name)));
        return metrics;
    }
    let mut metrics: Vec<Value> =
        series.metrics.iter().map(|(name, metric)| plain(metric, &format!("{id}-{name}"))).collect();
    if let Some(script) = &series.math {
        metrics.push(math(id, script, series.metrics.keys().map(String::as_str)));
    }
    metrics
}

fn plain(metric: &Metric, id: &str) -> Value {
    match (&metric.of, &metric.field) {
        (Some(of), _) => json!({
            "id": id, "type": "filter_ratio", "numerator": lucene(of), "denominator": lucene("*"), "metric_agg": "count",
        }),
        (None, Some(field)) => json!({ "id": id, "type": metric.agg, "field": field }),
        (None, None) => json!({ "id": id, "type": metric.agg }),
    }
}

fn math<'a>(id: &str, script: &str, names: impl Iterator<Item = &'a str>) -> Value {
    let variables: Vec<Value> = names
        .map(|name| json!({ "id": format!("{id}-variable-{name}"), "name": name, "field": format!("{id}-{name}") }))
        .collect();
    json!({ "id": format!("{id}-math"), "type": "math", "script": script, "variables": variables })
}

//! What panels ask of a server, derived from the saved objects themselves as Kibana derives it.
//!
//! In: NDJSON. Out: for each panel and search that asks anything its requests: an index and a body. Time is the last day. The
//! syntax of queries is Lucene's throughout, which servers read themselves: nothing of it is translated.

use serde_json::{Map, Value, json};

/// What one panel or search asks.
pub struct Query {
    /// The object's id and title.
    pub panel: String,
    /// Where.
    pub index: String,
    /// The body of `_search`.
    pub body: Value,
    /// Whether it is documents that are wanted, not sums.
    pub hits: bool,
}

/// Of all objects.
pub fn of(ndjson: &str) -> Vec<Query> {
    let objects: Vec<Value> = ndjson.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    objects.iter().flat_map(|object| of_object(object, &objects)).collect()
}

fn of_object(object: &Value, all: &[Value]) -> Vec<Query> {
    let attributes = &object["attributes"];
    let panel = format!("{}: {}", object["id"].as_str().unwrap(), attributes["title"].as_str().unwrap());
    let one = |index: String, body: Value, hits: bool| Query { panel: panel.clone(), index, body, hits };
    match object["type"].as_str() {
        Some("search") => {
            let sort = json!([{ "@timestamp": { "order": "desc", "unmapped_type": "boolean" } }]);
            let body = json!({ "size": 10, "sort": sort, "query": asked(object) });
            vec![one(index(object, all), body, true)]
        }
        Some("visualization") => {
            let state: Value = serde_json::from_str(attributes["visState"].as_str().unwrap()).unwrap();
            match state["type"].as_str().unwrap() {
                "markdown" => vec![],
                "vega" => {
                    let spec: Value =
                        serde_json::from_str(state["params"]["spec"].as_str().unwrap()).unwrap();
                    let url = &spec["data"]["url"];
                    let mut body = url["body"].clone();
                    fill_in(&mut body);
                    vec![one(url["index"].as_str().unwrap().to_owned(), body, true)]
                }
                "metrics" => {
                    let params = &state["params"];
                    let index = params["index_pattern"].as_str().unwrap();
                    let series = params["series"].as_array().unwrap();
                    series.iter().map(|series| one(index.to_owned(), tsvb(params, series), false)).collect()
                }
                _ => {
                    let body = json!({ "size": 0, "query": asked(object), "aggs": classic(&state) });
                    vec![one(index(object, all), body, false)]
                }
            }
        }
        _ => vec![],
    }
}

fn range() -> Value {
    json!({ "gte": "now-1d", "lte": "now+1h", "format": "strict_date_optional_time" })
}

fn lucene(query: &Value) -> Value {
    assert_eq!(query["language"], "lucene", "{query}");
    match query["query"].as_str().expect("a query") {
        "" => json!({ "match_all": {} }),
        text => json!({ "query_string": { "query": text, "analyze_wildcard": true } }),
    }
}

fn within(query: Value) -> Value {
    json!({ "bool": { "filter": [query, { "range": { "@timestamp": range() } }] } })
}

fn source(object: &Value) -> Value {
    let text = object["attributes"]["kibanaSavedObjectMeta"]["searchSourceJSON"].as_str().unwrap();
    serde_json::from_str(text).unwrap()
}

fn asked(object: &Value) -> Value {
    within(lucene(&source(object)["query"]))
}

/// The pattern that an object refers to.
fn index(object: &Value, all: &[Value]) -> String {
    let name = source(object)["indexRefName"].clone();
    let reference =
        object["references"].as_array().unwrap().iter().find(|one| one["name"] == name).expect("a reference");
    let pattern = all.iter().find(|one| one["id"] == reference["id"] && one["type"] == reference["type"]);
    pattern.expect("the pattern")["attributes"]["title"].as_str().unwrap().to_owned()
}

/// What Kibana puts into a specification of Vega: here no filters, and the time.
fn fill_in(value: &mut Value) {
    match value {
        Value::Array(list) => {
            list.retain(|one| !one.as_str().is_some_and(|text| text.starts_with("%dashboard_context")));
            list.iter_mut().for_each(fill_in);
        }
        Value::Object(map) if map.contains_key("%timefilter%") => *value = range(),
        Value::Object(map) => map.values_mut().for_each(fill_in),
        _ => {}
    }
}

/// Buckets within buckets, and metrics in the innermost.
fn classic(state: &Value) -> Value {
    let aggs: Vec<&Value> = state["aggs"].as_array().unwrap().iter().collect();
    let (metrics, buckets): (Vec<&Value>, Vec<&Value>) =
        aggs.iter().partition(|agg| agg["schema"] == "metric");
    let asked = |metric: &&&Value| metric["type"] != "count";
    let metrics: Map<String, Value> =
        metrics.iter().filter(asked).map(|metric| (id(metric), metric_of(metric))).collect();
    buckets.into_iter().rev().fold(Value::Object(metrics.clone()), |inner, bucket| {
        let mut made = bucket_of(bucket, &metrics);
        // An order by a metric wants it at its own level, too.
        let mut inner = inner;
        if let Some(ordered) =
            bucket["params"]["orderBy"].as_str().and_then(|id| metrics.get(id).map(|metric| (id, metric)))
        {
            inner[ordered.0] = ordered.1.clone();
        }
        if !inner.as_object().unwrap().is_empty() {
            made["aggs"] = inner;
        }
        json!({ id(bucket): made })
    })
}

fn id(agg: &Value) -> String {
    agg["id"].as_str().unwrap().to_owned()
}

fn metric_of(agg: &Value) -> Value {
    let (kind, params) = (agg["type"].as_str().unwrap(), &agg["params"]);
    match kind {
        "percentiles" => {
            json!({ kind: { "field": params["field"], "percents": params["percents"], "keyed": false } })
        }
        "sum" | "avg" | "min" | "max" | "cardinality" => json!({ kind: { "field": params["field"] } }),
        other => panic!("{other} is no metric of a classic panel"),
    }
}

fn bucket_of(agg: &Value, metrics: &Map<String, Value>) -> Value {
    let params = &agg["params"];
    match agg["type"].as_str().unwrap() {
        "date_histogram" => json!({ "date_histogram": {
            "field": params["field"], "fixed_interval": "30s", "min_doc_count": 1, "time_zone": "Asia/Tokyo",
        } }),
        "terms" => {
            let order = params["orderBy"].as_str().filter(|id| metrics.contains_key(*id)).unwrap_or("_count");
            let mut terms = json!({ "field": params["field"], "size": params["size"], "order": { order: params["order"] } });
            if params["missingBucket"] == true {
                terms["missing"] = json!("__missing__");
            }
            json!({ "terms": terms })
        }
        "filters" => {
            let filters: Map<String, Value> = params["filters"]
                .as_array()
                .unwrap()
                .iter()
                .map(|filter| (filter["label"].as_str().unwrap().to_owned(), lucene(&filter["input"])))
                .collect();
            json!({ "filters": { "filters": filters } })
        }
        other => panic!("{other} splits no classic panel here"),
    }
}

fn tsvb(params: &Value, series: &Value) -> Value {
    let mut metrics = Map::new();
    for metric in series["metrics"].as_array().unwrap() {
        let id = id(metric);
        match metric["type"].as_str().unwrap() {
            // Calculated by Kibana, of others that must be there.
            "math" => {
                for variable in metric["variables"].as_array().unwrap() {
                    let field = variable["field"].as_str().unwrap();
                    assert!(
                        metrics.contains_key(field),
                        "{field} is calculated with, and is not asked: {metric}"
                    );
                    let name = format!("params.{}", variable["name"].as_str().unwrap());
                    assert!(metric["script"].as_str().unwrap().contains(&name), "{metric}");
                }
            }
            "filter_ratio" => {
                for part in ["numerator", "denominator"] {
                    metrics.insert(format!("{id}-{part}"), json!({ "filter": lucene(&metric[part]) }));
                }
            }
            "count" => {}
            kind @ ("sum" | "avg" | "min" | "max" | "cardinality") => {
                metrics.insert(id, json!({ kind: { "field": metric["field"] } }));
            }
            other => panic!("{other} is no metric of TSVB here"),
        }
    }
    let time = match params["time_range_mode"].as_str() {
        Some("entire_time_range") => {
            json!({ "auto_date_histogram": { "field": params["time_field"], "buckets": 1 } })
        }
        _ => {
            // `>=1m` is no less than so much; otherwise it is as fits the time: a day in at most some thousand points.
            let interval = match params["interval"].as_str().expect("an interval") {
                "" => "30s",
                text => text.strip_prefix(">=").expect("an interval of at least"),
            };
            json!({ "date_histogram": {
                "field": params["time_field"], "fixed_interval": interval, "min_doc_count": 0, "time_zone": "Asia/Tokyo",
            } })
        }
    };
    let mut timeseries = time;
    timeseries["aggs"] = Value::Object(metrics);
    let inner = json!({ "timeseries": timeseries });
    let aggs = if series["split_mode"] == "terms" {
        let size: u32 = series["terms_size"].as_str().unwrap().parse().unwrap();
        let terms = json!({ "field": series["terms_field"], "size": size, "order": { "_count": "desc" } });
        json!({ "split": { "terms": terms, "aggs": inner } })
    } else {
        inner
    };
    json!({ "size": 0, "query": within(lucene(&params["filter"])), "aggs": aggs })
}

//! What others have added to an index pattern of ours: it is kept.
//!
//! In: an index pattern as it is about to be imported, and as it is there. Out: the same with all that is there and not ours:
//! scripted and runtime fields, formats, labels; and in words what that is. Never changes what we say of a pattern ourselves.

use serde_json::{Map, Value};

use super::objects::Object;
use crate::command::terminal::printable;

/// Takes over what is there, and says what.
pub fn keep(object: &mut Object, there: &Value) -> Option<String> {
    let there = there.as_object()?;
    let ours = object.attributes.as_object().cloned().unwrap_or_default();
    let mut formats = map(there, "fieldFormatMap");
    let own = map(&ours, "fieldFormatMap");
    let others_formats = formats.keys().filter(|field| !own.contains_key(*field)).cloned().collect();
    formats.extend(own);
    let scripted = scripted(there);
    let labelled = |(field, about): (String, Value)| about["customLabel"].is_string().then_some(field);
    let kept: Vec<String> = [
        ("scripted fields", scripted.clone()),
        ("runtime fields", map(there, "runtimeFieldMap").into_iter().map(|(field, _)| field).collect()),
        ("formats of", others_formats),
        ("labels of", map(there, "fieldAttrs").into_iter().filter_map(labelled).collect()),
    ]
    .into_iter()
    .filter(|(_, fields): &(_, Vec<String>)| !fields.is_empty())
    .map(|(what, fields)| format!("{what} {}", fields.join(", ")))
    .collect();

    // Whatever else a later version has in it is its own, such as how the pattern is called in lists.
    let mut merged = there.clone();
    merged.extend(ours);
    merged.insert("fieldFormatMap".into(), Value::Object(formats).to_string().into());
    // Without a list, the server makes one of what is mapped now. One with scripted fields is kept whole: a server that kept
    // the mapped ones in it, up to Kibana 7.10 and in OpenSearch Dashboards, would take what is left for all that there is.
    if !scripted.is_empty() {
        merged.insert("fields".into(), there["fields"].clone());
    }
    object.attributes = Value::Object(merged);
    let words = format!("{} {}: kept as they are: {}", object.kind, object.id, kept.join("; "));
    (!kept.is_empty()).then(|| printable(&words))
}

/// What an attribute holds that is JSON in a text.
fn map(attributes: &Map<String, Value>, name: &str) -> Map<String, Value> {
    let text = attributes.get(name).and_then(Value::as_str);
    text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

/// The names of fields that somebody has written a script for.
fn scripted(attributes: &Map<String, Value>) -> Vec<String> {
    let text = attributes.get("fields").and_then(Value::as_str).unwrap_or_default();
    let fields: Vec<Value> = serde_json::from_str(text).unwrap_or_default();
    let scripted = fields.iter().filter(|field| field["scripted"] == true);
    scripted.filter_map(|field| field["name"].as_str().map(str::to_owned)).collect()
}

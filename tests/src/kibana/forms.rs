//! What is imported: the form that it comes in, and what its objects may be.

use super::{bad, refusal};
use crate::http::{Reply, Request};
use serde_json::{Value, json};

/// The newest form of each type that Kibana 7.10 and OpenSearch Dashboards know.
const FORMS: [(&str, [u32; 3]); 4] = [
    ("dashboard", [7, 9, 3]),
    ("index-pattern", [7, 6, 0]),
    ("search", [7, 9, 3]),
    ("visualization", [7, 10, 0]),
];

/// What these may hold there: mappings are strict.
const ATTRIBUTES: [(&str, &[&str]); 4] = [
    (
        "dashboard",
        &[
            "description",
            "hits",
            "kibanaSavedObjectMeta",
            "optionsJSON",
            "panelsJSON",
            "refreshInterval",
            "timeFrom",
            "timeRestore",
            "timeTo",
            "title",
            "version",
        ],
    ),
    (
        "index-pattern",
        &[
            "fieldFormatMap",
            "fields",
            "intervalName",
            "sourceFilters",
            "timeFieldName",
            "title",
            "type",
            "typeMeta",
        ],
    ),
    ("search", &["columns", "description", "hits", "kibanaSavedObjectMeta", "sort", "title", "version"]),
    (
        "visualization",
        &[
            "description",
            "kibanaSavedObjectMeta",
            "savedSearchRefName",
            "title",
            "uiStateJSON",
            "version",
            "visState",
        ],
    ),
];

/// What index patterns may hold besides since Kibana 7.12.
const OF_DATA_VIEWS: [&str; 5] = ["allowHidden", "allowNoIndex", "fieldAttrs", "name", "runtimeFieldMap"];

/// The file of a form with that alone.
pub(super) fn upload(request: &Request) -> Result<String, String> {
    let kind = request.header("content-type").unwrap_or_default();
    let boundary = kind.strip_prefix("multipart/form-data; boundary=").ok_or("Unsupported Media Type")?;
    let text = String::from_utf8(request.body.clone()).map_err(|error| error.to_string())?;
    let text = text.strip_prefix(&format!("--{boundary}\r\n")).ok_or("no first boundary")?;
    let (part, rest) = text.split_once(&format!("\r\n--{boundary}")).ok_or("no second boundary")?;
    if rest != "--\r\n" {
        return Err("one part is expected".to_owned());
    }
    let (head, file) = part.split_once("\r\n\r\n").ok_or("a part without an end of its headers")?;
    let disposition = head.lines().find(|line| line.to_ascii_lowercase().starts_with("content-disposition:"));
    let disposition = disposition.ok_or("a part without a disposition")?;
    if !disposition.contains("form-data") || !disposition.contains("name=\"file\"") {
        return Err("[request body.file]: expected value of type [Stream]".to_owned());
    }
    if !disposition.contains(".ndjson\"") {
        return Err("Invalid file extension .json".to_owned());
    }
    Ok(file.to_owned())
}

/// Whether an object is of a type, a version and a shape that is known.
pub(super) fn in_form(object: &Value, has_data_views: bool) -> Result<(), Reply> {
    let (kind, id) = (object["type"].as_str().unwrap_or_default(), object["id"].as_str().unwrap_or_default());
    let Some((_, newest)) = FORMS.iter().find(|(known, _)| *known == kind) else {
        return Err(bad(&format!("Unsupported saved object type: '{kind}'")));
    };
    let version = object["migrationVersion"][kind].as_str().unwrap_or_default();
    let numbers: Vec<u32> = version.split('.').map_while(|part| part.parse().ok()).collect();
    if numbers.len() != 3 || numbers[..] > newest[..] {
        let message = format!(
            "Document \"{id}\" belongs to a more recent version of Kibana [{version}] when the last known version is {newest:?}."
        );
        return Err(refusal(422, "Unprocessable Entity", &message));
    }
    let known = ATTRIBUTES.iter().find(|(known, _)| *known == kind).map_or(&[][..], |(_, names)| *names);
    let attributes = object["attributes"]
        .as_object()
        .ok_or_else(|| bad("[attributes]: expected value of type [object]"))?;
    let is_known = |name: &&str| {
        known.contains(name) || kind == "index-pattern" && has_data_views && OF_DATA_VIEWS.contains(name)
    };
    if let Some(name) = attributes.keys().find(|name| !is_known(&name.as_str())) {
        let message =
            format!("mapping set to strict, dynamic introduction of [{name}] within [{kind}] is not allowed");
        return Err(bad(&message));
    }
    for name in ["visState", "uiStateJSON", "panelsJSON", "optionsJSON", "fields", "fieldFormatMap"] {
        if let Some(text) = attributes.get(name) {
            let parsed = text.as_str().map(serde_json::from_str::<Value>);
            if !matches!(parsed, Some(Ok(_))) {
                return Err(bad(&format!("{id}: {name} is no JSON in a text")));
            }
        }
    }
    if attributes["title"].as_str().is_none_or(str::is_empty) || !object["references"].is_array() {
        return Err(bad(&format!("{id}: a title and references are expected")));
    }
    Ok(())
}

/// The references to index patterns and searches that lead nowhere: of others Kibana does not ask.
pub(super) fn missing(object: &Value, beside: &[Value], is_there: impl Fn(&str, &str) -> bool) -> Vec<Value> {
    let same = |one: &Value, other: &Value| one["type"] == other["type"] && one["id"] == other["id"];
    let asked = object["references"].as_array().into_iter().flatten();
    asked
        .filter(|reference| {
            ["index-pattern", "search"].contains(&reference["type"].as_str().unwrap_or_default())
        })
        .filter(|reference| !beside.iter().any(|one| same(one, reference)))
        .filter(|reference| {
            !is_there(
                reference["type"].as_str().unwrap_or_default(),
                reference["id"].as_str().unwrap_or_default(),
            )
        })
        .map(|reference| json!({ "type": reference["type"], "id": reference["id"] }))
        .collect()
}

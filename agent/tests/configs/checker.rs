//! A checker of documents by a JSON Schema: of the keywords that the configuration's schema uses, and of no others.
//!
//! In: a schema and a document. Out: what the schema has against it. A keyword that it does not know is a panic: a schema that
//! uses more than is checked here would be taken for stricter than it was shown to be.

use regex::Regex;
use serde_json::Value;

/// What `schema` has against `value`, each with its place; `root` is what references go to.
pub fn mistakes(root: &Value, schema: &Value, value: &Value, place: &str) -> Vec<String> {
    let Some(keywords) = schema.as_object() else {
        let wrong = *schema == Value::Bool(false);
        return wrong.then(|| format!("{place} may not be there")).into_iter().collect();
    };
    let mut found = Vec::new();
    let inner = |schema: &Value, value: &Value, place: &str| mistakes(root, schema, value, place);
    let fits = |schema: &Value| mistakes(root, schema, value, place).is_empty();
    for (keyword, wanted) in keywords {
        let list = || wanted.as_array().map(Vec::as_slice).unwrap_or_default();
        let number = || wanted.as_f64().expect("a number");
        let letters = || value.as_str().map(|text| text.chars().count() as f64);
        let good = match keyword.as_str() {
            "$schema" | "$defs" | "title" | "description" | "default" | "additionalProperties" => true,
            "$ref" => {
                let name =
                    wanted.as_str().and_then(|path| path.strip_prefix("#/$defs/")).expect("a definition");
                found.extend(inner(&root["$defs"][name], value, place));
                true
            }
            "type" => match wanted {
                Value::String(name) => is_a(value, name),
                _ => list().iter().any(|name| is_a(value, name.as_str().expect("a type"))),
            },
            "const" => value == wanted,
            "enum" => list().contains(value),
            "anyOf" => list().iter().any(fits),
            "oneOf" => list().iter().filter(|one| fits(one)).count() == 1,
            "not" => !fits(wanted),
            "minimum" => value.as_f64().is_none_or(|value| value >= number()),
            "maximum" => value.as_f64().is_none_or(|value| value <= number()),
            "exclusiveMinimum" => value.as_f64().is_none_or(|value| value > number()),
            "minLength" => letters().is_none_or(|length| length >= number()),
            "maxLength" => letters().is_none_or(|length| length <= number()),
            "pattern" => value.as_str().is_none_or(|text| matches(wanted.as_str().expect("a pattern"), text)),
            "minItems" => value.as_array().is_none_or(|all| all.len() as f64 >= number()),
            "minProperties" => value.as_object().is_none_or(|all| all.len() as f64 >= number()),
            "items" => {
                for (number, one) in value.as_array().into_iter().flatten().enumerate() {
                    found.extend(inner(wanted, one, &format!("{place}[{number}]")));
                }
                true
            }
            "required" => match value.as_object() {
                Some(object) => list().iter().all(|key| object.contains_key(key.as_str().expect("a key"))),
                None => true,
            },
            "properties" | "patternProperties" => {
                for (key, one) in value.as_object().into_iter().flatten() {
                    for schema in of_key(keywords, keyword, key) {
                        found.extend(inner(schema, one, &format!("{place}.{key}")));
                    }
                }
                true
            }
            other => panic!("the keyword `{other}` is not known here"),
        };
        if !good {
            found.push(format!("{place}: {keyword} {wanted}"));
        }
    }
    if let Some(others) = keywords.get("additionalProperties") {
        for (key, one) in value.as_object().into_iter().flatten() {
            let named =
                ["properties", "patternProperties"].map(|keyword| of_key(keywords, keyword, key).count());
            if named == [0, 0] {
                found.extend(inner(others, one, &format!("{place}.{key}")));
            }
        }
    }
    found
}

/// The schemas that `properties` or `patternProperties` have for a key.
fn of_key<'a>(
    keywords: &'a serde_json::Map<String, Value>,
    keyword: &'a str,
    key: &'a str,
) -> impl Iterator<Item = &'a Value> {
    let all = keywords.get(keyword).and_then(Value::as_object).into_iter().flatten();
    let is = move |name: &str| if keyword == "properties" { name == key } else { matches(name, key) };
    all.filter(move |(name, _)| is(name)).map(|(_, schema)| schema)
}

fn matches(pattern: &str, text: &str) -> bool {
    Regex::new(pattern).expect("a pattern").is_match(text)
}

fn is_a(value: &Value, name: &str) -> bool {
    match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "number" => value.is_number(),
        "integer" => value.is_i64() || value.is_u64(),
        other => panic!("the type `{other}` is not known here"),
    }
}

#[test]
fn each_keyword_says_what_it_should() {
    use serde_json::json;
    let root = json!({ "$defs": { "Word": { "enum": ["a", "b"] } } });
    for (schema, good, bad) in [
        (json!({ "type": "integer", "minimum": 1, "maximum": 3 }), json!(3), json!(4)),
        (json!({ "type": ["string", "number"] }), json!(0.5), json!(true)),
        (json!({ "exclusiveMinimum": 0 }), json!(0.1), json!(0)),
        (json!({ "$ref": "#/$defs/Word" }), json!("a"), json!("c")),
        (json!({ "pattern": "^/", "minLength": 2, "maxLength": 3 }), json!("/a"), json!("/abc")),
        (json!({ "items": { "const": 1 }, "minItems": 1 }), json!([1]), json!([])),
        (json!({ "items": { "const": 1 } }), json!([1, 1]), json!([1, 2])),
        (
            json!({ "oneOf": [{ "required": ["a"] }, { "required": ["b"] }] }),
            json!({ "a": 1 }),
            json!({ "a": 1, "b": 1 }),
        ),
        (json!({ "anyOf": [{ "const": 1 }, { "const": 2 }] }), json!(2), json!(3)),
        (json!({ "not": { "const": 1 } }), json!(2), json!(1)),
        (
            json!({ "properties": { "a": { "const": 1 } }, "additionalProperties": false, "minProperties": 1 }),
            json!({ "a": 1 }),
            json!({ "b": 1 }),
        ),
        (
            json!({ "patternProperties": { "^x": { "const": 1 } }, "additionalProperties": { "const": 2 } }),
            json!({ "xy": 1, "y": 2 }),
            json!({ "xy": 2 }),
        ),
    ] {
        assert_eq!(mistakes(&root, &schema, &good, ""), [""; 0], "{schema} and {good}");
        assert!(!mistakes(&root, &schema, &bad, "").is_empty(), "{schema} and {bad}");
    }
}

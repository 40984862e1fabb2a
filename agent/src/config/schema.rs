//! The JSON Schema of the configuration, for editors and whatever else checks a file before the agent does.
//!
//! In: the configuration's own types, of which the derived schema has keys, docstrings and words, and the forms of single
//! values, which stand beside the types ([`form`]). Out: one document of draft 2020-12. It says what a file may look like;
//! what must fit together, as an output that a route names, only the loader knows.

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

use super::Config;

/// Gives a type the form of its values: a name for the schema, what it is in words, and the schema itself.
macro_rules! form {
    ($type:ty, $name:literal, $said:literal, $schema:tt) => {
        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                $name.into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                let mut schema = schemars::json_schema!($schema);
                schema.insert("description".to_owned(), $said.into());
                schema
            }
        }
    };
}
pub(crate) use form;

/// Tables under names of the user's choice, as `[outputs.NAME]`.
pub struct Named<T>(std::marker::PhantomData<T>);

impl<T: JsonSchema> JsonSchema for Named<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Named{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<T>();
        json_schema!({
            "type": "object",
            "patternProperties": { "^[a-z0-9_-]{1,64}$": one },
            "additionalProperties": false,
        })
    }
}

/// The schema of a configuration file.
pub fn schema() -> Value {
    let generator = SchemaSettings::draft2020_12().into_generator();
    let mut schema = generator.into_root_schema_for::<Config>().to_value();
    tidy(&mut schema);
    schema["title"] = "The configuration of Taffrail".into();
    // Both are told by the loader with more words; an editor marks them as soon as the file is opened.
    schema["required"] = json!(["outputs"]);
    schema["properties"]["outputs"]["minProperties"] = 1.into();
    schema
}

/// Makes of what is derived what fits TOML, and what the docstrings say.
fn tidy(value: &mut Value) {
    match value {
        Value::Array(list) => list.iter_mut().for_each(tidy),
        Value::Object(object) => {
            for (key, inner) in object.iter_mut() {
                match (key.as_str(), inner) {
                    // Names of the configuration's own: one that is called `format` is no word of the schema.
                    ("properties" | "patternProperties" | "$defs", Value::Object(named)) => {
                        named.values_mut().for_each(tidy);
                    }
                    (_, inner) => tidy(inner),
                }
            }
            unnull(object);
            one_of_keys(object);
            // What the derived schema has there depends on which types can be written, and on this machine.
            object.remove("default");
            // Formats such as `uint32` are nobody's but Rust's.
            object.remove("format");
            if let Some(Value::String(said)) = object.get("description") {
                let said = flowing(said);
                let literal = default_of(&said).and_then(literal);
                object.extend(literal.map(|literal| ("default".to_owned(), literal)));
                object.insert("description".to_owned(), said.into());
            }
        }
        _ => {}
    }
}

/// TOML has no null: a key that has none is left out.
fn unnull(object: &mut Map<String, Value>) {
    if let Some(Value::Array(types)) = object.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            object.insert("type".to_owned(), only);
        }
    }
    let Some(Value::Array(any)) = object.get_mut("anyOf") else { return };
    any.retain(|one| *one != json!({ "type": "null" }));
    if let [Value::Object(only)] = any.as_slice() {
        let only = only.clone();
        object.remove("anyOf");
        for (key, value) in only {
            object.entry(key).or_insert(value);
        }
    }
}

/// A choice among keys of one table becomes keys like the others, of which exactly one is there: editors then know them.
fn one_of_keys(object: &mut Map<String, Value>) {
    if !object.contains_key("unevaluatedProperties") || !object.contains_key("properties") {
        return;
    }
    let Some(Value::Array(choices)) = object.get_mut("oneOf") else { return };
    let mut keys = Map::new();
    for choice in choices {
        let said = choice["description"].take();
        let Some(Value::Object(own)) = choice.get_mut("properties") else { return };
        for (key, mut schema) in std::mem::take(own) {
            if schema["description"].is_null() {
                schema["description"] = said.clone();
            }
            keys.insert(key, schema);
        }
        *choice = json!({ "required": choice["required"] });
    }
    if let Some(Value::Object(properties)) = object.get_mut("properties") {
        properties.extend(keys);
    }
    object.remove("unevaluatedProperties");
    object.insert("additionalProperties".to_owned(), false.into());
}

/// Lines of a docstring are broken for the source only; paragraphs stay.
fn flowing(said: &str) -> String {
    let paragraphs = said.split("\n\n").map(|lines| lines.replace('\n', " "));
    paragraphs.collect::<Vec<_>>().join("\n\n")
}

/// What a docstring says of the value without the key: its last sentence, from behind `Default`.
pub fn default_of(said: &str) -> Option<&str> {
    let at =
        said.rfind("Default ").or_else(|| said.rfind("Default: "))?.max(said.rfind("Default: ").unwrap_or(0));
    said[at..].trim_start_matches("Default").trim_start_matches(':').trim().strip_suffix('.')
}

/// A default that is one value in backticks.
fn literal(default: &str) -> Option<Value> {
    let inner = default.strip_prefix('`')?.strip_suffix('`').filter(|inner| !inner.contains('`'))?;
    let table: BTreeMap<String, Value> = toml::from_str(&format!("value = {inner}")).ok()?;
    table.into_values().next()
}

#[cfg(test)]
#[path = "schema_tests.rs"]
mod tests;

//! What the keys of a route look like, for the schema: those that are written in several forms.
//!
//! In: nothing. Out: a schema for each type. What a value means is worked out where it is read.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use super::{ConditionsConfig, Globs, Lines, Parse, SampleConfig, TimeConfig};
use crate::config::schema::form;
use crate::record::parse::{Form, ROOTS};
use crate::record::redact::Builtin;

form!(
    Globs,
    "Patterns",
    "A pattern with `*`, `?` and `[…]`, or a list of them, of which one must match. Those that begin with `!` must not: \
     `\"payments-*\"`, `[\"a-*\", \"!a-test\"]`.",
    { "type": ["string", "array"], "items": { "type": "string" }, "minItems": 1 }
);

form!(
    SampleConfig,
    "Sample",
    "A share above 0 and up to 1; or a table with the share as `rate`, and as `by` the field of which all records of one value \
     are kept or dropped together, as in `{ rate = 0.1, by = \"app.trace_id\" }`.",
    {
        "type": ["number", "object"],
        "exclusiveMinimum": 0,
        "maximum": 1,
        "properties": {
            "rate": { "type": "number", "exclusiveMinimum": 0, "maximum": 1 },
            "by": { "type": "string", "pattern": "^(message$|app\\.)" },
        },
        "required": ["rate"],
        "additionalProperties": false,
    }
);

form!(
    Lines,
    "Lines",
    "`\"auto\"`, `\"off\"`, or a table with `start`, a regular expression that first lines match, or with `continue`, one that all \
     other lines match; with `timeout`, a time, and `max_lines`, if you like. A table without either is `\"auto\"`.",
    {
        "oneOf": [
            { "enum": ["auto", "off"] },
            {
                "type": "object",
                "properties": {
                    "start": { "type": "string" },
                    "continue": { "type": "string" },
                    "timeout": { "type": "string", "pattern": "^[0-9]+ ?(ms|s|m|h|d)$" },
                    "max_lines": { "type": "integer", "minimum": 1 },
                },
                "not": { "required": ["start", "continue"] },
                "additionalProperties": false,
            },
        ],
    }
);

form!(
    TimeConfig,
    "RecordTime",
    "`\"auto\"`, a field as `\"app.ts\"`, or a table with `field`, `format` (`\"auto\"`, `\"rfc3339\"`, `\"epoch_s\"`, `\"epoch_ms\"`, \
     `\"epoch_us\"`, `\"epoch_ns\"`, or as `\"%Y-%m-%d %H:%M:%S\"`), `zone` (`\"+09:00\"`), `past` and `ahead`, times.",
    {
        "oneOf": [
            { "type": "string", "minLength": 1 },
            {
                "type": "object",
                "properties": {
                    "field": { "type": "string", "minLength": 1 },
                    "format": { "type": "string", "minLength": 1 },
                    "zone": { "type": "string" },
                    "past": { "type": "string", "pattern": "^[0-9]+ ?(ms|s|m|h|d)$" },
                    "ahead": { "type": "string", "pattern": "^[0-9]+ ?(ms|s|m|h|d)$" },
                },
                "additionalProperties": false,
            },
        ],
    }
);

/// What `remove` and `hash` may be, for the schema.
pub struct Names;

form!(
    Names,
    "Fields",
    "The name of a field of the document, such as `\"app.password\"`, or a list of them; `.*` at its end stands for all beneath.",
    { "type": ["string", "array"], "items": { "type": "string", "minLength": 1 }, "minLength": 1 }
);

/// What `rename` may be, for the schema.
pub struct Renames;

form!(
    Renames,
    "Renames",
    "A table of fields and what they are called instead, as in `{ \"app.user_id\" = \"user.id\" }`.",
    { "type": "object", "additionalProperties": { "type": ["string", "object"] } }
);

/// What `truncate` may be, for the schema.
pub struct Lengths;

form!(
    Lengths,
    "Lengths",
    "A table of fields and sizes, as in `{ message = \"8KiB\" }`.",
    { "type": "object", "additionalProperties": { "type": ["string", "integer", "object"] } }
);

/// What `add` may be, for the schema.
pub struct Given;

form!(
    Given,
    "Given",
    "A table of fields and texts, numbers, `true` or `false`, as in `{ \"labels.team\" = \"shop\" }`.",
    { "type": "object", "additionalProperties": { "type": ["string", "number", "boolean", "object"] } }
);

impl JsonSchema for Parse {
    fn schema_name() -> Cow<'static, str> {
        "Parse".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "The name of a form, or `{ regex = '…' }`, whose named groups are the fields.",
            "oneOf": [{ "enum": Form::ALL.map(|(name, _)| name) }, table(&["regex"], &json!({ "regex": { "type": "string" } }))],
        })
    }
}

/// What `redact` may be, for the schema: one thing, or a list.
pub struct Redactions;

impl JsonSchema for Redactions {
    fn schema_name() -> Cow<'static, str> {
        "Redactions".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let name = json!({ "type": "string", "pattern": "^[A-Za-z0-9_-]+$" });
        let own = table(&["name", "regex"], &json!({ "name": name, "regex": { "type": "string" } }));
        let one = json!({ "oneOf": [{ "enum": Builtin::ALL.map(Builtin::as_str) }, own] });
        json_schema!({
            "description": "The name of what is redacted, a pattern as `{ name = \"ssn\", regex = '…' }`, or a list of these.",
            "anyOf": [one, { "type": "array", "items": one }],
        })
    }
}

impl JsonSchema for ConditionsConfig {
    fn schema_name() -> Cow<'static, str> {
        "Conditions".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let test = json!({ "type": ["string", "number", "boolean"] });
        let test = json!({ "anyOf": [test, { "type": "array", "items": test, "minItems": 1 }] });
        let words = json!({ "type": ["string", "array"], "items": { "type": "string" }, "minItems": 1 });
        let roots = ROOTS.into_iter().filter(|root| *root != "app").collect::<Vec<_>>().join("|");
        let mut all = json!({
            "type": "object",
            "properties": { "level": words, "message": test, "stream": test, "app": { "type": "object" } },
            "additionalProperties": false,
            "minProperties": 1,
        });
        all["patternProperties"] = json!({
            // A field of the document by its whole name in quotes, or by tables.
            format!("^(app|{roots})\\."): test,
            format!("^({roots}|user_agent)$"): { "type": "object" },
        });
        json_schema!({
            "description": "A table of conditions that must all hold, or a list of such tables, of which one must. A condition is a \
                            part of the text, `\"/regex/\"`, `\"= exact\"`, a comparison such as `\">= 500\"`, a number, `true` or \
                            `false`, or a list of these, of which one must hold; `!` before a text negates. Fields are `level` \
                            (`\">=warn\"`, `\"info\"`), `message`, `stream`, `app.…` of an application's JSON, and those that \
                            `parse` makes.",
            "anyOf": [all, { "type": "array", "items": all, "minItems": 1 }],
        })
    }
}

/// A table that has these keys and no others.
fn table(required: &[&str], properties: &Value) -> Value {
    json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false })
}

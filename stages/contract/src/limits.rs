//! Holds parameters against the limits of a JSON Schema as `schemars` derives it: bounds of numbers, lengths, fixed
//! words. A limit is written once, at its field, and both editors and this check read it from there.
//!
//! The type that parses the parameters has seen to keys and types; they serve here only to tell options apart.

use std::any::TypeId;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Number, Value};

use crate::Fault;

/// The keywords that a schema of parameters may use: those by which values are held against it, here and where a pipeline is
/// read, and those that only describe. A limit under any other keyword would be shown to editors and never checked.
pub const KEYWORDS: [&str; 26] = [
    "type",
    "const",
    "enum",
    "oneOf",
    "anyOf",
    "allOf",
    "properties",
    "required",
    "additionalProperties",
    "items",
    "prefixItems",
    "minItems",
    "maxItems",
    "uniqueItems",
    "minLength",
    "maxLength",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "format",
    "title",
    "description",
    "default",
    "x-as-written",
    "x-command-line",
];

/// What writes schemas here: all in one piece, without references.
pub(crate) fn generator() -> SchemaGenerator {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    settings.into_generator()
}

/// The schema of a type. Made once for each type: a model's schema is large, and parameters are checked often.
pub fn schema_of<P: JsonSchema + 'static>() -> &'static Value {
    static SCHEMAS: Mutex<BTreeMap<TypeId, &'static Value>> = Mutex::new(BTreeMap::new());
    // A thread that panicked left the map as it was.
    let mut schemas = SCHEMAS.lock().unwrap_or_else(PoisonError::into_inner);
    schemas.entry(TypeId::of::<P>()).or_insert_with(|| {
        let schema = generator().into_root_schema_for::<P>().to_value();
        // There are as many as there are types.
        Box::leak(Box::new(schema))
    })
}

/// Checks all limits of a value that its type accepts.
///
/// # Errors
/// The first parameter beyond a limit, and the limit.
pub(crate) fn check(value: &Value, schema: &Value) -> Result<(), Fault> {
    // A schema may also be `true`, which limits nothing.
    let Some(schema) = schema.as_object() else {
        return Ok(());
    };
    // `Option` lets `null` stand beside whatever the limits are about.
    if value.is_null() {
        return Ok(());
    }
    for keyword in ["oneOf", "anyOf"] {
        if let Some(options) = list(schema, keyword) {
            options_of(value, options)?;
        }
    }
    for part in list(schema, "allOf").into_iter().flatten() {
        check(value, part)?;
    }
    if !is_listed(value, schema) {
        return Err(Fault::whole(format!("cannot be {value}")));
    }
    match value {
        Value::Number(number) => bounds(number, schema),
        Value::String(text) => {
            let length = text.chars().count();
            lengths(length, schema, ["minLength", "maxLength"], "character")
        }
        Value::Array(items) => {
            lengths(items.len(), schema, ["minItems", "maxItems"], "item")?;
            unique(items, schema)?;
            items_of(items, schema)
        }
        Value::Object(properties) => properties_of(properties, schema),
        Value::Null | Value::Bool(_) => Ok(()),
    }
}

/// A value that may take several forms: one of those that look like it must accept it.
fn options_of(value: &Value, options: &[Value]) -> Result<(), Fault> {
    let mut fault = None;
    for option in options {
        if !is_like(value, option) {
            continue;
        }
        match check(value, option) {
            Ok(()) => return Ok(()),
            Err(found) => fault = fault.or(Some(found)),
        }
    }
    Err(fault.unwrap_or_else(|| Fault::whole("has none of the forms that it may have")))
}

/// Whether a schema describes values of this form: its type, and the keys that hold one fixed word.
fn is_like(value: &Value, schema: &Value) -> bool {
    let Some(schema) = schema.as_object() else {
        return true;
    };
    if !has_type(value, schema) || !is_listed(value, schema) {
        return false;
    }
    let (Some(object), Some(properties)) = (value.as_object(), map(schema, "properties")) else {
        return true;
    };
    let required = list(schema, "required").unwrap_or_default();
    if !required
        .iter()
        .filter_map(Value::as_str)
        .all(|name| object.contains_key(name))
    {
        return false;
    }
    properties.iter().all(|(name, property)| {
        let (Some(word), Some(found)) = (property.get("const"), object.get(name)) else {
            return true;
        };
        word == found
    })
}

fn has_type(value: &Value, schema: &Map<String, Value>) -> bool {
    let is = |name: &Value| match name.as_str() {
        Some("null") => value.is_null(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("number") => value.is_number(),
        Some("string") => value.is_string(),
        Some("array") => value.is_array(),
        Some("object") => value.is_object(),
        _ => true,
    };
    match schema.get("type") {
        Some(Value::Array(names)) => names.iter().any(is),
        Some(name) => is(name),
        None => true,
    }
}

fn is_listed(value: &Value, schema: &Map<String, Value>) -> bool {
    schema.get("const").is_none_or(|only| only == value)
        && list(schema, "enum").is_none_or(|listed| listed.contains(value))
}

fn bounds(number: &Number, schema: &Map<String, Value>) -> Result<(), Fault> {
    let value = number.as_f64().unwrap_or(f64::NAN);
    let bound = |keyword: &str| schema.get(keyword).and_then(Value::as_f64);
    let (least, above) = (bound("minimum"), bound("exclusiveMinimum"));
    let (most, below) = (bound("maximum"), bound("exclusiveMaximum"));
    let fits = least.is_none_or(|least| value >= least)
        && above.is_none_or(|above| value > above)
        && most.is_none_or(|most| value <= most)
        && below.is_none_or(|below| value < below);
    if fits {
        return Ok(());
    }
    let low = match (least, above) {
        (_, Some(above)) => Some(format!("above {above}")),
        (Some(least), None) => Some(format!("at least {least}")),
        (None, None) => None,
    };
    let high = match (most, below) {
        (_, Some(below)) => Some(format!("below {below}")),
        (Some(most), None) => Some(format!("at most {most}")),
        (None, None) => None,
    };
    let range = [low, high].into_iter().flatten().collect::<Vec<_>>();
    let range = range.join(" and ");
    Err(Fault::whole(format!("must be {range}, not {number}")))
}

/// Checks how many characters or items there are.
fn lengths(
    length: usize,
    schema: &Map<String, Value>,
    [least, most]: [&str; 2],
    what: &str,
) -> Result<(), Fault> {
    let bound = |keyword: &str| schema.get(keyword).and_then(Value::as_u64);
    let counted = |count: u64| match count {
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    };
    let length = length as u64;
    if let Some(least) = bound(least).filter(|least| length < *least) {
        let reason = format!("must have at least {}, not {length}", counted(least));
        return Err(Fault::whole(reason));
    }
    if let Some(most) = bound(most).filter(|most| length > *most) {
        let reason = format!("must have at most {}, not {length}", counted(most));
        return Err(Fault::whole(reason));
    }
    Ok(())
}

/// Where items may not repeat, the first that does.
fn unique(items: &[Value], schema: &Map<String, Value>) -> Result<(), Fault> {
    if schema.get("uniqueItems") != Some(&Value::Bool(true)) {
        return Ok(());
    }
    for (index, item) in items.iter().enumerate() {
        if items[..index].contains(item) {
            return Err(Fault::whole(format!("holds {item} twice")));
        }
    }
    Ok(())
}

fn items_of(items: &[Value], schema: &Map<String, Value>) -> Result<(), Fault> {
    let first = list(schema, "prefixItems").unwrap_or_default();
    for (index, item) in items.iter().enumerate() {
        if let Some(schema) = first.get(index).or_else(|| schema.get("items")) {
            check(item, schema).map_err(|fault| fault.below(index))?;
        }
    }
    Ok(())
}

fn properties_of(
    properties: &Map<String, Value>,
    schema: &Map<String, Value>,
) -> Result<(), Fault> {
    let known = map(schema, "properties");
    for (name, value) in properties {
        let schema = known
            .and_then(|known| known.get(name))
            .or_else(|| schema.get("additionalProperties"));
        if let Some(schema) = schema {
            check(value, schema).map_err(|fault| fault.below(name))?;
        }
    }
    Ok(())
}

fn list<'a>(schema: &'a Map<String, Value>, keyword: &str) -> Option<&'a [Value]> {
    Some(schema.get(keyword)?.as_array()?.as_slice())
}

fn map<'a>(schema: &'a Map<String, Value>, keyword: &str) -> Option<&'a Map<String, Value>> {
    schema.get(keyword)?.as_object()
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};
    use serde_json::json;

    use super::*;

    #[derive(Serialize, Deserialize, JsonSchema)]
    #[serde(untagged)]
    enum Sizes {
        One(#[schemars(range(min = 1))] u32),
        Many(#[schemars(length(min = 2), inner(range(min = 1)))] Vec<u32>),
    }

    #[derive(Serialize, Deserialize, JsonSchema)]
    #[serde(rename_all = "lowercase")]
    enum Order {
        Auto,
        Fixed(#[schemars(range(max = 9))] u32),
    }

    #[derive(Serialize, Deserialize, JsonSchema)]
    struct Inner {
        #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
        share: f64,
    }

    #[derive(Serialize, Deserialize, JsonSchema)]
    struct Outer {
        #[schemars(range(min = 1, max = 8))]
        count: Option<u32>,
        #[schemars(extend("exclusiveMinimum" = 0.0))]
        rate: Option<f64>,
        inner: Option<Inner>,
        #[schemars(length(max = 2))]
        list: Option<Vec<Inner>>,
        #[schemars(length(min = 1))]
        name: Option<String>,
        #[schemars(extend("uniqueItems" = true))]
        once: Option<Vec<u32>>,
        sizes: Option<Sizes>,
        order: Option<Order>,
        by_name: Option<BTreeMap<String, Inner>>,
    }

    fn fault(value: &Value) -> Option<String> {
        // The type has read whatever is checked.
        serde_json::from_value::<Outer>(value.clone()).unwrap();
        let fault = check(value, schema_of::<Outer>()).err()?;
        Some(fault.to_string())
    }

    #[test]
    fn what_is_within_all_limits_passes() {
        for good in [
            json!({}),
            json!({"count": null, "inner": null, "sizes": null}),
            json!({"count": 1, "rate": 1e-9, "inner": {"share": 0}, "name": "a"}),
            json!({"list": [{"share": 0.99}, {"share": 0.5}], "by_name": {"a": {"share": 0.1}}}),
            json!({"sizes": 1, "order": "auto", "once": [1, 2]}),
            json!({"sizes": [1, 2], "order": {"fixed": 9}}),
        ] {
            assert_eq!(fault(&good), None, "{good}");
        }
    }

    #[test]
    fn faults_name_the_parameter_and_the_limit() {
        for (bad, expected) in [
            (json!({"once": [1, 2, 1]}), "`once` holds 1 twice"),
            (
                json!({"count": 0}),
                "`count` must be at least 1 and at most 8, not 0",
            ),
            (json!({"rate": 0.0}), "`rate` must be above 0, not 0.0"),
            (
                json!({"inner": {"share": 1.0}}),
                "`inner.share` must be at least 0 and below 1, not 1.0",
            ),
            (
                json!({"list": [{"share": 0.0}, {"share": -1.0}]}),
                "`list.1.share` must be at least 0 and below 1, not -1.0",
            ),
            (
                json!({"list": [{"share": 0.0}, {"share": 0.0}, {"share": 0.0}]}),
                "`list` must have at most 2 items, not 3",
            ),
            (
                json!({"name": ""}),
                "`name` must have at least 1 character, not 0",
            ),
            (json!({"sizes": 0}), "`sizes` must be at least 1, not 0"),
            (
                json!({"sizes": [5]}),
                "`sizes` must have at least 2 items, not 1",
            ),
            (
                json!({"sizes": [5, 0]}),
                "`sizes.1` must be at least 1, not 0",
            ),
            (
                json!({"by_name": {"x": {"share": 2.0}}}),
                "`by_name.x.share` must be at least 0 and below 1, not 2.0",
            ),
        ] {
            assert_eq!(fault(&bad).as_deref(), Some(expected), "{bad}");
        }
        // `u32` has a least value of its own.
        let found = fault(&json!({"order": {"fixed": 10}})).unwrap();
        assert_eq!(
            found,
            "`order.fixed` must be at least 0 and at most 9, not 10"
        );
    }

    #[test]
    fn words_that_the_schema_lists_are_the_only_ones() {
        let schema = json!({"enum": ["a", "b"]});
        assert!(check(&json!("a"), &schema).is_ok());
        assert_eq!(
            check(&json!("c"), &schema).unwrap_err(),
            Fault::whole("cannot be \"c\"")
        );
    }
}

//! A JSON Schema in words, as a Markdown list: one line per parameter, choices below the parameter that takes them.

use std::fmt::Write;

use serde_json::Value;

/// The parameters of an object schema.
pub fn describe_schema(schema: &Value) -> String {
    let mut text = String::new();
    object(schema, 0, &mut text);
    text
}

fn object(schema: &Value, depth: usize, text: &mut String) {
    if let Some(choices) = schema.get("oneOf").and_then(Value::as_array) {
        choices
            .iter()
            .for_each(|choice| alternative(choice, depth, text));
    }
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
        return;
    };
    let required = |name: &str| {
        let names = schema.get("required").and_then(Value::as_array);
        names.is_some_and(|names| names.iter().any(|required| required == name))
    };
    for (name, property) in properties {
        if property.get("const").is_none() {
            parameter(name, property, required(name), depth, text);
        }
    }
}

fn parameter(name: &str, schema: &Value, required: bool, depth: usize, text: &mut String) {
    let indent = "  ".repeat(depth);
    let mut facts = vec![kind_of(schema)];
    facts.extend(range_of(schema));
    match schema.get("default") {
        Some(default) => facts.push(format!("default `{default}`")),
        None if required => facts.push("required".to_owned()),
        None => {}
    }
    let facts: Vec<String> = facts.into_iter().filter(|fact| !fact.is_empty()).collect();
    let doc = schema
        .get("description")
        .and_then(Value::as_str)
        .unwrap_or("")
        .replace('\n', " ");
    let _ = writeln!(text, "{indent}- `{name}` ({}): {doc}", facts.join(", "));
    for form in forms_of(schema) {
        object(form, depth + 1, text);
        // What each item of a list, or each value of a map, is made of.
        for keyword in ["items", "additionalProperties"] {
            if let Some(each) = form.get(keyword) {
                object(each, depth + 1, text);
            }
        }
    }
}

/// One choice of a tagged value: its tag, its sentence, its own parameters.
fn alternative(choice: &Value, depth: usize, text: &mut String) {
    let indent = "  ".repeat(depth);
    let properties = choice.get("properties").and_then(Value::as_object);
    let tag = properties.and_then(|properties| {
        properties
            .iter()
            .find_map(|(name, property)| Some((name, property.get("const")?.as_str()?)))
    });
    let doc = choice
        .get("description")
        .and_then(Value::as_str)
        .unwrap_or("")
        .replace('\n', " ");
    if let Some((name, value)) = tag {
        let _ = writeln!(text, "{indent}- `{name}: {value}`: {doc}");
        object(choice, depth + 1, text);
    } else if let Some(value) = choice.get("const").and_then(Value::as_str) {
        let _ = writeln!(text, "{indent}- `{value}`: {doc}");
    }
}

/// The forms that a value may have, without `null`; those of a form that has several are among them.
fn forms_of(schema: &Value) -> Vec<&Value> {
    let Some(options) = schema.get("anyOf").and_then(Value::as_array) else {
        return vec![schema];
    };
    let mut forms = Vec::new();
    for option in options {
        if option.get("type").and_then(Value::as_str) != Some("null") {
            forms.extend(forms_of(option));
        }
    }
    forms
}

/// What sorts of values there may be, such as `number or object`.
fn kind_of(schema: &Value) -> String {
    let mut kinds: Vec<String> = Vec::new();
    for form in forms_of(schema) {
        let kind = kind_of_form(form);
        if !kind.is_empty() && !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    kinds.join(" or ")
}

fn kind_of_form(schema: &Value) -> String {
    if let Some(names) = schema.get("enum").and_then(Value::as_array) {
        return names
            .iter()
            .map(|name| format!("`{}`", name.as_str().unwrap_or_default()))
            .collect::<Vec<_>>()
            .join(" | ");
    }
    if schema.get("oneOf").is_some() {
        return "one of those below".to_owned();
    }
    match schema.get("type") {
        Some(Value::String(name)) if name == "array" => {
            let items = schema.get("items").map(kind_of).unwrap_or_default();
            if items.is_empty() {
                "list".to_owned()
            } else {
                // Not "list of one of those".
                format!("list of {}", items.trim_start_matches("one of "))
            }
        }
        Some(Value::String(name)) => name.clone(),
        Some(Value::Array(names)) => {
            let names: Vec<&str> = names
                .iter()
                .filter_map(Value::as_str)
                .filter(|name| *name != "null")
                .collect();
            names.join(" or ")
        }
        _ => String::new(),
    }
}

/// The limits of the first form that has any.
fn range_of(schema: &Value) -> Option<String> {
    forms_of(schema).into_iter().find_map(range_of_form)
}

fn range_of_form(schema: &Value) -> Option<String> {
    let bound = |keys: [&str; 2], words: [&str; 2]| {
        let found = keys
            .iter()
            .zip(words)
            .find_map(|(key, word)| Some((schema.get(key)?, word)));
        found.map(|(bound, word)| format!("{word} {bound}"))
    };
    let low = bound(["minimum", "exclusiveMinimum"], ["at least", "above"])
        .filter(|low| low != "at least 0");
    let high = bound(["maximum", "exclusiveMaximum"], ["at most", "below"]);
    let parts: Vec<String> = low.into_iter().chain(high).collect();
    (!parts.is_empty()).then(|| parts.join(" and "))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_parameter_of_several_forms_has_them_all() {
        let placed = json!({"type": "object", "properties": {"rows": {"type": "integer", "minimum": 1, "description": "How many."}}});
        let share = json!({"type": "number", "minimum": 0.5});
        let inner = json!({"anyOf": [share, {"enum": ["rest"]}, placed]});
        let schema = json!({"properties": {"train": {"anyOf": [inner, {"type": "null"}], "description": "Fits."}}});
        let expected = "- `train` (number or `rest` or object, at least 0.5): Fits.\n  - `rows` (integer, at least 1): How many.\n";
        assert_eq!(describe_schema(&schema), expected);
    }
}

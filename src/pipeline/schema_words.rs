//! Reads a JSON Schema for messages: what it expects, in words, and how its options are told apart.
//! It checks nothing.

use serde_json::{Map, Value};

use crate::diagnostic::list;

/// A keyword of a schema. Schemas have few keywords, and comparing them all is faster than hashing one.
pub(super) fn find<'a>(schema: &'a Map<String, Value>, keyword: &str) -> Option<&'a Value> {
    schema
        .iter()
        .find_map(|(name, value)| (name == keyword).then_some(value))
}

/// The schema that a `$ref` within the root points to, or the schema itself.
pub(super) fn resolve_reference<'a>(schema: &'a Value, root: &'a Value) -> &'a Value {
    /// A chain of references longer than this goes in a circle.
    const LONGEST: usize = 20;
    let mut schema = schema;
    for _ in 0..LONGEST {
        let target = schema
            .as_object()
            .and_then(|schema| find(schema, "$ref"))
            .and_then(Value::as_str)
            .and_then(|path| root.pointer(path.strip_prefix('#')?));
        match target {
            Some(target) => schema = target,
            None => break,
        }
    }
    schema
}

/// The options of `oneOf` or `anyOf` without null, with the options of options in their place.
pub(super) fn flatten<'a>(options: &'a [Value], root: &'a Value) -> Vec<&'a Value> {
    let mut flat = Vec::with_capacity(options.len());
    for option in options {
        let option = resolve_reference(option, root);
        let inner = ["oneOf", "anyOf"]
            .iter()
            .find_map(|keyword| option.get(*keyword)?.as_array());
        match inner {
            Some(inner) if option.get("properties").is_none() => flat.extend(flatten(inner, root)),
            _ if option.get("type").and_then(Value::as_str) == Some("null") => {}
            _ => flat.push(option),
        }
    }
    flat
}

/// The types that a schema names; none means any.
pub(super) fn type_names(schema: &Map<String, Value>) -> Vec<&str> {
    match find(schema, "type") {
        Some(Value::String(name)) => vec![name.as_str()],
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

pub(super) fn accepts_null(schema: &Map<String, Value>, root: &Value) -> bool {
    let nullable = |option: &Value| match resolve_reference(option, root) {
        Value::Object(option) => accepts_null(option, root),
        Value::Bool(accepts) => *accepts,
        _ => false,
    };
    let options = ["oneOf", "anyOf"]
        .iter()
        .filter_map(|keyword| find(schema, keyword)?.as_array())
        .flatten();
    type_names(schema).contains(&"null")
        || find(schema, "const") == Some(&Value::Null)
        || options.into_iter().any(nullable)
}

/// The key whose constant value differs between all options that are maps.
pub(super) fn tag<'a>(options: &[&'a Value]) -> Option<&'a str> {
    let mut maps = options
        .iter()
        .filter_map(|option| option.get("properties")?.as_object());
    let first = maps.next()?;
    let is_tag = |properties: &Map<String, Value>, name: &str| {
        properties
            .get(name)
            .and_then(|schema| schema.get("const"))
            .is_some_and(Value::is_string)
    };
    let tag = first.keys().find(|name| is_tag(first, name))?;
    maps.all(|properties| is_tag(properties, tag))
        .then_some(tag.as_str())
}

/// All values, if every option is a fixed list of them.
pub(super) fn choices(options: &[&Value]) -> Option<Vec<Value>> {
    let mut all = Vec::new();
    for option in options {
        match (
            option.get("const"),
            option.get("enum").and_then(Value::as_array),
        ) {
            (Some(only), _) => all.push(only.clone()),
            (None, Some(listed)) => all.extend(listed.iter().cloned()),
            (None, None) => return None,
        }
    }
    Some(all)
}

/// What a schema expects, as the object of a sentence: `an integer of at least 1`.
pub(super) fn expected(schema: &Map<String, Value>, root: &Value) -> String {
    if let Some(only) = schema.get("const") {
        return format!("`{}`", word(only));
    }
    if let Some(listed) = schema.get("enum").and_then(Value::as_array) {
        return one_of(listed);
    }
    for keyword in ["oneOf", "anyOf"] {
        if let Some(options) = schema.get(keyword).and_then(Value::as_array) {
            return any_of(options, root);
        }
    }
    if find(schema, "x-as-written").is_some() {
        return "a string".to_owned();
    }
    let names: Vec<String> = type_names(schema)
        .into_iter()
        .filter(|name| *name != "null")
        .map(|name| match name {
            "integer" => format!("an integer{}", range(schema)),
            "number" => format!("a number{}", range(schema)),
            "boolean" => "`true` or `false`".to_owned(),
            "array" => array(schema, root),
            "object" => "a map".to_owned(),
            _ if schema.get("minLength") == Some(&Value::from(1))
                && !schema.contains_key("maxLength") =>
            {
                "a string that is not empty".to_owned()
            }
            _ => format!(
                "a string{}",
                lengths(schema, "minLength", "maxLength", "character")
            ),
        })
        .collect();
    if names.is_empty() {
        "a value".to_owned()
    } else {
        names.join(" or ")
    }
}

fn word(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

fn one_of(listed: &[Value]) -> String {
    let words: Vec<String> = listed
        .iter()
        .filter(|value| !value.is_null())
        .map(word)
        .collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    if words.len() == 1 {
        list(&words)
    } else {
        format!("one of {}", list(&words))
    }
}

fn any_of(options: &[Value], root: &Value) -> String {
    let options = flatten(options, root);
    if let Some(listed) = choices(&options) {
        return one_of(&listed);
    }
    let tag = tag(&options);
    let mut words: Vec<String> = tag
        .map(|tag| format!("a map with `{tag}`"))
        .into_iter()
        .collect();
    for option in options.iter().filter_map(|option| option.as_object()) {
        let described = match option.contains_key("properties") {
            true if tag.is_some() => continue,
            true => map(option),
            false => expected(option, root),
        };
        if !words.contains(&described) {
            words.push(described);
        }
    }
    words.join(" or ")
}

fn map(schema: &Map<String, Value>) -> String {
    let required: Vec<&str> = schema
        .get("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    if required.is_empty() {
        "a map".to_owned()
    } else {
        format!("a map with {}", list(&required))
    }
}

/// `a list of at least 2 integers`.
fn array(schema: &Map<String, Value>, root: &Value) -> String {
    let items = schema
        .get("items")
        .map(|items| resolve_reference(items, root))
        .and_then(Value::as_object);
    let is_text = items.is_some_and(|items| find(items, "x-as-written").is_some());
    let item = match items.map(type_names).as_deref() {
        _ if is_text => "string",
        Some([item @ ("string" | "integer" | "number")]) => *item,
        Some(["object"]) => "map",
        _ => "",
    };
    let counted = if item.is_empty() { "item" } else { item };
    match (lengths(schema, "minItems", "maxItems", counted), item) {
        (count, "") if count.is_empty() => "a list".to_owned(),
        (count, item) if count.is_empty() => format!("a list of {item}s"),
        (count, _) => format!("a list{count}"),
    }
}

/// ` between 0 and 1`, ` of at least 1`, ` above 0`, or nothing.
fn range(schema: &Map<String, Value>) -> String {
    let bound = |keyword: &str| {
        schema
            .get(keyword)
            .map(ToString::to_string)
            .map(without_zero_fraction)
    };
    let (least, above) = (bound("minimum"), bound("exclusiveMinimum"));
    // The widest integers are bounds of the type, not of the matter.
    let below = bound("exclusiveMaximum");
    let most = bound("maximum").filter(|most| most.len() < 10 || least.is_none());
    let step = bound("multipleOf")
        .map(|step| format!(" that is a multiple of {step}"))
        .unwrap_or_default();
    let range = match (least, above, most, below) {
        (Some(least), _, Some(most), _) => format!(" between {least} and {most}"),
        (Some(least), _, None, Some(below)) => format!(" of at least {least} and below {below}"),
        (Some(least), _, None, None) => format!(" of at least {least}"),
        (None, Some(above), Some(most), _) => format!(" above {above} and at most {most}"),
        (None, Some(above), None, Some(below)) => {
            format!(" between {above} and {below}, both excluded")
        }
        (None, Some(above), None, None) => format!(" above {above}"),
        (None, None, Some(most), _) => format!(" of at most {most}"),
        (None, None, None, Some(below)) => format!(" below {below}"),
        (None, None, None, None) => String::new(),
    };
    range + &step
}

fn without_zero_fraction(number: String) -> String {
    number
        .strip_suffix(".0")
        .map(str::to_owned)
        .unwrap_or(number)
}

fn lengths(schema: &Map<String, Value>, least: &str, most: &str, what: &str) -> String {
    let bound = |keyword: &str| schema.get(keyword).and_then(Value::as_u64);
    let plural = |count: u64| if count == 1 { "" } else { "s" };
    match (bound(least).filter(|least| *least > 0), bound(most)) {
        (Some(least), Some(most)) if least == most => {
            format!(" of {least} {what}{}", plural(least))
        }
        (Some(least), Some(most)) => format!(" of {least} to {most} {what}s"),
        (Some(least), None) => format!(" of at least {least} {what}{}", plural(least)),
        (None, Some(most)) => format!(" of at most {most} {what}{}", plural(most)),
        (None, None) => String::new(),
    }
}

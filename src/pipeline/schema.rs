//! The JSON Schema of pipeline files for editors, which knows every stage kind. The plain one, by which files are checked
//! here, comes from the types in `file.rs`.

use contract::{StageKind, schema_of};
use serde_json::{Map, Value, json};

use super::file::{PIPELINE, RunSettings};

const NAME_PATTERN: &str = "^[A-Za-z_][A-Za-z0-9_-]*$";

fn object(properties: Map<String, Value>, required: &[&str]) -> Value {
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

/// The JSON Schema of a whole pipeline file, for editors. Below `with`, whatever is not a string anyway may also be
/// a string with `${name}` in it.
pub fn pipeline_schema(kinds: &[StageKind]) -> Value {
    let mut schema = PIPELINE.clone();
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!("Pipeline of runner");
    schema["properties"]["stages"] = json!({
        "type": "object",
        "description": "The stages by name.",
        "propertyNames": {"pattern": NAME_PATTERN},
        "additionalProperties": {"$ref": "#/$defs/stage"},
    });
    schema["properties"]["profiles"]["propertyNames"] = json!({"pattern": NAME_PATTERN});
    for key in ["seed", "strict"] {
        schema["properties"][key] = or_reference(&schema["properties"][key]);
    }
    schema["$defs"] = json!({
        "reference": {"type": "string", "pattern": "\\$\\{", "description": "Refers to a parameter or an axis."},
        "source": {"type": "string", "description": "`stage` or `stage.output`."},
        "sources": {"anyOf": [{"$ref": "#/$defs/source"}, {"type": "array", "items": {"$ref": "#/$defs/source"}}]},
        "stage": {"type": "object", "oneOf": kinds.iter().map(stage).collect::<Vec<_>>()},
    });
    schema
}

/// A stage of one kind.
fn stage(kind: &StageKind) -> Value {
    let parameters = kind.schema().to_value();
    let needs_parameters = parameters
        .get("required")
        .and_then(Value::as_array)
        .is_some_and(|names| !names.is_empty());
    let mut with = relaxed(&parameters);
    if let Some(with) = with.as_object_mut() {
        with.shift_remove("title");
        with.shift_remove("$schema");
        with.insert("description".to_owned(), kind.doc.into());
    }
    let mut properties = Map::from_iter([
        (
            "uses".to_owned(),
            json!({"const": kind.name, "description": kind.doc}),
        ),
        ("with".to_owned(), with),
        (
            "from".to_owned(),
            json!({
                "description": "Where the inputs come from.",
                "anyOf": [
                    {"$ref": "#/$defs/sources"},
                    {"type": "object", "additionalProperties": {"$ref": "#/$defs/sources"}},
                ],
            }),
        ),
        ("foreach".to_owned(), foreach()),
        ("matrix".to_owned(), matrix()),
    ]);
    let run = schema_of::<RunSettings>()["properties"].as_object();
    for (name, schema) in run.into_iter().flatten() {
        properties.insert(name.clone(), or_reference(&relaxed(schema)));
    }
    object(
        properties,
        if needs_parameters {
            &["uses", "with"]
        } else {
            &["uses"]
        },
    )
}

fn values() -> Value {
    json!({"anyOf": [{"type": "array", "minItems": 1}, {"$ref": "#/$defs/reference"}]})
}

fn foreach() -> Value {
    let names = json!({"pattern": NAME_PATTERN});
    json!({
        "description": "Repeats the stage for the values of one axis, or for a list of points.",
        "anyOf": [
            {"type": "object", "propertyNames": names, "minProperties": 1, "maxProperties": 1, "additionalProperties": values()},
            {"type": "array", "minItems": 1, "items": or_reference(&json!({"type": "object", "propertyNames": names}))},
            {"$ref": "#/$defs/reference"},
        ],
    })
}

fn matrix() -> Value {
    let dependent = json!({
        "type": "object",
        "properties": {"by": {"type": "string", "description": "An earlier axis."}},
        "required": ["by"],
        "additionalProperties": values(),
    });
    json!({
        "description": "Repeats the stage for every combination of the values of its axes.",
        "type": "object",
        "minProperties": 1,
        "propertyNames": {"pattern": NAME_PATTERN},
        "additionalProperties": {"anyOf": [values(), dependent]},
    })
}

/// A copy in which every part below may also be a reference.
fn relaxed(schema: &Value) -> Value {
    let Some(schema) = schema.as_object() else {
        return schema.clone();
    };
    let relax = |(keyword, value): (&String, &Value)| {
        let value = match (keyword.as_str(), value) {
            ("properties" | "patternProperties", Value::Object(parts)) => Value::Object(
                parts
                    .iter()
                    .map(|(name, part)| (name.clone(), or_reference(&relaxed(part))))
                    .collect(),
            ),
            ("items" | "additionalProperties", part) => or_reference(&relaxed(part)),
            ("prefixItems", Value::Array(parts)) => parts
                .iter()
                .map(|part| or_reference(&relaxed(part)))
                .collect(),
            // A reference in the place of the whole value is added around the options, once.
            ("oneOf" | "anyOf" | "allOf", Value::Array(options)) => {
                options.iter().map(relaxed).collect()
            }
            (_, other) => other.clone(),
        };
        (keyword.clone(), value)
    };
    Value::Object(schema.iter().map(relax).collect())
}

/// The schema or a reference, unless strings fit it anyway or it is a fixed word.
fn or_reference(schema: &Value) -> Value {
    let Some(object) = schema.as_object() else {
        return schema.clone();
    };
    let is_string =
        super::schema_words::type_names(object).contains(&"string") && !object.contains_key("enum");
    let limits = ["type", "enum", "oneOf", "anyOf", "allOf"]
        .iter()
        .any(|keyword| object.contains_key(*keyword));
    if is_string || !limits || object.contains_key("const") {
        return schema.clone();
    }
    let mut inner = object.clone();
    let mut outer = Map::new();
    for keyword in ["description", "default"] {
        if let Some(value) = inner.shift_remove(keyword) {
            outer.insert(keyword.to_owned(), value);
        }
    }
    outer.insert(
        "anyOf".to_owned(),
        json!([inner, {"$ref": "#/$defs/reference"}]),
    );
    Value::Object(outer)
}

#[cfg(test)]
mod tests {
    use contract::{
        Choice, Entry, Inputs, Named, Numerics, Outputs, Port, Stage, StageContext, Table, Threads,
        Trouble,
    };
    use schemars::JsonSchema;
    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::diagnostic::SourceMap;
    use crate::pipeline::{validate, yaml};

    #[derive(Serialize, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct Layers {
        width: u32,
    }

    impl Named for Layers {
        const NAME: &'static str = "wide";
        const DOC: &'static str = "A wide one.";
    }

    #[derive(Serialize, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct Deep {
        width: u32,
    }

    impl Named for Deep {
        const NAME: &'static str = "deep";
        const DOC: &'static str = "A deep one.";
    }

    trait Model: Send + Sync {}

    impl Model for Layers {}

    impl Model for Deep {}

    static MODELS: Table<dyn Model> =
        Table::new("model", &[&[Entry::of::<Layers>(), Entry::of::<Deep>()]]);

    contract::tabled!(dyn Model in MODELS);

    /// Parameters of the toy stage.
    #[derive(Serialize, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct Params {
        /// Passes over the data.
        epochs: u32,
        model: Option<Choice<dyn Model>>,
        #[serde(default)]
        note: String,
    }

    struct Fit;

    impl Stage for Fit {
        type Params = Params;
        const NAME: &'static str = "fit";
        const VERSION: u32 = 1;
        const DOC: &'static str = "Fits a model.";
        const NUMERICS: Numerics = Numerics::Exact;
        const THREADS: Threads = Threads::One;
        const SEEDED: bool = false;

        fn inputs(_: &Params) -> Vec<Port> {
            Vec::new()
        }

        fn outputs(_: &Params) -> Vec<Port> {
            Vec::new()
        }

        fn run(_: &Params, _: &Inputs, _: &StageContext<'_>) -> Result<Outputs, Trouble> {
            Ok(Outputs::default())
        }
    }

    fn problems(stage: &str) -> usize {
        let schema = pipeline_schema(&[StageKind::of::<Fit>()]);
        let text = format!("pipeline: p\nseed: 3\nstages: {{a: {stage}}}\n");
        let mut sources = SourceMap::default();
        let (node, diagnostics) = yaml::parse(&text, sources.add("p.yaml", text.as_str()), 0);
        assert!(diagnostics.is_empty(), "{stage}");
        validate(&node.unwrap(), &schema, "the pipeline").len()
    }

    #[test]
    fn editors_accept_what_the_runner_accepts() {
        for good in [
            "{uses: fit, with: {epochs: 3, model: {kind: wide, width: 4}}, from: b.c, retries: 2}",
            "{uses: fit, with: {epochs: \"${epochs}\", model: \"${model}\"}, from: {x: [a, b], y: c}}",
            "{uses: fit, with: {epochs: 1, model: {kind: deep, width: \"${w}\"}}, matrix: {a: [1], b: {by: a, 1: [2]}}}",
            "{uses: fit, with: {epochs: 1}, foreach: [{a: 1}, {a: 2}], resources: {cpus: 2, memory: 4 GiB}, timeout: 2h}",
        ] {
            assert_eq!(problems(good), 0, "{good}");
        }
        for bad in [
            "{uses: fit, with: {epochs: true}}",
            "{uses: fit}",
            "{uses: fti, with: {epochs: 1}}",
            "{uses: fit, with: {epochs: 1, model: {kind: \"${kind}\", width: 3}}}",
            "{uses: fit, with: {epochs: 1}, retries: -1}",
            "{uses: fit, with: {epochs: 1}, matrix: {a: []}}",
        ] {
            assert!(problems(bad) > 0, "{bad}");
        }
    }

    #[test]
    fn documentation_is_kept_beside_references() {
        let schema = pipeline_schema(&[StageKind::of::<Fit>()]);
        let epochs =
            &schema["$defs"]["stage"]["oneOf"][0]["properties"]["with"]["properties"]["epochs"];
        assert_eq!(epochs["description"], "Passes over the data.");
        assert_eq!(epochs["anyOf"][0]["type"], "integer");
        assert_eq!(epochs["anyOf"][1]["$ref"], "#/$defs/reference");
        let note =
            &schema["$defs"]["stage"]["oneOf"][0]["properties"]["with"]["properties"]["note"];
        assert_eq!(note["type"], "string");
    }
}

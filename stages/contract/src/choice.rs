//! A value chosen from a table by its tag, such as a model, a metric or a data set: `{kind: NAME, …its parameters}`.
//! One mechanism gives parsing, defaults, JSON Schema and documentation of every table.

use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};
use std::borrow::Cow;

/// A table of entries that differ in their parameters.
pub trait Registry: 'static {
    /// The key that names the entry, such as `kind`.
    const TAG: &'static str;
    /// What the table holds, for messages: `model`.
    const WHAT: &'static str;
    /// Whether the bare name may stand for `{TAG: name}`.
    const BARE: bool = false;

    /// Names and parameters of all entries, in the order of the documentation.
    fn entries() -> Vec<Entry>;
}

/// One entry of a [`Registry`].
pub struct Entry {
    pub name: &'static str,
    pub doc: &'static str,
    schema: fn(&mut SchemaGenerator) -> Schema,
    complete: fn(Value) -> Result<Value, String>,
}

impl Entry {
    /// An entry whose parameters are `P`: a struct with `#[serde(deny_unknown_fields)]` and defaults.
    pub fn new<P: DeserializeOwned + Serialize + JsonSchema>(
        name: &'static str,
        doc: &'static str,
    ) -> Self {
        Self {
            name,
            doc,
            schema: |generator| P::json_schema(generator),
            complete: complete::<P>,
        }
    }
}

/// Parses parameters and writes them again, so that defaults are filled in and the order is that of the type.
fn complete<P: DeserializeOwned + Serialize>(value: Value) -> Result<Value, String> {
    let parameters: P = serde_json::from_value(value).map_err(|error| error.to_string())?;
    serde_json::to_value(parameters).map_err(|error| error.to_string())
}

/// An entry of the table `R` with its parameters, defaults filled in.
pub struct Choice<R> {
    name: String,
    parameters: Map<String, Value>,
    registry: PhantomData<fn() -> R>,
}

impl<R: Registry> Choice<R> {
    /// The entry `name` with these parameters.
    ///
    /// # Errors
    /// If there is no such entry or a parameter does not fit it.
    pub fn new(name: &str, parameters: Value) -> Result<Self, String> {
        let entries = R::entries();
        let entry = entries
            .iter()
            .find(|entry| entry.name == name)
            .ok_or_else(|| {
                let names = entries
                    .iter()
                    .map(|entry| entry.name)
                    .collect::<Vec<_>>()
                    .join(", ");
                format!("unknown {} `{name}`; there are {names}", R::WHAT)
            })?;
        match (entry.complete)(parameters)? {
            Value::Object(parameters) => Ok(Self {
                name: name.to_owned(),
                parameters,
                registry: PhantomData,
            }),
            Value::Null => Ok(Self {
                name: name.to_owned(),
                parameters: Map::new(),
                registry: PhantomData,
            }),
            other => Err(format!(
                "the parameters of {} `{name}` are not a map but {other}",
                R::WHAT
            )),
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The parameters as the type that the entry declared.
    pub fn parameters<P: DeserializeOwned>(&self) -> Result<P, String> {
        serde_json::from_value(Value::Object(self.parameters.clone()))
            .map_err(|error| error.to_string())
    }

    /// Tag and parameters as one JSON object.
    pub fn to_value(&self) -> Value {
        let mut object = Map::from_iter([(R::TAG.to_owned(), Value::String(self.name.clone()))]);
        object.extend(self.parameters.clone());
        Value::Object(object)
    }
}

impl<R> Clone for Choice<R> {
    fn clone(&self) -> Self {
        Self {
            name: self.name.clone(),
            parameters: self.parameters.clone(),
            registry: PhantomData,
        }
    }
}

impl<R> fmt::Debug for Choice<R> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {:?}", self.name, self.parameters)
    }
}

impl<R> PartialEq for Choice<R> {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.parameters == other.parameters
    }
}

impl<R: Registry> Serialize for Choice<R> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_value().serialize(serializer)
    }
}

impl<'de, R: Registry> Deserialize<'de> for Choice<R> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut object = match Value::deserialize(deserializer)? {
            Value::String(name) if R::BARE => {
                return Self::new(&name, Value::Object(Map::new())).map_err(D::Error::custom);
            }
            Value::Object(object) => object,
            other => {
                return Err(D::Error::custom(format!(
                    "expected a {} with `{}`, found {other}",
                    R::WHAT,
                    R::TAG
                )));
            }
        };
        match object.shift_remove(R::TAG) {
            Some(Value::String(name)) => {
                Self::new(&name, Value::Object(object)).map_err(D::Error::custom)
            }
            Some(other) => Err(D::Error::custom(format!(
                "`{}` must be a name, not {other}",
                R::TAG
            ))),
            None => Err(D::Error::custom(format!(
                "missing `{}`: which {}?",
                R::TAG,
                R::WHAT
            ))),
        }
    }
}

impl<R: Registry> JsonSchema for Choice<R> {
    fn schema_name() -> Cow<'static, str> {
        Cow::Owned(format!("Choice_of_{}", R::WHAT))
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let tagged = |entry: &Entry, generator: &mut SchemaGenerator| {
            let mut schema = (entry.schema)(generator);
            let object = schema.ensure_object();
            object.insert("type".to_owned(), "object".into());
            object.insert("description".to_owned(), entry.doc.into());
            object
                .entry("additionalProperties")
                .or_insert(Value::Bool(false));
            let properties = object
                .entry("properties")
                .or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(properties) = properties {
                properties.shift_insert(
                    0,
                    R::TAG.to_owned(),
                    serde_json::json!({"const": entry.name}),
                );
            }
            let required = object
                .entry("required")
                .or_insert_with(|| Value::Array(Vec::new()));
            if let Value::Array(required) = required {
                required.insert(0, R::TAG.into());
            }
            schema
        };
        let entries = R::entries();
        let mut options: Vec<Schema> = entries
            .iter()
            .map(|entry| tagged(entry, generator))
            .collect();
        if R::BARE {
            let names: Vec<&str> = entries.iter().map(|entry| entry.name).collect();
            options.push(json_schema!({"enum": names}));
        }
        json_schema!({"oneOf": options})
    }
}

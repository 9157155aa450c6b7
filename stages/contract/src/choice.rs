//! A value chosen from a table by its tag, such as a model, a metric or a data set: `{kind: NAME, …its parameters}`.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::{Fault, Tabled};

/// An entry of the table of `T` with its parameters, defaults filled in. It is parsed once, and then used as a `T`.
pub struct Choice<T: ?Sized> {
    pub(crate) name: &'static str,
    pub(crate) parameters: Map<String, Value>,
    pub(crate) value: Arc<T>,
}

impl<T: ?Sized + Tabled> Choice<T> {
    /// The entry `name` with these parameters.
    ///
    /// # Errors
    /// If there is no such entry, or a parameter does not fit it.
    pub fn new(name: &str, parameters: Value) -> Result<Self, Fault> {
        T::table().choose(name, &parameters)
    }

    /// The entry `name` with all its defaults.
    ///
    /// # Errors
    /// If there is no such entry, or it has parameters without a default.
    pub fn plain(name: &str) -> Result<Self, Fault> {
        Self::new(name, Value::Object(Map::new()))
    }

    /// Tag and parameters as one JSON object.
    pub fn to_value(&self) -> Value {
        let tag = T::table().tag.to_owned();
        let mut object = Map::from_iter([(tag, Value::from(self.name))]);
        object.extend(self.parameters.clone());
        Value::Object(object)
    }
}

impl<T: ?Sized> Choice<T> {
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The parameters in the order of their type, all of them.
    pub fn parameters(&self) -> &Map<String, Value> {
        &self.parameters
    }

    /// What was chosen, to be kept.
    pub fn shared(&self) -> Arc<T> {
        Arc::clone(&self.value)
    }
}

impl<T: ?Sized> Deref for Choice<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: ?Sized> Clone for Choice<T> {
    fn clone(&self) -> Self {
        Self {
            name: self.name,
            parameters: self.parameters.clone(),
            value: Arc::clone(&self.value),
        }
    }
}

impl<T: ?Sized> fmt::Debug for Choice<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {:?}", self.name, self.parameters)
    }
}

impl<T: ?Sized> PartialEq for Choice<T> {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.parameters == other.parameters
    }
}

impl<T: ?Sized + Tabled> Serialize for Choice<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_value().serialize(serializer)
    }
}

impl<'de, T: ?Sized + Tabled> Deserialize<'de> for Choice<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let table = T::table();
        let (what, tag) = (table.what, table.tag);
        let mut object = match Value::deserialize(deserializer)? {
            Value::String(name) if table.bare => {
                return Self::plain(&name).map_err(D::Error::custom);
            }
            Value::Object(object) => object,
            other => {
                let message = format!("expected a {what} with `{tag}`, found {other}");
                return Err(D::Error::custom(message));
            }
        };
        match object.shift_remove(tag) {
            Some(Value::String(name)) => {
                Self::new(&name, Value::Object(object)).map_err(D::Error::custom)
            }
            Some(other) => Err(D::Error::custom(format!(
                "`{tag}` must be a name, not {other}"
            ))),
            None => Err(D::Error::custom(format!("missing `{tag}`: which {what}?"))),
        }
    }
}

impl<T: ?Sized + Tabled> JsonSchema for Choice<T> {
    fn schema_name() -> Cow<'static, str> {
        Cow::Owned(format!("Choice_of_{}", T::table().what))
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::table().schema(generator)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{Entry, Named, Table};

    /// A toy: shapes and their areas.
    trait Shape: Send + Sync {
        fn area(&self) -> f64;

        fn check(&self) -> Result<(), Fault> {
            Ok(())
        }
    }

    static SHAPES: Table<dyn Shape> =
        Table::new("shape", &[&[Entry::of::<Square>(), Entry::of::<Ring>()]]).or_bare();

    crate::tabled!(dyn Shape in SHAPES);

    #[derive(Serialize, Deserialize, JsonSchema)]
    #[serde(default, deny_unknown_fields)]
    struct Square {
        #[schemars(extend("exclusiveMinimum" = 0.0))]
        side: f64,
    }

    impl Default for Square {
        fn default() -> Self {
            Self { side: 1.0 }
        }
    }

    impl Named for Square {
        const NAME: &'static str = "square";
        const DOC: &'static str = "Four equal sides.";
    }

    impl Shape for Square {
        fn area(&self) -> f64 {
            self.side * self.side
        }
    }

    #[derive(Serialize, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct Ring {
        outer: f64,
        #[serde(default)]
        inner: f64,
    }

    impl Named for Ring {
        const NAME: &'static str = "ring";
        const DOC: &'static str = "What is between two circles.";
        const EXAMPLE: &'static str = r#"{"outer": 2}"#;
    }

    impl Shape for Ring {
        fn area(&self) -> f64 {
            3.0 * (self.outer * self.outer - self.inner * self.inner)
        }

        fn check(&self) -> Result<(), Fault> {
            if self.inner < self.outer {
                Ok(())
            } else {
                Err(Fault::new("inner", "must be less than `outer`"))
            }
        }
    }

    fn read(value: Value) -> Result<Choice<dyn Shape>, String> {
        serde_json::from_value(value).map_err(|error| error.to_string())
    }

    #[test]
    fn a_choice_is_what_was_chosen_and_its_parameters_in_order() {
        let ring = read(json!({"inner": 1, "kind": "ring", "outer": 2})).unwrap();
        assert_eq!((ring.name(), ring.area()), ("ring", 9.0));
        assert_eq!(
            ring.to_value().to_string(),
            r#"{"kind":"ring","outer":2.0,"inner":1.0}"#
        );
        assert_eq!(read(ring.to_value()).unwrap(), ring);
        assert_ne!(read(json!({"kind": "ring", "outer": 2})).unwrap(), ring);
        assert_eq!(ring.check(), Ok(()));
        let inside_out = Choice::<dyn Shape>::new("ring", json!({"outer": 1, "inner": 2})).unwrap();
        assert_eq!(inside_out.check().unwrap_err().parameter, "inner");
    }

    #[test]
    fn a_bare_name_stands_for_the_defaults() {
        let square = read(json!("square")).unwrap();
        assert_eq!(square, Choice::plain("square").unwrap());
        assert_eq!(
            square.to_value().to_string(),
            r#"{"kind":"square","side":1.0}"#
        );
    }

    #[test]
    fn what_does_not_fit_is_refused_in_words() {
        for (value, words) in [
            (
                json!("circle"),
                "unknown shape `circle`; there are square, ring",
            ),
            (json!(3), "expected a shape with `kind`, found 3"),
            (json!({"side": 1}), "missing `kind`: which shape?"),
            (json!({"kind": 1}), "`kind` must be a name, not 1"),
            (
                json!({"kind": "square", "size": 1}),
                "unknown field `size`, expected `side`",
            ),
            (json!("ring"), "missing field `outer`"),
            (
                json!({"kind": "square", "side": 0}),
                "`side` must be above 0, not 0",
            ),
        ] {
            assert_eq!(read(value).unwrap_err(), words);
        }
        let fault = Choice::<dyn Shape>::new("square", json!({"side": -1.0})).unwrap_err();
        assert_eq!(fault, Fault::new("side", "must be above 0, not -1.0"));
    }

    #[test]
    fn the_schema_lists_all_entries_with_their_tag() {
        let schema = schemars::schema_for!(Choice<dyn Shape>).to_value();
        let options = schema["oneOf"].as_array().unwrap();
        assert_eq!(options.len(), 3);
        assert_eq!(options[0]["description"], "Four equal sides.");
        assert_eq!(options[0]["required"], json!(["kind"]));
        assert_eq!(options[1]["properties"]["kind"]["const"], "ring");
        assert_eq!(options[1]["required"], json!(["kind", "outer"]));
        assert_eq!(options[2], json!({"enum": ["square", "ring"]}));
    }

    #[test]
    fn every_entry_works_with_its_example() {
        let areas: Vec<f64> = SHAPES.examples().map(|shape| shape.area()).collect();
        assert_eq!(areas, [1.0, 12.0]);
    }
}

//! Tables: named types that can stand for each other, such as models, metrics or data sets. A type enters its table by
//! one line; name, documentation, schema and parsing follow from the type.

use std::fmt;
use std::sync::{Arc, OnceLock};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Choice, Fault, limits};

/// A trait object, or another type, of which there is a table.
pub trait Tabled: Send + Sync + 'static {
    fn table() -> &'static Table<Self>;
}

/// Says how the type `E` enters the table of `Self`. [`tabled!`](crate::tabled) implements it for types that are
/// [`Named`].
pub trait Holds<E>: Tabled {
    /// What a pipeline writes beside the name: a struct with `#[serde(deny_unknown_fields)]` and defaults.
    type Params: DeserializeOwned + Serialize + JsonSchema;

    const NAME: &'static str;
    const DOC: &'static str;
    const EXAMPLE: &'static str;

    fn hold(params: Self::Params) -> Arc<Self>;
}

/// The name of a type whose values are parameters: a struct with `#[serde(deny_unknown_fields)]` and defaults.
pub trait Named: DeserializeOwned + Serialize + JsonSchema {
    /// The name in YAML.
    const NAME: &'static str;
    /// One sentence for the catalogue.
    const DOC: &'static str;
    /// Parameters, as JSON, that are enough to make it work, and little enough for a quick test.
    const EXAMPLE: &'static str = "{}";
}

/// Makes a trait object what a table holds: all types that implement the trait and [`Named`] can stand there.
///
/// ```ignore
/// static RULES: Table<dyn Rule> = Table::new("rule", &[RULES]);
/// contract::tabled!(dyn Rule in RULES);
/// ```
#[macro_export]
macro_rules! tabled {
    (dyn $kind:ident in $table:ident) => {
        impl $crate::Tabled for dyn $kind {
            fn table() -> &'static $crate::Table<Self> {
                &$table
            }
        }

        impl<P: $kind + $crate::Named + 'static> $crate::Holds<P> for dyn $kind {
            type Params = P;
            const NAME: &'static str = P::NAME;
            const DOC: &'static str = P::DOC;
            const EXAMPLE: &'static str = P::EXAMPLE;

            fn hold(params: P) -> ::std::sync::Arc<Self> {
                ::std::sync::Arc::new(params)
            }
        }
    };
}

/// Parameters with the value that was made of them.
/// Declares the modules of entries and the list of their types, a line each: the types enter a table with it.
///
/// ```ignore
/// contract::entries! {
///     /// All rules, in the order of the documentation.
///     const RULES: Entry<dyn Rule>;
///     mod constant: Constant;
///     mod steps: Step, Staircase;
/// }
/// ```
#[macro_export]
macro_rules! entries {
    (
        $(#[$doc:meta])*
        $vis:vis const $list:ident: Entry<$kind:ty>;
        $($open:vis mod $module:ident: $($type:ident),+;)*
    ) => {
        $($open mod $module;)*

        $(#[$doc])*
        $vis const $list: &[$crate::Entry<$kind>] =
            &[$($($crate::Entry::of::<$module::$type>(),)+)*];
    };
}

type Parsed<T> = (Value, Arc<T>);

/// One line of a [`Table`].
pub struct Entry<T: ?Sized + 'static> {
    /// The name in YAML.
    pub name: &'static str,
    /// One sentence for the catalogue.
    pub doc: &'static str,
    example: &'static str,
    schema: fn(&mut SchemaGenerator) -> Schema,
    parse: fn(&Value) -> Result<Parsed<T>, serde_json::Error>,
}

impl<T: ?Sized + Tabled> Entry<T> {
    /// The line of the type `E`.
    pub const fn of<E>() -> Self
    where
        T: Holds<E>,
    {
        Self {
            name: T::NAME,
            doc: T::DOC,
            example: T::EXAMPLE,
            schema: |generator| T::Params::json_schema(generator),
            parse: |given| {
                let params = T::Params::deserialize(given)?;
                // Written again, parameters have their defaults and the order of the type.
                let canonical = serde_json::to_value(&params)?;
                Ok((canonical, T::hold(params)))
            },
        }
    }

    /// The schema of `{tag: name, …parameters}`.
    fn tagged_schema(&self, tag: &str, generator: &mut SchemaGenerator) -> Schema {
        let mut schema = (self.schema)(generator);
        let object = schema.ensure_object();
        object.insert("type".to_owned(), "object".into());
        object.insert("description".to_owned(), self.doc.into());
        object
            .entry("additionalProperties")
            .or_insert(Value::Bool(false));
        let properties = object
            .entry("properties")
            .or_insert_with(|| Value::Object(Map::new()));
        if let Value::Object(properties) = properties {
            let name = serde_json::json!({"const": self.name});
            properties.shift_insert(0, tag.to_owned(), name);
        }
        let required = object
            .entry("required")
            .or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(required) = required {
            required.insert(0, tag.into());
        }
        schema
    }
}

/// Entries by their names, in the order of the documentation. A `static` of its own for each `T`.
pub struct Table<T: ?Sized + 'static> {
    /// What it holds, for messages: `model`.
    pub(crate) what: &'static str,
    /// The key that names the entry.
    pub(crate) tag: &'static str,
    /// Whether the bare name may stand for `{tag: name}`.
    pub(crate) bare: bool,
    entries: &'static [&'static [Entry<T>]],
    /// The schemas of the parameters of all entries, made when the first is needed.
    schemas: OnceLock<Vec<Value>>,
}

impl<T: ?Sized + Tabled> Table<T> {
    /// A table whose entries a pipeline names as `{kind: NAME, …}`.
    pub const fn new(what: &'static str, entries: &'static [&'static [Entry<T>]]) -> Self {
        Self {
            what,
            tag: "kind",
            bare: false,
            entries,
            schemas: OnceLock::new(),
        }
    }

    /// The same table with another key than `kind`.
    #[must_use]
    pub const fn tagged(mut self, tag: &'static str) -> Self {
        self.tag = tag;
        self
    }

    /// The same table, for which the bare name of an entry may stand as well.
    #[must_use]
    pub const fn or_bare(mut self) -> Self {
        self.bare = true;
        self
    }

    pub fn entries(&self) -> impl Iterator<Item = &'static Entry<T>> + use<T> {
        self.entries.iter().copied().flatten()
    }

    /// Every entry with the parameters of its example, in the order of the table.
    pub fn examples(&'static self) -> impl Iterator<Item = Choice<T>> {
        self.entries().map(|entry| {
            let example = serde_json::from_str(entry.example).expect("an example is JSON");
            Choice::new(entry.name, example).unwrap_or_else(|fault| {
                panic!("the example of the {} `{}`: {fault}", self.what, entry.name)
            })
        })
    }

    /// The entry of this name with these parameters, parsed and within their limits.
    pub(crate) fn choose(&self, name: &str, given: &Value) -> Result<Choice<T>, Fault> {
        let mut numbered = self.entries().enumerate();
        let Some((index, entry)) = numbered.find(|(_, entry)| entry.name == name) else {
            let names: Vec<&str> = self.entries().map(|entry| entry.name).collect();
            return Err(Fault::whole(format!(
                "unknown {} `{name}`; there are {}",
                self.what,
                names.join(", ")
            )));
        };
        // The parser comes first: it has the better words for what is no parameter at all.
        let (canonical, value) =
            (entry.parse)(given).map_err(|error| Fault::whole(error.to_string()))?;
        limits::check(given, &self.schemas()[index])?;
        let parameters = match canonical {
            Value::Object(parameters) => parameters,
            Value::Null => Map::new(),
            other => {
                return Err(Fault::whole(format!(
                    "the parameters of {} `{name}` are not a map but {other}",
                    self.what
                )));
            }
        };
        Ok(Choice {
            name: entry.name,
            parameters,
            value,
        })
    }

    fn schemas(&self) -> &[Value] {
        self.schemas.get_or_init(|| {
            let mut generator = limits::generator();
            let schema = |entry: &Entry<T>| (entry.schema)(&mut generator).to_value();
            self.entries().map(schema).collect()
        })
    }

    /// The schema of a choice from the table.
    pub(crate) fn schema(&self, generator: &mut SchemaGenerator) -> Schema {
        let mut options: Vec<Schema> = Vec::new();
        for entry in self.entries() {
            options.push(entry.tagged_schema(self.tag, generator));
        }
        if self.bare {
            let names: Vec<&str> = self.entries().map(|entry| entry.name).collect();
            options.push(json_schema!({"enum": names}));
        }
        json_schema!({"oneOf": options})
    }
}

impl<T: ?Sized> fmt::Debug for Table<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self
            .entries
            .iter()
            .copied()
            .flatten()
            .map(|entry| entry.name);
        formatter.debug_list().entries(names).finish()
    }
}

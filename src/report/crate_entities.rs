//! The entities of an RO-Crate by identifier, each once, and small makers of them.

use indexmap::IndexMap;
use serde_json::{Map, Value, json};

/// A reference to an entity.
pub(super) fn link(id: &str) -> Value {
    json!({"@id": id})
}

/// References to entities, each once, in their order.
pub(super) fn links<'a>(ids: impl IntoIterator<Item = &'a String>) -> Value {
    let mut seen = std::collections::BTreeSet::new();
    ids.into_iter()
        .filter(|id| seen.insert(id.as_str()))
        .map(|id| link(id))
        .collect()
}

/// The `@graph` of a crate.
#[derive(Default)]
pub(super) struct Entities(IndexMap<String, Map<String, Value>>);

impl Entities {
    /// Adds an entity unless it is there. `attributes` begins with its `@type`.
    pub fn add(&mut self, id: &str, attributes: Value) {
        if self.0.contains_key(id) {
            return;
        }
        let mut entity = Map::from_iter([("@id".to_owned(), Value::from(id))]);
        if let Value::Object(attributes) = attributes {
            // What has no value is left out.
            entity.extend(
                attributes
                    .into_iter()
                    .filter(|(_, value)| !is_nothing(value)),
            );
        }
        self.0.insert(id.to_owned(), entity);
    }

    pub fn has(&self, id: &str) -> bool {
        self.0.contains_key(id)
    }

    /// Sets an attribute of an entity that is there.
    pub fn set(&mut self, id: &str, name: &str, value: Value) {
        if let Some(entity) = self.0.get_mut(id)
            && !is_nothing(&value)
        {
            entity.insert(name.to_owned(), value);
        }
    }

    /// The type of an entity that has one.
    pub fn kind(&self, id: &str) -> Option<&str> {
        self.0.get(id)?.get("@type")?.as_str()
    }

    /// Adds a text to an attribute that holds a list of them, unless it is there.
    pub fn note(&mut self, id: &str, name: &str, text: &str) {
        let Some(entity) = self.0.get_mut(id) else {
            return;
        };
        let list = entity
            .entry(name)
            .or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(items) = list
            && !items.iter().any(|item| item == text)
        {
            items.push(text.into());
        }
    }

    /// Adds a reference to an attribute that holds a list of them.
    pub fn push(&mut self, id: &str, name: &str, to: &str) {
        let Some(entity) = self.0.get_mut(id) else {
            return;
        };
        let list = entity
            .entry(name)
            .or_insert_with(|| Value::Array(Vec::new()));
        let reference = link(to);
        if let Value::Array(items) = list
            && !items.contains(&reference)
        {
            items.push(reference);
        }
    }

    /// All entities. A list of one thing is that thing, as RO-Crate recommends.
    pub fn into_graph(self) -> Value {
        let entities = self
            .0
            .into_values()
            .map(|entity| entity.into_iter().map(|(name, value)| (name, alone(value))));
        entities
            .map(|entity| Value::Object(entity.collect()))
            .collect()
    }
}

fn alone(value: Value) -> Value {
    match value {
        Value::Array(mut items) if items.len() == 1 => items.remove(0),
        other => other,
    }
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

/// The schema.org type of a value, for a formal parameter.
pub(super) fn data_type(value: &Value) -> &'static str {
    match value {
        Value::Bool(_) => "Boolean",
        Value::Number(number) if number.is_f64() => "Float",
        Value::Number(_) => "Integer",
        Value::Object(_) | Value::Array(_) => "PropertyValue",
        Value::String(_) | Value::Null => "Text",
    }
}

/// A value as the text of a property.
pub(super) fn text_of(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entity_comes_once_and_says_only_what_it_knows() {
        let mut entities = Entities::default();
        entities.add("#a", json!({"@type": "Thing", "name": null, "hasPart": []}));
        entities.add("#a", json!({"@type": "Other"}));
        entities.push("#a", "hasPart", "#b");
        entities.push("#a", "hasPart", "#b");
        assert_eq!(
            entities.into_graph(),
            json!([{"@id": "#a", "@type": "Thing", "hasPart": {"@id": "#b"}}])
        );
    }
}

//! The entities of an RO-Crate by identifier, each once, and small makers of them.

use std::collections::BTreeSet;

use indexmap::IndexMap;
use serde_json::{Map, Value, json};

/// A reference to an entity.
pub(super) fn link(id: &str) -> Value {
    json!({"@id": id})
}

/// References to entities, each once, in their order.
pub(super) fn links<'a>(ids: impl IntoIterator<Item = &'a String>) -> Value {
    let mut links: Vec<Value> = Vec::new();
    let mut seen = BTreeSet::new();
    for id in ids {
        if seen.insert(id.as_str()) {
            links.push(link(id));
        }
    }
    links.into()
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
            entity.extend(attributes);
            // What has no value is left out.
            entity.retain(|_, value| !is_nothing(value));
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
        self.append(id, name, text.into());
    }

    /// Adds a reference to an attribute that holds a list of them, unless it is there.
    pub fn push(&mut self, id: &str, name: &str, to: &str) {
        self.append(id, name, link(to));
    }

    fn append(&mut self, id: &str, name: &str, value: Value) {
        let Some(entity) = self.0.get_mut(id) else {
            return;
        };
        let list = entity.entry(name).or_insert_with(|| json!([]));
        if let Value::Array(items) = list
            && !items.contains(&value)
        {
            items.push(value);
        }
    }

    /// All entities. A list of one thing is that thing, as RO-Crate recommends.
    pub fn into_graph(self) -> Value {
        let mut graph = Vec::with_capacity(self.0.len());
        for mut entity in self.0.into_values() {
            for value in entity.values_mut() {
                if let Value::Array(items) = value
                    && let [only] = &mut items[..]
                {
                    *value = only.take();
                }
            }
            graph.push(Value::Object(entity));
        }
        graph.into()
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

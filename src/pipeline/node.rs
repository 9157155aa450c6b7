//! A YAML tree in which every key and value knows where it was written. Trees are shared, not copied: cloning is cheap.
//! It holds no rules about what a pipeline contains.

use std::sync::Arc;

use serde_json::Value;

use super::scalar::{Resolved, Scalar};
use crate::diagnostic::{Span, visible};

/// A key of a mapping. Two are equal if they read the same, wherever they stand.
#[derive(Clone, Debug)]
pub struct Key {
    pub text: Arc<str>,
    pub span: Span,
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

/// What a node is made of.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    Scalar(Scalar),
    Sequence(Arc<[Node]>),
    Mapping(Arc<[(Key, Node)]>),
}

/// A value with its place. Two are equal if they hold the same value, wherever they stand.
#[derive(Clone, Debug)]
pub struct Node {
    span: Span,
    /// Where the value was written, if it stands here through an alias or a `${name}`.
    origin: Option<Span>,
    kind: Kind,
    /// Whether some scalar in it holds `${`.
    templated: bool,
    /// About how many bytes its JSON takes. What is shared here stands there in full.
    weight: u64,
    /// How deep it is nested; 0 for a scalar.
    depth: u32,
}

/// Bytes that a value takes besides its text.
const OVERHEAD: u64 = 16;

impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind
    }
}

impl Node {
    pub fn scalar(text: impl Into<Arc<str>>, quoted: bool, span: Span) -> Self {
        let scalar = Scalar::new(text, quoted);
        let templated = scalar.text.contains("${");
        Self::leaf(scalar, templated, span)
    }

    pub fn sequence(items: Vec<Self>, span: Span) -> Self {
        let templated = items.iter().any(|item| item.templated);
        let weight = items
            .iter()
            .fold(OVERHEAD, |sum, item| sum.saturating_add(item.weight));
        let depth = 1 + items.iter().map(|item| item.depth).max().unwrap_or(0);
        Self {
            span,
            origin: None,
            kind: Kind::Sequence(items.into()),
            templated,
            weight,
            depth,
        }
    }

    pub fn mapping(entries: Vec<(Key, Self)>, span: Span) -> Self {
        let templated = entries.iter().any(|(_, value)| value.templated);
        let entry = |(key, value): &(Key, Self)| value.weight.saturating_add(key.text.len() as u64);
        let weight = entries
            .iter()
            .fold(OVERHEAD, |sum, pair| sum.saturating_add(entry(pair)));
        let depth = 1 + entries
            .iter()
            .map(|(_, value)| value.depth)
            .max()
            .unwrap_or(0);
        Self {
            span,
            origin: None,
            kind: Kind::Mapping(entries.into()),
            templated,
            weight,
            depth,
        }
    }

    fn leaf(scalar: Scalar, templated: bool, span: Span) -> Self {
        let weight = OVERHEAD + scalar.text.len() as u64;
        Self {
            span,
            origin: None,
            kind: Kind::Scalar(scalar),
            templated,
            weight,
            depth: 0,
        }
    }

    /// About how many bytes its JSON takes.
    pub fn weight(&self) -> u64 {
        self.weight
    }

    /// How deep lists and maps are nested in it.
    pub fn depth(&self) -> usize {
        self.depth as usize
    }

    /// A mapping without entries, which stands for one that was not written.
    pub fn empty(span: Span) -> Self {
        Self::mapping(Vec::new(), span)
    }

    /// A tree from JSON; every part of it has this span.
    pub fn from_json(value: &Value, span: Span) -> Self {
        match value {
            Value::String(text) => Self::scalar(text.as_str(), true, span),
            Value::Array(items) => Self::sequence(
                items
                    .iter()
                    .map(|item| Self::from_json(item, span))
                    .collect(),
                span,
            ),
            Value::Object(entries) => {
                let entry = |(key, value): (&String, &Value)| {
                    (
                        Key {
                            text: key.as_str().into(),
                            span,
                        },
                        Self::from_json(value, span),
                    )
                };
                Self::mapping(entries.iter().map(entry).collect(), span)
            }
            other => Self::scalar(other.to_string(), false, span),
        }
    }

    /// This value at another place, which remembers where it was written.
    #[must_use]
    pub fn used_at(&self, span: Span) -> Self {
        Self {
            span,
            origin: Some(self.origin.unwrap_or(self.span)),
            ..self.clone()
        }
    }

    /// A string in which all references were replaced: what looks like one now is text.
    pub(super) fn finished(text: String, span: Span) -> Self {
        Self::leaf(Scalar::new(text, true), false, span)
    }

    #[must_use]
    pub(super) fn with_origin(self, origin: Span) -> Self {
        Self {
            origin: Some(origin),
            ..self
        }
    }

    /// The same place with another value.
    #[must_use]
    pub(super) fn replaced(&self, value: Self) -> Self {
        Self {
            span: self.span,
            origin: self.origin,
            ..value
        }
    }

    pub fn span(&self) -> Span {
        self.span
    }

    /// Where the value was written, if not here.
    pub fn origin(&self) -> Option<Span> {
        self.origin
    }

    pub fn kind(&self) -> &Kind {
        &self.kind
    }

    /// Whether `${` occurs anywhere in it.
    pub fn is_templated(&self) -> bool {
        self.templated
    }

    /// The value, if this is a scalar.
    pub fn resolve(&self) -> Option<Resolved<'_>> {
        match &self.kind {
            Kind::Scalar(scalar) => Some(scalar.resolve()),
            _ => None,
        }
    }

    /// The text, if this is a string.
    pub fn as_str(&self) -> Option<&str> {
        match self.resolve() {
            Some(Resolved::Text(text)) => Some(text),
            _ => None,
        }
    }

    pub fn is_null(&self) -> bool {
        matches!(self.resolve(), Some(Resolved::Null))
    }

    /// The items, if this is a sequence.
    pub fn items(&self) -> Option<&[Self]> {
        match &self.kind {
            Kind::Sequence(items) => Some(items),
            _ => None,
        }
    }

    /// The entries in the order of the text, if this is a mapping.
    pub fn entries(&self) -> Option<&[(Key, Self)]> {
        match &self.kind {
            Kind::Mapping(entries) => Some(entries),
            _ => None,
        }
    }

    /// Key and value under a name, if this is a mapping that has it.
    pub fn entry(&self, name: &str) -> Option<&(Key, Self)> {
        self.entries()?.iter().find(|(key, _)| &*key.text == name)
    }

    /// The value under a name, if this is a mapping that has it.
    pub fn get(&self, name: &str) -> Option<&Self> {
        self.entry(name).map(|(_, value)| value)
    }

    /// The value at the end of a path of keys and item numbers.
    pub fn at(&self, path: &[&str]) -> Option<&Self> {
        path.iter().try_fold(self, |node, step| match &node.kind {
            Kind::Mapping(_) => node.get(step),
            Kind::Sequence(items) => items.get(step.parse::<usize>().ok()?),
            Kind::Scalar(_) => None,
        })
    }

    /// The place of a dotted path such as `optimizer.lr`, or of as much of it as there is.
    pub fn locate(&self, path: &str) -> Span {
        let steps: Vec<&str> = path.split('.').filter(|step| !step.is_empty()).collect();
        let longest = (0..=steps.len())
            .rev()
            .find_map(|length| self.at(&steps[..length]));
        longest.map_or(self.span, |node| node.span)
    }

    pub fn to_json(&self) -> Value {
        match &self.kind {
            Kind::Scalar(scalar) => scalar.to_json(),
            Kind::Sequence(items) => Value::Array(items.iter().map(Self::to_json).collect()),
            Kind::Mapping(entries) => Value::Object(
                entries
                    .iter()
                    .map(|(key, value)| (key.text.to_string(), value.to_json()))
                    .collect(),
            ),
        }
    }

    /// As JSON of the form that a schema describes: where it wants a text as it was written, a number is its text.
    pub fn to_json_of(&self, schema: &Value) -> Value {
        match &self.kind {
            Kind::Scalar(scalar) if is_text_as_written(schema) && !self.is_null() => {
                Value::from(&*scalar.text)
            }
            Kind::Sequence(items) if schema.get("items").is_some() => Value::Array(
                items
                    .iter()
                    .map(|item| item.to_json_of(&schema["items"]))
                    .collect(),
            ),
            Kind::Mapping(entries) => {
                let of = |key: &Key| {
                    schema
                        .get("properties")
                        .and_then(|known| known.get(&*key.text))
                        .or(schema.get("additionalProperties"))
                };
                let entry = |(key, value): &(Key, Self)| {
                    let value =
                        of(key).map_or_else(|| value.to_json(), |schema| value.to_json_of(schema));
                    (key.text.to_string(), value)
                };
                Value::Object(entries.iter().map(entry).collect())
            }
            _ => self.to_json(),
        }
    }

    /// What was found here, for messages: `` `-3` ``, `the string "3"`, `a list`, `nothing`.
    pub fn describe(&self) -> String {
        match &self.kind {
            Kind::Sequence(items) if items.is_empty() => "an empty list".to_owned(),
            Kind::Sequence(_) => "a list".to_owned(),
            Kind::Mapping(entries) if entries.is_empty() => "an empty map".to_owned(),
            Kind::Mapping(_) => "a map".to_owned(),
            Kind::Scalar(scalar) if scalar.quoted => {
                format!("the string \"{}\"", shortened(&scalar.text))
            }
            Kind::Scalar(scalar) if scalar.text.is_empty() => "nothing".to_owned(),
            Kind::Scalar(scalar) => format!("`{}`", shortened(&scalar.text)),
        }
    }
}

/// Whether a schema takes numbers and switches as the text that was written.
pub(super) fn is_text_as_written(schema: &Value) -> bool {
    schema.get("x-as-written") == Some(&Value::Bool(true))
}

/// At most 40 characters on one line.
fn shortened(text: &str) -> String {
    const MOST: usize = 40;
    let mut short = String::new();
    for (index, character) in text.chars().enumerate() {
        if index == MOST {
            short.push('…');
            break;
        }
        short.push(character);
    }
    visible(&short).into_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::diagnostic::SourceMap;

    fn node(value: &Value, start: u32) -> Node {
        let mut sources = SourceMap::default();
        let file = sources.add("p.yaml", " ".repeat(40));
        Node::from_json(value, Span::new(file, start, start + 1))
    }

    #[test]
    fn json_goes_in_and_comes_out() {
        let value = json!({"a": [1, -2.5, true, null, "1", "", {"b": []}], "c": {}});
        assert_eq!(node(&value, 0).to_json(), value);
    }

    #[test]
    fn equality_is_about_values() {
        let value = json!({"a": [1, "x"]});
        assert_eq!(node(&value, 0), node(&value, 7));
        assert_ne!(node(&json!(1), 0), node(&json!("1"), 0));
        assert_ne!(node(&json!({"a": 1}), 0), node(&json!({"b": 1}), 0));
        let span = node(&value, 0).span();
        assert_eq!(
            Node::scalar("a", true, span),
            Node::scalar("a", false, span)
        );
    }

    #[test]
    fn values_are_described_for_people() {
        let cases = [
            (json!([]), "an empty list"),
            (json!({"a": 1}), "a map"),
            (json!("a\nb"), "the string \"a\\nb\""),
            (json!(1.5), "`1.5`"),
        ];
        for (value, words) in cases {
            assert_eq!(node(&value, 0).describe(), words);
        }
        assert_eq!(
            node(&json!("x".repeat(100)), 0).describe().chars().count(),
            54
        );
    }
}

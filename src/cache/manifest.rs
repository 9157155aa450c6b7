//! Everything that determines a stage's outputs, as a tree, and the one walk over it.
//! The walk feeds the hash that becomes the key and the text that explains it, so the two cannot drift apart.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write};

use contract::artifact::{Digest, DigestWriter};
use serde_json::Value;

use super::Key;

/// Raised when the meaning of a manifest changes: then no earlier key matches.
const FORMAT: u64 = 1;

/// The determinants of one stage.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Manifest {
    /// Name of the stage kind.
    pub kind: String,
    /// Version of the stage kind.
    pub version: u32,
    /// For kinds whose bits depend on it: CPU features or GPU; see [`contract::Numerics`].
    pub numeric_class: Option<String>,
    /// For kinds that draw random numbers.
    pub seed: Option<u64>,
    /// Parameters with defaults filled in.
    pub parameters: Value,
    /// Logical digests of the inputs: port, name on a port that takes many, digest. In the order in which they arrive.
    pub inputs: Vec<(String, Option<String>, Digest)>,
    /// blake3 of the raw files that the stage reads, by the name under which it asks for them.
    pub files: BTreeMap<String, Option<Digest>>,
    /// Environment variables that the stage asked for.
    pub environment: BTreeMap<String, Option<String>>,
    /// Versions of what does the work besides this program.
    pub packages: BTreeMap<String, String>,
}

/// One step of a path into a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step<'a> {
    Key(&'a str),
    Index(usize),
}

/// A value at the end of a path.
#[derive(Clone, Copy, Debug)]
enum Leaf<'a> {
    Null,
    Bool(bool),
    Integer(i128),
    Real(f64),
    Text(&'a str),
    Digest(&'a Digest),
    EmptyList,
    EmptyMap,
}

/// Receives the leaves in the order of the walk.
trait Visitor {
    fn leaf(&mut self, path: &[Step<'_>], leaf: Leaf<'_>);
}

impl Manifest {
    fn walk(&self, visitor: &mut dyn Visitor) {
        for (name, value) in &self.environment {
            let leaf = value.as_deref().map_or(Leaf::Null, Leaf::Text);
            visitor.leaf(&[Step::Key("environment"), Step::Key(name)], leaf);
        }
        for (name, digest) in &self.files {
            let leaf = digest.as_ref().map_or(Leaf::Null, Leaf::Digest);
            visitor.leaf(&[Step::Key("files"), Step::Key(name)], leaf);
        }
        let mut on_port: BTreeMap<&str, usize> = BTreeMap::new();
        for (port, name, digest) in &self.inputs {
            let count = on_port.entry(port).or_default();
            let path = [
                Step::Key("inputs"),
                Step::Key(port),
                Step::Index(*count),
                Step::Key(name.as_deref().unwrap_or("")),
            ];
            *count += 1;
            let path = if name.is_some() { &path } else { &path[..2] };
            visitor.leaf(path, Leaf::Digest(digest));
        }
        visitor.leaf(&[Step::Key("kind")], Leaf::Text(&self.kind));
        let class = self.numeric_class.as_deref().map_or(Leaf::Null, Leaf::Text);
        visitor.leaf(&[Step::Key("numeric_class")], class);
        let seed = self.seed.map(i128::from).map_or(Leaf::Null, Leaf::Integer);
        visitor.leaf(&[Step::Key("seed")], seed);
        // Where there are none, the key is that of times when there could be none.
        for (name, version) in &self.packages {
            visitor.leaf(
                &[Step::Key("packages"), Step::Key(name)],
                Leaf::Text(version),
            );
        }
        visitor.leaf(&[Step::Key("version")], Leaf::Integer(self.version.into()));
        walk_value(&self.parameters, &mut vec![Step::Key("with")], visitor);
    }

    /// The key: a hash over every leaf with its path.
    pub fn key(&self) -> Key {
        let mut hasher = Hasher::new("manifest");
        self.walk(&mut hasher);
        Key(hasher.0.finish())
    }

    /// The digest of all but the parameters; what checkpoint chains grow from.
    pub fn lineage(&self) -> Digest {
        let mut hasher = Hasher::new("lineage");
        Self {
            parameters: Value::Null,
            ..self.clone()
        }
        .walk(&mut hasher);
        hasher.0.finish()
    }

    /// One line per leaf: `with.optimizer.lr = 0.0001`.
    pub fn to_text(&self) -> String {
        let mut writer = Writer(String::new());
        self.walk(&mut writer);
        writer.0
    }
}

fn walk_value<'a>(value: &'a Value, path: &mut Vec<Step<'a>>, visitor: &mut dyn Visitor) {
    match value {
        Value::Null => visitor.leaf(path, Leaf::Null),
        Value::Bool(flag) => visitor.leaf(path, Leaf::Bool(*flag)),
        Value::String(text) => visitor.leaf(path, Leaf::Text(text)),
        Value::Number(number) => {
            let leaf = if let Some(integer) = number.as_i64() {
                Leaf::Integer(integer.into())
            } else if let Some(integer) = number.as_u64() {
                Leaf::Integer(integer.into())
            } else {
                Leaf::Real(number.as_f64().unwrap_or(f64::NAN))
            };
            visitor.leaf(path, leaf);
        }
        Value::Array(items) if items.is_empty() => visitor.leaf(path, Leaf::EmptyList),
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                path.push(Step::Index(index));
                walk_value(item, path, visitor);
                path.pop();
            }
        }
        Value::Object(map) if map.is_empty() => visitor.leaf(path, Leaf::EmptyMap),
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(name, _)| name.as_str());
            for (name, item) in entries {
                path.push(Step::Key(name));
                walk_value(item, path, visitor);
                path.pop();
            }
        }
    }
}

struct Hasher(DigestWriter);

impl Hasher {
    fn new(domain: &str) -> Self {
        let mut writer = DigestWriter::new(domain);
        writer.number(FORMAT);
        Self(writer)
    }
}

impl Visitor for Hasher {
    fn leaf(&mut self, path: &[Step<'_>], leaf: Leaf<'_>) {
        self.0.number(path.len() as u64);
        for step in path {
            match step {
                Step::Key(name) => self.0.text(name),
                Step::Index(index) => self.0.number(*index as u64),
            }
        }
        match leaf {
            Leaf::Null => self.0.bytes(b"null"),
            Leaf::Bool(flag) => self.0.flag(flag),
            Leaf::Integer(number) => self.0.bytes(&number.to_le_bytes()),
            Leaf::Real(number) => self.0.real(number),
            Leaf::Text(text) => self.0.text(text),
            Leaf::Digest(digest) => self.0.digest(digest),
            Leaf::EmptyList => self.0.bytes(b"[]"),
            Leaf::EmptyMap => self.0.bytes(b"{}"),
        }
    }
}

struct Writer(String);

impl Visitor for Writer {
    fn leaf(&mut self, path: &[Step<'_>], leaf: Leaf<'_>) {
        for (depth, step) in path.iter().enumerate() {
            match step {
                Step::Index(index) => write!(self.0, "[{index}]"),
                Step::Key(name) if depth == 0 => write!(self.0, "{}", quoted(name)),
                Step::Key(name) => write!(self.0, ".{}", quoted(name)),
            }
            .expect("writing to a string");
        }
        match leaf {
            Leaf::Null => writeln!(self.0, " = null"),
            Leaf::Bool(flag) => writeln!(self.0, " = {flag}"),
            Leaf::Integer(number) => writeln!(self.0, " = {number}"),
            Leaf::Real(number) => writeln!(self.0, " = {number:?}"),
            Leaf::Text(text) => writeln!(self.0, " = {}", Value::from(text)),
            Leaf::Digest(digest) => writeln!(self.0, " = blake3:{digest}"),
            Leaf::EmptyList => writeln!(self.0, " = []"),
            Leaf::EmptyMap => writeln!(self.0, " = {{}}"),
        }
        .expect("writing to a string");
    }
}

/// A name as it is, or as a JSON string where it has characters that would be misread.
pub fn quoted(name: &str) -> Cow<'_, str> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if !name.is_empty() && name.bytes().all(is_plain) {
        name.into()
    } else {
        Value::from(name).to_string().into()
    }
}

/// One line in which two manifests differ. Printed, digests are cut short.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Difference {
    pub path: String,
    /// `None` where only the later manifest has the line.
    pub before: Option<String>,
    /// `None` where only the earlier manifest has the line.
    pub after: Option<String>,
}

impl Difference {
    /// The differing lines of two manifests in text form, sorted by path.
    pub fn between(before: &str, after: &str) -> Vec<Self> {
        let (before, after) = (lines(before), lines(after));
        let paths: BTreeSet<&str> = before.keys().chain(after.keys()).copied().collect();
        let mut found = Vec::new();
        for path in paths {
            let (before, after) = (before.get(path), after.get(path));
            found.extend(Self::of_line(path, before, after));
        }
        found
    }

    /// The difference in one line, if the two sides of it are not the same.
    pub fn of_line<T: ToString + PartialEq>(
        path: impl Into<String>,
        before: Option<T>,
        after: Option<T>,
    ) -> Option<Self> {
        if before == after {
            return None;
        }
        Some(Self {
            path: path.into(),
            before: before.map(|before| before.to_string()),
            after: after.map(|after| after.to_string()),
        })
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = |value: &Option<String>| match value.as_deref() {
            None => "(absent)".to_owned(),
            Some(value) => match value.strip_prefix("blake3:") {
                Some(digest) => format!("blake3:{}", digest.get(..12).unwrap_or(digest)),
                None => value.to_owned(),
            },
        };
        write!(
            formatter,
            "{}: {} -> {}",
            self.path,
            side(&self.before),
            side(&self.after)
        )
    }
}

fn lines(text: &str) -> BTreeMap<&str, &str> {
    text.lines()
        .filter_map(|line| line.split_once(" = "))
        .collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn manifest(parameters: Value) -> Manifest {
        Manifest {
            kind: "train".into(),
            version: 1,
            numeric_class: None,
            seed: Some(7),
            parameters,
            inputs: vec![("windows".into(), None, Digest([3; 32]))],
            files: BTreeMap::new(),
            environment: BTreeMap::new(),
            packages: BTreeMap::new(),
        }
    }

    #[test]
    fn look_alikes_have_different_keys() {
        let alike = [
            json!({"ab": "cd"}),
            json!({"a": "bcd"}),
            json!({"a": ["1"]}),
            json!({"a": [1]}),
            json!({"a": {"0": 1}}),
            json!({"a": 1.0}),
            json!({"a": [[1]]}),
            json!({"a": []}),
            json!({"a": {}}),
            json!({"a": null}),
            json!({"a": "null"}),
            json!({}),
            json!({"a": true}),
        ];
        let keys: std::collections::BTreeSet<_> = alike
            .iter()
            .map(|value| manifest(value.clone()).key())
            .collect();
        assert_eq!(keys.len(), alike.len());
        let texts: std::collections::BTreeSet<_> = alike
            .iter()
            .map(|value| manifest(value.clone()).to_text())
            .collect();
        assert_eq!(texts.len(), alike.len());
    }

    #[test]
    fn key_order_does_not_matter() {
        assert_eq!(
            manifest(json!({"a": 1, "b": 2})).key(),
            manifest(json!({"b": 2, "a": 1})).key()
        );
    }

    #[test]
    fn differences_are_named() {
        let before = manifest(json!({"epochs": 10, "lr": 0.1}));
        let after = manifest(json!({"epochs": 20, "lr": 0.1}));
        let differences = Difference::between(&before.to_text(), &after.to_text());
        let expected = Difference {
            path: "with.epochs".into(),
            before: Some("10".into()),
            after: Some("20".into()),
        };
        assert_eq!(differences, [expected]);
    }

    /// Parameters of any form.
    pub fn json_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            (-1e6..1e6_f64).prop_map(Value::from),
            ".{0,6}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(".{0,4}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        /// Key and text are equal exactly when the parameters are.
        #[test]
        fn keys_and_texts_are_injective(left in json_value(), right in json_value()) {
            let same = left == right;
            let (left, right) = (manifest(left), manifest(right));
            prop_assert_eq!(left.key() == right.key(), same);
            prop_assert_eq!(left.to_text() == right.to_text(), same);
        }
    }
}

//! A manifest read back from its text, so that a stage can be executed again as it was then.
//! What enters a key is decided in `manifest`; here the text is only understood again.

use contract::artifact::Digest;
use serde_json::{Map, Value};

use super::Manifest;

/// One step of a path.
#[derive(Clone, Debug, PartialEq)]
enum Step {
    Key(String),
    Index(usize),
}

impl Manifest {
    /// Reads the text that [`Manifest::to_text`] wrote; `None` if it is damaged.
    pub fn parse(text: &str) -> Option<Self> {
        let mut recorded = Self::default();
        for line in text.lines() {
            let (steps, leaf) = path(line)?;
            match &steps[..] {
                [Step::Key(name), rest @ ..] if name == "with" => {
                    put(&mut recorded.parameters, rest, value(leaf)?)?
                }
                [Step::Key(name)] if name == "kind" => {
                    recorded.kind = serde_json::from_str(leaf).ok()?
                }
                [Step::Key(name)] if name == "version" => recorded.version = leaf.parse().ok()?,
                [Step::Key(name)] if name == "seed" => {
                    recorded.seed = serde_json::from_str(leaf).ok()?
                }
                [Step::Key(name)] if name == "numeric_class" => {
                    recorded.numeric_class = serde_json::from_str(leaf).ok()?;
                }
                [Step::Key(name), Step::Key(file)] if name == "files" => {
                    let found = if leaf == "null" {
                        None
                    } else {
                        Some(digest(leaf)?)
                    };
                    recorded.files.insert(file.clone(), found);
                }
                [Step::Key(name), Step::Key(variable)] if name == "environment" => {
                    recorded
                        .environment
                        .insert(variable.clone(), serde_json::from_str(leaf).ok()?);
                }
                [Step::Key(name), Step::Key(package)] if name == "packages" => {
                    recorded
                        .packages
                        .insert(package.clone(), serde_json::from_str(leaf).ok()?);
                }
                [Step::Key(name), Step::Key(port)] if name == "inputs" => {
                    recorded.inputs.push((port.clone(), None, digest(leaf)?));
                }
                [
                    Step::Key(name),
                    Step::Key(port),
                    Step::Index(_),
                    Step::Key(item),
                ] if name == "inputs" => {
                    recorded
                        .inputs
                        .push((port.clone(), Some(item.clone()), digest(leaf)?));
                }
                _ => {}
            }
        }
        (!recorded.kind.is_empty()).then_some(recorded)
    }
}

fn digest(leaf: &str) -> Option<Digest> {
    leaf.strip_prefix("blake3:")?.parse().ok()
}

fn value(leaf: &str) -> Option<Value> {
    serde_json::from_str(leaf).ok()
}

/// Steps of a path, at most: no parameters are nested deeper, and what is built of a path is taken apart by recursion.
const DEEPEST: usize = 160;

/// The path at the start of a line, and what follows ` = `.
fn path(line: &str) -> Option<(Vec<Step>, &str)> {
    let mut steps = Vec::new();
    let mut rest = line;
    while steps.len() <= DEEPEST {
        if let Some(leaf) = rest.strip_prefix(" = ") {
            return Some((steps, leaf));
        }
        if let Some(after) = rest.strip_prefix('[') {
            let (index, after) = after.split_once(']')?;
            steps.push(Step::Index(index.parse().ok()?));
            rest = after;
            continue;
        }
        rest = rest.strip_prefix('.').unwrap_or(rest);
        let (key, after) = key(rest)?;
        steps.push(Step::Key(key));
        rest = after;
    }
    None
}

/// A name, plain or as a JSON string.
fn key(text: &str) -> Option<(String, &str)> {
    if text.starts_with('"') {
        let mut quoted = serde_json::Deserializer::from_str(text).into_iter::<String>();
        let name = quoted.next()?.ok()?;
        return Some((name, &text[quoted.byte_offset()..]));
    }
    let plain =
        |character: char| character.is_ascii_alphanumeric() || character == '_' || character == '-';
    let end = text.find(|character| !plain(character))?;
    (end > 0).then(|| (text[..end].to_owned(), &text[end..]))
}

/// Puts a leaf at the end of a path. The walk goes through lists in order.
fn put(into: &mut Value, path: &[Step], leaf: Value) -> Option<()> {
    match path {
        [] => *into = leaf,
        [Step::Key(name), rest @ ..] => {
            if into.is_null() {
                *into = Value::Object(Map::new());
            }
            let entry = into.as_object_mut()?.entry(name.as_str());
            put(entry.or_insert(Value::Null), rest, leaf)?;
        }
        [Step::Index(index), rest @ ..] => {
            if into.is_null() {
                *into = Value::Array(Vec::new());
            }
            let items = into.as_array_mut()?;
            if *index == items.len() {
                items.push(Value::Null);
            }
            put(items.get_mut(*index)?, rest, leaf)?;
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::cache::manifest::tests::json_value;

    fn manifest(parameters: Value) -> Manifest {
        Manifest {
            kind: "train".into(),
            version: 3,
            numeric_class: Some("cpu/x86_64".into()),
            seed: Some(7),
            parameters,
            inputs: vec![
                ("model".into(), None, Digest([3; 32])),
                ("items".into(), Some("a = b[c=1.5]".into()), Digest([4; 32])),
                ("items".into(), Some(String::new()), Digest([5; 32])),
            ],
            files: BTreeMap::from([("a = \"b\".csv".into(), None)]),
            environment: BTreeMap::from([("X".into(), Some("two\nlines".into()))]),
            packages: BTreeMap::from([("scikit-learn".into(), "1.7.2".into())]),
        }
    }

    #[test]
    fn a_manifest_comes_back_from_its_text() {
        let parameters = json!({
            "epochs": 3, "lr": 1e-7, "steps": [[1, 2], [], {}], "none": null, "with a dot.": {"x": "a = \"b\"\n"}, "on": true,
        });
        let recorded = Manifest::parse(&manifest(parameters.clone()).to_text()).unwrap();
        assert_eq!(recorded.parameters, parameters);
        assert_eq!(
            (recorded.kind.as_str(), recorded.version, recorded.seed),
            ("train", 3, Some(7))
        );
        assert_eq!(recorded.inputs, manifest(Value::Null).inputs);
        assert_eq!(recorded.key(), manifest(parameters.clone()).key());
        assert_eq!(recorded, manifest(parameters));
        assert_eq!(Manifest::parse("with.a"), None);
        assert_eq!(Manifest::parse(""), None);
    }

    proptest! {
        #[test]
        fn any_parameters_come_back(parameters in json_value()) {
            let recorded = Manifest::parse(&manifest(parameters.clone()).to_text()).unwrap();
            prop_assert_eq!(&recorded.parameters, &parameters);
            prop_assert_eq!(recorded.key(), manifest(parameters).key());
        }
    }
}

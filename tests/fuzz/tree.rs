//! Mutations of trees: of YAML as what it means, where bytes would seldom come to another sound text.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Value, json};

use runner::diagnostic::SourceMap;
use runner::pipeline::{to_yaml, yaml};

/// One change at a place of the tree, counted from its root.
#[derive(Clone, Debug)]
enum Change {
    Replace(Index, Value),
    Remove(Index),
    Rename(Index, String),
    /// The subtree of one place also stands at another.
    Copy(Index, Index),
    Wrap(Index, usize),
    Add(Index, String, Value),
}

/// YAML texts as trees.
pub fn trees(texts: &[Vec<u8>]) -> Vec<Value> {
    let read = |text: &Vec<u8>| {
        let text = String::from_utf8_lossy(text).into_owned();
        let file = SourceMap::default().add("example", text.as_str());
        Some(yaml::parse(&text, file, 0).0?.to_json())
    };
    texts.iter().filter_map(read).collect()
}

/// Examples with a few changes, as YAML; `words` become keys and values.
pub fn mutated(
    examples: Vec<Value>,
    words: &'static [&'static str],
) -> impl Strategy<Value = Vec<u8>> {
    (select(examples), vec(change(words), 1..6)).prop_map(|(mut tree, changes)| {
        for change in &changes {
            apply(change, &mut tree);
        }
        to_yaml(&tree).unwrap_or_default().into_bytes()
    })
}

fn change(words: &'static [&'static str]) -> impl Strategy<Value = Change> {
    let at = any::<Index>;
    let word = move || select(words).prop_map(str::to_owned);
    prop_oneof![
        6 => (at(), value(words)).prop_map(|(index, value)| Change::Replace(index, value)),
        2 => at().prop_map(Change::Remove),
        2 => (at(), word()).prop_map(|(index, name)| Change::Rename(index, name)),
        3 => (at(), at()).prop_map(|(from, to)| Change::Copy(from, to)),
        1 => (at(), prop_oneof![Just(1_usize), 90..110_usize]).prop_map(|(index, times)| Change::Wrap(index, times)),
        3 => (at(), word(), value(words)).prop_map(|(index, name, value)| Change::Add(index, name, value)),
    ]
}

/// Values that may be where none was thought of.
fn value(words: &'static [&'static str]) -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-3..70_i64).prop_map(Value::from),
        proptest::num::f64::ANY.prop_map(Value::from),
        select(&[0.5, -0.5, 1e-320, 3.5e38, -1e39, 1e308][..]).prop_map(Value::from),
        select(words).prop_map(Value::from),
        select(words).prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 20, 5, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..5).prop_map(Value::Array),
            vec((select(words), inner), 0..5).prop_map(|entries| entries
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value))
                .collect()),
        ]
    })
}

fn apply(change: &Change, tree: &mut Value) {
    match change {
        Change::Replace(index, value) => with(tree, index, |place| *place = value.clone()),
        Change::Remove(index) => with(tree, index, remove),
        Change::Rename(index, name) => with(tree, index, |place| rename(place, name)),
        Change::Copy(from, to) => {
            let mut copy = Value::Null;
            with(tree, from, |place| copy = place.clone());
            with(tree, to, |place| *place = copy);
        }
        Change::Wrap(index, times) => with(tree, index, |place| {
            for _ in 0..*times {
                *place = json!([place.take()]);
            }
        }),
        Change::Add(index, name, value) => with(tree, index, |place| match place {
            Value::Object(entries) => {
                entries.insert(name.clone(), value.clone());
            }
            Value::Array(items) => items.push(value.clone()),
            _ => {}
        }),
    }
}

/// Takes the last part away.
fn remove(place: &mut Value) {
    match place {
        Value::Object(entries) => {
            if let Some(last) = entries.keys().next_back().cloned() {
                entries.shift_remove(&last);
            }
        }
        Value::Array(items) => {
            items.pop();
        }
        other => *other = Value::Null,
    }
}

/// Calls the first key something else.
fn rename(place: &mut Value, name: &str) {
    let Value::Object(entries) = place else {
        return;
    };
    let Some(first) = entries.keys().next().cloned() else {
        return;
    };
    if let Some(value) = entries.shift_remove(&first) {
        entries.insert(name.to_owned(), value);
    }
}

/// Calls back with the subtree at a place.
fn with(tree: &mut Value, index: &Index, act: impl FnOnce(&mut Value)) {
    let mut left = index.index(size(tree));
    let mut place = tree;
    loop {
        if left == 0 {
            return act(place);
        }
        left -= 1;
        let mut parts: Vec<&mut Value> = match place {
            Value::Object(entries) => entries.values_mut().collect(),
            Value::Array(items) => items.iter_mut().collect(),
            _ => return,
        };
        let sizes = parts.iter().map(|part| size(part)).collect::<Vec<_>>();
        let Some(inside) = sizes.iter().position(|size| {
            let here = left < *size;
            left -= if here { 0 } else { *size };
            here
        }) else {
            return;
        };
        place = parts.swap_remove(inside);
    }
}

fn size(tree: &Value) -> usize {
    1 + match tree {
        Value::Object(entries) => entries.values().map(size).sum(),
        Value::Array(items) => items.iter().map(size).sum(),
        _ => 0,
    }
}

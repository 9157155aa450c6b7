//! Differences between manifests in words, as a plan tells them.

use std::collections::BTreeMap;

use crate::cache::{Difference, cannot_be_compared, is_digest_of_secret};

/// The beginnings of paths whose values are digests of content, and what they are.
const CONTENTS: [(&str, &str); 2] = [("inputs.", "input"), ("files.", "file")];

/// Differences in words. What has another name and the same content was renamed.
pub(super) fn in_words(differences: &[Difference]) -> Vec<String> {
    let renamed = renamed(differences);
    let mut words = Vec::with_capacity(differences.len());
    for difference in differences {
        let Some((sort, name)) = content(difference) else {
            words.push(describe(difference));
            continue;
        };
        let now = renamed.get(&*difference.path).map(|now| short(now));
        let change = match (&difference.before, &difference.after) {
            (None, Some(_)) if renamed.values().any(|now| *now == difference.path) => continue,
            (Some(_), None) => match now {
                Some(now) if now == name => "has another place".to_owned(),
                Some(now) => format!("is called {now} now"),
                None => "is gone".to_owned(),
            },
            (None, _) => "is new".to_owned(),
            _ => "has new content".to_owned(),
        };
        words.push(format!("{sort} {name} {change}"));
    }
    words
}

/// What is gone, by its path, with the path under which the same content is new.
fn renamed(differences: &[Difference]) -> BTreeMap<&str, &str> {
    let mut pairs: BTreeMap<&str, &str> = BTreeMap::new();
    let sort = |difference: &Difference| content(difference).map(|(sort, _)| sort);
    for gone in differences {
        if gone.after.is_some() || sort(gone).is_none() {
            continue;
        }
        let is_it = |new: &&Difference| {
            new.before.is_none()
                && new.after == gone.before
                && sort(new) == sort(gone)
                && !pairs.values().any(|now| *now == new.path)
        };
        if let Some(new) = differences.iter().find(is_it) {
            pairs.insert(&gone.path, &new.path);
        }
    }
    pairs
}

/// What sort of content a line is about, and its name.
fn content(difference: &Difference) -> Option<(&'static str, &str)> {
    let (prefix, sort) = CONTENTS
        .iter()
        .find(|(prefix, _)| difference.path.starts_with(prefix))?;
    Some((sort, short(&difference.path[prefix.len()..])))
}

/// The name of an input without the port that takes many, and without its place among them.
fn short(path: &str) -> &str {
    let mut name = path;
    for (prefix, _) in CONTENTS {
        name = name.strip_prefix(prefix).unwrap_or(name);
    }
    match name.split_once("].") {
        Some((_, name)) => name,
        None => name,
    }
}

/// One difference in words: `epochs: 10 -> 20`.
fn describe(difference: &Difference) -> String {
    let Difference {
        path,
        before,
        after,
    } = difference;
    if let Some(variable) = path.strip_prefix("environment.")
        && let (Some(before), Some(after)) = (before, after)
    {
        if cannot_be_compared(before, after) {
            return format!(
                "variable {variable} was digested with the secret of another store: its values cannot be compared"
            );
        }
        if is_digest_of_secret(before) && is_digest_of_secret(after) {
            return format!("variable {variable} has another value");
        }
    }
    let name = path.strip_prefix("with.").unwrap_or(path);
    match (before, after) {
        (Some(before), Some(after)) => format!("{name}: {before} -> {after}"),
        (None, Some(after)) => format!("{name}: {after} is new"),
        (Some(before), None) => format!("{name}: {before} is gone"),
        (None, None) => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(differences: &[(&str, Option<&str>, Option<&str>)]) -> String {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        let difference = |(path, before, after): &(&str, Option<&str>, Option<&str>)| Difference {
            path: (*path).to_owned(),
            before: owned(*before),
            after: owned(*after),
        };
        in_words(&differences.iter().map(difference).collect::<Vec<_>>()).join("; ")
    }

    #[test]
    fn what_only_has_another_name_was_renamed() {
        let (a, b) = (Some("blake3:aa"), Some("blake3:bb"));
        assert_eq!(told(&[("inputs.raw", a, b)]), "input raw has new content");
        assert_eq!(
            told(&[("inputs.new", None, a), ("inputs.old", a, None)]),
            "input old is called new now"
        );
        let many = [
            ("inputs.inputs[0].raw", a, None),
            ("inputs.inputs[0].series", None, a),
        ];
        assert_eq!(told(&many), "input raw is called series now");
        let moved = [
            ("inputs.inputs[0].raw", a, None),
            ("inputs.inputs[1].raw", None, a),
        ];
        assert_eq!(told(&moved), "input raw has another place");
        assert_eq!(
            told(&[("files.a", a, None), ("files.b", None, b)]),
            "file a is gone; file b is new"
        );
        assert_eq!(
            told(&[("files.x", a, None), ("inputs.x", None, a)]),
            "file x is gone; input x is new"
        );
        let twice = [
            ("inputs.a", a, None),
            ("inputs.b", a, None),
            ("inputs.c", None, a),
        ];
        assert_eq!(told(&twice), "input a is called c now; input b is gone");
        assert_eq!(
            told(&[("with.epochs", Some("1"), Some("2"))]),
            "epochs: 1 -> 2"
        );
    }
}

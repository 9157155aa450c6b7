//! How samples with classes are split: each class by the same shares. Which sample comes where depends on its name alone,
//! so that files that are numbered by the hour do not become a split by time.

use std::collections::BTreeMap;

use super::Shares;
use contract::artifact::Split;
use contract::{Random, Trouble};

/// The split of each sample, given as class and name.
///
/// # Errors
/// If a class has too few samples for a split that was asked for.
pub(super) fn split(samples: &[(&str, &str)], plan: &Shares) -> Result<Vec<Split>, Trouble> {
    let mut classes: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (index, (class, _)) in samples.iter().enumerate() {
        classes.entry(class).or_default().push(index);
    }
    let mut splits = vec![Split::Train; samples.len()];
    for (class, mut members) in classes {
        members.sort_by_cached_key(|index| (Random::new(0, samples[*index].1).next_u64(), *index));
        let parts = plan.cut(members.len()).map_err(|error| {
            let hint = format!("the class has {} samples; see `split`", members.len());
            Trouble::new(format!("in the class `{class}`, {}", error.message())).hint(hint)
        })?;
        for (split, part) in parts {
            for index in &members[part] {
                splits[*index] = split;
            }
        }
    }
    Ok(splits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_has_its_share_and_the_order_does_not_matter() {
        let names: Vec<String> = (0..40).map(|index| format!("{index:03}")).collect();
        let samples: Vec<(&str, &str)> = names
            .iter()
            .enumerate()
            .map(|(index, name)| (if index < 30 { "a" } else { "b" }, name.as_str()))
            .collect();
        let plan = Shares {
            train: 0.6,
            test: 0.4,
            ..Shares::default()
        };
        let splits = split(&samples, &plan).unwrap();
        let tests = |range: std::ops::Range<usize>| {
            splits[range]
                .iter()
                .filter(|split| **split == Split::Test)
                .count()
        };
        assert_eq!((tests(0..30), tests(30..40)), (12, 4));
        assert!(tests(0..15) > 2 && tests(15..30) > 2, "not by number");
        let backwards: Vec<(&str, &str)> = samples.iter().rev().copied().collect();
        assert!(split(&backwards, &plan).unwrap().iter().rev().eq(&splits));
        let error = split(&samples[29..32], &plan).unwrap_err();
        assert!(error.to_string().contains("class `a`"), "{error}");
    }
}

//! Metrics as a record quotes them, beside those in the outputs that it names.

use std::collections::{BTreeMap, BTreeSet};

use contract::artifact::{Artifact, ArtifactKind, Metric};

use crate::cache::{Action, CacheError, Store};

/// A stage's metrics by name.
pub type MetricValues = BTreeMap<String, Option<f64>>;

/// The values of these metrics.
pub fn values_of<'a>(metrics: impl IntoIterator<Item = &'a Metric>) -> MetricValues {
    let metrics = metrics.into_iter();
    metrics
        .map(|metric| (metric.name.clone(), metric.value))
        .collect()
}

/// The metrics in an action's outputs.
///
/// # Errors
/// If such an output is not there or damaged.
pub fn metrics_of(action: &Action, store: &Store) -> Result<MetricValues, CacheError> {
    let mut values = MetricValues::new();
    for output in &action.outputs {
        if output.record.kind == Some(ArtifactKind::Metrics)
            && let Artifact::Metrics(metrics) = store.load(&output.record)?
        {
            values.extend(values_of(&metrics.entries));
        }
    }
    Ok(values)
}

/// Which quoted metrics are not those that came out. A record that quotes none says nothing wrong.
pub fn misquoted(quoted: &MetricValues, found: &MetricValues) -> Vec<String> {
    let mut problems = Vec::new();
    if quoted.is_empty() {
        return problems;
    }
    let names: BTreeSet<&String> = quoted.keys().chain(found.keys()).collect();
    for name in names {
        let (quoted, found) = (quoted.get(name), found.get(name));
        if !is_same(quoted, found) {
            problems.push(format!("{name} is {}, not {}", shown(found), shown(quoted)));
        }
    }
    problems
}

/// Whether two metrics are the same to the bit. Records and locks are JSON, which has nothing but `null` for what is not
/// finite.
fn is_same(quoted: Option<&Option<f64>>, found: Option<&Option<f64>>) -> bool {
    let (Some(quoted), Some(found)) = (quoted, found) else {
        return quoted.is_none() && found.is_none();
    };
    let bits = |value: &Option<f64>| value.filter(|value| value.is_finite()).map(f64::to_bits);
    bits(quoted) == bits(found)
}

fn shown(value: Option<&Option<f64>>) -> String {
    match value {
        None => "(none)".to_owned(),
        Some(None) => "undefined".to_owned(),
        Some(Some(value)) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics(pairs: &[(&str, Option<f64>)]) -> MetricValues {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), *value))
            .collect()
    }

    #[test]
    fn another_figure_is_misquoted_and_what_json_lacks_is_not() {
        let found = metrics(&[("f1", Some(0.5)), ("threshold", Some(f64::INFINITY))]);
        assert!(misquoted(&metrics(&[("f1", Some(0.5)), ("threshold", None)]), &found).is_empty());
        let wrong = misquoted(
            &metrics(&[("f1", Some(0.75)), ("threshold", Some(1.0))]),
            &found,
        );
        assert_eq!(wrong, ["f1 is 0.5, not 0.75", "threshold is inf, not 1"]);
        assert!(
            misquoted(&MetricValues::new(), &found).is_empty(),
            "who quotes nothing says nothing wrong"
        );
    }
}

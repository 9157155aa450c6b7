//! Figures as a record quotes them, beside those in the outputs that it names.

use std::collections::BTreeMap;

use contract::artifact::{Artifact, ArtifactKind, Digest};

use crate::cache::{Action, CacheError, Store};

/// A stage's figures by name.
pub type Figures = BTreeMap<String, Option<f64>>;

/// The outputs of an action, by port.
pub fn outputs_of(action: &Action) -> BTreeMap<String, Digest> {
    action
        .outputs
        .iter()
        .map(|output| (output.port.clone(), output.record.digest))
        .collect()
}

/// The figures in an action's outputs.
///
/// # Errors
/// If such an output is not there or damaged.
pub fn metrics_of(action: &Action, store: &Store) -> Result<Figures, CacheError> {
    let mut figures = Figures::new();
    for output in action
        .outputs
        .iter()
        .filter(|output| output.record.kind == Some(ArtifactKind::Metrics))
    {
        if let Artifact::Metrics(metrics) = store.load(&output.record)? {
            figures.extend(
                metrics
                    .entries
                    .iter()
                    .map(|metric| (metric.name.clone(), metric.value)),
            );
        }
    }
    Ok(figures)
}

/// Which quoted figures are not those that came out. A record that quotes none says nothing wrong.
pub fn misquoted(quoted: &Figures, found: &Figures) -> Vec<String> {
    if quoted.is_empty() {
        return Vec::new();
    }
    // Records and locks, which are JSON, hold what is not finite as undefined.
    let bits = |value: Option<&Option<f64>>| {
        value.map(|value| value.filter(|value| value.is_finite()).map(f64::to_bits))
    };
    let shown = |value: Option<&Option<f64>>| match value {
        None => "(none)".to_owned(),
        Some(None) => "undefined".to_owned(),
        Some(Some(value)) => value.to_string(),
    };
    let names: std::collections::BTreeSet<&String> = quoted.keys().chain(found.keys()).collect();
    names
        .into_iter()
        .filter(|name| bits(quoted.get(*name)) != bits(found.get(*name)))
        .map(|name| {
            format!(
                "{name} is {}, not {}",
                shown(found.get(name)),
                shown(quoted.get(name))
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(pairs: &[(&str, Option<f64>)]) -> Figures {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), *value))
            .collect()
    }

    #[test]
    fn another_figure_is_misquoted_and_what_json_lacks_is_not() {
        let found = figures(&[("f1", Some(0.5)), ("threshold", Some(f64::INFINITY))]);
        assert!(misquoted(&figures(&[("f1", Some(0.5)), ("threshold", None)]), &found).is_empty());
        let wrong = misquoted(
            &figures(&[("f1", Some(0.75)), ("threshold", Some(1.0))]),
            &found,
        );
        assert_eq!(wrong, ["f1 is 0.5, not 0.75", "threshold is inf, not 1"]);
        assert!(
            misquoted(&Figures::new(), &found).is_empty(),
            "who quotes nothing says nothing wrong"
        );
    }
}

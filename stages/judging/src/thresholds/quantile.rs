//! The threshold that a given share of scores exceeds.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Basis, Chosen, Over, Source, Threshold};
use contract::{Named, Trouble};

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Quantile {
    /// The percentage of scores above the threshold, between 0 and 100.
    #[schemars(extend("exclusiveMinimum" = 0.0, "exclusiveMaximum" = 100.0))]
    anomaly_ratio: f64,
    /// The splits whose scores count; by default calibration, or train where there is no calibration.
    #[serde(default)]
    over: Over,
}

impl Named for Quantile {
    const NAME: &'static str = "quantile";
    const DOC: &'static str =
        "The score that `anomaly_ratio` percent of the scores exceed, interpolated linearly.";
    const EXAMPLE: &'static str = r#"{"anomaly_ratio": 1.0}"#;
}

impl Threshold for Quantile {
    fn basis(&self) -> Basis {
        self.over.basis()
    }

    fn choose(&self, source: &Source<'_>) -> Result<Chosen, Trouble> {
        let level = 1.0 - self.anomaly_ratio / 100.0;
        let mut scores = source.scores.to_vec();
        scores.sort_unstable_by(f64::total_cmp);
        let how = format!("{} % of the scores lie above it", self.anomaly_ratio);
        Ok(Chosen::constant(quantile(&scores, level), how))
    }
}

/// The quantile of rising values, interpolated linearly between neighbours.
pub fn quantile(rising: &[f64], level: f64) -> f64 {
    let position = level.clamp(0.0, 1.0) * (rising.len() - 1) as f64;
    let below = position as usize;
    let above = (below + 1).min(rising.len() - 1);
    rising[below] + (rising[above] - rising[below]) * (position - below as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::golden;

    #[test]
    fn agrees_with_numpy_percentile() {
        for golden in golden::cases() {
            let reference = &golden.expected["percentile_threshold"];
            let scores = [golden.train.as_slice(), &golden.case.scores].concat();
            let params = Quantile {
                anomaly_ratio: reference["anomaly_ratio"].as_f64().unwrap(),
                over: Over::default(),
            };
            let source = Source {
                scores: &scores,
                stretches: &[],
                case: &golden.case,
            };
            let threshold = params.choose(&source).unwrap().value;
            let expected = reference["threshold"].as_f64().unwrap();
            assert!(
                (threshold - expected).abs() < 1e-9,
                "{}: {threshold} {expected}",
                golden.name
            );
            let raw = golden
                .case
                .at(threshold)
                .alarms
                .iter()
                .filter(|alarm| **alarm)
                .count();
            assert_eq!(raw as u64, reference["flagged_raw"].as_u64().unwrap());
        }
    }
}

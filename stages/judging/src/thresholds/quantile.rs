//! The threshold that a given share of scores exceeds.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Basis, Chosen, Over, Source, ThresholdKind};
use contract::StageError;

pub struct Quantile;

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// The percentage of scores above the threshold, between 0 and 100.
    anomaly_ratio: f64,
    /// The splits whose scores count; by default calibration, or train where there is no calibration.
    #[serde(default)]
    over: Over,
}

impl ThresholdKind for Quantile {
    type Params = Params;

    const NAME: &'static str = "quantile";
    const DOC: &'static str =
        "The score that `anomaly_ratio` percent of the scores exceed, interpolated linearly.";

    fn check(params: &Params) -> Result<(), String> {
        let ratio = params.anomaly_ratio;
        let right = ratio > 0.0 && ratio < 100.0;
        if right {
            Ok(())
        } else {
            Err(format!(
                "anomaly_ratio {ratio} is not a percentage between 0 and 100"
            ))
        }
    }

    fn basis(params: &Params) -> Basis {
        params.over.basis()
    }

    fn choose(params: &Params, source: &Source<'_>) -> Result<Chosen, StageError> {
        let level = 1.0 - params.anomaly_ratio / 100.0;
        let mut scores = source.scores.to_vec();
        scores.sort_unstable_by(f64::total_cmp);
        let how = format!("{} % of the scores lie above it", params.anomaly_ratio);
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
            let params = Params {
                anomaly_ratio: reference["anomaly_ratio"].as_f64().unwrap(),
                over: Over::default(),
            };
            let source = Source {
                scores: &scores,
                stretches: &[],
                case: &golden.case,
            };
            let threshold = Quantile::choose(&params, &source).unwrap().value;
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

//! A threshold some standard deviations above the mean, both exponentially weighted and carried forward over the judged
//! rows.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Basis, Chosen, Over, Source, Threshold};
use contract::{Named, Trouble};

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ewma {
    /// The weight of the newest score, between 0 and 1.
    #[serde(default = "default_smoothing")]
    #[schemars(extend("exclusiveMinimum" = 0.0, "exclusiveMaximum" = 1.0))]
    smoothing: f64,
    /// How many standard deviations.
    #[serde(default = "default_k")]
    k: f64,
    /// The splits whose scores it starts from; by default calibration, or train where there is no calibration.
    #[serde(default)]
    over: Over,
}

fn default_smoothing() -> f64 {
    0.05
}

fn default_k() -> f64 {
    3.0
}

/// The smallest variance: constant scores shall not make every later one an alarm.
const SMALLEST_VARIANCE: f64 = 1e-8;

impl Named for Ewma {
    const NAME: &'static str = "ewma";
    const DOC: &'static str = "Mean plus `k` standard deviations, of exponentially weighted moments: they start from the chosen splits, and after each judged row move to its score, or to the threshold if the score lies above it. Every segment starts afresh.";
}

impl Threshold for Ewma {
    fn adapts(&self) -> bool {
        true
    }

    fn basis(&self) -> Basis {
        self.over.basis()
    }

    fn choose(&self, source: &Source<'_>) -> Result<Chosen, Trouble> {
        let start = Moments::of(source.scores);
        let mut by_row = Vec::with_capacity(source.case.rows());
        for stretch in &source.case.stretches {
            let mut moments = start;
            for score in &source.case.scores[stretch.clone()] {
                let threshold = moments.threshold(self.k);
                // An anomaly must not lift the threshold for what follows it.
                moments.take(score.min(threshold), self.smoothing);
                by_row.push(threshold);
            }
        }
        let how = format!(
            "adapts: mean plus {} standard deviations, the newest score weighted {}",
            self.k, self.smoothing
        );
        Ok(Chosen {
            value: start.threshold(self.k),
            by_row: Some(by_row),
            how,
        })
    }
}

#[derive(Clone, Copy, Debug)]
struct Moments {
    mean: f64,
    /// The mean of the squares.
    second: f64,
}

impl Moments {
    fn of(scores: &[f64]) -> Self {
        let count = scores.len() as f64;
        let squares = scores.iter().map(|score| score * score);
        Self {
            mean: scores.iter().sum::<f64>() / count,
            second: squares.sum::<f64>() / count,
        }
    }

    fn threshold(self, k: f64) -> f64 {
        let variance = (self.second - self.mean * self.mean).max(SMALLEST_VARIANCE);
        self.mean + k * variance.sqrt()
    }

    fn take(&mut self, score: f64, weight: f64) {
        self.mean = (1.0 - weight) * self.mean + weight * score;
        self.second = (1.0 - weight) * self.second + weight * score * score;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{Case, golden};

    #[test]
    fn agrees_with_the_reference() {
        for golden in golden::cases() {
            let reference = &golden.expected["ema_threshold"];
            let number = |name: &str| reference[name].as_f64().unwrap();
            let params = Ewma {
                smoothing: number("alpha"),
                k: number("k_sigma"),
                over: Over::default(),
            };
            let source = Source {
                scores: &golden.train,
                stretches: &[],
                case: &golden.case,
            };
            let chosen = params.choose(&source).unwrap();
            let thresholds = chosen.by_row.unwrap();
            let [expected, _] = &golden.adaptive;
            assert_eq!(thresholds.len(), expected.len());
            for (own, reference) in thresholds.iter().zip(expected) {
                assert!(
                    (own - reference).abs() < 1e-12,
                    "{}: {own} {reference}",
                    golden.name
                );
            }
            let mean = thresholds.iter().sum::<f64>() / thresholds.len() as f64;
            assert!((mean - number("mean")).abs() < 1e-12);
            let judged = golden.case.clone().at_each(chosen.value, &thresholds);
            assert_eq!(
                judged.alarms.iter().filter(|alarm| **alarm).count() as u64,
                reference["flagged"].as_u64().unwrap()
            );
            let counts = judged.counts();
            for (own, name) in [
                (counts.precision(), "precision"),
                (counts.recall(), "recall"),
                (counts.f1(), "f1"),
            ] {
                // The reference adds 1e-8 to the denominators.
                assert!(
                    (own - reference["point"][name].as_f64().unwrap()).abs() < 1e-7,
                    "{} {name}",
                    golden.name
                );
            }
        }
    }

    #[test]
    fn every_stretch_starts_from_the_chosen_splits() {
        let case = Case::new(vec![5.0, 6.0, 5.0, 6.0], vec![false; 4], vec![0..2, 2..4]).unwrap();
        let params = Ewma {
            smoothing: 0.5,
            k: 1.0,
            over: Over::default(),
        };
        let chosen = params
            .choose(&Source {
                scores: &[1.0, 3.0],
                stretches: &[],
                case: &case,
            })
            .unwrap();
        let thresholds = chosen.by_row.unwrap();
        assert_eq!((chosen.value, thresholds[0]), (3.0, 3.0));
        assert_eq!(thresholds[..2], thresholds[2..]);
        // The score of 5 counts as 3: mean 2.5, second moment 7, variance 0.75.
        assert!((thresholds[1] - (2.5 + 0.75_f64.sqrt())).abs() < 1e-12);
    }
}

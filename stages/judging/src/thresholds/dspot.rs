//! Streaming peaks over threshold with drift (Siffer et al., Anomaly Detection in Streams with Extreme Value Theory, KDD
//! 2017, algorithm 3): SPOT on the differences between scores and the mean of the last normal ones.

use std::collections::VecDeque;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::tail::{self, Tail};
use super::{Basis, Chosen, Over, Source, Threshold, peaks};
use contract::{Fault, Named, Trouble};

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Dspot {
    /// The probability that a normal score exceeds the threshold.
    #[serde(default = "tail::default_risk")]
    #[schemars(extend("exclusiveMinimum" = 0.0, "exclusiveMaximum" = 1.0))]
    risk: f64,
    /// The share of the calibrating differences that the tail is fitted to.
    #[serde(default = "tail::default_level")]
    #[schemars(extend("exclusiveMinimum" = 0.0, "exclusiveMaximum" = 1.0))]
    level: f64,
    /// How many of the last normal scores make the local mean.
    #[serde(default = "default_depth")]
    #[schemars(range(min = 1, max = 1_000_000))]
    depth: usize,
    /// Where the tail's shape is searched.
    #[serde(default)]
    search: peaks::Search,
    /// The splits whose scores calibrate it; by default calibration, or train where there is no calibration.
    #[serde(default)]
    over: Over,
}

fn default_depth() -> usize {
    10
}

impl Named for Dspot {
    const NAME: &'static str = "dspot";
    const DOC: &'static str = "Streaming peaks over threshold with drift (Siffer et al., KDD 2017): `spot` on scores minus the mean of the last `depth` ones without alarm. Every segment starts afresh.";
}

impl Threshold for Dspot {
    fn check(&self) -> Result<(), Fault> {
        tail::check(self.risk, self.level)
    }

    fn adapts(&self) -> bool {
        true
    }

    fn basis(&self) -> Basis {
        self.over.basis()
    }

    fn choose(&self, source: &Source<'_>) -> Result<Chosen, Trouble> {
        let (differences, mean) = calibrate(source, self.depth)?;
        let tail = Tail::calibrated(differences, self.level, self.search)?;
        let mut by_row = Vec::with_capacity(source.case.rows());
        for stretch in &source.case.stretches {
            let scores = &source.case.scores[stretch.clone()];
            by_row.extend(stream(tail.clone(), mean.clone(), self.risk, scores));
        }
        let how = format!(
            "adapts: a Pareto tail above the mean of the last {} normal scores exceeds it with probability {}",
            self.depth, self.risk
        );
        let value = mean.value() + tail.threshold(self.risk);
        Ok(Chosen {
            value,
            by_row: Some(by_row),
            how,
        })
    }
}

/// The scores minus the means of those before them, stretch by stretch, and the mean at the end of the last stretch.
fn calibrate(source: &Source<'_>, depth: usize) -> Result<(Vec<f64>, LocalMean), Trouble> {
    let mut differences = Vec::with_capacity(source.scores.len());
    let mut last = None;
    for stretch in source.stretches {
        if stretch.len() <= depth {
            continue;
        }
        let (first, rest) = source.scores[stretch.clone()].split_at(depth);
        let mut mean = LocalMean::new(first);
        for score in rest {
            differences.push(score - mean.value());
            mean.take(*score);
        }
        last = Some(mean);
    }
    let Some(mean) = last else {
        let message =
            format!("no segment that calibrates the threshold has more than {depth} rows");
        return Err(
            Trouble::new(message).hint("lower `depth`, or learn the threshold over more rows")
        );
    };
    Ok((differences, mean))
}

/// The threshold that each score is held against.
fn stream(mut tail: Tail, mut mean: LocalMean, risk: f64, scores: &[f64]) -> Vec<f64> {
    let mut above_mean = tail.threshold(risk);
    let mut thresholds = Vec::with_capacity(scores.len());
    for score in scores {
        let local = mean.value();
        let threshold = local + above_mean;
        thresholds.push(threshold);
        // A score above the threshold is an alarm and teaches nothing.
        if *score <= threshold {
            if tail.take(*score - local) {
                above_mean = tail.threshold(risk);
            }
            mean.take(*score);
        }
    }
    thresholds
}

/// The mean of the last scores.
#[derive(Clone, Debug)]
struct LocalMean {
    scores: VecDeque<f64>,
    sum: f64,
    /// Scores taken since the sum was last made from scratch: running sums gather rounding errors.
    taken: usize,
}

impl LocalMean {
    fn new(scores: &[f64]) -> Self {
        Self {
            scores: scores.iter().copied().collect(),
            sum: scores.iter().sum(),
            taken: 0,
        }
    }

    fn value(&self) -> f64 {
        self.sum / self.scores.len() as f64
    }

    fn take(&mut self, score: f64) {
        let oldest = self.scores.pop_front().unwrap_or_default();
        self.scores.push_back(score);
        self.sum += score - oldest;
        self.taken += 1;
        if self.taken >= self.scores.len().max(64) {
            self.sum = self.scores.iter().sum();
            self.taken = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Case;
    use contract::Random;

    fn params(depth: usize) -> Dspot {
        Dspot {
            risk: 1e-3,
            level: 0.05,
            depth,
            search: peaks::Search::Full,
            over: Over::default(),
        }
    }

    #[test]
    fn follows_a_drift_that_spot_would_alarm_at() {
        let mut random = Random::new(8, "scores");
        let mut noise =
            |count: usize| -> Vec<f64> { (0..count).map(|_| random.normal()).collect() };
        let calibration = noise(2000);
        let mut scores: Vec<f64> = noise(3000)
            .iter()
            .enumerate()
            .map(|(row, value)| value + row as f64 * 0.01)
            .collect();
        scores[2500] += 20.0;
        let case = Case::of_one_stretch(scores.clone(), vec![false; 3000]).unwrap();
        let whole = 0..2000;
        let source = Source {
            scores: &calibration,
            stretches: std::slice::from_ref(&whole),
            case: &case,
        };
        let thresholds = params(20).choose(&source).unwrap().by_row.unwrap();
        let alarms: Vec<usize> = (0..3000)
            .filter(|row| scores[*row] > thresholds[*row])
            .collect();
        assert!(alarms.contains(&2500) && alarms.len() < 15, "{alarms:?}");
        assert!(thresholds[2999] > thresholds[0] + 25.0);
    }

    #[test]
    fn the_local_mean_is_that_of_the_last_scores() {
        let scores: Vec<f64> = (0..500)
            .map(|row| f64::from(row * row % 97) * 0.1)
            .collect();
        let mut mean = LocalMean::new(&scores[..7]);
        for row in 7..500 {
            let direct = scores[row - 7..row].iter().sum::<f64>() / 7.0;
            assert!((mean.value() - direct).abs() < 1e-12);
            mean.take(scores[row]);
        }
    }

    #[test]
    fn needs_more_rows_than_its_depth() {
        let case = Case::of_one_stretch(vec![1.0], vec![false]).unwrap();
        let (halves, scores) = ([0..50, 50..100], [1.0; 100]);
        let error = params(60)
            .choose(&Source {
                scores: &scores,
                stretches: &halves,
                case: &case,
            })
            .unwrap_err();
        assert!(error.message().contains("60 rows"), "{error}");
    }
}

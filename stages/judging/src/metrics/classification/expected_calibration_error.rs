//! How far confidence and accuracy are apart.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ClassificationCase, MetricKind};
use contract::artifact::Direction;

pub struct ExpectedCalibrationError;

/// Parameters of the calibration error.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// Bins of equal width from 0 to 1.
    #[serde(default = "default_bins")]
    #[schemars(range(min = 1, max = 1000))]
    pub bins: usize,
}

fn default_bins() -> usize {
    15
}

impl Default for Params {
    fn default() -> Self {
        Self {
            bins: default_bins(),
        }
    }
}

impl MetricKind for ExpectedCalibrationError {
    type Judged = ClassificationCase;
    type Params = Params;

    const NAME: &'static str = "expected_calibration_error";
    const DOC: &'static str = "Samples are binned by the probability of their most probable class; the differences between accuracy and mean probability of each bin, averaged by its samples (Guo et al., ICML 2017).";
    const DIRECTION: Direction = Direction::Lower;
    const CAVEAT: &'static str =
        "depends on the bins, and is biased upwards with few samples in each";

    fn value(params: &Params, case: &ClassificationCase) -> Option<f64> {
        // Per bin, hits minus confidence: the number of samples cancels out.
        let mut gaps = vec![0.0_f64; params.bins];
        for (truth, row) in case.rows() {
            let mut best = 0;
            for class in 1..row.len() {
                if row[class] > row[best] {
                    best = class;
                }
            }
            let confidence = f64::from(row[best]).min(1.0);
            // Bins are open below and closed above, as in the paper.
            let bin = ((confidence * params.bins as f64).ceil() as usize).clamp(1, params.bins) - 1;
            gaps[bin] += f64::from(u8::from(best == truth)) - confidence;
        }
        let gaps: f64 = gaps.iter().map(|gap| gap.abs()).sum();
        (case.samples() > 0).then(|| gaps / case.samples() as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::super::case::tests::case;
    use super::*;

    #[test]
    fn compares_accuracy_and_confidence_in_bins() {
        let case = case(&[
            (0, &[0.75, 0.25]),
            (1, &[0.75, 0.25]),
            (0, &[1.0, 0.0]),
            (1, &[0.5, 0.5]),
        ]);
        let value = |bins| ExpectedCalibrationError::value(&Params { bins }, &case).unwrap();
        // Bins (0.25, 0.5], (0.5, 0.75], (0.75, 1]: |0 - 0.5|, |1 - 1.5|, |1 - 1|.
        assert!((value(4) - 0.25).abs() < 1e-12, "{}", value(4));
        // One bin: two hits of four, confidence 0.75.
        assert!((value(1) - 0.25).abs() < 1e-12);
    }
}

//! Cross-entropy of the probabilities.

use super::{ClassificationCase, MetricKind, NoParams};
use contract::artifact::Direction;

pub struct LogLoss;

/// Probabilities are 32-bit floats: what they cannot tell from 0 counts as this, as in scikit-learn.
const SMALLEST: f64 = f32::EPSILON as f64;

impl MetricKind for LogLoss {
    type Judged = ClassificationCase;
    type Params = NoParams;

    const NAME: &'static str = "log_loss";
    const DOC: &'static str = "Mean negative natural logarithm of the probability of the true class, which counts as at least 2^-23.";
    const DIRECTION: Direction = Direction::Lower;

    fn value(_: &NoParams, case: &ClassificationCase) -> Option<f64> {
        case.mean(|truth, row| -libm::log(f64::from(row[truth]).clamp(SMALLEST, 1.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::case::tests::case;
    use super::*;

    #[test]
    fn is_finite_for_a_certain_error() {
        let value = LogLoss::value(&NoParams {}, &case(&[(0, &[0.0, 1.0])])).unwrap();
        assert!((value - 23.0 * std::f64::consts::LN_2).abs() < 1e-12);
        // (-ln 0.5 - ln 0.25) / 2
        let value =
            LogLoss::value(&NoParams {}, &case(&[(0, &[0.5, 0.5]), (1, &[0.75, 0.25])])).unwrap();
        assert!((value - 1.5 * std::f64::consts::LN_2).abs() < 1e-12);
    }
}

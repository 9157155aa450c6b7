//! Squared distance of the probabilities from the truth.

use super::{ClassificationCase, MetricKind, NoParams};
use contract::artifact::Direction;

pub struct BrierScore;

impl MetricKind for BrierScore {
    type Judged = ClassificationCase;
    type Params = NoParams;

    const NAME: &'static str = "brier_score";
    const DOC: &'static str = "Squared differences between probabilities and truth (1 for the true class, 0 for others), summed over the classes and averaged over the samples, from 0 to 2 (Brier, Monthly Weather Review 1950).";
    const DIRECTION: Direction = Direction::Lower;
    const CAVEAT: &'static str =
        "summed over the classes: for two classes twice the value of the one-sided form";

    fn value(_: &NoParams, case: &ClassificationCase) -> Option<f64> {
        case.mean(|truth, row| {
            let mut distance = 0.0;
            for (class, value) in row.iter().enumerate() {
                let target = if class == truth { 1.0 } else { 0.0 };
                distance += (f64::from(*value) - target).powi(2);
            }
            distance
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::case::tests::case;
    use super::*;

    #[test]
    fn sums_over_classes() {
        let value = |rows: &[(u32, &[f32])]| BrierScore::value(&NoParams {}, &case(rows));
        assert_eq!(value(&[(0, &[0.0, 1.0])]), Some(2.0));
        assert_eq!(
            value(&[(1, &[0.25, 0.5, 0.25]), (0, &[1.0, 0.0, 0.0])]),
            Some(0.1875)
        );
    }
}

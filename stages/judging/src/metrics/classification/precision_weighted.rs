//! Precision of each class, averaged by number of samples.

use super::averages::weighted_mean;
use super::{ClassificationCase, MetricKind, NoParams};

pub struct PrecisionWeighted;

impl MetricKind for PrecisionWeighted {
    type Judged = ClassificationCase;
    type Params = NoParams;

    const NAME: &'static str = "precision_weighted";
    const DOC: &'static str = "Share of the samples taken for a class that are of it, averaged over the classes by their number of samples.";

    fn value(_: &NoParams, case: &ClassificationCase) -> Option<f64> {
        weighted_mean(case, |class| class.precision)
    }
}

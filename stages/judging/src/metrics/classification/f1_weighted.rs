//! F1 of each class, averaged by number of samples.

use super::averages::weighted_mean;
use super::{ClassificationCase, MetricKind, NoParams};

pub struct F1Weighted;

impl MetricKind for F1Weighted {
    type Judged = ClassificationCase;
    type Params = NoParams;

    const NAME: &'static str = "f1_weighted";
    const DOC: &'static str = "Harmonic mean of precision and recall of a class, averaged over the classes by their number of samples.";

    fn value(_: &NoParams, case: &ClassificationCase) -> Option<f64> {
        weighted_mean(case, |class| class.f1)
    }
}

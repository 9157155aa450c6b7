//! Share of the samples taken for what they are.

use super::{ClassificationCase, MetricKind, NoParams};

pub struct Accuracy;

impl MetricKind for Accuracy {
    type Judged = ClassificationCase;
    type Params = NoParams;

    const NAME: &'static str = "accuracy";
    const DOC: &'static str = "Share of the samples whose most probable class is the true one.";

    fn value(_: &NoParams, case: &ClassificationCase) -> Option<f64> {
        (case.samples() > 0).then(|| case.hits() as f64 / case.samples() as f64)
    }
}

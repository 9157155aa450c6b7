//! Point-wise accuracy at the threshold.

use super::{Case, MetricKind, NoParams};

pub struct Accuracy;

impl MetricKind for Accuracy {
    type Judged = Case;
    type Params = NoParams;

    const NAME: &'static str = "accuracy";
    const DOC: &'static str = "Share of the rows judged right, at the threshold; of class predictions, share of the samples taken for what they are.";
    const CAVEAT: &'static str = "anomalies are rare, so a detector without any alarm scores high";
    const AT_THRESHOLD: bool = true;

    fn value(_: &NoParams, case: &Case) -> Option<f64> {
        case.counts().accuracy()
    }
}

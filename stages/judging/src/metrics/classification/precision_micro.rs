//! Precision over all classes together.

use super::averages::micro_mean;
use super::{ClassificationCase, MetricKind, NoParams};

pub struct PrecisionMicro;

impl MetricKind for PrecisionMicro {
    type Judged = ClassificationCase;
    type Params = NoParams;

    const NAME: &'static str = "precision_micro";
    const DOC: &'static str =
        "Precision over all classes together: the hits of all classes over all samples.";
    const CAVEAT: &'static str = "the same as accuracy, as each sample has one class";

    fn value(_: &NoParams, case: &ClassificationCase) -> Option<f64> {
        micro_mean(case)
    }
}

//! Precision of each class, averaged over the classes.

use super::averages::macro_mean;
use super::{ClassificationCase, MetricKind, NoParams};

pub struct PrecisionMacro;

impl MetricKind for PrecisionMacro {
    type Judged = ClassificationCase;
    type Params = NoParams;

    const NAME: &'static str = "precision_macro";
    const DOC: &'static str = "Share of the samples taken for a class that are of it, averaged over all classes, those without samples included.";

    fn value(_: &NoParams, case: &ClassificationCase) -> Option<f64> {
        macro_mean(case, |class| class.precision)
    }
}

//! F1 of each class, averaged over the classes.

use super::averages::macro_mean;
use super::{ClassificationCase, MetricKind, NoParams};

pub struct F1Macro;

impl MetricKind for F1Macro {
    type Judged = ClassificationCase;
    type Params = NoParams;

    const NAME: &'static str = "f1_macro";
    const DOC: &'static str = "Harmonic mean of precision and recall of a class, averaged over all classes, those without samples included.";

    fn value(_: &NoParams, case: &ClassificationCase) -> Option<f64> {
        macro_mean(case, |class| class.f1)
    }
}

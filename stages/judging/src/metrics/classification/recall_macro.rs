//! Recall of each class, averaged over the classes.

use super::averages::macro_mean;
use super::{ClassificationCase, MetricKind, NoParams};

pub struct RecallMacro;

impl MetricKind for RecallMacro {
    type Judged = ClassificationCase;
    type Params = NoParams;

    const NAME: &'static str = "recall_macro";
    const DOC: &'static str = "Share of the samples of a class that are taken for it, averaged over all classes, those without samples included.";

    fn value(_: &NoParams, case: &ClassificationCase) -> Option<f64> {
        macro_mean(case, |class| class.recall)
    }
}

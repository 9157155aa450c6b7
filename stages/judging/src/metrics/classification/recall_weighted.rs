//! Recall of each class, averaged by number of samples.

use super::averages::weighted_mean;
use super::{ClassificationCase, MetricKind, NoParams};

pub struct RecallWeighted;

impl MetricKind for RecallWeighted {
    type Judged = ClassificationCase;
    type Params = NoParams;

    const NAME: &'static str = "recall_weighted";
    const DOC: &'static str = "Share of the samples of a class that are taken for it, averaged over the classes by their number of samples.";

    fn value(_: &NoParams, case: &ClassificationCase) -> Option<f64> {
        weighted_mean(case, |class| class.recall)
    }
}

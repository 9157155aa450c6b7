//! Recall averaged over the classes that have samples.

use super::counts::mean;
use super::{ClassificationCase, MetricKind, NoParams};

pub struct BalancedAccuracy;

impl MetricKind for BalancedAccuracy {
    type Judged = ClassificationCase;
    type Params = NoParams;

    const NAME: &'static str = "balanced_accuracy";
    const DOC: &'static str = "Recall averaged over the classes that have samples: accuracy as if all classes had equally many.";

    fn value(_: &NoParams, case: &ClassificationCase) -> Option<f64> {
        let mut classes = case.by_class();
        classes.retain(|class| class.support > 0);
        let recalls: Vec<f64> = classes.iter().map(|class| class.recall).collect();
        mean(&recalls)
    }
}

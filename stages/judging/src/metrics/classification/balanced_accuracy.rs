//! Recall averaged over the classes that have samples.

use super::{ClassificationCase, MetricKind, NoParams};

pub struct BalancedAccuracy;

impl MetricKind for BalancedAccuracy {
    type Judged = ClassificationCase;
    type Params = NoParams;

    const NAME: &'static str = "balanced_accuracy";
    const DOC: &'static str = "Recall averaged over the classes that have samples: accuracy as if all classes had equally many.";

    fn value(_: &NoParams, case: &ClassificationCase) -> Option<f64> {
        let recalls: Vec<f64> = case
            .by_class()
            .iter()
            .filter(|class| class.support > 0)
            .map(|class| class.recall)
            .collect();
        (!recalls.is_empty()).then(|| recalls.iter().sum::<f64>() / recalls.len() as f64)
    }
}

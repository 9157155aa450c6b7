//! Precision, recall and F1 of each class against all others, and their averages. 0/0 counts as 0, as in scikit-learn.

use super::ClassificationCase;
use super::counts::Counts;

/// The metrics of one class.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClassMetrics {
    pub precision: f64,
    pub recall: f64,
    pub f1: f64,
    /// Samples that are of this class.
    pub support: usize,
}

impl ClassificationCase {
    /// The metrics of each class, in the order of the classes.
    pub fn by_class(&self) -> Vec<ClassMetrics> {
        let count = self.classes().len();
        let mut metrics = Vec::with_capacity(count);
        for class in 0..count {
            let hits = self.confusion(class, class);
            let (mut support, mut called) = (0, 0);
            for other in 0..count {
                support += self.confusion(class, other);
                called += self.confusion(other, class);
            }
            let counts = Counts::from_totals(hits, called, support, self.samples());
            metrics.push(ClassMetrics {
                precision: counts.precision(),
                recall: counts.recall(),
                f1: counts.f1(),
                support,
            });
        }
        metrics
    }
}

/// The mean over all classes, those without samples included; `None` without samples.
pub fn macro_mean(case: &ClassificationCase, metric: impl Fn(&ClassMetrics) -> f64) -> Option<f64> {
    let classes = case.by_class();
    (case.samples() > 0).then(|| classes.iter().map(metric).sum::<f64>() / classes.len() as f64)
}

/// The mean over all samples of the metric of their true class; `None` without samples.
pub fn weighted_mean(
    case: &ClassificationCase,
    metric: impl Fn(&ClassMetrics) -> f64,
) -> Option<f64> {
    let classes = case.by_class();
    let weighted = classes
        .iter()
        .map(|class| metric(class) * class.support as f64);
    (case.samples() > 0).then(|| weighted.sum::<f64>() / case.samples() as f64)
}

/// The counts of all classes taken together: each sample is one decision, so precision, recall and F1 are the accuracy.
pub fn micro_mean(case: &ClassificationCase) -> Option<f64> {
    (case.samples() > 0).then(|| case.hits() as f64 / case.samples() as f64)
}

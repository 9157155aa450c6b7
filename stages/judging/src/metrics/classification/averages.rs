//! Precision, recall and F1 of each class against all others, and their averages. 0/0 counts as 0, as in scikit-learn.

use super::ClassificationCase;
use super::counts::Counts;

/// The figures of one class.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClassFigures {
    pub precision: f64,
    pub recall: f64,
    pub f1: f64,
    /// Samples that are of this class.
    pub support: usize,
}

impl ClassificationCase {
    /// The figures of each class, in the order of the classes.
    pub fn by_class(&self) -> Vec<ClassFigures> {
        let classes = 0..self.classes().len();
        let figures = |class: usize| {
            let hits = self.confusion(class, class);
            let support: usize = classes
                .clone()
                .map(|predicted| self.confusion(class, predicted))
                .sum();
            let called: usize = classes
                .clone()
                .map(|truth| self.confusion(truth, class))
                .sum();
            let counts = Counts::from_totals(hits, called, support, self.samples());
            ClassFigures {
                precision: counts.precision(),
                recall: counts.recall(),
                f1: counts.f1(),
                support,
            }
        };
        classes.clone().map(figures).collect()
    }
}

/// The mean over all classes, those without samples included; `None` without samples.
pub fn macro_mean(case: &ClassificationCase, figure: impl Fn(&ClassFigures) -> f64) -> Option<f64> {
    let classes = case.by_class();
    (case.samples() > 0).then(|| classes.iter().map(figure).sum::<f64>() / classes.len() as f64)
}

/// The mean over all samples of the figure of their true class; `None` without samples.
pub fn weighted_mean(
    case: &ClassificationCase,
    figure: impl Fn(&ClassFigures) -> f64,
) -> Option<f64> {
    let weighted = |class: &ClassFigures| figure(class) * class.support as f64;
    (case.samples() > 0)
        .then(|| case.by_class().iter().map(weighted).sum::<f64>() / case.samples() as f64)
}

/// The counts of all classes taken together: each sample is one decision, so precision, recall and F1 are the accuracy.
pub fn micro_mean(case: &ClassificationCase) -> Option<f64> {
    (case.samples() > 0).then(|| case.hits() as f64 / case.samples() as f64)
}

//! What is judged: the predictions of some samples, with their confusion matrix counted once for all metrics.

use std::sync::Arc;

use contract::artifact::{Predictions, Split};

/// Predictions of samples whose true class is known.
#[derive(Clone, Debug)]
pub struct ClassificationCase {
    predictions: Arc<Predictions>,
    /// Numbers of the judged samples.
    samples: Vec<usize>,
    /// `[true class, predicted class]`, row-major.
    confusion: Vec<usize>,
}

impl ClassificationCase {
    /// The samples of one split.
    ///
    /// # Errors
    /// If parts of the predictions do not fit each other, samples have no true class, or a probability is not one.
    pub fn new(predictions: Arc<Predictions>, split: Split) -> Result<Self, String> {
        predictions.validate()?;
        let samples: Vec<usize> = predictions.of_split(split).collect();
        if predictions.truth.is_empty() && !samples.is_empty() {
            return Err("the samples have no true class to judge by".to_owned());
        }
        let classes = predictions.classes.len();
        let mut confusion = vec![0; classes * classes];
        for sample in &samples {
            let mut row = predictions.row(*sample).iter();
            // Softmax in 32 bits may exceed 1 by rounding.
            if let Some(wrong) = row.find(|value| !(0.0..=1.001).contains(*value)) {
                let name = &predictions.samples[*sample];
                return Err(format!("a probability of sample `{name}` is {wrong}"));
            }
            let truth = predictions.truth[*sample] as usize;
            confusion[truth * classes + predictions.predicted(*sample)] += 1;
        }
        Ok(Self {
            predictions,
            samples,
            confusion,
        })
    }

    pub fn samples(&self) -> usize {
        self.samples.len()
    }

    /// Names of the classes.
    pub fn classes(&self) -> &[String] {
        &self.predictions.classes
    }

    /// How many samples of class `truth` were taken for `predicted`.
    pub fn confusion(&self, truth: usize, predicted: usize) -> usize {
        self.confusion[truth * self.classes().len() + predicted]
    }

    /// How many samples were taken for what they are.
    pub fn hits(&self) -> usize {
        let classes = 0..self.classes().len();
        classes.map(|class| self.confusion(class, class)).sum()
    }

    /// True class and probabilities of each sample.
    pub fn rows(&self) -> impl Iterator<Item = (usize, &[f32])> {
        self.samples.iter().map(|sample| {
            let truth = self.predictions.truth[*sample] as usize;
            (truth, self.predictions.row(*sample))
        })
    }

    /// The mean of a term over the samples; `None` without any.
    pub fn mean(&self, term: impl Fn(usize, &[f32]) -> f64) -> Option<f64> {
        let sum: f64 = self.rows().map(|(truth, row)| term(truth, row)).sum();
        (self.samples() > 0).then(|| sum / self.samples() as f64)
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// Samples of the split `test` by true class and probabilities.
    pub fn predictions(rows: &[(u32, &[f32])]) -> Predictions {
        Predictions {
            classes: (0..rows[0].1.len())
                .map(|class| format!("class {class}"))
                .collect(),
            samples: (0..rows.len())
                .map(|sample| format!("sample {sample}"))
                .collect(),
            splits: vec![Split::Test; rows.len()],
            truth: rows.iter().map(|(truth, _)| *truth).collect(),
            probabilities: rows
                .iter()
                .flat_map(|(_, row)| row.iter().copied())
                .collect(),
            ..Predictions::default()
        }
    }

    pub fn case(rows: &[(u32, &[f32])]) -> ClassificationCase {
        ClassificationCase::new(Arc::new(predictions(rows)), Split::Test).unwrap()
    }

    #[test]
    fn counts_the_samples_of_the_split() {
        let mut mixed = predictions(&[
            (0, &[0.9, 0.1]),
            (0, &[0.2, 0.8]),
            (1, &[0.3, 0.7]),
            (1, &[0.6, 0.4]),
        ]);
        mixed.splits[3] = Split::Train;
        let case = ClassificationCase::new(Arc::new(mixed.clone()), Split::Test).unwrap();
        assert_eq!(
            (
                case.samples(),
                case.hits(),
                case.confusion(0, 1),
                case.confusion(1, 0)
            ),
            (3, 2, 1, 0)
        );
        mixed.truth.clear();
        assert!(
            ClassificationCase::new(Arc::new(mixed.clone()), Split::Test)
                .unwrap_err()
                .contains("no true class")
        );
        assert_eq!(
            ClassificationCase::new(Arc::new(mixed), Split::Validation)
                .unwrap()
                .samples(),
            0
        );
        let diverged = predictions(&[(0, &[f32::NAN, 0.0])]);
        assert!(
            ClassificationCase::new(Arc::new(diverged), Split::Test)
                .unwrap_err()
                .contains("`sample 0` is NaN")
        );
    }
}

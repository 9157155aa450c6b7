//! Confusion counts and the ratios made of them. 0/0 counts as 0, as in scikit-learn.

/// True and false positives and negatives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub true_positives: usize,
    pub false_positives: usize,
    pub true_negatives: usize,
    pub false_negatives: usize,
}

impl Counts {
    /// Counts alarms against labels, row by row.
    pub fn of(alarms: &[bool], labels: &[bool]) -> Self {
        let mut table = [0_usize; 4];
        for (alarm, label) in alarms.iter().zip(labels) {
            table[usize::from(*alarm) * 2 + usize::from(*label)] += 1;
        }
        let [
            true_negatives,
            false_negatives,
            false_positives,
            true_positives,
        ] = table;
        Self {
            true_positives,
            false_positives,
            true_negatives,
            false_negatives,
        }
    }

    /// Counts from the hits, all alarms and all positives among `rows` rows.
    pub fn from_totals(hits: usize, alarms: usize, positives: usize, rows: usize) -> Self {
        Self {
            true_positives: hits,
            false_positives: alarms - hits,
            false_negatives: positives - hits,
            true_negatives: rows + hits - alarms - positives,
        }
    }

    pub fn precision(self) -> f64 {
        ratio(
            self.true_positives,
            self.true_positives + self.false_positives,
        )
    }

    pub fn recall(self) -> f64 {
        ratio(
            self.true_positives,
            self.true_positives + self.false_negatives,
        )
    }

    pub fn f1(self) -> f64 {
        ratio(
            2 * self.true_positives,
            2 * self.true_positives + self.false_positives + self.false_negatives,
        )
    }

    /// `None` without rows.
    pub fn accuracy(self) -> Option<f64> {
        let right = self.true_positives + self.true_negatives;
        let rows = right + self.false_positives + self.false_negatives;
        (rows > 0).then(|| ratio(right, rows))
    }
}

fn ratio(part: usize, whole: usize) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

/// The harmonic mean of precision and recall; 0 if both are 0.
pub fn harmonic(precision: f64, recall: f64) -> f64 {
    if precision + recall == 0.0 {
        0.0
    } else {
        2.0 * precision * recall / (precision + recall)
    }
}

/// `None` without values.
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_of_counting_agree() {
        let alarms = [true, true, false, false, true];
        let labels = [true, false, true, false, true];
        let counts = Counts::of(&alarms, &labels);
        assert_eq!(counts, Counts::from_totals(2, 3, 3, 5));
        assert_eq!(
            (counts.precision(), counts.recall()),
            (2.0 / 3.0, 2.0 / 3.0)
        );
        assert_eq!(counts.f1(), harmonic(counts.precision(), counts.recall()));
        assert_eq!(Counts::default().f1(), 0.0);
    }
}

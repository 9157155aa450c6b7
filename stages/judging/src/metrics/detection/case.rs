//! What is judged: scores with their labels, and the alarms at a threshold. Sorted once for all metrics.
//! How the threshold was chosen is not its business.

use std::ops::Range;

use super::counts::Counts;
use super::ranking::Ranking;

/// Scores, labels and alarms of the judged rows, stretch after stretch.
#[derive(Clone, Debug)]
pub struct Case {
    /// One finite score per row, high meaning anomalous.
    pub scores: Vec<f64>,
    pub labels: Vec<bool>,
    /// Rows of consecutive time, half-open; they cover all rows. Events never cross their ends.
    pub stretches: Vec<Range<usize>>,
    /// Labelled events, half-open.
    pub events: Vec<Range<usize>>,
    /// Rows by falling score.
    pub ranking: Ranking,
    /// Where the threshold starts, if it adapts.
    pub threshold: f64,
    /// Whether the score lies above the threshold of its row.
    pub alarms: Vec<bool>,
}

impl Case {
    /// A case whose threshold is above all scores; see [`Case::at`].
    ///
    /// # Errors
    /// If a score is not finite, or lengths and stretches do not fit each other.
    pub fn new(
        scores: Vec<f64>,
        labels: Vec<bool>,
        stretches: Vec<Range<usize>>,
    ) -> Result<Self, String> {
        if scores.len() != labels.len() {
            let (labels, scores) = (labels.len(), scores.len());
            return Err(format!("{labels} labels for {scores} scores"));
        }
        if !cover(&stretches, scores.len()) {
            return Err("the stretches do not cover the rows in order".to_owned());
        }
        if u32::try_from(scores.len()).is_err() {
            return Err(format!(
                "{} rows are more than one evaluation can hold",
                scores.len()
            ));
        }
        if let Some(row) = scores.iter().position(|score| !score.is_finite()) {
            return Err(format!(
                "the score of row {row} is {}, not a finite number",
                scores[row]
            ));
        }
        let events = events_of(&labels, &stretches);
        let ranking = Ranking::new(&scores);
        let alarms = vec![false; scores.len()];
        Ok(Self {
            scores,
            labels,
            stretches,
            events,
            ranking,
            threshold: f64::INFINITY,
            alarms,
        })
    }

    /// A case of one stretch; see [`Case::new`].
    ///
    /// # Errors
    /// As there.
    pub fn of_one_stretch(scores: Vec<f64>, labels: Vec<bool>) -> Result<Self, String> {
        let rows = scores.len();
        Self::new(scores, labels, std::iter::once(0..rows).collect())
    }

    /// The case with alarms where a score lies above the threshold.
    #[must_use]
    pub fn at(mut self, threshold: f64) -> Self {
        self.threshold = threshold;
        self.alarms = self.scores.iter().map(|score| *score > threshold).collect();
        self
    }

    /// The case with alarms where a score lies above the threshold of its row; `start` stands for them all.
    #[must_use]
    pub fn at_each(mut self, start: f64, thresholds: &[f64]) -> Self {
        self.threshold = start;
        let judged = self.scores.iter().zip(thresholds);
        self.alarms = judged.map(|(score, threshold)| score > threshold).collect();
        self
    }

    pub fn rows(&self) -> usize {
        self.scores.len()
    }

    /// How many of these rows are anomalous.
    pub fn anomalous(&self, rows: &[u32]) -> usize {
        let labelled = rows.iter().filter(|row| self.labels[**row as usize]);
        labelled.count()
    }

    /// The number of anomalous rows.
    pub fn positives(&self) -> usize {
        self.events.iter().map(ExactSizeIterator::len).sum()
    }

    /// Something to find, or `None`: what counts hits among anomalies is 0/0 without any.
    pub fn with_anomalies(&self) -> Option<&Self> {
        (!self.events.is_empty()).then_some(self)
    }

    /// Some alarm, or `None`: what counts hits among alarms is 0/0 without any.
    pub fn with_alarms(&self) -> Option<&Self> {
        self.alarms.contains(&true).then_some(self)
    }

    /// Confusion counts of the alarms, row by row.
    pub fn counts(&self) -> Counts {
        Counts::of(&self.alarms, &self.labels)
    }

    /// Runs of alarms, half-open.
    pub fn alarm_events(&self) -> Vec<Range<usize>> {
        events_of(&self.alarms, &self.stretches)
    }
}

/// Whether stretches follow each other from the first row to the last.
fn cover(stretches: &[Range<usize>], rows: usize) -> bool {
    let mut end = 0;
    for stretch in stretches {
        if stretch.start != end {
            return false;
        }
        end = stretch.end;
    }
    end == rows
}

/// Runs of set flags, cut at the ends of the stretches.
pub fn events_of(flags: &[bool], stretches: &[Range<usize>]) -> Vec<Range<usize>> {
    let mut events = Vec::new();
    for stretch in stretches {
        let mut start = None;
        for row in stretch.clone() {
            if flags[row] {
                start = start.or(Some(row));
            } else if let Some(first) = start.take() {
                events.push(first..row);
            }
        }
        if let Some(first) = start {
            events.push(first..stretch.end);
        }
    }
    events
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_stop_at_stretches() {
        let flags = [true, false, true, true, true, true];
        assert_eq!(events_of(&flags, &[0..4, 4..6]), [0..1, 2..4, 4..6]);
    }

    #[test]
    fn refuses_what_cannot_be_judged() {
        assert!(
            Case::of_one_stretch(vec![f64::NAN], vec![true])
                .unwrap_err()
                .contains("row 0")
        );
        assert!(Case::of_one_stretch(vec![1.0], vec![]).is_err());
        assert!(Case::new(vec![1.0, 2.0], vec![true, true], vec![0..1, 1..1]).is_err());
    }
}

//! The best point-wise F1 over all thresholds: what a detector could reach if someone told it where to cut.

use super::counts::Counts;
use super::{Case, MetricKind, NoParams};

pub struct BestF1;

impl MetricKind for BestF1 {
    type Judged = Case;
    type Params = NoParams;

    const NAME: &'static str = "best_f1";
    const DOC: &'static str = "The highest point-wise F1 over all thresholds, searched exactly.";
    const ORACLE: bool = true;
    const CAVEAT: &'static str = "an upper bound: the threshold is chosen with the judged labels";

    fn value(_: &NoParams, case: &Case) -> Option<f64> {
        Some(best(case)?.1.f1())
    }
}

/// The threshold with the highest F1, the highest of them if there are several; `None` without anomalies.
pub fn best_threshold(case: &Case) -> Option<f64> {
    best(case).map(|(threshold, _)| threshold)
}

fn best(case: &Case) -> Option<(f64, Counts)> {
    let mut search = Search::new(case);
    let (mut above, mut hits) = (0, 0);
    for rows in case.ranking.ties() {
        above += rows.len();
        hits += case.anomalous(rows);
        search.offer(above, hits, above);
    }
    search.finish()
}

/// Keeps the best of the thresholds that are offered, from the highest to the lowest.
pub struct Search<'a> {
    case: &'a Case,
    positives: usize,
    /// Rows above the threshold, hits and alarms, the latter two after any adjustment.
    best: Option<(usize, usize, usize)>,
}

impl<'a> Search<'a> {
    pub fn new(case: &'a Case) -> Self {
        Self {
            case,
            positives: case.positives(),
            best: None,
        }
    }

    /// Compares exactly: F1 is 2 hits / (alarms + positives).
    pub fn offer(&mut self, above: usize, hits: usize, alarms: usize) {
        let better = self.best.is_none_or(|(_, best_hits, best_alarms)| {
            let (one, other) = (hits as u64, best_hits as u64);
            one * (best_alarms + self.positives) as u64 > other * (alarms + self.positives) as u64
        });
        if better {
            self.best = Some((above, hits, alarms));
        }
    }

    pub fn finish(self) -> Option<(f64, Counts)> {
        let (above, hits, alarms) = self.best.filter(|_| self.positives > 0)?;
        let counts = Counts::from_totals(hits, alarms, self.positives, self.case.rows());
        let threshold = self.case.ranking.threshold_below(&self.case.scores, above);
        Some((threshold, counts))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_threshold_is_better(rows in prop::collection::vec((0..8_u8, any::<bool>()), 1..50)) {
            let (scores, labels): (Vec<f64>, Vec<bool>) = rows.into_iter().map(|(s, l)| (f64::from(s), l)).unzip();
            let case = Case::of_one_stretch(scores, labels).unwrap();
            let trials = (-1..9).map(|step| case.clone().at(f64::from(step) + 0.5).counts().f1());
            let brute = trials.fold(0.0, f64::max);
            match best(&case) {
                None => prop_assert_eq!(case.positives(), 0),
                Some((threshold, counts)) => {
                    prop_assert_eq!(counts.f1(), brute);
                    prop_assert_eq!(case.at(threshold).counts(), counts);
                }
            }
        }
    }
}

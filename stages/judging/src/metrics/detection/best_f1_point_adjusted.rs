//! The best point-adjusted F1 over all thresholds: flattered twice, by the oracle and by the adjustment.

use super::best_f1::Search;
use super::counts::Counts;
use super::{Case, MetricKind, NoParams};

pub struct BestF1PointAdjusted;

impl MetricKind for BestF1PointAdjusted {
    type Judged = Case;
    type Params = NoParams;

    const NAME: &'static str = "best_f1_point_adjusted";
    const DOC: &'static str =
        "The highest F1 after point adjustment over all thresholds, searched exactly.";
    const ORACLE: bool = true;
    const INFLATING: bool = true;
    const CAVEAT: &'static str = "an upper bound: the threshold is chosen with the judged labels, and one alarm anywhere in an event counts as finding all of it";

    fn value(_: &NoParams, case: &Case) -> Option<f64> {
        Some(best(case)?.1.f1())
    }
}

/// The threshold with the highest point-adjusted F1, the highest of them if there are several.
pub fn best_threshold(case: &Case) -> Option<f64> {
    best(case).map(|(threshold, _)| threshold)
}

fn best(case: &Case) -> Option<(f64, Counts)> {
    let mut search = Search::new(case);
    let mut found = vec![false; case.events.len()];
    let (mut above, mut hits, mut false_alarms) = (0, 0, 0);
    for rows in case.ranking.ties() {
        for row in rows {
            let row = *row as usize;
            if !case.labels[row] {
                false_alarms += 1;
                continue;
            }
            // Row 0 is not filled by the published adjustment; it counts when it has an alarm itself.
            hits += usize::from(row == 0);
            let index = case.events.partition_point(|event| event.end <= row);
            if !std::mem::replace(&mut found[index], true) {
                hits += case.events[index].end - case.events[index].start.max(1);
            }
        }
        above += rows.len();
        search.offer(above, hits, hits + false_alarms);
    }
    search.finish()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::metrics::detection::adjustment::adjusted_alarms;

    proptest! {
        #[test]
        fn no_threshold_is_better(rows in prop::collection::vec((0..8_u8, any::<bool>()), 1..50), cut in 0..50_usize) {
            let (scores, labels): (Vec<f64>, Vec<bool>) = rows.into_iter().map(|(s, l)| (f64::from(s), l)).unzip();
            let count = scores.len();
            let cut = cut.min(count);
            let case = Case::new(scores, labels, vec![0..cut, cut..count]).unwrap();
            let judge = |case: &Case| Counts::of(&adjusted_alarms(case), &case.labels);
            let trials = (-1..9).map(|step| judge(&case.clone().at(f64::from(step) + 0.5)).f1());
            let brute = trials.fold(0.0, f64::max);
            match best(&case) {
                None => prop_assert_eq!(case.positives(), 0),
                Some((threshold, counts)) => {
                    prop_assert_eq!(counts.f1(), brute);
                    prop_assert_eq!(judge(&case.at(threshold)), counts);
                }
            }
        }
    }
}

//! Precision and recall of ranges instead of rows.

use std::ops::Range;

use super::counts::harmonic;
use super::{Case, MetricKind, NoParams};

pub struct RangeF1;

/// The weight of finding an event at all in range recall.
const EXISTENCE: f64 = 0.2;

impl MetricKind for RangeF1 {
    type Judged = Case;
    type Params = NoParams;

    const NAME: &'static str = "range_f1";
    const DOC: &'static str = "F1 of range-based precision and recall at the threshold, existence weighted 0.2, flat bias, fragments punished by 1/count (Tatbul et al., NeurIPS 2018; the form of TSB-AD).";
    const AT_THRESHOLD: bool = true;

    fn value(_: &NoParams, case: &Case) -> Option<f64> {
        if case.events.is_empty() {
            return None;
        }
        let alarms = case.alarm_events();
        let precision = reward(&alarms, &case.events, 0.0);
        let recall = reward(&case.events, &alarms, EXISTENCE);
        Some(harmonic(precision, recall))
    }
}

/// How well `others` cover `ranges`, averaged over these; 0 without ranges. Both are sorted and disjoint.
fn reward(ranges: &[Range<usize>], others: &[Range<usize>], existence: f64) -> f64 {
    if ranges.is_empty() {
        return 0.0;
    }
    let mut sum = 0.0;
    for range in ranges {
        let first = others.partition_point(|other| other.end <= range.start);
        let last = others.partition_point(|other| other.start < range.end);
        let fragments = &others[first..last];
        if fragments.is_empty() {
            continue;
        }
        let mut overlap = 0;
        for other in fragments {
            overlap += other.end.min(range.end) - other.start.max(range.start);
        }
        let share = overlap as f64 / range.len() as f64 / fragments.len() as f64;
        sum += existence + (1.0 - existence) * share;
    }
    sum / ranges.len() as f64
}

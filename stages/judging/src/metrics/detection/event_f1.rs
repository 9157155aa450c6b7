//! Events found against rows alarmed wrongly.

use std::ops::Range;

use super::counts::harmonic;
use super::{Case, MetricKind, NoParams};

pub struct EventF1;

impl MetricKind for EventF1 {
    type Judged = Case;
    type Params = NoParams;

    const NAME: &'static str = "event_f1";
    const DOC: &'static str = "Harmonic mean of the share of events with an alarm and of point-wise precision, at the threshold (Garg et al., TNNLS 2021; the form of TSB-AD).";
    const CAVEAT: &'static str = "one alarm finds an event, but every false alarm costs precision";
    const AT_THRESHOLD: bool = true;

    fn value(_: &NoParams, case: &Case) -> Option<f64> {
        if case.events.is_empty() {
            return None;
        }
        let has_alarm = |event: &&Range<usize>| case.alarms[(*event).clone()].contains(&true);
        let found = case.events.iter().filter(has_alarm).count();
        let recall = found as f64 / case.events.len() as f64;
        Some(harmonic(case.counts().precision(), recall))
    }
}

//! Affiliation recall.

use super::{Case, MetricKind, NoParams, affiliation};

pub struct AffiliationRecall;

impl MetricKind for AffiliationRecall {
    type Judged = Case;
    type Params = NoParams;

    const NAME: &'static str = "affiliation_recall";
    const DOC: &'static str = "Closeness of the events to the alarms, each in its event's zone, against a uniformly random alarm (Huet et al., KDD 2022).";
    const AT_THRESHOLD: bool = true;

    fn value(_: &NoParams, case: &Case) -> Option<f64> {
        affiliation::judge(case).recall
    }
}

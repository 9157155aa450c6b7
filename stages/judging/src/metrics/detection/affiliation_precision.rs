//! Affiliation precision.

use super::{Case, MetricKind, NoParams, affiliation};

pub struct AffiliationPrecision;

impl MetricKind for AffiliationPrecision {
    type Judged = Case;
    type Params = NoParams;

    const NAME: &'static str = "affiliation_precision";
    const DOC: &'static str = "Closeness of the alarms to the events, each in its event's zone, against a uniformly random alarm (Huet et al., KDD 2022); undefined without alarms near events.";
    const AT_THRESHOLD: bool = true;

    fn value(_: &NoParams, case: &Case) -> Option<f64> {
        affiliation::judge(case).precision
    }
}

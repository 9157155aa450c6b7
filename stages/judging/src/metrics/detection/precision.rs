//! Point-wise precision at the threshold.

use super::{Case, MetricKind, NoParams};

pub struct Precision;

impl MetricKind for Precision {
    type Judged = Case;
    type Params = NoParams;

    const NAME: &'static str = "precision";
    const DOC: &'static str =
        "Share of the alarms that are anomalous rows, at the threshold; undefined without alarms.";
    const AT_THRESHOLD: bool = true;

    fn value(_: &NoParams, case: &Case) -> Option<f64> {
        Some(case.with_alarms()?.counts().precision())
    }
}

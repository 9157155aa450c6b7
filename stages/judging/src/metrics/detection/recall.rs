//! Point-wise recall at the threshold.

use super::{Case, MetricKind, NoParams};

pub struct Recall;

impl MetricKind for Recall {
    type Judged = Case;
    type Params = NoParams;

    const NAME: &'static str = "recall";
    const DOC: &'static str = "Share of the anomalous rows that have an alarm, at the threshold; undefined without anomalies.";
    const AT_THRESHOLD: bool = true;

    fn value(_: &NoParams, case: &Case) -> Option<f64> {
        Some(case.with_anomalies()?.counts().recall())
    }
}

//! Point-wise F1 at the threshold.

use super::{Case, MetricKind, NoParams};

pub struct F1;

impl MetricKind for F1 {
    type Judged = Case;
    type Params = NoParams;

    const NAME: &'static str = "f1";
    const DOC: &'static str = "Harmonic mean of point-wise precision and recall, at the threshold; undefined without anomalies.";
    const AT_THRESHOLD: bool = true;

    fn value(_: &NoParams, case: &Case) -> Option<f64> {
        Some(case.with_anomalies()?.counts().f1())
    }
}

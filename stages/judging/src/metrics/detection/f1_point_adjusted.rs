//! F1 after point adjustment.

use super::adjustment::{self, Adjustment};
use super::{Case, MetricKind};

pub struct F1PointAdjusted;

impl MetricKind for F1PointAdjusted {
    type Judged = Case;
    type Params = Adjustment;

    const NAME: &'static str = "f1_point_adjusted";
    const DOC: &'static str = "F1 at the threshold after point adjustment (Xu et al., WWW 2018).";
    const INFLATING: bool = true;
    const CAVEAT: &'static str = adjustment::CAVEAT;
    const AT_THRESHOLD: bool = true;

    fn value(params: &Adjustment, case: &Case) -> Option<f64> {
        Some(params.judge(case.with_anomalies()?).f1)
    }
}

//! Precision after point adjustment.

use super::adjustment::{self, Adjustment};
use super::{Case, MetricKind};

pub struct PrecisionPointAdjusted;

impl MetricKind for PrecisionPointAdjusted {
    type Judged = Case;
    type Params = Adjustment;

    const NAME: &'static str = "precision_point_adjusted";
    const DOC: &'static str =
        "Precision at the threshold after point adjustment (Xu et al., WWW 2018).";
    const INFLATING: bool = true;
    const CAVEAT: &'static str = adjustment::CAVEAT;
    const AT_THRESHOLD: bool = true;

    fn value(params: &Adjustment, case: &Case) -> Option<f64> {
        Some(params.judge(case.with_alarms()?).precision)
    }
}

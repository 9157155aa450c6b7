//! PA%K over all K: between point adjustment and none.

use super::pa_k_f1::Adjustable;
use super::{Case, MetricKind, NoParams};

pub struct PaKAuc;

impl MetricKind for PaKAuc {
    type Judged = Case;
    type Params = NoParams;

    const NAME: &'static str = "pa_k_auc";
    const DOC: &'static str =
        "Area under F1 at the threshold over K = 0, 1, … 100 of PA%K (Kim et al., AAAI 2022).";
    const INFLATING: bool = true;
    const CAVEAT: &'static str =
        "a mixture of point-adjusted and point-wise F1: flatters less than point adjustment";
    const AT_THRESHOLD: bool = true;

    fn value(_: &NoParams, case: &Case) -> Option<f64> {
        let adjustable = Adjustable::new(case.with_anomalies()?);
        let values: Vec<f64> = (0..=100_u8).map(|k| adjustable.f1(f64::from(k))).collect();
        let strips = values.windows(2).map(|pair| (pair[0] + pair[1]) / 2.0);
        Some(strips.sum::<f64>() / 100.0)
    }
}

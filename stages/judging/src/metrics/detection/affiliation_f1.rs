//! Affiliation F1.

use super::counts::harmonic;
use super::{Case, MetricKind, NoParams, affiliation};

pub struct AffiliationF1;

impl MetricKind for AffiliationF1 {
    type Judged = Case;
    type Params = NoParams;

    const NAME: &'static str = "affiliation_f1";
    const DOC: &'static str =
        "Harmonic mean of affiliation precision and recall (Huet et al., KDD 2022).";
    const CAVEAT: &'static str =
        "a uniformly random alarm reaches a precision of one half, and many of them a high recall";
    const AT_THRESHOLD: bool = true;

    fn value(_: &NoParams, case: &Case) -> Option<f64> {
        let affiliation = affiliation::judge(case);
        Some(harmonic(affiliation.precision?, affiliation.recall?))
    }
}

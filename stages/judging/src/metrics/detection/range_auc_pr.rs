//! Area under the precision-recall curve with widened labels.

use super::soft_labels::Widened;
use super::{Case, MetricKind};

pub struct RangeAucPr;

impl MetricKind for RangeAucPr {
    type Judged = Case;
    type Params = Widened;

    const NAME: &'static str = "range_auc_pr";
    const DOC: &'static str = "Area under the precision-recall curve with labels widened by half a `window` on both sides (Paparrizos et al., VLDB 2022; the form of the VUS repository).";

    fn value(params: &Widened, case: &Case) -> Option<f64> {
        Some(params.curve(case)?.pr)
    }
}

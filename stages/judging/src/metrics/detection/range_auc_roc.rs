//! Area under the ROC curve with widened labels.

use super::soft_labels::Widened;
use super::{Case, MetricKind};

pub struct RangeAucRoc;

impl MetricKind for RangeAucRoc {
    type Judged = Case;
    type Params = Widened;

    const NAME: &'static str = "range_auc_roc";
    const DOC: &'static str = "Area under the ROC curve with labels widened by half a `window` on both sides (Paparrizos et al., VLDB 2022; the form of the VUS repository).";

    fn value(params: &Widened, case: &Case) -> Option<f64> {
        params.curve(case)?.roc
    }
}

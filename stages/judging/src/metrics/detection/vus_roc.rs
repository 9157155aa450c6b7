//! Volume under the ROC surface.

use super::volume::{self, Volume};
use super::{Case, MetricKind};

pub struct VusRoc;

impl MetricKind for VusRoc {
    type Judged = Case;
    type Params = Volume;

    const NAME: &'static str = "vus_roc";
    const DOC: &'static str = "Area under the ROC curve with labels widened by 0 to `window` rows, averaged over the widths (Paparrizos et al., VLDB 2022; the form of TSB-AD).";

    fn value(params: &Volume, case: &Case) -> Option<f64> {
        volume::of(case, params)?.roc
    }
}

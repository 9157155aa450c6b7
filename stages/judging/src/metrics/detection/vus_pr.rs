//! Volume under the precision-recall surface.

use super::volume::{self, Volume};
use super::{Case, MetricKind};

pub struct VusPr;

impl MetricKind for VusPr {
    type Judged = Case;
    type Params = Volume;

    const NAME: &'static str = "vus_pr";
    const DOC: &'static str = "Area under the precision-recall curve with labels widened by 0 to `window` rows, averaged over the widths (Paparrizos et al., VLDB 2022; the form of TSB-AD).";

    fn value(params: &Volume, case: &Case) -> Option<f64> {
        Some(volume::of(case, params)?.pr)
    }
}

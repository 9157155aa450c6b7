//! Average precision, point by point: the area under the precision-recall curve without interpolation.

use super::{Case, MetricKind, NoParams};

pub struct AveragePrecision;

impl MetricKind for AveragePrecision {
    type Judged = Case;
    type Params = NoParams;

    const NAME: &'static str = "average_precision";
    const DOC: &'static str = "Precision averaged over the steps of recall as the threshold falls, as in scikit-learn; undefined without anomalies.";
    const CAVEAT: &'static str =
        "a detector that knows nothing reaches the share of anomalous rows";

    fn value(_: &NoParams, case: &Case) -> Option<f64> {
        let positives = case.positives();
        let (mut above, mut hits, mut sum) = (0, 0, 0.0);
        for rows in case.ranking.ties() {
            let new_hits = case.anomalous(rows);
            above += rows.len();
            hits += new_hits;
            if new_hits > 0 {
                sum += new_hits as f64 / positives as f64 * (hits as f64 / above as f64);
            }
        }
        (positives > 0).then_some(sum)
    }
}

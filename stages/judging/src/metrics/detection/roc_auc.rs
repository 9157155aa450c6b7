//! Area under the ROC curve, point by point.

use super::{Case, MetricKind, NoParams};

pub struct RocAuc;

impl MetricKind for RocAuc {
    type Judged = Case;
    type Params = NoParams;

    const NAME: &'static str = "roc_auc";
    const DOC: &'static str = "Probability that an anomalous row scores higher than a normal one, ties counting half; undefined without both.";
    const CAVEAT: &'static str =
        "says little when anomalies are rare: look at average_precision beside it";

    fn value(_: &NoParams, case: &Case) -> Option<f64> {
        let positives = case.positives() as u64;
        let normals = case.rows() as u64 - positives;
        // Twice the number of pairs in the right order, a tie counting as half a pair.
        let (mut hits, mut pairs) = (0_u64, 0_u64);
        for rows in case.ranking.ties() {
            let new_hits = case.anomalous(rows) as u64;
            let new_normals = rows.len() as u64 - new_hits;
            pairs += new_normals * (2 * hits + new_hits);
            hits += new_hits;
        }
        (positives > 0 && normals > 0)
            .then(|| pairs as f64 / 2.0 / (positives as f64 * normals as f64))
    }
}

//! Metrics of anomaly detection, one file each: scores and alarms against the labels of their rows.

pub(super) mod accuracy;
mod adjustment;
mod affiliation;
mod case;
#[cfg(test)]
pub mod golden;
mod ranking;
mod soft_labels;
mod volume;

contract::entries! {
    /// All metrics of anomaly detection, in the order of the documentation.
    pub(super) const METRICS: Entry<dyn AnyMetric>;
    mod precision: Precision;
    mod recall: Recall;
    mod f1: F1;
    mod precision_point_adjusted: PrecisionPointAdjusted;
    mod recall_point_adjusted: RecallPointAdjusted;
    mod f1_point_adjusted: F1PointAdjusted;
    mod pa_k_f1: PaKF1;
    mod pa_k_auc: PaKAuc;
    mod best_f1: BestF1;
    mod best_f1_point_adjusted: BestF1PointAdjusted;
    mod detection_latency: DetectionLatency;
    mod event_f1: EventF1;
    mod range_f1: RangeF1;
    mod affiliation_precision: AffiliationPrecision;
    mod affiliation_recall: AffiliationRecall;
    mod affiliation_f1: AffiliationF1;
    mod roc_auc: RocAuc;
    mod average_precision: AveragePrecision;
    mod range_auc_roc: RangeAucRoc;
    mod range_auc_pr: RangeAucPr;
    mod vus_roc: VusRoc;
    mod vus_pr: VusPr;
}

pub use best_f1::best_threshold;
pub use best_f1_point_adjusted::best_threshold as best_adjusted_threshold;
pub use case::{Case, events_of};

use super::{AnyMetric, MetricKind, NoParams, counts};

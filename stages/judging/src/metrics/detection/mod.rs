//! Metrics of anomaly detection, one file each: scores and alarms against the labels of their rows.

pub(super) mod accuracy;
mod adjustment;
mod affiliation;
pub(super) mod affiliation_f1;
pub(super) mod affiliation_precision;
pub(super) mod affiliation_recall;
pub(super) mod average_precision;
pub(super) mod best_f1;
pub(super) mod best_f1_point_adjusted;
mod case;
pub(super) mod detection_latency;
pub(super) mod event_f1;
pub(super) mod f1;
pub(super) mod f1_point_adjusted;
#[cfg(test)]
pub mod golden;
pub(super) mod pa_k_auc;
pub(super) mod pa_k_f1;
pub(super) mod precision;
pub(super) mod precision_point_adjusted;
pub(super) mod range_auc_pr;
pub(super) mod range_auc_roc;
pub(super) mod range_f1;
mod ranking;
pub(super) mod recall;
pub(super) mod recall_point_adjusted;
pub(super) mod roc_auc;
mod soft_labels;
mod volume;
pub(super) mod vus_pr;
pub(super) mod vus_roc;

pub use best_f1::best_threshold;
pub use best_f1_point_adjusted::best_threshold as best_adjusted_threshold;
pub use case::{Case, events_of};

use super::{MetricKind, NoParams, counts};

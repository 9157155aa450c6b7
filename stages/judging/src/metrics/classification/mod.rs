//! Metrics of class predictions, one file each: the most probable class, or the probabilities, against the true class.

pub(super) mod accuracy;
mod averages;
pub(super) mod balanced_accuracy;
pub(super) mod brier_score;
mod case;
pub(super) mod expected_calibration_error;
pub(super) mod f1_macro;
pub(super) mod f1_micro;
pub(super) mod f1_weighted;
#[cfg(test)]
mod golden;
pub(super) mod log_loss;
pub(super) mod precision_macro;
pub(super) mod precision_micro;
pub(super) mod precision_weighted;
pub(super) mod recall_macro;
pub(super) mod recall_micro;
pub(super) mod recall_weighted;
pub(super) mod top_k_accuracy;

pub use case::ClassificationCase;

use super::{MetricKind, NoParams, counts};

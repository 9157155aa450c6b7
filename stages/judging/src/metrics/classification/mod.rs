//! Metrics of class predictions, one file each: the most probable class, or the probabilities, against the true class.

pub(super) mod accuracy;
mod averages;
mod case;
#[cfg(test)]
mod golden;

contract::entries! {
    /// All metrics of classification, in the order of the documentation.
    pub(super) const METRICS: Entry<dyn AnyMetric>;
    mod balanced_accuracy: BalancedAccuracy;
    mod precision_macro: PrecisionMacro;
    mod recall_macro: RecallMacro;
    mod f1_macro: F1Macro;
    mod precision_micro: PrecisionMicro;
    mod recall_micro: RecallMicro;
    mod f1_micro: F1Micro;
    mod precision_weighted: PrecisionWeighted;
    mod recall_weighted: RecallWeighted;
    mod f1_weighted: F1Weighted;
    mod top_k_accuracy: TopKAccuracy;
    mod log_loss: LogLoss;
    mod brier_score: BrierScore;
    mod expected_calibration_error: ExpectedCalibrationError;
}

pub use case::ClassificationCase;

use super::{AnyMetric, MetricKind, NoParams, counts};

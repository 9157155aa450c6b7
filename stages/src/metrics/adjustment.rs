//! Point adjustment: one alarm inside a labelled event marks the whole event as found. It flatters: a random detector
//! reaches high scores on long events (Kim et al., AAAI 2022).

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Case;
use super::counts::Counts;

pub const CAVEAT: &str = "one alarm anywhere in an event counts as finding all of it, which flatters every detector";

/// The form in which point adjustment was published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Convention {
    /// thuml/Anomaly-Transformer: events are filled, except that row 0 stays as it is.
    #[default]
    Thuml,
    /// NetManAIOps/OmniAnomaly: the same filling, with 1e-5 added to the denominators.
    Omni,
}

/// The parameters of point-adjusted metrics.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Adjustment {
    /// Whose form of the adjustment.
    #[serde(default)]
    pub convention: Convention,
}

/// Precision, recall and F1 after adjustment.
pub struct Adjusted {
    pub precision: f64,
    pub recall: f64,
    pub f1: f64,
}

impl Adjustment {
    pub fn judge(&self, case: &Case) -> Adjusted {
        let counts = Counts::of(&adjusted_alarms(case), &case.labels);
        match self.convention {
            Convention::Thuml => Adjusted { precision: counts.precision(), recall: counts.recall(), f1: counts.f1() },
            Convention::Omni => {
                let hits = counts.true_positives as f64;
                let precision = hits / (hits + counts.false_positives as f64 + 1e-5);
                let recall = hits / (hits + counts.false_negatives as f64 + 1e-5);
                Adjusted { precision, recall, f1: 2.0 * precision * recall / (precision + recall + 1e-5) }
            }
        }
    }
}

/// The alarms with every event filled that holds one. The published backward fill stops before row 0, so row 0 is set
/// only if it has an alarm of its own.
pub fn adjusted_alarms(case: &Case) -> Cow<'_, [bool]> {
    let mut alarms = Cow::Borrowed(case.alarms.as_slice());
    for event in &case.events {
        if case.alarms[event.clone()].contains(&true) {
            alarms.to_mut()[event.start.max(1)..event.end.max(1)].fill(true);
        }
    }
    alarms
}

//! Point adjustment: one alarm inside a labelled event marks the whole event as found. It flatters: a random detector
//! reaches high scores on long events (Kim et al., AAAI 2022).

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Case;
use super::counts::Counts;
use super::soft_labels::by_stretch;

pub const CAVEAT: &str =
    "one alarm anywhere in an event counts as finding all of it, which flatters every detector";

/// The form in which point adjustment was published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Convention {
    /// thuml/Anomaly-Transformer: events are filled, except that row 0 stays as it is.
    #[default]
    Thuml,
    /// NetManAIOps/OmniAnomaly: the same filling, with 1e-5 added to the denominators.
    Omni,
    /// UykiZhao/Graduate: events are widened by `extend` rows on both sides, and one alarm in a widened event fills all of
    /// it, the rows beside the event included, which then count as false alarms. 1e-8 is added to the denominators.
    Widened,
}

/// The parameters of point-adjusted metrics.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Adjustment {
    /// Whose form of the adjustment.
    #[serde(default)]
    pub convention: Convention,
    /// Rows by which events are widened on both sides; for the convention `widened` only.
    #[serde(default = "default_extend")]
    #[schemars(range(max = 10_000))]
    pub extend: usize,
}

fn default_extend() -> usize {
    8
}

impl Default for Adjustment {
    fn default() -> Self {
        Self {
            convention: Convention::default(),
            extend: default_extend(),
        }
    }
}

/// Precision, recall and F1 after adjustment.
pub struct Adjusted {
    pub precision: f64,
    pub recall: f64,
    pub f1: f64,
}

impl Adjustment {
    pub fn judge(&self, case: &Case) -> Adjusted {
        let alarms = match self.convention {
            Convention::Thuml | Convention::Omni => adjusted_alarms(case),
            Convention::Widened => widened_alarms(case, self.extend),
        };
        let counts = Counts::of(&alarms, &case.labels);
        match self.convention {
            Convention::Thuml => Adjusted {
                precision: counts.precision(),
                recall: counts.recall(),
                f1: counts.f1(),
            },
            Convention::Omni => Adjusted::smoothed(counts, 1e-5),
            Convention::Widened => Adjusted::smoothed(counts, 1e-8),
        }
    }
}

impl Adjusted {
    /// With something small added to the denominators.
    fn smoothed(counts: Counts, small: f64) -> Self {
        let hits = counts.true_positives as f64;
        let precision = hits / (hits + counts.false_positives as f64 + small);
        let recall = hits / (hits + counts.false_negatives as f64 + small);
        Self {
            precision,
            recall,
            f1: 2.0 * precision * recall / (precision + recall + small),
        }
    }
}

/// The alarms with every event filled that holds one. The published backward fill stops before row 0, so row 0 is set
/// only if it has an alarm itself.
pub fn adjusted_alarms(case: &Case) -> Cow<'_, [bool]> {
    let mut alarms = Cow::Borrowed(case.alarms.as_slice());
    for event in &case.events {
        if case.alarms[event.clone()].contains(&true) {
            alarms.to_mut()[event.start.max(1)..event.end.max(1)].fill(true);
        }
    }
    alarms
}

/// The alarms with every event and `extend` rows on both sides of it filled if there is an alarm among them.
pub fn widened_alarms(case: &Case, extend: usize) -> Cow<'_, [bool]> {
    let mut alarms = Cow::Borrowed(case.alarms.as_slice());
    for (stretch, events) in by_stretch(case) {
        for event in events {
            let start = event.start.saturating_sub(extend).max(stretch.start);
            let end = event.end.saturating_add(extend).min(stretch.end);
            if case.alarms[start..end].contains(&true) {
                alarms.to_mut()[start..end].fill(true);
            }
        }
    }
    alarms
}

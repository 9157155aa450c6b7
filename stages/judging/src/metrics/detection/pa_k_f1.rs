//! F1 after a stricter point adjustment: an event counts as found only if enough of it has alarms.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::counts::Counts;
use super::{Case, MetricKind};

pub struct PaKF1;

/// Parameters of PA%K.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Share {
    /// An event is filled when more than this percentage of its rows have alarms; 100 fills nothing.
    #[serde(default = "default_share")]
    #[schemars(range(min = 0.0, max = 100.0))]
    pub k: f64,
}

fn default_share() -> f64 {
    20.0
}

impl Default for Share {
    fn default() -> Self {
        Self { k: default_share() }
    }
}

impl MetricKind for PaKF1 {
    type Judged = Case;
    type Params = Share;

    const NAME: &'static str = "pa_k_f1";
    const DOC: &'static str = "F1 at the threshold, events filled where more than K % of their rows have alarms (Kim et al., AAAI 2022).";
    const INFLATING: bool = true;
    const CAVEAT: &'static str =
        "flatters less than point adjustment, the less the higher K; K = 0 is point adjustment";
    const AT_THRESHOLD: bool = true;

    fn value(params: &Share, case: &Case) -> Option<f64> {
        Some(Adjustable::new(case.with_anomalies()?).f1(params.k))
    }
}

/// What is needed for any K: the counts without adjustment and each event's alarms.
pub struct Adjustable {
    counts: Counts,
    /// Alarms and rows of each event.
    events: Vec<(usize, usize)>,
}

impl Adjustable {
    pub fn new(case: &Case) -> Self {
        let mut events = Vec::with_capacity(case.events.len());
        for event in &case.events {
            let alarms = case.alarms[event.clone()].iter();
            events.push((alarms.filter(|alarm| **alarm).count(), event.len()));
        }
        Self {
            counts: case.counts(),
            events,
        }
    }

    pub fn f1(&self, percentage: f64) -> f64 {
        let mut gained = 0;
        for (alarms, rows) in &self.events {
            if *alarms as f64 * 100.0 > percentage * *rows as f64 {
                gained += rows - alarms;
            }
        }
        Counts {
            true_positives: self.counts.true_positives + gained,
            false_negatives: self.counts.false_negatives - gained,
            ..self.counts
        }
        .f1()
    }
}

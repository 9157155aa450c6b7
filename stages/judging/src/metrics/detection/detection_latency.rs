//! How long detected events last before their first alarm.

use super::{Case, MetricKind, NoParams};
use contract::artifact::Direction;

pub struct DetectionLatency;

impl MetricKind for DetectionLatency {
    type Judged = Case;
    type Params = NoParams;

    const NAME: &'static str = "detection_latency";
    const DOC: &'static str = "Rows from the start of an event to its first alarm at the threshold, averaged over the detected events.";
    const DIRECTION: Direction = Direction::Lower;
    const CAVEAT: &'static str = "events without any alarm do not count";
    const AT_THRESHOLD: bool = true;

    fn value(_: &NoParams, case: &Case) -> Option<f64> {
        let (mut rows, mut detected) = (0, 0);
        for event in &case.events {
            if let Some(delay) = case.alarms[event.clone()].iter().position(|alarm| *alarm) {
                rows += delay;
                detected += 1;
            }
        }
        (detected > 0).then(|| rows as f64 / f64::from(detected))
    }
}

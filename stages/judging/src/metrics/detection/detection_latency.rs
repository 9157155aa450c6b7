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
        let delay = |event: &std::ops::Range<usize>| {
            case.alarms[event.clone()].iter().position(|alarm| *alarm)
        };
        let delays: Vec<usize> = case.events.iter().filter_map(delay).collect();
        (!delays.is_empty()).then(|| delays.iter().sum::<usize>() as f64 / delays.len() as f64)
    }
}

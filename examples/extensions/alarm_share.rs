//! Share of the rows that have an alarm.

use crate::metrics::{Case, MetricKind, NoParams};
use contract::artifact::Direction;

pub struct AlarmShare;

impl MetricKind for AlarmShare {
    type Judged = Case;
    type Params = NoParams;

    const NAME: &'static str = "alarm_share";
    const DOC: &'static str = "Share of the rows that have an alarm, at the threshold.";
    const DIRECTION: Direction = Direction::Neither;
    const AT_THRESHOLD: bool = true;

    fn value(_: &NoParams, case: &Case) -> Option<f64> {
        let alarms = case.alarms.iter().filter(|alarm| **alarm).count();
        (case.rows() > 0).then(|| alarms as f64 / case.rows() as f64)
    }
}

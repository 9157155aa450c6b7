//! Mean absolute error.

use super::{ForecastCase, MetricKind, NoParams};
use contract::artifact::Direction;

pub struct Mae;

impl MetricKind for Mae {
    type Judged = ForecastCase;
    type Params = NoParams;

    const NAME: &'static str = "mae";
    const DOC: &'static str = "Mean absolute error.";
    const DIRECTION: Direction = Direction::Lower;

    fn value(_: &NoParams, case: &ForecastCase) -> Option<f64> {
        case.total(|point| (point.actual - point.predicted).abs())
            .mean()
    }
}

//! Mean squared error.

use super::{ForecastCase, MetricKind, NoParams};
use contract::artifact::Direction;

pub struct Mse;

impl MetricKind for Mse {
    type Judged = ForecastCase;
    type Params = NoParams;

    const NAME: &'static str = "mse";
    const DOC: &'static str = "Mean squared error.";
    const DIRECTION: Direction = Direction::Lower;

    fn value(_: &NoParams, case: &ForecastCase) -> Option<f64> {
        case.total(|point| (point.actual - point.predicted).powi(2))
            .mean()
    }
}

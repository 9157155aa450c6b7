//! Root of the mean squared error.

use super::{ForecastCase, MetricKind, NoParams};
use contract::artifact::Direction;

pub struct Rmse;

impl MetricKind for Rmse {
    type Judged = ForecastCase;
    type Params = NoParams;

    const NAME: &'static str = "rmse";
    const DOC: &'static str = "Root of the mean squared error.";
    const DIRECTION: Direction = Direction::Lower;

    fn value(_: &NoParams, case: &ForecastCase) -> Option<f64> {
        let squares = case.total(|point| (point.actual - point.predicted).powi(2));
        Some(squares.mean()?.sqrt())
    }
}

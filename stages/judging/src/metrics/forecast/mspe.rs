//! Mean squared percentage error, as a ratio.

use super::{ForecastCase, MetricKind, NoParams};
use contract::artifact::Direction;

pub struct Mspe;

impl MetricKind for Mspe {
    type Judged = ForecastCase;
    type Params = NoParams;

    const NAME: &'static str = "mspe";
    const DOC: &'static str =
        "Mean of the squared ratios of errors to true values; undefined if a true value is 0.";
    const DIRECTION: Direction = Direction::Lower;
    const CAVEAT: &'static str =
        "values near 0 dominate it, so it says little of standardised values";

    fn value(_: &NoParams, case: &ForecastCase) -> Option<f64> {
        case.total(|point| ((point.actual - point.predicted) / point.actual).powi(2))
            .mean()
    }
}

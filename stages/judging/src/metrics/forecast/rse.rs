//! Root relative squared error.

use super::{ForecastCase, MetricKind, NoParams};
use contract::artifact::Direction;

pub struct Rse;

impl MetricKind for Rse {
    type Judged = ForecastCase;
    type Params = NoParams;

    const NAME: &'static str = "rse";
    const DOC: &'static str = "Root of the squared errors over the squared deviations of the true values from their mean over all windows, steps and channels (Lai et al., SIGIR 2018).";
    const DIRECTION: Direction = Direction::Lower;
    const CAVEAT: &'static str = "1 is the error of forecasting the mean of the judged values";

    fn value(_: &NoParams, case: &ForecastCase) -> Option<f64> {
        let mean = case.total(|point| point.actual).mean()?;
        let deviations = case.total(|point| (point.actual - mean).powi(2)).sum;
        let errors = case
            .total(|point| (point.actual - point.predicted).powi(2))
            .sum;
        (deviations > 0.0).then(|| errors.sqrt() / deviations.sqrt())
    }
}

//! Metrics of forecasts and of values that were filled in, one file each. Only judged values count, which for imputation
//! are the hidden ones. All are on the scale of the values that they get, which is the model's.

mod case;
#[cfg(test)]
mod golden;

contract::entries! {
    /// All metrics of forecasts, in the order of the documentation.
    pub(super) const METRICS: Entry<dyn AnyMetric>;
    mod mse: Mse;
    mod mae: Mae;
    mod rmse: Rmse;
    mod mape: Mape;
    mod mspe: Mspe;
    mod rse: Rse;
    mod corr: Corr;
    mod mase: Mase;
}

pub use case::ForecastCase;
pub use mase::seasonal_naive_error;

use super::{AnyMetric, MetricKind, NoParams};

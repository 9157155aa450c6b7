//! Metrics of forecasts and of values that were filled in, one file each. Only judged values count, which for imputation
//! are the hidden ones. All are on the scale of the values that they get, which is the model's.

mod case;
pub(super) mod corr;
#[cfg(test)]
mod golden;
pub(super) mod mae;
pub(super) mod mape;
pub(super) mod mase;
pub(super) mod mse;
pub(super) mod mspe;
pub(super) mod rmse;
pub(super) mod rse;

pub use case::ForecastCase;
pub use mase::seasonal_naive_error;

use super::{MetricKind, NoParams};

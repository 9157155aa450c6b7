//! Correlation of forecast and true values over the windows, averaged over steps and channels.

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::case::Point;
use super::{ForecastCase, MetricKind};

pub struct Corr;

/// Whose formula.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// Pearson's correlation.
    #[default]
    Pearson,
    /// thuml/Time-Series-Library: divides by the root of the summed products of squared deviations instead of by the
    /// root of the product of their sums, so that it is not bounded by 1.
    Tslib,
}

/// Parameters of the correlation.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// Whose formula.
    #[serde(default)]
    pub form: Form,
}

impl MetricKind for Corr {
    type Judged = ForecastCase;
    type Params = Params;

    const NAME: &'static str = "corr";
    const DOC: &'static str = "Correlation of forecast and true values over the windows, averaged over the steps and channels where it is defined (Lai et al., SIGIR 2018).";
    const CAVEAT: &'static str =
        "blind to a wrong scale and offset; the form `tslib` is not bounded by 1";

    fn value(params: &Params, case: &ForecastCase) -> Option<f64> {
        let steps = case.steps().into_par_iter();
        let of_steps: Vec<(f64, usize)> =
            steps.map(|step| at_step(params.form, case, step)).collect();
        let (mut sum, mut count) = (0.0, 0);
        for (of_step, defined) in of_steps {
            sum += of_step;
            count += defined;
        }
        (count > 0).then(|| sum / count as f64)
    }
}

/// Sums over the windows of one step and channel.
#[derive(Clone, Copy, Default)]
struct Sums {
    count: f64,
    actual: f64,
    predicted: f64,
    /// Of the products of deviations.
    products: f64,
    actual_squares: f64,
    predicted_squares: f64,
    /// Of the products of squared deviations.
    square_products: f64,
}

impl Sums {
    /// Adds the products of a point's deviations; the sums of all points are complete.
    fn add_products(&mut self, point: Point) {
        let actual = point.actual - self.actual / self.count;
        let predicted = point.predicted - self.predicted / self.count;
        self.products += actual * predicted;
        self.actual_squares += actual * actual;
        self.predicted_squares += predicted * predicted;
        self.square_products += actual * actual * predicted * predicted;
    }

    fn correlation(&self, form: Form) -> Option<f64> {
        let below = match form {
            Form::Pearson => self.actual_squares.sqrt() * self.predicted_squares.sqrt(),
            Form::Tslib => self.square_products.sqrt(),
        };
        (below > 0.0).then(|| self.products / below)
    }
}

/// The correlations of one step, summed over the channels where they are defined, and how many these are.
fn at_step(form: Form, case: &ForecastCase, step: usize) -> (f64, usize) {
    let first = case.channels().start;
    let mut channels = vec![Sums::default(); case.channels().len()];
    for window in 0..case.windows() {
        case.visit(window, step, |point| {
            let sums = &mut channels[point.channel - first];
            sums.count += 1.0;
            sums.actual += point.actual;
            sums.predicted += point.predicted;
        });
    }
    // A second pass, now that the means are known: sums of squares alone would cancel.
    for window in 0..case.windows() {
        case.visit(window, step, |point| {
            channels[point.channel - first].add_products(point)
        });
    }
    let (mut sum, mut count) = (0.0, 0);
    for correlation in channels.iter().filter_map(|sums| sums.correlation(form)) {
        sum += correlation;
        count += 1;
    }
    (sum, count)
}

#[cfg(test)]
mod tests {
    use super::super::case::tests::{case, forecasts};
    use super::*;

    #[test]
    fn is_that_of_pearson() {
        // numpy.corrcoef([1, 2, 4], [1, 3, 2])[0, 1]; the second channel is constant and does not count.
        let case = case(forecasts(
            1,
            2,
            &[1.0, 5.0, 2.0, 5.0, 4.0, 5.0],
            &[1.0, 1.0, 3.0, 2.0, 2.0, 3.0],
        ));
        let value = Corr::value(&Params::default(), &case).unwrap();
        assert!((value - 0.327_326_835_353_988_6).abs() < 1e-12, "{value}");
        assert_eq!(Corr::value(&Params::default(), &case.of_channel(1)), None);
    }
}

//! Linear Gaussian state-space models and the Kalman filter (Durbin and Koopman, "Time Series Analysis by State Space
//! Methods", chapter 4; Kalman, 1960).
//!
//! y_t = d + Z a_t + e_t with e_t ~ N(0, H), and a_{t+1} = c + T a_t + n_t with n_t ~ N(0, Q); a_1 ~ N(mean, covariance).
//! Missing entries are NaN and are left out.

use std::sync::Arc;

use super::Cholesky;
use super::matrix::{Matrix, add, dot};

/// Covariances that differ by less, relative to their largest entry, are the same: the filter has settled.
const SETTLED: f64 = 1e-13;

/// A model of `[observed]` channels by `[states]` hidden ones.
#[derive(Clone, Debug, PartialEq)]
pub struct StateSpace {
    /// Z, `[observed, states]`.
    pub observation: Matrix,
    /// d, `[observed]`.
    pub observation_intercept: Vec<f64>,
    /// H, `[observed, observed]`.
    pub observation_noise: Matrix,
    /// T, `[states, states]`.
    pub transition: Matrix,
    /// c, `[states]`.
    pub state_intercept: Vec<f64>,
    /// Q, `[states, states]`: of the noise as it enters the states.
    pub state_noise: Matrix,
    /// Of the first state, before anything is observed.
    pub initial_mean: Vec<f64>,
    pub initial_covariance: Matrix,
}

/// Everything about a step that does not depend on the values observed. Steps share it once the filter has settled.
#[derive(Debug)]
pub struct Gains {
    /// Which channels are observed.
    pub(crate) observed: Vec<usize>,
    /// Cov(a_t | y_1 … y_{t-1}).
    pub predicted: Matrix,
    /// Cov(a_t | y_1 … y_t).
    pub filtered: Matrix,
    /// `[states, observed]`: how errors move the state.
    pub gain: Matrix,
    /// Of Cov(y_t | y_1 … y_{t-1}) of the observed channels.
    factor: Cholesky,
}

/// One step of the filter.
#[derive(Clone, Debug)]
pub struct Step {
    pub gains: Arc<Gains>,
    /// E(a_t | y_1 … y_{t-1}).
    pub predicted: Vec<f64>,
    /// E(a_t | y_1 … y_t).
    pub filtered: Vec<f64>,
    /// E(y_t | y_1 … y_{t-1}), missing channels included.
    pub forecast: Vec<f64>,
    /// y_t less its forecast; 0 where it is missing.
    pub error: Vec<f64>,
    /// Of the observed channels.
    pub log_likelihood: f64,
}

/// The filter over a section of rows.
#[derive(Clone, Debug)]
pub struct Filtered {
    pub steps: Vec<Step>,
    /// E and Cov of the state after the last row, given all rows.
    pub next_mean: Vec<f64>,
    pub next_covariance: Matrix,
}

impl Filtered {
    pub fn log_likelihood(&self) -> f64 {
        self.steps.iter().map(|step| step.log_likelihood).sum()
    }
}

impl StateSpace {
    pub(crate) fn states(&self) -> usize {
        self.transition.rows()
    }

    pub fn observed(&self) -> usize {
        self.observation.rows()
    }

    /// Filters `[rows, observed]`, NaN where nothing was observed.
    ///
    /// # Errors
    /// A sentence, if the covariance of an error is not positive definite.
    pub fn filter(&self, rows: &Matrix) -> Result<Filtered, String> {
        let (mut mean, mut covariance) =
            (self.initial_mean.clone(), self.initial_covariance.clone());
        let mut steps: Vec<Step> = Vec::with_capacity(rows.rows());
        let mut settled: Option<(Arc<Gains>, Matrix)> = None;
        for index in 0..rows.rows() {
            let row = rows.row(index);
            let observed: Vec<usize> = (0..row.len())
                .filter(|channel| !row[*channel].is_nan())
                .collect();
            let (gains, next) = match &settled {
                Some((gains, next))
                    if gains.observed == observed
                        && gains.predicted == covariance
                        && *next == covariance =>
                {
                    (Arc::clone(gains), next.clone())
                }
                _ => self.gains(&covariance, observed)?,
            };
            let step = self.step(row, &mean, &gains);
            mean = self.advance(&step.filtered);
            // Once a covariance comes back to itself, it is taken to be the same from then on.
            let close = next.minus(&covariance).largest() <= SETTLED * covariance.largest();
            let next = if close { gains.predicted.clone() } else { next };
            settled = Some((gains, next.clone()));
            covariance = next;
            steps.push(step);
        }
        Ok(Filtered {
            steps,
            next_mean: mean,
            next_covariance: covariance,
        })
    }

    /// The gains at a predicted covariance, and the covariance predicted for the step after it.
    pub fn gains(
        &self,
        predicted: &Matrix,
        observed: Vec<usize>,
    ) -> Result<(Arc<Gains>, Matrix), String> {
        let observation = self.observation.select_rows(&observed);
        let cross = predicted.product_transposed(&observation);
        let error = observation
            .product(&cross)
            .plus(&self.observation_noise.select(&observed))
            .symmetric();
        let factor = Cholesky::new(&error).ok_or_else(|| {
            "the covariance of a forecast's error is not positive definite".to_owned()
        })?;
        let gain = factor.solve(&cross.transposed()).transposed();
        // Joseph's form stays positive semidefinite.
        let kept = Matrix::identity(self.states()).minus(&gain.product(&observation));
        let noise = gain.sandwich(&self.observation_noise.select(&observed));
        let filtered = kept.sandwich(predicted).plus(&noise);
        let next = self.transition.sandwich(&filtered).plus(&self.state_noise);
        let gains = Gains {
            observed,
            predicted: predicted.clone(),
            filtered,
            gain,
            factor,
        };
        Ok((Arc::new(gains), next))
    }

    fn step(&self, row: &[f64], mean: &[f64], gains: &Arc<Gains>) -> Step {
        let forecast = self.observe(mean);
        let mut error = vec![0.0; row.len()];
        let mut own = Vec::with_capacity(gains.observed.len());
        for channel in &gains.observed {
            error[*channel] = row[*channel] - forecast[*channel];
            own.push(error[*channel]);
        }
        let mut filtered = mean.to_vec();
        add(&gains.gain.times(&own), &mut filtered);
        let log_likelihood = if own.is_empty() {
            0.0
        } else {
            log_density(&own, &gains.factor)
        };
        Step {
            gains: Arc::clone(gains),
            predicted: mean.to_vec(),
            filtered,
            forecast,
            error,
            log_likelihood,
        }
    }

    /// E(y) at a state.
    pub(crate) fn observe(&self, state: &[f64]) -> Vec<f64> {
        let mut observed = self.observation.times(state);
        add(&self.observation_intercept, &mut observed);
        observed
    }

    /// E of the state that follows.
    pub(crate) fn advance(&self, state: &[f64]) -> Vec<f64> {
        let mut next = self.transition.times(state);
        add(&self.state_intercept, &mut next);
        next
    }

    /// Mean `[steps, observed]` and covariances of the rows that follow a predicted state.
    pub fn forecast(
        &self,
        mean: &[f64],
        covariance: &Matrix,
        steps: usize,
    ) -> (Matrix, Vec<Matrix>) {
        let (mut mean, mut covariance) = (mean.to_vec(), covariance.clone());
        let (mut rows, mut covariances) = (Vec::new(), Vec::new());
        for _ in 0..steps {
            rows.extend(self.observe(&mean));
            let around = self.observation.sandwich(&covariance);
            covariances.push(around.plus(&self.observation_noise));
            mean = self.advance(&mean);
            let carried = self.transition.sandwich(&covariance);
            covariance = carried.plus(&self.state_noise);
        }
        (Matrix::new(steps, self.observed(), rows), covariances)
    }

    /// Means of the rows that follow a predicted state, `[steps, observed]`.
    pub fn forecast_means(&self, mut state: Vec<f64>, steps: usize) -> Vec<f64> {
        let mut rows = Vec::with_capacity(steps * self.observed());
        for _ in 0..steps {
            rows.extend(self.observe(&state));
            state = self.advance(&state);
        }
        rows
    }
}

/// ln of the normal density of an error with the covariance of a factor.
fn log_density(error: &[f64], factor: &Cholesky) -> f64 {
    let whitened = factor.whiten(error);
    let circle = error.len() as f64 * libm::log(std::f64::consts::TAU);
    -0.5 * (circle + factor.log_determinant() + dot(&whitened, &whitened))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::example;

    /// Mean and covariance of all observed entries at once, from the model's definition.
    fn joint(model: &StateSpace, rows: usize) -> (Vec<f64>, Matrix) {
        let states = model.states();
        let (mut means, mut covariances) = (
            vec![model.initial_mean.clone()],
            vec![model.initial_covariance.clone()],
        );
        for row in 1..rows {
            means.push(model.advance(&means[row - 1]));
            covariances.push(
                model
                    .transition
                    .sandwich(&covariances[row - 1])
                    .plus(&model.state_noise),
            );
        }
        let between = |first: usize, later: usize| {
            let powers = (first..later).fold(Matrix::identity(states), |power, _| {
                model.transition.product(&power)
            });
            let states = powers.product(&covariances[first]);
            model
                .observation
                .product(&states)
                .product_transposed(&model.observation)
        };
        let width = model.observed();
        let mean = means.iter().flat_map(|mean| model.observe(mean)).collect();
        let covariance = Matrix::from_fn(rows * width, rows * width, |row, column| {
            let ((early, one), (late, other)) = if row / width <= column / width {
                ((row / width, row % width), (column / width, column % width))
            } else {
                ((column / width, column % width), (row / width, row % width))
            };
            let noise = if early == late {
                model.observation_noise[(other, one)]
            } else {
                0.0
            };
            between(early, late)[(other, one)] + noise
        });
        (mean, covariance)
    }

    #[test]
    fn likelihood_is_that_of_the_joint_normal_distribution() {
        let (model, rows) = example(12);
        let (mean, covariance) = joint(&model, 12);
        let known: Vec<usize> = (0..24)
            .filter(|index| !rows.values()[*index].is_nan())
            .collect();
        let errors: Vec<f64> = known
            .iter()
            .map(|index| rows.values()[*index] - mean[*index])
            .collect();
        let expected = log_density(&errors, &Cholesky::new(&covariance.select(&known)).unwrap());
        let found = model.filter(&rows).unwrap().log_likelihood();
        assert!((found / expected - 1.0).abs() < 1e-12, "{found} {expected}");
    }

    #[test]
    fn a_settled_filter_forecasts_as_before() {
        let (model, rows) = example(400);
        let filtered = model.filter(&rows).unwrap();
        let shared = filtered
            .steps
            .windows(2)
            .filter(|pair| Arc::ptr_eq(&pair[0].gains, &pair[1].gains))
            .count();
        assert!(shared > 200, "{shared}");
        // From a predicted state on, the recursion by itself.
        let (mut mean, mut covariance) =
            (model.initial_mean.clone(), model.initial_covariance.clone());
        for (index, step) in filtered.steps.iter().enumerate() {
            let apart = mean
                .iter()
                .zip(&step.predicted)
                .map(|(one, other)| (one - other).abs())
                .fold(0.0, f64::max);
            assert!(apart < 1e-10, "{index}: {apart}");
            let (gains, next) = model
                .gains(&covariance, step.gains.observed.clone())
                .unwrap();
            mean = model.advance(&model.step(rows.row(index), &mean, &gains).filtered);
            covariance = next;
        }
        let (future, covariances) =
            model.forecast(&filtered.next_mean, &filtered.next_covariance, 200);
        assert!(
            future.row(199)[0] - future.row(198)[0] < 1e-6
                && covariances[199].minus(&covariances[198]).largest() < 1e-9
        );
    }
}

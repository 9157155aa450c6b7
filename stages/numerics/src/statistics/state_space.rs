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
    /// Cov(y_t | y_1 … y_{t-1}) of the observed channels.
    error: ErrorCovariance,
}

/// The covariance of a forecast's error, Z P Zᵀ + H, ready to weigh an error with.
#[derive(Debug)]
enum ErrorCovariance {
    Whole(Cholesky),
    /// Where each channel has its own noise, by Woodbury's identity, which takes nothing as large as the square of the
    /// channels.
    Independent {
        /// The variances in H.
        noise: Vec<f64>,
        /// Zᵀ H⁻¹, `[states, observed]`.
        weighted: Matrix,
        log_determinant: f64,
    },
}

/// What follows from a predicted covariance.
struct Update {
    filtered: Matrix,
    gain: Matrix,
    error: ErrorCovariance,
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
        let update = match self.update_of_few(predicted, &observed) {
            Some(update) => update,
            None => self.update(predicted, &observed)?,
        };
        let filtered = update.filtered;
        let next = self.transition.sandwich(&filtered).plus(&self.state_noise);
        let gains = Gains {
            observed,
            predicted: predicted.clone(),
            filtered,
            gain: update.gain,
            error: update.error,
        };
        Ok((Arc::new(gains), next))
    }

    /// By the covariance of the error, whatever the noise.
    fn update(&self, predicted: &Matrix, observed: &[usize]) -> Result<Update, String> {
        let observation = self.observation.select_rows(observed);
        let noise = self.observation_noise.select(observed);
        let cross = predicted.product_transposed(&observation);
        let error = observation.product(&cross).plus(&noise).symmetric();
        let factor = Cholesky::new(&error).ok_or_else(|| {
            "the covariance of a forecast's error is not positive definite".to_owned()
        })?;
        let gain = factor.solve(&cross.transposed()).transposed();
        // Joseph's form stays positive semidefinite.
        let kept = Matrix::identity(self.states()).minus(&gain.product(&observation));
        let filtered = kept.sandwich(predicted).plus(&gain.sandwich(&noise));
        Ok(Update {
            filtered,
            gain,
            error: ErrorCovariance::Whole(factor),
        })
    }

    /// The same for fewer states than channels, each of which has its own noise; `None` for other models.
    ///
    /// With P = L Lᵀ and M = 1 + Lᵀ Zᵀ H⁻¹ Z L, the filtered covariance is L M⁻¹ Lᵀ, the gain is that times Zᵀ H⁻¹, and the
    /// determinant of the error's covariance is that of H times that of M.
    fn update_of_few(&self, predicted: &Matrix, observed: &[usize]) -> Option<Update> {
        if self.states() >= observed.len() || !self.observation_noise.is_diagonal() {
            return None;
        }
        let lower = Cholesky::new(predicted)?.lower().clone();
        let noise: Vec<f64> = observed
            .iter()
            .map(|channel| self.observation_noise[(*channel, *channel)])
            .collect();
        if noise.iter().any(|variance| *variance <= 0.0) {
            return None;
        }
        let observation = self.observation.select_rows(observed);
        let mut weighted = observation.transposed();
        for state in 0..weighted.rows() {
            for (value, variance) in weighted.row_mut(state).iter_mut().zip(&noise) {
                *value /= variance;
            }
        }
        let information = weighted.product(&observation).symmetric();
        let spread = lower.transposed().sandwich(&information);
        let factor = Cholesky::new(&Matrix::identity(self.states()).plus(&spread).symmetric())?;
        let filtered = lower
            .product(&factor.solve(&lower.transposed()))
            .symmetric();
        let of_noise: f64 = noise.iter().map(|variance| libm::log(*variance)).sum();
        Some(Update {
            gain: filtered.product(&weighted),
            filtered,
            error: ErrorCovariance::Independent {
                noise,
                weighted,
                log_determinant: of_noise + factor.log_determinant(),
            },
        })
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
            gains.log_density(&own)
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

impl Gains {
    /// ln of the normal density of an error of the observed channels.
    fn log_density(&self, error: &[f64]) -> f64 {
        match &self.error {
            ErrorCovariance::Whole(factor) => {
                let whitened = factor.whiten(error);
                log_normal(
                    error.len(),
                    factor.log_determinant(),
                    dot(&whitened, &whitened),
                )
            }
            ErrorCovariance::Independent {
                noise,
                weighted,
                log_determinant,
            } => {
                let terms = error.iter().zip(noise);
                let own: f64 = terms
                    .map(|(error, variance)| error * error / variance)
                    .sum();
                let shared = weighted.times(error);
                let explained = dot(&shared, &self.filtered.times(&shared));
                log_normal(error.len(), *log_determinant, own - explained)
            }
        }
    }
}

/// ln of a normal density, from the logarithm of its covariance's determinant and the squared distance from its mean.
fn log_normal(size: usize, log_determinant: f64, distance: f64) -> f64 {
    let circle = size as f64 * libm::log(std::f64::consts::TAU);
    -0.5 * (circle + log_determinant + distance)
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
        let factor = Cholesky::new(&covariance.select(&known)).unwrap();
        let whitened = factor.whiten(&errors);
        let expected = log_normal(
            errors.len(),
            factor.log_determinant(),
            dot(&whitened, &whitened),
        );
        let found = model.filter(&rows).unwrap().log_likelihood();
        assert!((found / expected - 1.0).abs() < 1e-12, "{found} {expected}");
    }

    #[test]
    fn few_states_behind_independent_noise_are_filtered_as_any_others() {
        let (mut model, rows) = example(40);
        // The example has more states than channels: three channels more, of which one says the same as another.
        let wide = Matrix::from_fn(5, 3, |row, column| {
            model.observation[(row % 2, column)] + (row * column) as f64 * 0.1
        });
        let values = Matrix::from_fn(40, 5, |row, column| rows[(row, column % 2)]);
        model.observation = wide;
        model.observation_intercept = vec![0.5, -0.5, 0.1, 0.2, 0.3];
        model.observation_noise = Matrix::diagonal(&[0.4, 0.3, 1e-6, 2.0, 0.1]);
        let mut covariance = model.initial_covariance.clone();
        for row in 0..40 {
            let observed: Vec<usize> = (0..5)
                .filter(|channel| !values[(row, *channel)].is_nan())
                .collect();
            let own = model.update_of_few(&covariance, &observed);
            let whole = model.update(&covariance, &observed).unwrap();
            let Some(own) = own else {
                assert!(observed.len() <= 3, "{row}");
                covariance = model.gains(&covariance, observed).unwrap().1;
                continue;
            };
            let apart = |one: &Matrix, other: &Matrix| {
                one.minus(other).largest() / other.largest().max(1e-3)
            };
            assert!(apart(&own.filtered, &whole.filtered) < 1e-9, "{row}");
            assert!(apart(&own.gain, &whole.gain) < 1e-6, "{row}");
            let error = [0.3, -0.2, 0.1, 1.0, -0.4];
            let [own, whole] = [own, whole].map(|update| {
                let gains = Gains {
                    observed: observed.clone(),
                    predicted: covariance.clone(),
                    filtered: update.filtered,
                    gain: update.gain,
                    error: update.error,
                };
                gains.log_density(&error[..observed.len()])
            });
            assert!((own / whole - 1.0).abs() < 1e-6, "{row}: {own} {whole}");
            covariance = model.gains(&covariance, observed).unwrap().1;
        }
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

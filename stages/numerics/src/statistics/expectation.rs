//! State-space models fitted by expectation and maximisation (Shumway and Stoffer, "An Approach to Time Series Smoothing
//! and Forecasting Using the EM Algorithm", 1982): a few hidden states, the channels' own noise independent of each
//! other. The start is the channels' principal components.

use super::autoregression::places;
use super::eigen::Eigen;
use super::gram::gram;
use super::matrix::{Matrix, add, dot};
use super::smoother::{Smoothed, smooth};
use super::state_space::StateSpace;
use super::{Cholesky, cholesky::Semidefinite};

/// The least variance of a channel's own noise and of a state's, in units of the channels' variance.
const LEAST_VARIANCE: f64 = 1e-6;

/// How the iterations end.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub iterations: usize,
    /// The gain in log-likelihood per row at which they rest.
    pub tolerance: f64,
}

/// A model and how its likelihood rose, an entry per iteration.
#[derive(Clone, Debug)]
pub struct Fitted {
    pub model: StateSpace,
    pub log_likelihoods: Vec<f64>,
}

/// Fits a model of `states` hidden states to sections of consecutive rows, each `[rows, observed]` and finite.
///
/// The channels should be of comparable size. The model's initial state is that of a row somewhere in the sections,
/// as windows begin anywhere.
///
/// # Errors
/// A sentence, if there are too few rows or a covariance becomes singular.
pub fn fit(
    sections: &[Matrix],
    states: usize,
    limits: Limits,
    mut progress: impl FnMut(usize) -> Result<(), String>,
) -> Result<Fitted, String> {
    let rows: usize = sections.iter().map(Matrix::rows).sum();
    let observed = sections.first().map_or(0, Matrix::columns);
    if states == 0 || states > observed || rows < states + 2 {
        return Err(format!(
            "{rows} rows of {observed} channels cannot determine {states} states"
        ));
    }
    let mut model = start(sections, states)?;
    let mut log_likelihoods: Vec<f64> = Vec::new();
    loop {
        progress(log_likelihoods.len())?;
        let (moments, log_likelihood) = Moments::of(&model, sections)?;
        let last = log_likelihoods.last().copied().unwrap_or(f64::NEG_INFINITY);
        log_likelihoods.push(log_likelihood);
        let settled = log_likelihood - last < limits.tolerance * rows as f64;
        if settled || log_likelihoods.len() > limits.iterations {
            model.initial_mean = moments.mean_state();
            model.initial_covariance = moments.spread();
            return Ok(Fitted {
                model,
                log_likelihoods,
            });
        }
        model = moments.maximise(&model)?;
    }
}

/// The model in which channels are scaled by `deviation` and shifted by `mean`.
pub fn rescale(model: &StateSpace, mean: &[f64], deviation: &[f64]) -> StateSpace {
    let (channels, states) = (model.observed(), model.states());
    let mut observation_intercept = mean.to_vec();
    for (channel, intercept) in observation_intercept.iter_mut().enumerate() {
        *intercept += deviation[channel] * model.observation_intercept[channel];
    }
    StateSpace {
        observation: Matrix::from_fn(channels, states, |row, column| {
            deviation[row] * model.observation[(row, column)]
        }),
        observation_intercept,
        observation_noise: Matrix::from_fn(channels, channels, |row, column| {
            deviation[row] * model.observation_noise[(row, column)] * deviation[column]
        }),
        ..model.clone()
    }
}

/// States are the leading principal components, and follow each other by least squares.
fn start(sections: &[Matrix], states: usize) -> Result<StateSpace, String> {
    let observed = sections[0].columns();
    let rows = places(sections, 0);
    let products = gram(rows.len(), observed, |index, target| {
        let (section, row) = rows[index];
        target.copy_from_slice(sections[section].row(row));
    });
    let covariance = products.scaled(1.0 / rows.len() as f64);
    let eigen = Eigen::new(&covariance).ok_or("the training rows are not finite")?;
    let leading: Vec<usize> = (0..states).collect();
    let observation = eigen.vectors.select_rows(&leading).transposed();
    let components: Vec<Matrix> = sections
        .iter()
        .map(|section| section.product(&observation))
        .collect();
    let [mut now, mut before, mut between] = [(); 3].map(|()| Matrix::zeros(states, states));
    let pairs = places(&components, 1);
    for (section, row) in &pairs {
        let current = components[*section].row(*row);
        let past = components[*section].row(row - 1);
        now.add_outer(current, current);
        before.add_outer(past, past);
        between.add_outer(current, past);
    }
    let transition = Semidefinite::new(&before, 1e-10)
        .solve(&between.transposed())
        .transposed();
    let count = pairs.len().max(1) as f64;
    let state_noise = now
        .minus(&transition.product_transposed(&between))
        .scaled(1.0 / count)
        .symmetric();
    let of_states = observation.transposed().sandwich(&covariance);
    let loaded = observation.product(&of_states);
    let mut own = Vec::with_capacity(observed);
    for channel in 0..observed {
        let all = covariance[(channel, channel)];
        let rest = all - dot(loaded.row(channel), observation.row(channel));
        // At least a tenth of a channel is taken to be its own: from no noise at all, the iterations hardly move.
        own.push(rest.max(0.1 * all).max(LEAST_VARIANCE));
    }
    Ok(StateSpace {
        observation,
        observation_intercept: vec![0.0; observed],
        observation_noise: Matrix::diagonal(&own),
        transition,
        state_intercept: vec![0.0; states],
        state_noise: raised(&state_noise)?,
        initial_mean: vec![0.0; states],
        initial_covariance: raised(&now.scaled(1.0 / count))?,
    })
}

/// A covariance whose eigenvalues are at least [`LEAST_VARIANCE`].
fn raised(covariance: &Matrix) -> Result<Matrix, String> {
    let eigen = Eigen::new(covariance).ok_or("a covariance is not finite")?;
    // Eigenvalues fall. What need not be raised stays as it is, to the bit.
    match eigen.values.last() {
        Some(least) if *least < LEAST_VARIANCE => Ok(eigen.map(|value| value.max(LEAST_VARIANCE))),
        _ => Ok(covariance.clone()),
    }
}

/// What the maximisation needs to know of the hidden states: sums over all rows.
struct Moments {
    rows: usize,
    steps: usize,
    sections: usize,
    /// Σ E(a), Σ E(a aᵀ) over all rows.
    mean: Vec<f64>,
    all: Matrix,
    /// Σ E(a_t a_tᵀ), Σ E(a_t a_{t-1}ᵀ), Σ E(a_{t-1} a_{t-1}ᵀ) over all pairs.
    now: Matrix,
    between: Matrix,
    before: Matrix,
    /// Σ y E(a)ᵀ and Σ y² by channel.
    observed: Matrix,
    squares: Vec<f64>,
    /// Σ E(a_1), Σ E(a_1 a_1ᵀ) over sections.
    first_mean: Vec<f64>,
    first: Matrix,
}

impl Moments {
    fn of(model: &StateSpace, sections: &[Matrix]) -> Result<(Self, f64), String> {
        let (states, observed) = (model.states(), model.observed());
        let zeros = || Matrix::zeros(states, states);
        let mut moments = Self {
            rows: 0,
            steps: 0,
            sections: 0,
            mean: vec![0.0; states],
            all: zeros(),
            now: zeros(),
            between: zeros(),
            before: zeros(),
            observed: Matrix::zeros(observed, states),
            squares: vec![0.0; observed],
            first_mean: vec![0.0; states],
            first: zeros(),
        };
        let mut log_likelihood = 0.0;
        for section in sections.iter().filter(|section| section.rows() > 0) {
            let filtered = model.filter(section)?;
            log_likelihood += filtered.log_likelihood();
            moments.add(section, &smooth(model, &filtered)?);
        }
        Ok((moments, log_likelihood))
    }

    fn add(&mut self, section: &Matrix, states: &[Smoothed]) {
        for (index, state) in states.iter().enumerate() {
            let row = section.row(index);
            add(&state.mean, &mut self.mean);
            add_second(&mut self.all, state);
            self.observed.add_outer(row, &state.mean);
            for (sum, value) in self.squares.iter_mut().zip(row) {
                *sum += value * value;
            }
            if let (Some(next), Some(with_next)) = (states.get(index + 1), &state.with_next) {
                add_second(&mut self.before, state);
                add_second(&mut self.now, next);
                self.between.add_scaled(1.0, with_next);
                self.between.add_outer(&next.mean, &state.mean);
                self.steps += 1;
            }
        }
        if let Some(first) = states.first() {
            add(&first.mean, &mut self.first_mean);
            add_second(&mut self.first, first);
        }
        self.rows += states.len();
        self.sections += 1;
    }

    /// The parameters that are most likely given these moments.
    fn maximise(&self, model: &StateSpace) -> Result<StateSpace, String> {
        let transition = regress(&self.before, &self.between)?;
        let state_noise = self
            .now
            .minus(&transition.product_transposed(&self.between))
            .scaled(1.0 / self.steps as f64);
        let observation = regress(&self.all, &self.observed)?;
        let mut own = Vec::with_capacity(model.observed());
        for (channel, squares) in self.squares.iter().enumerate() {
            let explained = dot(observation.row(channel), self.observed.row(channel));
            own.push(((squares - explained) / self.rows as f64).max(LEAST_VARIANCE));
        }
        let sections = self.sections as f64;
        let initial_mean: Vec<f64> = self.first_mean.iter().map(|sum| sum / sections).collect();
        let initial_covariance = centred(&self.first.scaled(1.0 / sections), &initial_mean);
        Ok(StateSpace {
            observation,
            observation_noise: Matrix::diagonal(&own),
            transition,
            state_noise: raised(&state_noise.symmetric())?,
            initial_mean,
            initial_covariance: raised(&initial_covariance)?,
            ..model.clone()
        })
    }

    fn mean_state(&self) -> Vec<f64> {
        self.mean.iter().map(|sum| sum / self.rows as f64).collect()
    }

    /// The covariance of a state at a random row.
    fn spread(&self) -> Matrix {
        centred(&self.all.scaled(1.0 / self.rows as f64), &self.mean_state())
    }
}

/// The regression on states: `cross · states⁻¹`.
fn regress(states: &Matrix, cross: &Matrix) -> Result<Matrix, String> {
    match Cholesky::new(states) {
        Some(factor) => Ok(factor.solve(&cross.transposed()).transposed()),
        None => Err("the covariance of the hidden states is singular: use fewer `states`".into()),
    }
}

/// Adds E(a aᵀ).
fn add_second(sum: &mut Matrix, state: &Smoothed) {
    sum.add_scaled(1.0, &state.covariance);
    sum.add_outer(&state.mean, &state.mean);
}

fn centred(second: &Matrix, mean: &[f64]) -> Matrix {
    let mut covariance = second.clone();
    let negative: Vec<f64> = mean.iter().map(|value| -value).collect();
    covariance.add_outer(&negative, mean);
    covariance.symmetric()
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::Random;

    /// Two slow factors seen in five channels with noise.
    fn factors(rows: usize) -> Matrix {
        let loadings = Matrix::new(
            5,
            2,
            vec![1.0, 0.2, 0.9, -0.3, 0.1, 1.1, -0.7, 0.5, 0.4, 0.8],
        );
        let mut random = Random::new(12, "factors");
        let (mut state, mut values) = ([0.0, 0.0], Vec::new());
        for _ in 0..rows {
            state = [
                0.95 * state[0] + 0.3 * random.normal(),
                0.8 * state[1] + 0.5 * random.normal(),
            ];
            let means = loadings.times(&state);
            values.extend(means.iter().map(|mean| mean + 0.3 * random.normal()));
        }
        Matrix::new(rows, 5, values)
    }

    const LIMITS: Limits = Limits {
        iterations: 60,
        tolerance: 1e-5,
    };

    #[test]
    fn likelihood_rises_and_forecasts_beat_the_last_value() {
        let rows = factors(1500);
        let (train, test) = (
            rows.corner(1000, 5),
            Matrix::from_fn(500, 5, |row, column| rows[(1000 + row, column)]),
        );
        let halves = [
            train.corner(400, 5),
            Matrix::from_fn(600, 5, |row, column| train[(400 + row, column)]),
        ];
        let fitted = fit(&halves, 2, LIMITS, |_| Ok(())).unwrap();
        // Small falls are what the least variances cost.
        assert!(
            fitted
                .log_likelihoods
                .windows(2)
                .all(|pair| pair[1] > pair[0] - 1e-6),
            "{:?}",
            fitted.log_likelihoods
        );
        let steps = fitted.model.filter(&test).unwrap().steps;
        let square = |errors: &[f64]| errors.iter().map(|error| error * error).sum::<f64>();
        let own: f64 = steps[1..].iter().map(|step| square(&step.error)).sum();
        let last: f64 = (1..500)
            .map(|row| {
                square(
                    &test
                        .row(row)
                        .iter()
                        .zip(test.row(row - 1))
                        .map(|(one, other)| one - other)
                        .collect::<Vec<_>>(),
                )
            })
            .sum();
        assert!(own < 0.85 * last, "{own} {last}");
        // The noise that was put in.
        let noise = (0..5)
            .map(|channel| fitted.model.observation_noise[(channel, channel)])
            .sum::<f64>()
            / 5.0;
        assert!((noise / 0.09 - 1.0).abs() < 0.15, "{noise}");
    }

    #[test]
    fn rescaling_changes_units_only() {
        let rows = factors(80);
        let model = fit(
            std::slice::from_ref(&rows),
            1,
            Limits {
                iterations: 3,
                tolerance: 0.0,
            },
            |_| Ok(()),
        )
        .unwrap()
        .model;
        let (mean, deviation) = ([1.0, 2.0, 3.0, 4.0, 5.0], [2.0, 0.5, 1.0, 3.0, 0.1]);
        let other = Matrix::from_fn(80, 5, |row, column| {
            mean[column] + deviation[column] * rows[(row, column)]
        });
        let jacobian: f64 = 80.0
            * deviation
                .iter()
                .map(|deviation: &f64| deviation.ln())
                .sum::<f64>();
        let expected = model.filter(&rows).unwrap().log_likelihood() - jacobian;
        let found = rescale(&model, &mean, &deviation)
            .filter(&other)
            .unwrap()
            .log_likelihood();
        assert!((found / expected - 1.0).abs() < 1e-10);
    }

    #[test]
    fn constant_channels_and_impossible_sizes() {
        let rows = Matrix::from_fn(100, 2, |row, column| {
            if column == 0 {
                (row as f64 * 0.3).sin()
            } else {
                0.0
            }
        });
        assert!(
            fit(std::slice::from_ref(&rows), 1, LIMITS, |_| Ok(()))
                .unwrap()
                .model
                .observation
                .is_finite()
        );
        assert!(
            fit(&[rows], 3, LIMITS, |_| Ok(()))
                .unwrap_err()
                .contains("3 states")
        );
        let stopped = fit(&[factors(50)], 1, LIMITS, |_| Err("stop".to_owned()));
        assert_eq!(stopped.unwrap_err(), "stop");
    }
}

//! Linear Gaussian state-space models, filtered by Kalman's recursions (Kalman, 1960; Durbin and Koopman, "Time Series
//! Analysis by State Space Methods", 2012): a few hidden factors fitted by expectation and maximisation (Shumway and
//! Stoffer, 1982), or a level for each channel fitted by maximum likelihood. A window starts from what is known of a
//! random row.

use std::sync::Arc;

use candle_core::{Tensor, Var, bail};
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::closed_form::{
    Distance, Remembered, count, forecast_windows, matrix, reals, set, set_count, whiten,
};
use super::forecaster::{Forecaster, Forecasting, Span};
use super::{Architecture, Built, DataShape, Result, Task, closed_form};
use contract::artifact::Windows;
use contract::{Fault, Named, Progress, Random, StageContext, Trouble};
use numerics::statistics::expectation::{self, Limits};
use numerics::statistics::local_level::LocalLevel;
use numerics::statistics::state_space::StateSpace;
use numerics::statistics::{Matrix, matrix::dot};
use numerics::{Mode, State, StateBuilder};

/// The least variance of a channel's noise, in units of the channel's variance.
const LEAST_NOISE: f64 = 1e-6;
/// Hidden factors unless said otherwise.
const FACTORS: usize = 8;

/// What is hidden behind the channels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Structure {
    /// A few factors that all channels share.
    #[default]
    Factors,
    /// A level for each channel, which walks at random.
    LocalLevel,
}

contract::parameters! {
    /// A linear Gaussian state-space model.
    pub struct Kalman {
        pub structure: Structure = Structure::default(),
        /// The number of factors; by default 8, or as many as there are channels if those are fewer.
        #[schemars(range(min = 1, max = 256))]
        pub states: Option<usize> = None,
        /// The most rounds of expectation and maximisation.
        #[schemars(range(min = 1))]
        pub iterations: usize = 30,
        /// The rounds end when the log-likelihood of a row rises by less.
        #[schemars(range(min = 0.0))]
        pub tolerance: f64 = 1e-3,
        /// How far a row is from its forecast, to detect.
        pub score: Distance = Distance::default(),
        /// The least variance of an error, in units of their mean, where the score depends on it.
        #[schemars(extend("exclusiveMinimum" = 0.0))]
        pub least_variance: f64 = 1e-3,
    }
}

impl Named for Kalman {
    const NAME: &'static str = "kalman";
    const DOC: &'static str =
        "A linear Gaussian state-space model, fitted by maximum likelihood, and its filter";
    const EXAMPLE: &'static str = r#"{"iterations": 3}"#;
}

impl Architecture for Kalman {
    fn tasks(&self) -> &'static [Task] {
        &[Task::Forecast, Task::Detect]
    }

    fn closed_form(&self) -> bool {
        true
    }

    fn check(&self) -> Result<(), Fault> {
        if self.states.is_some() && self.structure == Structure::LocalLevel {
            let reason = "has no meaning for local levels, of which each channel has one";
            return Err(Fault::new("states", reason));
        }
        Ok(())
    }

    fn citation(&self) -> &'static str {
        "Kalman: A New Approach to Linear Filtering and Prediction Problems. Journal of Basic Engineering 1960. doi:10.1115/1.3662552"
    }

    fn build(&self, shape: DataShape, builder: &mut StateBuilder<'_>) -> Built {
        let span = Span::of(shape, Self::NAME, 1)?;
        let channels = span.channels;
        let states = match (self.structure, self.states) {
            (Structure::LocalLevel, _) => channels,
            (Structure::Factors, states) => states.unwrap_or(FACTORS.min(channels)),
        };
        if states > channels {
            let message =
                format!("kalman cannot tell {states} factors of {channels} channels apart");
            let hint = format!("set the model's `states` to at most {channels}");
            return Err(Trouble::new(message).hint(hint));
        }
        let forecaster = Hidden {
            observation: builder.reals("observation", &[channels, states])?,
            observation_intercept: builder.reals("observation_intercept", &[channels])?,
            observation_noise: builder.reals("observation_noise", &[channels, channels])?,
            transition: builder.reals("transition", &[states, states])?,
            state_noise: builder.reals("state_noise", &[states, states])?,
            initial_mean: builder.reals("initial_mean", &[states])?,
            initial_covariance: builder.reals("initial_covariance", &[states, states])?,
            fitted: builder.counter("fitted")?,
            filter: Remembered::default(),
            whitening: Remembered::default(),
            state: builder.finish(),
            span,
            states,
            config: self.clone(),
        };
        Ok(Box::new(Forecasting { shape, forecaster }))
    }
}

/// The model as tensors.
struct Hidden {
    state: State,
    span: Span,
    states: usize,
    config: Kalman,
    observation: Var,
    observation_intercept: Var,
    observation_noise: Var,
    transition: Var,
    state_noise: Var,
    initial_mean: Var,
    initial_covariance: Var,
    /// 1 once the model has been fitted.
    fitted: Var,
    filter: Remembered<StateSpace, Recursion>,
    whitening: Remembered<Matrix, Matrix>,
}

impl Hidden {
    fn model(&self) -> Result<StateSpace> {
        if count(&self.fitted)? == 0 {
            bail!("the state-space model has not been fitted")
        }
        Ok(StateSpace {
            observation: matrix(&self.observation)?,
            observation_intercept: reals(&self.observation_intercept)?,
            observation_noise: matrix(&self.observation_noise)?,
            transition: matrix(&self.transition)?,
            state_intercept: vec![0.0; self.states],
            state_noise: matrix(&self.state_noise)?,
            initial_mean: reals(&self.initial_mean)?,
            initial_covariance: matrix(&self.initial_covariance)?,
        })
    }

    fn set_model(&self, model: &StateSpace) -> Result<()> {
        let values = [
            (&self.observation, model.observation.values()),
            (&self.observation_intercept, &model.observation_intercept),
            (&self.observation_noise, model.observation_noise.values()),
            (&self.transition, model.transition.values()),
            (&self.state_noise, model.state_noise.values()),
            (&self.initial_mean, &model.initial_mean),
            (&self.initial_covariance, model.initial_covariance.values()),
        ];
        for (own, values) in values {
            set(own, values.to_vec())?;
        }
        set_count(&self.fitted, 1)
    }

    /// The model, and what its filter does to windows.
    fn filter(&self) -> Result<(StateSpace, Arc<Recursion>)> {
        let model = self.model()?;
        let recursion = self.filter.get(model.clone(), |model| {
            Recursion::new(model, self.span.past).map_err(candle_core::Error::Msg)
        })?;
        Ok((model, recursion))
    }

    fn fit_factors(
        &self,
        sections: &[Matrix],
        context: &StageContext<'_>,
    ) -> Result<StateSpace, Trouble> {
        let limits = Limits {
            iterations: self.config.iterations,
            tolerance: self.config.tolerance,
        };
        let fitted = expectation::fit(sections, self.states, limits, |done| {
            context.host.progress(Progress {
                unit: "round".into(),
                done: done as u64,
                total: limits.iterations as u64,
                phase: String::new(),
                figures: Vec::new(),
            });
            context.check_cancelled().map_err(|error| error.to_string())
        });
        let fitted = match fitted {
            Ok(fitted) => fitted,
            Err(reason) => {
                // A run that was stopped reports that, and not that the fit failed.
                context.check_cancelled()?;
                let message = format!("the state-space model cannot be fitted: {reason}");
                return Err(Trouble::new(message).hint("use fewer `states` or more training rows"));
            }
        };
        let rounds = fitted.log_likelihoods.len();
        let last = fitted.log_likelihoods.last().copied().unwrap_or_default();
        let note = format!("log-likelihood {last:.1} after {rounds} rounds");
        context.host.note(&note);
        Ok(fitted.model)
    }

    fn fit_levels(&self, sections: &[Matrix]) -> Result<StateSpace, Trouble> {
        let channels = (0..self.span.channels).into_par_iter();
        let levels: Option<Vec<LocalLevel>> = channels
            .map(|channel| {
                let columns: Vec<Vec<f64>> = sections
                    .iter()
                    .map(|section| column(section, channel))
                    .collect();
                LocalLevel::fit(&columns, LEAST_NOISE)
            })
            .collect();
        let Some(levels) = levels else {
            return Err(Trouble::new(
                "a local level needs two training rows in a row",
            ));
        };
        let irregular: Vec<f64> = levels.iter().map(|level| level.irregular).collect();
        let walking: Vec<f64> = levels.iter().map(|level| level.level).collect();
        Ok(StateSpace {
            observation: Matrix::identity(self.states),
            observation_intercept: vec![0.0; self.states],
            observation_noise: Matrix::diagonal(&irregular),
            transition: Matrix::identity(self.states),
            state_intercept: vec![0.0; self.states],
            state_noise: Matrix::diagonal(&walking),
            // The sections are in standard units, and windows begin anywhere.
            initial_mean: vec![0.0; self.states],
            initial_covariance: Matrix::identity(self.states),
        })
    }
}

fn column(matrix: &Matrix, index: usize) -> Vec<f64> {
    (0..matrix.rows()).map(|row| matrix[(row, index)]).collect()
}

impl Forecaster for Hidden {
    fn state(&self) -> &State {
        &self.state
    }

    fn forecast(&self, past: &Tensor, _: Mode, _: &mut Random) -> Result<Tensor> {
        let (model, recursion) = self.filter()?;
        let steps = self.span.steps;
        forecast_windows(past, steps, |window| {
            let state = recursion.state_after(&model, window);
            model.forecast_means(state, steps)
        })
    }

    fn judge(&self, forecast: &Tensor, actual: &Tensor) -> Result<Tensor> {
        let config = &self.config;
        config.score.judge(forecast, actual, || {
            let (model, recursion) = self.filter()?;
            let of_state = model.observation.sandwich(&recursion.covariance);
            let covariance = of_state.plus(&model.observation_noise);
            self.whitening.get(covariance, |covariance| {
                whiten(covariance, config.least_variance)
            })
        })
    }

    fn fit(&self, windows: &Windows, context: &StageContext<'_>) -> Result<(), Trouble> {
        // In standard units, limits such as the least noise mean the same for every channel.
        let (mean, deviation, sections) =
            closed_form::standardised(&closed_form::training_sections(windows)?);
        let model = match self.config.structure {
            Structure::Factors => self.fit_factors(&sections, context)?,
            Structure::LocalLevel => self.fit_levels(&sections)?,
        };
        Ok(self.set_model(&expectation::rescale(&model, &mean, &deviation))?)
    }
}

/// What the filter does to the state at each row of a window, which is the same for all windows: the next predicted
/// state is `keep · state + take · row + shift`.
struct Recursion {
    /// A step for each row; the last one is used for all further rows once the filter has settled.
    steps: Vec<Move>,
    rows: usize,
    /// Of the state predicted after the last row.
    covariance: Matrix,
}

struct Move {
    keep: Matrix,
    take: Matrix,
    shift: Vec<f64>,
}

impl Recursion {
    fn new(model: &StateSpace, rows: usize) -> Result<Self, String> {
        let all: Vec<usize> = (0..model.observed()).collect();
        let mut covariance = model.initial_covariance.clone();
        let mut steps = Vec::new();
        for _ in 0..rows {
            let (gains, next) = model.gains(&covariance, all.clone())?;
            let take = model.transition.product(&gains.gain);
            let keep = model.transition.minus(&take.product(&model.observation));
            let mut shift = model.state_intercept.clone();
            for (own, taken) in shift
                .iter_mut()
                .zip(take.times(&model.observation_intercept))
            {
                *own -= taken;
            }
            steps.push(Move { keep, take, shift });
            // Covariances do not depend on the values. Once they have settled, all further steps are alike.
            let settled = next.minus(&covariance).largest() <= 1e-13 * covariance.largest();
            covariance = next;
            if settled {
                break;
            }
        }
        Ok(Self {
            steps,
            rows,
            covariance,
        })
    }

    /// E of the state that follows a window, `[rows, observed]`.
    fn state_after(&self, model: &StateSpace, window: &[f64]) -> Vec<f64> {
        let mut state = model.initial_mean.clone();
        let mut next = state.clone();
        let rows = window.chunks_exact(model.observed()).take(self.rows);
        for (index, row) in rows.enumerate() {
            let Move { keep, take, shift } = &self.steps[index.min(self.steps.len() - 1)];
            for (place, value) in next.iter_mut().enumerate() {
                *value = dot(keep.row(place), &state) + dot(take.row(place), row) + shift[place];
            }
            std::mem::swap(&mut state, &mut next);
        }
        state
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::{Batch, Network, fault_of, on_cpu};
    use candle_core::Device;
    use contract::NullHost;
    use contract::testing::training_windows;
    use numerics::testing::example;

    #[test]
    fn the_recursion_over_a_window_is_the_filter() {
        let (model, mut rows) = example(60);
        rows.values_mut()
            .iter_mut()
            .filter(|value| value.is_nan())
            .for_each(|value| *value = 0.7);
        let filtered = model.filter(&rows).unwrap();
        let recursion = Recursion::new(&model, 60).unwrap();
        let state = recursion.state_after(&model, rows.values());
        let apart = state
            .iter()
            .zip(&filtered.next_mean)
            .map(|(one, other)| (one - other).abs())
            .fold(0.0, f64::max);
        assert!(apart < 1e-10 && recursion.steps.len() < 60, "{apart}");
        assert!(
            recursion
                .covariance
                .minus(&filtered.next_covariance)
                .largest()
                < 1e-10
        );
        let (means, _) = model.forecast(&state, &recursion.covariance, 4);
        assert_eq!(model.forecast_means(state, 4), means.values());
    }

    /// Two noisy channels around the same slow walk.
    fn walk(rows: usize) -> Vec<f32> {
        let mut random = Random::new(7, "walk");
        let mut level = 0.0;
        let mut row = || {
            level += 0.1 * random.normal();
            [
                (5.0 + level + 0.5 * random.normal()) as f32,
                (level + 0.5 * random.normal()) as f32,
            ]
        };
        (0..rows).flat_map(|_| row()).collect()
    }

    #[test]
    fn both_structures_smooth_noise_away() {
        let (values, shape) = (walk(800), DataShape::detect(40, 2));
        let mean_error = |network: &dyn Network| {
            network
                .fit(
                    &training_windows(values[..1000].to_vec(), 2, 40),
                    &NullHost::default().context(1),
                )
                .unwrap();
            let windows: Vec<f32> = (500..760)
                .flat_map(|row| values[row * 2..(row + 40) * 2].to_vec())
                .collect();
            let batch = Batch::of(Tensor::from_vec(windows, (260, 40, 2), &Device::Cpu).unwrap());
            network
                .errors(&batch)
                .unwrap()
                .mean_all()
                .unwrap()
                .to_scalar::<f32>()
                .unwrap()
        };
        let last = super::super::naive::Naive::default();
        let last = on_cpu(1, |builder| last.build(shape, builder)).unwrap();
        let last = mean_error(last.as_ref());
        for (structure, states) in [(Structure::Factors, Some(1)), (Structure::LocalLevel, None)] {
            let config = Kalman {
                structure,
                states,
                score: Distance::Squares,
                ..Kalman::default()
            };
            let own = on_cpu(1, |builder| config.build(shape, builder)).unwrap();
            let own = mean_error(own.as_ref());
            assert!(own < 0.75 * last, "{structure:?}: {own} {last}");
        }
    }

    #[test]
    fn impossible_sizes_are_named() {
        let config = Kalman {
            states: Some(3),
            ..Kalman::default()
        };
        let shape = DataShape::detect(5, 2);
        let error = on_cpu(1, |builder| config.build(shape, builder))
            .err()
            .unwrap();
        assert!(error.hint_text().unwrap().contains("at most 2"));
        for (config, name) in [
            (
                Kalman {
                    states: Some(0),
                    ..Kalman::default()
                },
                "states",
            ),
            (
                Kalman {
                    states: Some(1),
                    structure: Structure::LocalLevel,
                    ..Kalman::default()
                },
                "states",
            ),
            (
                Kalman {
                    iterations: 0,
                    ..Kalman::default()
                },
                "iterations",
            ),
            (
                Kalman {
                    least_variance: 0.0,
                    ..Kalman::default()
                },
                "least_variance",
            ),
        ] {
            assert_eq!(fault_of(&config).parameter, name);
        }
    }
}

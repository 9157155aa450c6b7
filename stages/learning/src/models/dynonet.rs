//! DynoNet (kvu1342009-pixel/DynoNet): a controller reads the window and modulates small recurrent workers, one per
//! channel; workers learn from training batches, the controller from validation batches.
//!
//! The form `reference` is the program to the letter. The form `paper` is what it says it does, without its slips: the
//! instance normalisation is undone exactly and its affine parameters are learned, weights decay once, and the shift that
//! the controller gives the workers' input is there when forecasts are made, not only in training. In both, the signals
//! that scale learning rate, decay, clipping, freezing and loss of a worker get no gradient: the controller's objective is
//! the error on validation batches, in which they do not occur, so they keep the values they start from.

mod controller;
mod normalisation;
mod worker;

use candle_core::{D, Device, Result, Tensor, Var};
use candle_nn::ops::sigmoid;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::controller::{Controller, Signals};
use self::normalisation::{InstanceNorm, Normalised};
use self::worker::Worker;
use super::{Architecture, Batch, DataShape, Form, Network, Phase, Source, Task, checks};
use contract::{Fault, Named, Random, Trouble};
use numerics::linear::Linear;
use numerics::{Gradients, Mode, State, StateBuilder};

/// DynoNet.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Dynonet {
    pub form: Form,
    /// Size of the controller's state.
    #[schemars(range(min = 1, max = 4096))]
    pub control_hidden: usize,
    /// Size of each worker's state.
    #[schemars(range(min = 1, max = 4096))]
    pub worker_hidden: usize,
    /// Recurrent layers of a worker.
    #[schemars(range(min = 1, max = 64))]
    pub layers: usize,
    /// The last rows of the window, which the workers see.
    #[schemars(range(min = 1))]
    pub worker_length: usize,
    /// Rows of the moving average that makes the trend; odd.
    #[schemars(range(min = 1))]
    pub decomposition_kernel: usize,
    /// The channel mixer's inner size, in channels.
    #[schemars(range(min = 1, max = 64))]
    pub mixer_expansion: usize,
    /// Dropout inside the channel mixer.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
    pub dropout: f64,
    /// The controller's learning rate, in workers' rates.
    #[schemars(range(min = 0.0))]
    pub controller_rate: f64,
    /// The controller's weight decay, in workers' decays.
    #[schemars(range(min = 0.0))]
    pub controller_decay: f64,
    /// Weight of the workers' squared parameters in their loss; by default 1e-4 in the form `reference`, else 0.
    #[schemars(range(min = 0.0))]
    pub penalty: Option<f64>,
}

impl Default for Dynonet {
    fn default() -> Self {
        Self {
            form: Form::Paper,
            control_hidden: 64,
            worker_hidden: 8,
            layers: 1,
            worker_length: 96,
            decomposition_kernel: 25,
            mixer_expansion: 4,
            dropout: 0.1,
            controller_rate: 0.05,
            controller_decay: 10.0,
            penalty: None,
        }
    }
}

/// Rows that the workers' table of positions has at least.
const POSITIONS: usize = 96;

impl Named for Dynonet {
    const NAME: &'static str = "dynonet";
    const DOC: &'static str = "DynoNet: a controller modulates small recurrent workers, one per channel; forecasts in two levels of training";
    const EXAMPLE: &'static str = r#"{"control_hidden": 8, "worker_hidden": 4, "worker_length": 16, "decomposition_kernel": 5}"#;
}

// Reference: kvu1342009-pixel/DynoNet (a program without a paper)
impl Architecture for Dynonet {
    fn tasks(&self) -> &'static [Task] {
        &[Task::Forecast]
    }

    fn bi_level(&self) -> bool {
        true
    }

    fn check(&self) -> std::result::Result<(), Fault> {
        checks::odd("decomposition_kernel", self.decomposition_kernel)
    }

    fn build(
        &self,
        shape: DataShape,
        device: &Device,
        random: &mut Random,
    ) -> std::result::Result<Box<dyn Network>, Trouble> {
        if self.worker_length > shape.length {
            let message = format!(
                "dynonet's workers see {} rows, and windows have {}",
                self.worker_length, shape.length
            );
            return Err(Trouble::new(message).hint("lower `worker_length` or lengthen the windows"));
        }
        Ok(Box::new(Forecaster::new(self, shape, device, random)?))
    }
}

/// Where the random draws of a training step come from.
pub trait Draws {
    /// 1 where a value is kept and 0 where it is dropped, `[batch, time, hidden]`, with the probability `keep` for each
    /// sample, `[batch, 1, 1]`.
    ///
    /// # Errors
    /// If a tensor cannot be made.
    fn kept(
        &mut self,
        worker: usize,
        layer: usize,
        keep: &Tensor,
        time: usize,
        hidden: usize,
    ) -> Result<Tensor>;

    /// Whether a worker stays as it is in this step.
    fn frozen(&mut self, worker: usize, probability: f64) -> bool;

    /// Uniform in [0, 1): for the channel mixer's dropout.
    fn uniform(&mut self) -> f64;
}

impl Draws for Random {
    fn kept(
        &mut self,
        _: usize,
        _: usize,
        keep: &Tensor,
        time: usize,
        hidden: usize,
    ) -> Result<Tensor> {
        let probabilities: Vec<f32> = keep.flatten_all()?.to_vec1()?;
        let values: Vec<f32> = probabilities
            .iter()
            .flat_map(|keep| std::iter::repeat_n(f64::from(*keep), time * hidden))
            .map(|keep| {
                if Random::uniform(self) < keep {
                    1.0
                } else {
                    0.0
                }
            })
            .collect();
        Tensor::from_vec(values, (probabilities.len(), time, hidden), keep.device())
    }

    fn frozen(&mut self, _: usize, probability: f64) -> bool {
        // No draw for what cannot happen, so that the stream of other draws does not depend on it.
        probability > 0.0 && Random::uniform(self) < probability
    }

    fn uniform(&mut self) -> f64 {
        Self::uniform(self)
    }
}

/// The network. Windows are `[batch, length, channels]`, forecasts `[batch, horizon, channels]`.
pub struct Forecaster {
    config: Dynonet,
    state: State,
    shape: DataShape,
    phases: [Phase; 2],
    normalise: InstanceNorm,
    controller: Controller,
    workers: Vec<Worker>,
    trend: Linear,
    mixer: [Linear; 2],
    /// `[length, length]`: row t holds the weights of the moving average at t.
    average: Tensor,
}

/// What a forward pass computes on its way.
struct Forward {
    forecast: Tensor,
    normalised: Tensor,
    trend: Tensor,
    residual: Tensor,
    signals: Signals,
}

impl Forecaster {
    /// # Errors
    /// If a tensor cannot be made.
    pub fn new(
        config: &Dynonet,
        shape: DataShape,
        device: &Device,
        random: &mut Random,
    ) -> Result<Self> {
        let DataShape {
            length,
            channels,
            horizon,
            ..
        } = shape;
        let mut declared = StateBuilder::new(device, random);
        let builder = &mut declared;
        let normalise = InstanceNorm::new(builder, "revin", channels, config.form)?;
        let controller = Controller::new(builder, "control_net", channels, config)?;
        let trend = Linear::new(builder, "worker_net.shared_trend_linear", length, horizon)?;
        let positions = config.worker_length.max(POSITIONS);
        let workers = (0..channels)
            .map(|worker| {
                Worker::new(
                    builder,
                    &format!("worker_net.workers.{worker}"),
                    config,
                    positions,
                    horizon,
                )
            })
            .collect::<Result<_>>()?;
        let inner = config.mixer_expansion * channels;
        let mixer = [
            Linear::new(builder, "worker_net.channel_mixer.0", channels, inner)?,
            Linear::zeroed(builder, "worker_net.channel_mixer.3", inner, channels)?,
        ];
        Ok(Self {
            config: config.clone(),
            state: declared.finish(),
            shape,
            phases: [
                Phase::TRAIN,
                Phase {
                    source: Source::Validation,
                    rate: config.controller_rate,
                    decay: config.controller_decay,
                },
            ],
            normalise,
            controller,
            workers,
            trend,
            mixer,
            average: moving_average(length, config.decomposition_kernel, device)?,
        })
    }

    /// The forward pass. Without `draws` nothing is dropped: that is evaluation. `live` says whether the controller is to
    /// get gradients.
    fn forward(&self, x: &Tensor, draws: Option<&mut dyn Draws>, live: bool) -> Result<Forward> {
        checks::windows(self.shape, x)?;
        let mode = if draws.is_some() {
            Mode::Train
        } else {
            Mode::Evaluate
        };
        let Normalised {
            plain,
            affine: normalised,
            moments,
        } = self.normalise.forward(x)?;
        // The affine parameters are the workers': in the form `paper` what they do does not move the signals.
        let read = if self.config.form == Form::Reference {
            normalised.detach()
        } else {
            plain
        };
        let signals = self.controller.forward(&read, mode)?;
        let signals = if live { signals } else { signals.detached() };
        // [batch, channels, length], so that rows of time are the last axis.
        let columns = normalised.transpose(1, 2)?.contiguous()?;
        let trend = self.averaged(&columns)?;
        let residual = (&columns - &trend)?;
        // The controller's shift is constant in time: all of it belongs to the trend.
        let shifted = mode == Mode::Train || self.config.form == Form::Paper;
        let moved = if shifted {
            trend.broadcast_add(&signals.input_noise.unsqueeze(2)?)?
        } else {
            trend.clone()
        };
        let long_run = self.trend.forward(&moved.contiguous()?)?;
        let (short_run, draws) = self.short_run(&residual, &signals, draws)?;
        let y = (long_run + short_run)?.transpose(1, 2)?.contiguous()?;
        let y = (&y + self.mixed(&y, draws)?)?;
        let forecast = self.normalise.invert(&y, &moments)?;
        Ok(Forward {
            forecast,
            normalised,
            trend,
            residual,
            signals,
        })
    }

    /// The moving average over time, `[batch, channels, length]`.
    fn averaged(&self, columns: &Tensor) -> Result<Tensor> {
        let (batch, channels, length) = columns.dims3()?;
        columns
            .reshape((batch * channels, length))?
            .matmul(&self.average.t()?)?
            .reshape((batch, channels, length))
    }

    /// What the workers forecast of the residual: `[batch, channels, horizon]`.
    #[allow(clippy::type_complexity)]
    fn short_run<'d>(
        &self,
        residual: &Tensor,
        signals: &Signals,
        mut draws: Option<&'d mut dyn Draws>,
    ) -> Result<(Tensor, Option<&'d mut dyn Draws>)> {
        let length = self.config.worker_length;
        let recent = residual.narrow(2, self.shape.length - length, length)?;
        let mut forecasts = Vec::with_capacity(self.workers.len());
        for (index, worker) in self.workers.iter().enumerate() {
            let own = recent.narrow(1, index, 1)?.squeeze(1)?.contiguous()?;
            let draws = draws.as_mut().map(|draws| &mut **draws as &mut dyn Draws);
            forecasts.push(worker.forward(&own, index, signals, draws)?);
        }
        Ok((Tensor::stack(&forecasts, 1)?, draws))
    }

    /// What the other channels add, `[batch, horizon, channels]`.
    fn mixed(&self, y: &Tensor, draws: Option<&mut dyn Draws>) -> Result<Tensor> {
        let inner = self.mixer[0].forward(y)?.gelu_erf()?;
        let rate = self.config.dropout;
        let inner = match draws {
            Some(draws) if rate > 0.0 => {
                let scale = (1.0 / (1.0 - rate)) as f32;
                let draw = |_| if draws.uniform() < rate { 0.0 } else { scale };
                let mask = (0..inner.elem_count()).map(draw).collect();
                (&inner * Tensor::from_vec(mask, inner.dims(), inner.device())?)?
            }
            _ => inner,
        };
        self.mixer[1].forward(&inner)
    }

    /// The workers' loss and gradients, clipped and frozen worker by worker as the controller says.
    ///
    /// # Errors
    /// If the batch does not fit or has no targets.
    pub fn worker_gradients(
        &self,
        batch: &Batch,
        draws: &mut dyn Draws,
    ) -> Result<(f64, Gradients)> {
        let (loss, signals) = self.worker_loss(batch, draws)?;
        let mut gradients = self.of_part(&loss, |name| {
            name.starts_with("worker_net.")
                || self.config.form == Form::Paper && name.starts_with("revin.")
        })?;
        let mean = |signal: &Tensor| -> Result<Vec<f32>> { signal.mean(0)?.to_vec1() };
        let (clips, freezes) = (mean(&signals.grad_clip)?, mean(&signals.freeze_prob)?);
        for worker in 0..self.workers.len() {
            let own = self.places_of(worker);
            let mut part = Gradients(own.iter().map(|index| gradients.0[*index].take()).collect());
            if draws.frozen(worker, f64::from(freezes[worker])) {
                continue;
            }
            part.clip(f64::from(clips[worker]))?;
            for (index, gradient) in own.into_iter().zip(part.0) {
                gradients.0[index] = gradient;
            }
        }
        Ok((f64::from(loss.to_scalar::<f32>()?), gradients))
    }

    /// The workers' loss: squared errors, weighted per channel, and the penalty of their parameters.
    fn worker_loss(&self, batch: &Batch, draws: &mut dyn Draws) -> Result<(Tensor, Signals)> {
        let forward = self.forward(&batch.inputs, Some(draws), false)?;
        let weights = (&forward.signals.lr_scale * &forward.signals.loss_weight)?.unsqueeze(1)?;
        let squares = (forward.forecast - targets(batch)?)?
            .sqr()?
            .broadcast_mul(&weights)?;
        let mut loss = squares.mean_all()?;
        let default = if self.config.form == Form::Reference {
            1e-4
        } else {
            0.0
        };
        let penalty = self.config.penalty.unwrap_or(default);
        if penalty > 0.0 {
            let scales: Vec<f32> = forward.signals.wd_scale.mean(0)?.to_vec1()?;
            for (worker, scale) in scales.into_iter().enumerate() {
                let squares = self
                    .parameters_of(worker)
                    .map(|parameter| parameter.sqr()?.sum_all());
                let sum = squares.reduce(|sum, square| sum? + square?).transpose()?;
                if let Some(sum) = sum {
                    loss = (loss + (sum * (0.5 * penalty * f64::from(scale)))?)?;
                }
            }
        }
        Ok((loss, forward.signals))
    }

    /// The controller's loss, the error of forecasts, and its gradients.
    ///
    /// # Errors
    /// If the batch does not fit or has no targets.
    pub fn controller_gradients(
        &self,
        batch: &Batch,
        draws: &mut dyn Draws,
    ) -> Result<(f64, Gradients)> {
        let forward = self.forward(&batch.inputs, Some(draws), true)?;
        let loss = (forward.forecast - targets(batch)?)?.sqr()?.mean_all()?;
        let gradients = self.of_part(&loss, |name| name.starts_with("control_net."))?;
        Ok((f64::from(loss.to_scalar::<f32>()?), gradients))
    }

    /// The gradients of those parameters whose names are wanted.
    fn of_part(&self, loss: &Tensor, wanted: impl Fn(&str) -> bool) -> Result<Gradients> {
        let mut gradients = Gradients::of(&self.state, &loss.backward()?);
        for ((name, _), gradient) in self.state.parameters().zip(&mut gradients.0) {
            if !wanted(name) {
                *gradient = None;
            }
        }
        Ok(gradients)
    }

    fn parameters_of(&self, worker: usize) -> impl Iterator<Item = &Var> {
        let prefix = format!("worker_net.workers.{worker}.");
        self.state
            .parameters()
            .filter(move |(name, _)| name.starts_with(&prefix))
            .map(|(_, parameter)| parameter)
    }

    fn places_of(&self, worker: usize) -> Vec<usize> {
        let prefix = format!("worker_net.workers.{worker}.");
        let places = self
            .state
            .parameters()
            .enumerate()
            .filter(|(_, (name, _))| name.starts_with(&prefix));
        places.map(|(index, _)| index).collect()
    }
}

fn targets(batch: &Batch) -> Result<&Tensor> {
    batch
        .targets
        .as_ref()
        .ok_or_else(|| candle_core::Error::Msg("a batch to forecast has no targets".to_owned()))
}

/// The matrix of a moving average whose ends repeat the first and the last row.
fn moving_average(length: usize, kernel: usize, device: &Device) -> Result<Tensor> {
    let (half, share) = (kernel / 2, 1.0 / kernel as f32);
    let mut weights = vec![0.0; length * length];
    for (row, weights) in weights.chunks_exact_mut(length).enumerate() {
        for tap in 0..kernel {
            let place = (row + tap).saturating_sub(half).min(length - 1);
            weights[place] += share;
        }
    }
    Tensor::from_vec(weights, (length, length), device)
}

impl Network for Forecaster {
    fn state(&self) -> &State {
        &self.state
    }

    fn loss(&self, batch: &Batch, mode: Mode, random: &mut Random) -> Result<Tensor> {
        match mode {
            Mode::Train => Ok(self.worker_loss(batch, random)?.0),
            Mode::Evaluate => (self.predict(batch)? - targets(batch)?)?.sqr()?.mean_all(),
        }
    }

    fn phases(&self) -> &[Phase] {
        &self.phases
    }

    fn gradients(
        &self,
        phase: usize,
        batch: &Batch,
        random: &mut Random,
    ) -> Result<(f64, Gradients)> {
        if phase == 0 {
            self.worker_gradients(batch, random)
        } else {
            self.controller_gradients(batch, random)
        }
    }

    fn predict(&self, batch: &Batch) -> Result<Tensor> {
        Ok(self.forward(&batch.inputs, None, false)?.forecast)
    }

    fn trace(&self, batch: &Batch, _: Mode) -> Result<Vec<(String, Tensor)>> {
        let forward = self.forward(&batch.inputs, None, true)?;
        let moments = self.normalise.forward(&batch.inputs)?.moments;
        let roundtrip = self.normalise.invert(&forward.normalised, &moments)?;
        let mut named = vec![
            ("pred".to_owned(), forward.forecast),
            (
                "decomp_trend".to_owned(),
                forward.trend.transpose(1, 2)?.contiguous()?,
            ),
            (
                "decomp_residual".to_owned(),
                forward.residual.transpose(1, 2)?.contiguous()?,
            ),
            ("revin_norm".to_owned(), forward.normalised),
            ("revin_mean".to_owned(), moments.mean),
            ("revin_stdev".to_owned(), moments.deviation),
            ("revin_roundtrip".to_owned(), roundtrip),
        ];
        named.extend(forward.signals.named()?);
        Ok(named)
    }
}

/// `low + (high - low) σ(x)`.
fn between(x: &Tensor, low: f64, high: f64) -> Result<Tensor> {
    (sigmoid(x)? * (high - low))? + low
}

/// Layer normalisation over the last axis, in plain operations: it works on one row per sample.
fn layer_norm(x: &Tensor, weight: &Var, bias: &Var) -> Result<Tensor> {
    let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let deviation = (centred.sqr()?.mean_keepdim(D::Minus1)? + 1e-5)?.sqrt()?;
    centred
        .broadcast_div(&deviation)?
        .broadcast_mul(weight)?
        .broadcast_add(bias)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::fault_of;

    #[test]
    fn the_moving_average_repeats_the_ends() {
        let average = moving_average(4, 3, &Device::Cpu).unwrap();
        let x = Tensor::new(&[[3.0_f32], [6.0], [0.0], [9.0]], &Device::Cpu).unwrap();
        let y: Vec<f32> = average
            .matmul(&x)
            .unwrap()
            .flatten_all()
            .unwrap()
            .to_vec1()
            .unwrap();
        let expected = [4.0, 3.0, 5.0, 6.0];
        assert!(
            y.iter()
                .zip(expected)
                .all(|(y, expected)| (y - expected).abs() < 1e-6),
            "{y:?}"
        );
    }

    #[test]
    fn impossible_parameters_are_named() {
        let fault = |config: Dynonet| fault_of(&config).parameter;
        assert_eq!(
            fault(Dynonet {
                layers: 0,
                ..Dynonet::default()
            }),
            "layers"
        );
        assert_eq!(
            fault(Dynonet {
                decomposition_kernel: 4,
                ..Dynonet::default()
            }),
            "decomposition_kernel"
        );
        assert_eq!(
            fault(Dynonet {
                dropout: 1.0,
                ..Dynonet::default()
            }),
            "dropout"
        );
        assert_eq!(
            fault(Dynonet {
                controller_rate: -1.0,
                ..Dynonet::default()
            }),
            "controller_rate"
        );
        let shape = DataShape::forecast(32, 2, 8);
        let error = Dynonet::default()
            .build(shape, &Device::Cpu, &mut Random::new(1, "init"))
            .err()
            .unwrap();
        assert!(error.message().contains("96 rows"), "{error}");
    }

    #[test]
    fn each_phase_moves_its_own_part() {
        let config = Dynonet {
            worker_length: 8,
            control_hidden: 5,
            worker_hidden: 4,
            layers: 2,
            ..Dynonet::default()
        };
        let mut random = Random::new(3, "init");
        let network = Forecaster::new(
            &config,
            DataShape::forecast(12, 2, 3),
            &Device::Cpu,
            &mut random,
        )
        .unwrap();
        let mut draws = |dims: &[usize]| {
            let values: Vec<f32> = (0..dims.iter().product())
                .map(|_| random.normal() as f32)
                .collect();
            Tensor::from_vec(values, dims, &Device::Cpu).unwrap()
        };
        let (inputs, targets) = (draws(&[4, 12, 2]), draws(&[4, 3, 2]));
        let batch = Batch {
            targets: Some(targets),
            ..Batch::of(inputs)
        };
        for (phase, part) in ["worker_net.", "control_net."].into_iter().enumerate() {
            let (loss, gradients) = network
                .gradients(phase, &batch, &mut Random::new(1, "noise"))
                .unwrap();
            assert!(loss.is_finite());
            for ((name, _), gradient) in network.state.parameters().zip(&gradients.0) {
                let own = name.starts_with(part) || phase == 0 && name.starts_with("revin.");
                assert!(own || gradient.is_none(), "{name} in phase {phase}");
            }
            assert!(gradients.norm().unwrap() > 0.0);
        }
    }
}

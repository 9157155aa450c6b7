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

use candle_core::{D, Tensor, Var};
use candle_nn::ops::sigmoid;

use self::controller::{Controller, Signals};
use self::normalisation::InstanceNorm;
use self::worker::Worker;
use super::instance_norm::Instance;
use super::moving_average::averaging;
use super::{Architecture, Batch, Built, DataShape, Form, Network, Phase, Result, Source, Task};
use super::{checks, differentiate, named, sum};
use contract::{Fault, Named, Random, Trouble};
use numerics::linear::Linear;
use numerics::{Gradients, Mode, State, StateBuilder};

contract::parameters! {
    /// DynoNet.
    pub struct Dynonet {
        pub form: Form = Form::Paper,
        /// Size of the controller's state.
        #[schemars(range(min = 1, max = 4096))]
        pub control_hidden: usize = 64,
        /// Size of each worker's state.
        #[schemars(range(min = 1, max = 4096))]
        pub worker_hidden: usize = 8,
        /// Recurrent layers of a worker.
        #[schemars(range(min = 1, max = 64))]
        pub layers: usize = 1,
        /// The last rows of the window, which the workers see.
        #[schemars(range(min = 1))]
        pub worker_length: usize = 96,
        /// Rows of the moving average that makes the trend; odd.
        #[schemars(range(min = 1))]
        pub decomposition_kernel: usize = 25,
        /// The channel mixer's inner size, in channels.
        #[schemars(range(min = 1, max = 64))]
        pub mixer_expansion: usize = 4,
        /// Dropout inside the channel mixer.
        #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
        pub dropout: f64 = 0.1,
        /// The controller's learning rate, in workers' rates.
        #[schemars(range(min = 0.0))]
        pub controller_rate: f64 = 0.05,
        /// The controller's weight decay, in workers' decays.
        #[schemars(range(min = 0.0))]
        pub controller_decay: f64 = 10.0,
        /// Weight of the workers' squared parameters in their loss; by default 1e-4 in the form `reference`, else 0.
        #[schemars(range(min = 0.0))]
        pub penalty: Option<f64> = None,
    }
}

/// Rows that the workers' table of positions has at least.
const POSITIONS: usize = 96;

impl Named for Dynonet {
    const NAME: &'static str = "dynonet";
    const DOC: &'static str = "DynoNet: a controller modulates small recurrent workers, one per channel; forecasts in two levels of training";
    const EXAMPLE: &'static str = r#"{"control_hidden": 8, "worker_hidden": 4, "worker_length": 16, "decomposition_kernel": 5}"#;
}

impl Architecture for Dynonet {
    fn tasks(&self) -> &'static [Task] {
        &[Task::Forecast]
    }

    fn bi_level(&self) -> bool {
        true
    }

    fn check(&self) -> Result<(), Fault> {
        checks::odd("decomposition_kernel", self.decomposition_kernel)
    }

    fn build(&self, shape: DataShape, builder: &mut StateBuilder<'_>) -> Built {
        if self.worker_length > shape.length {
            let message = format!(
                "dynonet's workers see {} rows, and windows have {}",
                self.worker_length, shape.length
            );
            return Err(Trouble::new(message).hint("lower `worker_length` or lengthen the windows"));
        }
        Ok(Box::new(self.network(shape, builder)?))
    }
}

impl Dynonet {
    /// # Errors
    /// If a tensor cannot be made.
    pub fn network(&self, shape: DataShape, builder: &mut StateBuilder<'_>) -> Result<Forecaster> {
        let (channels, horizon) = (shape.channels, shape.horizon);
        let normalise = InstanceNorm::new(builder, "revin", channels, self.form)?;
        let controller = Controller::new(builder, "control_net", channels, self)?;
        let trend = "worker_net.shared_trend_linear";
        let trend = Linear::new(builder, trend, shape.length, horizon)?;
        let positions = self.worker_length.max(POSITIONS);
        let mut workers = Vec::with_capacity(channels);
        for worker in 0..channels {
            let name = format!("worker_net.workers.{worker}");
            workers.push(Worker::new(builder, &name, self, positions, horizon)?);
        }
        // The second layer of the mixer starts at zero: at first, channels do not see each other.
        let inner = self.mixer_expansion * channels;
        let mixer = [
            Linear::new(builder, "worker_net.channel_mixer.0", channels, inner)?,
            Linear::zeroed(builder, "worker_net.channel_mixer.3", inner, channels)?,
        ];
        let upper = Phase {
            source: Source::Validation,
            rate: self.controller_rate,
            decay: self.controller_decay,
        };
        Ok(Forecaster {
            config: self.clone(),
            state: builder.finish(),
            shape,
            phases: [Phase::TRAIN, upper],
            normalise,
            controller,
            workers,
            trend,
            mixer,
            average: averaging(shape.length, self.decomposition_kernel, builder.device())?
                .t()?
                .contiguous()?,
        })
    }
}

/// Where the random draws of a training step come from; nothing is drawn in evaluation.
type Drawing<'a, 'b> = Option<&'a mut (dyn Draws + 'b)>;

/// Random draws of a training step.
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
        let mut values = Vec::with_capacity(probabilities.len() * time * hidden);
        for probability in &probabilities {
            for _ in 0..time * hidden {
                let kept = Random::uniform(self) < f64::from(*probability);
                values.push(f32::from(u8::from(kept)));
            }
        }
        numerics::upload(values, (probabilities.len(), time, hidden), keep.device())
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
    instance: Instance,
    normalised: Tensor,
    trend: Tensor,
    residual: Tensor,
    signals: Signals,
}

impl Forecaster {
    /// The forward pass. Without `draws` nothing is dropped: that is evaluation. `live` says whether the controller is to
    /// get gradients.
    fn forward(&self, x: &Tensor, mut draws: Drawing<'_, '_>, live: bool) -> Result<Forward> {
        self.shape.check_windows(x)?;
        let mode = mode_of(&draws);
        let instance = Instance::of(x, None)?;
        let plain = instance.normalise(x)?;
        let normalised = self.normalise.scale(&plain)?;
        // The affine parameters are the workers': in the form `paper` what they do does not move the signals.
        let read = match self.config.form {
            Form::Reference => normalised.detach(),
            Form::Paper => plain,
        };
        let mut signals = self.controller.forward(&read, mode)?;
        if !live {
            signals.detach();
        }
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
        let short_run = self.short_run(&residual, &signals, draws.as_deref_mut())?;
        let y = (long_run + short_run)?.transpose(1, 2)?.contiguous()?;
        let y = (&y + self.mixed(&y, draws)?)?;
        let forecast = instance.restore(&self.normalise.unscale(&y)?)?;
        Ok(Forward {
            forecast,
            instance,
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
    fn short_run(
        &self,
        residual: &Tensor,
        signals: &Signals,
        mut draws: Drawing<'_, '_>,
    ) -> Result<Tensor> {
        let length = self.config.worker_length;
        let recent = residual.narrow(2, self.shape.length - length, length)?;
        let mut forecasts = Vec::with_capacity(self.workers.len());
        for (index, worker) in self.workers.iter().enumerate() {
            let own = recent.narrow(1, index, 1)?.squeeze(1)?.contiguous()?;
            forecasts.push(worker.forward(&own, index, signals, draws.as_deref_mut())?);
        }
        Tensor::stack(&forecasts, 1)
    }

    /// What the other channels add, `[batch, horizon, channels]`.
    fn mixed(&self, y: &Tensor, draws: Drawing<'_, '_>) -> Result<Tensor> {
        let mut inner = self.mixer[0].forward(y)?.gelu_erf()?;
        let rate = self.config.dropout;
        if let Some(draws) = draws
            && rate > 0.0
        {
            let mut mask = vec![(1.0 / (1.0 - rate)) as f32; inner.elem_count()];
            for factor in &mut mask {
                if draws.uniform() < rate {
                    *factor = 0.0;
                }
            }
            inner = (&inner * numerics::upload(mask, inner.dims(), inner.device())?)?;
        }
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
        // In the program no optimiser has the affine parameters of the normalisation.
        let parts: &[&str] = match self.config.form {
            Form::Reference => &["worker_net."],
            Form::Paper => &["worker_net.", "revin."],
        };
        let (loss, mut gradients) = self.of_parts(&loss, parts)?;
        let clips: Vec<f32> = signals.grad_clip.mean(0)?.to_vec1()?;
        let freezes: Vec<f32> = signals.freeze_prob.mean(0)?.to_vec1()?;
        for worker in 0..self.workers.len() {
            let prefix = prefix_of(worker);
            let mut own = Gradients(Vec::new());
            for ((name, _), gradient) in self.state.parameters().zip(&mut gradients.0) {
                if name.starts_with(&prefix) {
                    own.0.push(gradient.take());
                }
            }
            // The gradients of a frozen worker stay away: an optimiser then neither moves nor decays its weights.
            if draws.frozen(worker, f64::from(freezes[worker])) {
                continue;
            }
            own.clip(f64::from(clips[worker]))?;
            let mut clipped = own.0.into_iter();
            for ((name, _), gradient) in self.state.parameters().zip(&mut gradients.0) {
                if name.starts_with(&prefix) {
                    *gradient = clipped.next().flatten();
                }
            }
        }
        Ok((loss, gradients))
    }

    /// The workers' loss: squared errors, weighted per channel, and the penalty of their parameters.
    fn worker_loss(&self, batch: &Batch, draws: &mut dyn Draws) -> Result<(Tensor, Signals)> {
        let forward = self.forward(&batch.inputs, Some(draws), false)?;
        let weights = (&forward.signals.lr_scale * &forward.signals.loss_weight)?.unsqueeze(1)?;
        let squares = (forward.forecast - batch.targets()?)?.sqr()?;
        let mut loss = squares.broadcast_mul(&weights)?.mean_all()?;
        let default = match self.config.form {
            Form::Reference => 1e-4,
            Form::Paper => 0.0,
        };
        let penalty = self.config.penalty.unwrap_or(default);
        if penalty > 0.0 {
            let scales: Vec<f32> = forward.signals.wd_scale.mean(0)?.to_vec1()?;
            for (worker, scale) in scales.into_iter().enumerate() {
                let sum = self.squared_parameters(worker)?;
                loss = (loss + (sum * (0.5 * penalty * f64::from(scale)))?)?;
            }
        }
        Ok((loss, forward.signals))
    }

    /// The sum of a worker's squared parameters.
    fn squared_parameters(&self, worker: usize) -> Result<Tensor> {
        let prefix = prefix_of(worker);
        let mut squares = Vec::new();
        for (name, parameter) in self.state.parameters() {
            if name.starts_with(&prefix) {
                squares.push(parameter.sqr()?.sum_all()?);
            }
        }
        sum(&squares)
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
        let loss = batch.squared_error(&forward.forecast)?;
        self.of_parts(&loss, &["control_net."])
    }

    /// A loss and its gradients by those parameters whose names begin in one of these ways.
    fn of_parts(&self, loss: &Tensor, parts: &[&str]) -> Result<(f64, Gradients)> {
        let (loss, mut gradients) = differentiate(&self.state, loss)?;
        for ((name, _), gradient) in self.state.parameters().zip(&mut gradients.0) {
            if !parts.iter().any(|part| name.starts_with(part)) {
                *gradient = None;
            }
        }
        Ok((loss, gradients))
    }
}

/// How the names of a worker's parameters begin.
fn prefix_of(worker: usize) -> String {
    format!("worker_net.workers.{worker}.")
}

fn mode_of(draws: &Drawing<'_, '_>) -> Mode {
    match draws {
        Some(_) => Mode::Train,
        None => Mode::Evaluate,
    }
}

impl Network for Forecaster {
    fn state(&self) -> &State {
        &self.state
    }

    fn loss(&self, batch: &Batch, mode: Mode, random: &mut Random) -> Result<Tensor> {
        match mode {
            Mode::Train => Ok(self.worker_loss(batch, random)?.0),
            Mode::Evaluate => batch.squared_error(&self.predict(batch)?),
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
        let roundtrip = self.normalise.unscale(&forward.normalised)?;
        let mut traced = named([
            ("pred", forward.forecast),
            ("decomp_trend", forward.trend.transpose(1, 2)?.contiguous()?),
            (
                "decomp_residual",
                forward.residual.transpose(1, 2)?.contiguous()?,
            ),
            ("revin_norm", forward.normalised),
            ("revin_roundtrip", forward.instance.restore(&roundtrip)?),
            ("revin_mean", forward.instance.mean),
            ("revin_stdev", forward.instance.deviation),
        ]);
        traced.extend(forward.signals.named());
        Ok(traced)
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
    use crate::models::{fault_of, on_cpu};
    use candle_core::Device;

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
        let error = on_cpu(1, |builder| Dynonet::default().build(shape, builder))
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
        let shape = DataShape::forecast(12, 2, 3);
        let network = on_cpu(3, |builder| config.network(shape, builder)).unwrap();
        let mut random = Random::new(3, "data");
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

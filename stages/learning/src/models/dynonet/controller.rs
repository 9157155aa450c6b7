//! The controller: it reads the normalised window and says how each worker is to work and to learn.

use candle_core::Tensor;
use candle_nn::ops::sigmoid;

use super::{Dynonet, between};
use crate::models::{Result, named};
use numerics::gru::Gru;
use numerics::initialise::Initial;
use numerics::linear::Linear;
use numerics::{Mode, StateBuilder};

/// What the controller says: `[batch, channels]` each unless noted otherwise.
pub struct Signals {
    /// The controller's last state, `[batch, control hidden]`.
    pub brain: Tensor,
    /// Weighs a worker's errors in its loss, from 0.01 to 5.
    pub lr_scale: Tensor,
    /// Weighs a worker's squared parameters in its loss, from 0.1 to 10.
    pub wd_scale: Tensor,
    /// The share of a worker's values that is dropped, from 0 to 0.7.
    pub dropout_rate: Tensor,
    /// The norm to which a worker's gradients are clipped, from 0.1 to 2.
    pub grad_clip: Tensor,
    /// Weighs a worker's errors in its loss, from 0.5 to 1.5.
    pub loss_weight: Tensor,
    /// The probability that a worker stays as it is in a step.
    pub freeze_prob: Tensor,
    /// Added to a channel of the window.
    pub input_noise: Tensor,
    /// Factors on a worker's input, `[batch, channels, hidden]`.
    pub gate_masks: Tensor,
    /// Scale and shift of a worker's states, each `[batch, channels, layers, hidden]`.
    pub film_gamma: Tensor,
    pub film_beta: Tensor,
    /// Joined to a worker's last state, `[batch, hidden]`.
    pub context: Tensor,
}

impl Signals {
    /// All of them by name.
    fn each(&mut self) -> [(&'static str, &mut Tensor); 12] {
        [
            ("brain", &mut self.brain),
            ("signal.lr_scale", &mut self.lr_scale),
            ("signal.wd_scale", &mut self.wd_scale),
            ("signal.dropout_rate", &mut self.dropout_rate),
            ("signal.grad_clip", &mut self.grad_clip),
            ("signal.loss_weight", &mut self.loss_weight),
            ("signal.freeze_prob", &mut self.freeze_prob),
            ("signal.input_noise", &mut self.input_noise),
            ("signal.gate_masks", &mut self.gate_masks),
            ("signal.film_gamma", &mut self.film_gamma),
            ("signal.film_beta", &mut self.film_beta),
            ("signal.context", &mut self.context),
        ]
    }

    /// Cuts the way back to the controller.
    pub fn detach(&mut self) {
        for (_, signal) in self.each() {
            *signal = signal.detach();
        }
    }

    /// All of them, for comparison with other implementations.
    pub fn named(mut self) -> Vec<(String, Tensor)> {
        named(self.each().map(|(name, signal)| (name, signal.clone())))
    }
}

/// A signal within bounds, one value per channel.
struct Bounded {
    linear: Linear,
    low: f64,
    high: f64,
}

impl Bounded {
    /// Starts at the value `start`, whatever the window.
    fn new(
        builder: &mut StateBuilder<'_>,
        name: &str,
        sizes: (usize, usize),
        (low, high): (f64, f64),
        start: f64,
    ) -> Result<Self> {
        // The weights are zero at first, so that the bias decides alone: it is where `between` gives the start.
        let share = (start - low) / (high - low);
        let logit = (share / (1.0 - share)).ln() as f32;
        let linear = Linear::starting_at(
            builder,
            &format!("{name}.gen"),
            sizes.0,
            sizes.1,
            Initial::Zeros,
            Initial::Constant(logit),
        )?;
        Ok(Self { linear, low, high })
    }

    fn forward(&self, context: &Tensor) -> Result<Tensor> {
        between(&self.linear.forward(context)?, self.low, self.high)
    }
}

pub struct Controller {
    channels: usize,
    hidden: usize,
    gru: Gru,
    lr: Bounded,
    wd: Bounded,
    dropout: Bounded,
    clip: Bounded,
    loss_weight: Bounded,
    freeze: Bounded,
    film: Vec<Linear>,
    gate: Linear,
    noise: Linear,
    context: Linear,
}

impl Controller {
    pub fn new(
        builder: &mut StateBuilder<'_>,
        name: &str,
        channels: usize,
        config: &Dynonet,
    ) -> Result<Self> {
        let (control, hidden) = (config.control_hidden, config.worker_hidden);
        let sizes = (control, channels);
        let gru = Gru::new(builder, &format!("{name}.brain.gru"), channels, control)?;
        let mut bounded = |part: &str, bounds, start| {
            Bounded::new(builder, &format!("{name}.{part}"), sizes, bounds, start)
        };
        let lr = bounded("lr_ctrl", (0.01, 5.0), 1.0)?;
        let wd = bounded("wd_ctrl", (0.1, 10.0), 1.0)?;
        let dropout = bounded("dropout_ctrl", (0.0, 0.7), 0.1)?;
        let clip = bounded("grad_clip_ctrl", (0.1, 2.0), 1.0)?;
        let loss_weight = bounded("loss_weight_ctrl", (0.5, 1.5), 1.0)?;
        // The logit of 0 is minus infinity: nothing is ever frozen, as in the reference.
        let freeze = bounded("freeze_ctrl", (0.0, 1.0), 0.0)?;
        let mut film = Vec::with_capacity(config.layers);
        for layer in 0..config.layers {
            let name = format!("{name}.film_gens.{layer}");
            film.push(Linear::zeroed(
                builder,
                &name,
                control,
                2 * channels * hidden,
            )?);
        }
        let gate = format!("{name}.gate_ctrl.0");
        Ok(Self {
            channels,
            hidden,
            gru,
            lr,
            wd,
            dropout,
            clip,
            loss_weight,
            freeze,
            film,
            noise: Linear::zeroed(builder, &format!("{name}.noise_ctrl"), control, channels)?,
            gate: Linear::new(builder, &gate, control, channels * hidden)?,
            context: Linear::new(builder, &format!("{name}.context_proj"), control, hidden)?,
        })
    }

    /// The signals for normalised windows, `[batch, length, channels]`.
    pub fn forward(&self, x: &Tensor, mode: Mode) -> Result<Signals> {
        let (batch, length, _) = x.dims3()?;
        let states = self.gru.forward(&x.contiguous()?, None, mode)?;
        let brain = states.narrow(1, length - 1, 1)?.squeeze(1)?.contiguous()?;
        let (mut gammas, mut betas) = (Vec::new(), Vec::new());
        for film in &self.film {
            let both = film
                .forward(&brain)?
                .reshape((batch, self.channels, 2, self.hidden))?;
            // Scales within a tenth of 1, shifts within a tenth of 0.
            gammas.push(((both.narrow(2, 0, 1)?.tanh()? * 0.1)? + 1.0)?);
            betas.push((both.narrow(2, 1, 1)?.tanh()? * 0.1)?);
        }
        Ok(Signals {
            lr_scale: self.lr.forward(&brain)?,
            wd_scale: self.wd.forward(&brain)?,
            dropout_rate: self.dropout.forward(&brain)?,
            grad_clip: self.clip.forward(&brain)?,
            loss_weight: self.loss_weight.forward(&brain)?,
            freeze_prob: self.freeze.forward(&brain)?,
            input_noise: (self.noise.forward(&brain)?.tanh()? * 0.5)?,
            gate_masks: sigmoid(&self.gate.forward(&brain)?)?.reshape((
                batch,
                self.channels,
                self.hidden,
            ))?,
            film_gamma: Tensor::cat(&gammas, 2)?,
            film_beta: Tensor::cat(&betas, 2)?,
            context: self.context.forward(&brain)?,
            brain,
        })
    }
}

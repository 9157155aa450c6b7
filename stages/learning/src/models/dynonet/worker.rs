//! A worker: a small recurrent network for the residual of one channel, modulated by the controller.

use candle_core::{Tensor, Var};

use super::controller::Signals;
use super::{Drawing, Draws, Dynonet, layer_norm, mode_of};
use crate::models::Result;
use numerics::StateBuilder;
use numerics::gru::Gru;
use numerics::initialise::Initial;
use numerics::linear::Linear;

pub struct Worker {
    input: Linear,
    /// `[1, positions, hidden]`.
    positions: Var,
    layers: Vec<Layer>,
    output: [Linear; 2],
}

/// A recurrent layer with the norm that follows it.
struct Layer {
    gru: Gru,
    weight: Var,
    bias: Var,
}

/// Deviation of the positions' first values.
const POSITION_DEVIATION: f64 = 0.02;

impl Worker {
    pub fn new(
        builder: &mut StateBuilder<'_>,
        name: &str,
        config: &Dynonet,
        positions: usize,
        horizon: usize,
    ) -> Result<Self> {
        let hidden = config.worker_hidden;
        let table = format!("{name}.pos_embedding");
        let start = Initial::Normal(POSITION_DEVIATION);
        let positions = builder.parameter(table, &[1, positions, hidden], start)?;
        let input = Linear::new(builder, &format!("{name}.input_proj"), 1, hidden)?;
        let mut layers = Vec::with_capacity(config.layers);
        for layer in 0..config.layers {
            let norm = format!("{name}.lns.{layer}");
            layers.push(Layer {
                gru: Gru::new(builder, &format!("{name}.grus.{layer}"), hidden, hidden)?,
                weight: builder.parameter(format!("{norm}.weight"), &[hidden], Initial::Ones)?,
                bias: builder.parameter(format!("{norm}.bias"), &[hidden], Initial::Zeros)?,
            });
        }
        let [first, second] = [0, 2].map(|place| format!("{name}.output_proj.{place}"));
        let output = [
            Linear::new(builder, &first, 2 * hidden, hidden)?,
            Linear::new(builder, &second, hidden, horizon)?,
        ];
        Ok(Self {
            input,
            positions,
            layers,
            output,
        })
    }

    /// The residual of channel `index`, `[batch, length]`, to its forecast, `[batch, horizon]`.
    pub fn forward(
        &self,
        residual: &Tensor,
        index: usize,
        signals: &Signals,
        mut draws: Drawing<'_, '_>,
    ) -> Result<Tensor> {
        let (_, length) = residual.dims2()?;
        let mode = mode_of(&draws);
        let gate = signals.gate_masks.narrow(1, index, 1)?;
        let positions = self.positions.narrow(1, 0, length)?;
        let mut x = self
            .input
            .forward(&residual.unsqueeze(2)?)?
            .broadcast_add(&positions)?
            .broadcast_mul(&gate)?;
        for (number, layer) in self.layers.iter().enumerate() {
            let states = layer.gru.forward(&x.contiguous()?, None, mode)?;
            // Nothing but its last state is used of the last layer.
            let last = number + 1 == self.layers.len();
            let from = if last { length - 1 } else { 0 };
            let states = states.narrow(1, from, length - from)?;
            let gamma = of_layer(&signals.film_gamma, index, number)?;
            let beta = of_layer(&signals.film_beta, index, number)?;
            let states = states.broadcast_mul(&gamma)?.broadcast_add(&beta)?;
            let mut y = layer_norm(&states, &layer.weight, &layer.bias)?;
            if let Some(draws) = draws.as_deref_mut() {
                y = dropped(&y, index, number, signals, draws)?;
            }
            x = if number == 0 {
                y
            } else {
                (y + x.narrow(1, from, length - from)?)?
            };
        }
        let last = x.squeeze(1)?;
        let joined = Tensor::cat(&[&last, &signals.context], 1)?;
        self.output[1].forward(&self.output[0].forward(&joined)?.gelu_erf()?)
    }
}

/// What `[batch, channels, layers, hidden]` holds for a layer of a worker: `[batch, 1, hidden]`.
fn of_layer(signal: &Tensor, worker: usize, layer: usize) -> Result<Tensor> {
    signal.narrow(1, worker, 1)?.squeeze(1)?.narrow(1, layer, 1)
}

/// Dropout whose rate the controller sets for each sample. The gradient reaches it through the divisor alone.
fn dropped(
    x: &Tensor,
    worker: usize,
    layer: usize,
    signals: &Signals,
    draws: &mut dyn Draws,
) -> Result<Tensor> {
    let (_, time, hidden) = x.dims3()?;
    let keep = (1.0 - signals.dropout_rate.narrow(1, worker, 1)?)?.unsqueeze(2)?;
    let mask = draws.kept(worker, layer, &keep.detach(), time, hidden)?;
    (x * mask)?.broadcast_div(&(keep + 1e-8)?)
}

//! The learned scales of DynoNet's instance normalisation (Kim et al., ICLR 2022): a window that was brought to mean 0 and
//! deviation 1 is scaled and moved, and its forecast the other way round.

use candle_core::{Tensor, Var};

use crate::models::{Form, Result};
use numerics::StateBuilder;
use numerics::initialise::Initial;

/// A factor and a shift for each channel.
pub(super) struct InstanceNorm {
    weight: Var,
    bias: Var,
    /// Added to the weight when the normalisation is undone, so that the program does not undo it exactly.
    slip: f64,
}

impl InstanceNorm {
    pub fn new(
        builder: &mut StateBuilder<'_>,
        name: &str,
        channels: usize,
        form: Form,
    ) -> Result<Self> {
        let mut parameter =
            |part, start| builder.parameter(format!("{name}.affine_{part}"), &[channels], start);
        Ok(Self {
            weight: parameter("weight", Initial::Ones)?,
            bias: parameter("bias", Initial::Zeros)?,
            slip: if form == Form::Reference { 1e-10 } else { 0.0 },
        })
    }

    /// `[batch, length, channels]` to the same shape.
    pub fn scale(&self, plain: &Tensor) -> Result<Tensor> {
        plain.broadcast_mul(&self.weight)?.broadcast_add(&self.bias)
    }

    /// The way back.
    pub fn unscale(&self, y: &Tensor) -> Result<Tensor> {
        let weight = (self.weight.as_tensor() + self.slip)?;
        y.broadcast_sub(&self.bias)?.broadcast_div(&weight)
    }
}

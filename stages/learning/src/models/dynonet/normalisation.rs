//! Instance normalisation that is undone after the forecast (Kim et al., ICLR 2022), as DynoNet has it.

use candle_core::{Result, Tensor, Var};

use crate::models::Form;
use numerics::StateBuilder;
use numerics::initialise::Initial;

/// Each window and channel brought to mean 0 and deviation 1, then scaled and moved by learned values.
pub struct InstanceNorm {
    weight: Var,
    bias: Var,
    /// Added to the weight when the normalisation is undone, so that it is not undone exactly.
    slip: f64,
}

/// Mean and deviation of each window and channel, `[batch, 1, channels]`.
pub struct Moments {
    pub mean: Tensor,
    pub deviation: Tensor,
}

/// Windows, normalised.
pub struct Normalised {
    /// Of mean 0 and deviation 1.
    pub plain: Tensor,
    /// Scaled and moved after that.
    pub affine: Tensor,
    pub moments: Moments,
}

impl InstanceNorm {
    pub fn new(
        builder: &mut StateBuilder<'_>,
        name: &str,
        channels: usize,
        form: Form,
    ) -> Result<Self> {
        Ok(Self {
            weight: builder.parameter(
                format!("{name}.affine_weight"),
                &[channels],
                Initial::Ones,
            )?,
            bias: builder.parameter(format!("{name}.affine_bias"), &[channels], Initial::Zeros)?,
            slip: if form == Form::Reference { 1e-10 } else { 0.0 },
        })
    }

    /// Normalises `[batch, length, channels]`.
    pub fn forward(&self, x: &Tensor) -> Result<Normalised> {
        let mean = x.mean_keepdim(1)?;
        let centred = x.broadcast_sub(&mean)?;
        let deviation = (centred.sqr()?.mean_keepdim(1)? + 1e-5)?.sqrt()?;
        let plain = centred.broadcast_div(&deviation)?;
        let affine = plain
            .broadcast_mul(&self.weight)?
            .broadcast_add(&self.bias)?;
        Ok(Normalised {
            plain,
            affine,
            moments: Moments { mean, deviation },
        })
    }

    /// Back to where the window was.
    pub fn invert(&self, y: &Tensor, moments: &Moments) -> Result<Tensor> {
        let weight = (self.weight.as_tensor() + self.slip)?;
        let y = y.broadcast_sub(&self.bias)?.broadcast_div(&weight)?;
        y.broadcast_mul(&moments.deviation)?
            .broadcast_add(&moments.mean)
    }
}

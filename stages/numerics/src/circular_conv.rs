//! A convolution of three taps over time whose ends meet, without bias: how transformers for series embed values.
//! Channels-last rows lie side by side, so a row with its neighbours is one stretch of memory and the convolution a
//! product.

#[cfg(feature = "cuda")]
mod cuda;
pub(crate) mod op;

use candle_core::{Result, Tensor, Var, bail};

use super::initialise::Initial;
use super::operation::apply;
use super::positions::Positions;
use super::state::StateBuilder;
use op::CircularConvOp;

/// The kernel's taps: the row before, the row itself and the row after.
const TAPS: usize = 3;

/// The layer's weight, `[output, input, 3]`, as `torch.nn.Conv1d` with circular padding declares it.
#[derive(Clone, Debug)]
pub struct CircularConv {
    pub weight: Var,
    pub input: usize,
    pub output: usize,
}

impl CircularConv {
    /// A layer with Kaiming's normal initialisation.
    ///
    /// # Errors
    /// If a tensor operation fails.
    pub fn new(
        builder: &mut StateBuilder<'_>,
        name: &str,
        input: usize,
        output: usize,
    ) -> Result<Self> {
        let initial = Initial::KaimingNormal(TAPS * input);
        let weight =
            builder.parameter(format!("{name}.weight"), &[output, input, TAPS], initial)?;
        Ok(Self {
            weight,
            input,
            output,
        })
    }

    /// `x`, `[batch, length, input]`, to `[batch, length, output]`, plus the positions of rows.
    ///
    /// # Errors
    /// If the last axis is not as wide as the layer's input, or the table of positions is of another size than the
    /// output.
    pub fn forward_onto(&self, x: &Tensor, positions: &Positions) -> Result<Tensor> {
        let (_, length, channels) = x.dims3()?;
        if (length, self.output) != (positions.length, positions.width) {
            let Positions {
                length: rows,
                width,
                ..
            } = positions;
            bail!(
                "positions of {rows} rows of {width} values cannot be added to {length} of {}",
                self.output
            )
        }
        if channels != self.input || length == 0 {
            bail!(
                "a convolution of {} channels cannot take {:?}",
                self.input,
                x.dims()
            )
        }
        let op = CircularConvOp {
            input: self.input,
            output: self.output,
            positions: positions.clone(),
        };
        apply(op, [x, &self.weight])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};
    use contract::Random;

    #[test]
    fn other_channels_and_other_positions_are_refused() {
        let mut random = Random::new(2, "circular");
        let mut builder = StateBuilder::new(&Device::Cpu, &mut random);
        let layer = CircularConv::new(&mut builder, "conv", 3, 2).unwrap();
        let zeros = |width: usize| Tensor::zeros((1, 4, width), DType::F32, &Device::Cpu).unwrap();
        assert!(
            layer
                .forward_onto(&zeros(2), &Positions::new(4, 2))
                .is_err()
        );
        assert!(
            layer
                .forward_onto(&zeros(3), &Positions::new(5, 2))
                .is_err()
        );
        assert!(layer.forward_onto(&zeros(3), &Positions::new(4, 2)).is_ok());
    }
}

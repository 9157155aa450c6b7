//! Two linear layers with a GELU between them, row by row: the feed-forward part of a transformer.
//! On the CPU the hidden values of a few rows never leave the cache, and are computed again for the backward pass.

#[cfg(feature = "cuda")]
mod cuda;
pub(crate) mod op;

use candle_core::{Result, Tensor, bail};

use super::dropout::Dropout;
use super::linear::Linear;
use super::operation::{Kept, apply_packed};
use super::packed::Packed;
use op::FeedForwardOp;

/// `second(dropout(gelu(first(x))))`.
#[derive(Clone, Debug)]
pub struct FeedForward {
    pub(crate) first: Linear,
    pub(crate) second: Linear,
}

impl FeedForward {
    /// Two layers of which the second takes what the first gives.
    ///
    /// # Errors
    /// If their sizes do not fit.
    pub fn new(first: Linear, second: Linear) -> Result<Self> {
        if first.output != second.input {
            bail!(
                "a layer of {} inputs cannot follow one of {} outputs",
                second.input,
                first.output
            )
        }
        Ok(Self { first, second })
    }

    /// `[…, input]` to `[…, output]`. `dropout` is that of the hidden values.
    ///
    /// # Errors
    /// If the last axis is not as wide as the first layer's input.
    pub fn forward(&self, x: &Tensor, dropout: Dropout) -> Result<Tensor> {
        if x.dims().last() != Some(&self.first.input) {
            bail!(
                "a feed-forward layer of {} inputs cannot take {:?}",
                self.first.input,
                x.dims()
            )
        }
        let op = FeedForwardOp {
            input: self.first.input,
            hidden: self.first.output,
            output: self.second.output,
            dropout,
            kept: Kept::default(),
        };
        let packed = self.parameters()?;
        apply_packed(op, [x, packed.tensor()], &[&packed])
    }

    /// All parameters one after the other.
    fn parameters(&self) -> Result<Packed> {
        let (first, second) = (&self.first, &self.second);
        let layers = [&first.weight, &first.bias, &second.weight, &second.bias];
        let count = layers.iter().map(|part| part.elem_count()).sum::<usize>();
        Packed::new(&layers.map(|part| part.as_tensor()), count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StateBuilder;
    use candle_core::{DType, Device};
    use contract::Random;

    #[test]
    fn sizes_that_do_not_fit_are_refused() {
        let mut random = Random::new(8, "feed-forward");
        let mut builder = StateBuilder::new(&Device::Cpu, &mut random);
        let mut linear = |input, output| Linear::new(&mut builder, "layer", input, output).unwrap();
        assert!(FeedForward::new(linear(2, 3), linear(4, 2)).is_err());
        let layer = FeedForward::new(linear(2, 3), linear(3, 2)).unwrap();
        assert!(
            layer
                .forward(
                    &Tensor::zeros((4, 3), DType::F32, &Device::Cpu).unwrap(),
                    Dropout::NONE
                )
                .is_err()
        );
    }
}

//! Layer normalisation over the last axis (Ba, Kiros and Hinton, 2016), alone or of the sum of a residual connection.

#[cfg(feature = "cuda")]
mod cuda;
pub(crate) mod op;

use candle_core::{Result, Tensor, Var};

use super::dropout::Dropout;
use super::initialise::Initial;
use super::operation::apply_packed;
use super::packed::Packed;
use super::state::StateBuilder;
use op::LayerNormOp;

/// Added to variances, as PyTorch does by default.
const EPSILON: f64 = 1e-5;

/// A layer's parameters: weight and bias, `[size]`.
#[derive(Clone, Debug)]
pub struct LayerNorm {
    pub(crate) weight: Var,
    pub(crate) bias: Var,
    size: usize,
    epsilon: f64,
}

impl LayerNorm {
    /// A layer as `torch.nn.LayerNorm` declares it, over a last axis of `size`.
    pub fn new(builder: &mut StateBuilder<'_>, name: &str, size: usize) -> Result<Self> {
        let weight = builder.parameter(format!("{name}.weight"), &[size], Initial::Ones)?;
        let bias = builder.parameter(format!("{name}.bias"), &[size], Initial::Zeros)?;
        Ok(Self {
            weight,
            bias,
            size,
            epsilon: EPSILON,
        })
    }

    /// `x`, `[…, size]`, normalised.
    ///
    /// # Errors
    /// If the last axis is not as long as the layer.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.check(x)?;
        let packed = self.parameters()?;
        let op = self.op(Dropout::NONE);
        apply_packed(op, [x, packed.tensor()], &[&packed])
    }

    /// `x + dropout(branch)`, both `[…, size]`, normalised: the end of a residual block in one pass.
    ///
    /// # Errors
    /// If the shapes do not fit one another and the layer.
    pub fn forward_residual(
        &self,
        x: &Tensor,
        branch: &Tensor,
        dropout: Dropout,
    ) -> Result<Tensor> {
        self.check(x)?;
        if x.dims() != branch.dims() {
            candle_core::bail!(
                "a branch of shape {:?} cannot be added to {:?}",
                branch.dims(),
                x.dims()
            )
        }
        let packed = self.parameters()?;
        let op = self.op(dropout);
        apply_packed(op, [x, branch, packed.tensor()], &[&packed])
    }

    fn check(&self, x: &Tensor) -> Result<()> {
        if x.dims().last() != Some(&self.size) {
            candle_core::bail!(
                "a layer normalisation over {} values cannot take {:?}",
                self.size,
                x.dims()
            )
        }
        Ok(())
    }

    fn op(&self, dropout: Dropout) -> LayerNormOp {
        LayerNormOp {
            size: self.size,
            epsilon: self.epsilon,
            dropout,
        }
    }

    /// Weight and bias one after the other, `[2 * size]`.
    fn parameters(&self) -> Result<Packed> {
        Packed::new(&[&self.weight, &self.bias], 2 * self.size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};
    use contract::Random;

    #[test]
    fn other_sizes_are_refused() {
        let mut random = Random::new(5, "layer-norm");
        let mut builder = StateBuilder::new(&Device::Cpu, &mut random);
        let layer = LayerNorm::new(&mut builder, "norm", 4).unwrap();
        let zeros = |dims: &[usize]| Tensor::zeros(dims, DType::F32, &Device::Cpu).unwrap();
        let (x, short) = (zeros(&[1, 2, 4]), zeros(&[1, 1, 4]));
        assert!(layer.forward(&zeros(&[1, 2, 5])).is_err());
        assert!(layer.forward_residual(&x, &short, Dropout::NONE).is_err());
    }
}

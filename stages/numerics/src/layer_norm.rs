//! Layer normalisation over the last axis (Ba, Kiros and Hinton, 2016), alone or of the sum of a residual connection.

mod op;

use candle_core::{D, Result, Tensor, Var};

use super::dropout::Dropout;
use super::initialise::Initial;
use super::operation::{apply, has_kernels};
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
        if has_kernels(x) {
            return apply(self.op(Dropout::NONE), [x, &self.parameters()?]);
        }
        self.compose(x)
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
        if has_kernels(x) {
            return apply(self.op(dropout), [x, branch, &self.parameters()?]);
        }
        self.compose(&(x + dropout.forward(branch)?)?)
    }

    /// The normalisation with Candle's own operations, on any device.
    ///
    /// # Errors
    /// If a tensor operation fails.
    pub fn compose(&self, x: &Tensor) -> Result<Tensor> {
        let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
        let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
        let normalised = centred.broadcast_div(&(variance + self.epsilon)?.sqrt()?)?;
        normalised
            .broadcast_mul(&self.weight)?
            .broadcast_add(&self.bias)
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
            epsilon: self.epsilon as f32,
            dropout,
        }
    }

    /// Weight and bias one after the other, `[2 * size]`: operations take three tensors at most.
    fn parameters(&self) -> Result<Tensor> {
        Tensor::cat(&[self.weight.as_tensor(), self.bias.as_tensor()], 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Mode;
    use candle_core::Device;
    use contract::Random;

    fn variable(shape: (usize, usize, usize), random: &mut Random) -> Var {
        let values: Vec<f32> = (0..shape.0 * shape.1 * shape.2)
            .map(|_| random.range(-2.0, 2.0) as f32)
            .collect();
        Var::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    fn apart(found: &Tensor, expected: &Tensor) -> f32 {
        assert_eq!(found.dims(), expected.dims());
        (found - expected)
            .unwrap()
            .abs()
            .unwrap()
            .flatten_all()
            .unwrap()
            .max(0)
            .unwrap()
            .to_scalar()
            .unwrap()
    }

    #[test]
    fn operations_agree_with_candle_forward_and_backward() {
        let mut random = Random::new(5, "layer-norm");
        for size in [1, 7, 16, 37] {
            let mut builder = StateBuilder::new(&Device::Cpu, &mut random);
            let layer = LayerNorm::new(&mut builder, "norm", size).unwrap();
            for parameter in [&layer.weight, &layer.bias] {
                let values: Vec<f32> = (0..size).map(|_| random.range(0.2, 1.5) as f32).collect();
                parameter
                    .set(&Tensor::from_vec(values, size, &Device::Cpu).unwrap())
                    .unwrap();
            }
            let shape = (3, 11, size);
            let [x, branch, upstream] = [(); 3].map(|()| variable(shape, &mut random));
            let dropout = Dropout::draw(0.25, Mode::Train, &mut random);
            let sum = (x.as_tensor() + dropout.forward(&branch).unwrap()).unwrap();
            let pairs = [
                (
                    layer.forward(&x).unwrap(),
                    layer.compose(&x).unwrap(),
                    false,
                ),
                (
                    layer.forward_residual(&x, &branch, dropout).unwrap(),
                    layer.compose(&sum).unwrap(),
                    true,
                ),
            ];
            for (found, expected, residual) in pairs {
                assert!(apart(&found, &expected) < 1e-5, "{size}");
                let differentiate = |y: &Tensor| {
                    (y * upstream.as_tensor())
                        .unwrap()
                        .sum_all()
                        .unwrap()
                        .backward()
                };
                let (found, expected) = (
                    differentiate(&found).unwrap(),
                    differentiate(&expected).unwrap(),
                );
                let mut variables = vec![&x, &layer.weight, &layer.bias];
                variables.extend(residual.then_some(&branch));
                for variable in variables {
                    let (found, expected) = (
                        found.get(variable).unwrap(),
                        expected.get(variable).unwrap(),
                    );
                    assert!(
                        apart(found, expected) < 3e-5,
                        "{size}: {}",
                        apart(found, expected)
                    );
                }
            }
        }
    }

    #[test]
    fn other_sizes_are_refused() {
        let mut random = Random::new(5, "layer-norm");
        let layer =
            LayerNorm::new(&mut StateBuilder::new(&Device::Cpu, &mut random), "norm", 4).unwrap();
        let (x, short) = (
            variable((1, 2, 4), &mut random),
            variable((1, 1, 4), &mut random),
        );
        assert!(layer.forward(&variable((1, 2, 5), &mut random)).is_err());
        assert!(layer.forward_residual(&x, &short, Dropout::NONE).is_err());
    }
}

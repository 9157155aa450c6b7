//! Two linear layers with a GELU between them, row by row: the feed-forward part of a transformer.
//! On the CPU the hidden values of a few rows never leave the cache, and are computed again for the backward pass.

mod op;

use candle_core::{Result, Tensor, bail};

use super::dropout::Dropout;
use super::gelu::gelu;
use super::linear::Linear;
use super::operation::{apply, has_kernels};
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
        if has_kernels(x) {
            let op = FeedForwardOp {
                input: self.first.input,
                hidden: self.first.output,
                output: self.second.output,
                dropout,
            };
            return apply(op, [x, &self.parameters()?]);
        }
        self.compose(x, dropout)
    }

    /// The same, layer by layer.
    ///
    /// # Errors
    /// As [`Self::forward`].
    pub fn compose(&self, x: &Tensor, dropout: Dropout) -> Result<Tensor> {
        self.second
            .forward(&dropout.forward(&gelu(&self.first.forward(x)?)?)?)
    }

    /// All parameters one after the other: operations take three tensors at most.
    fn parameters(&self) -> Result<Tensor> {
        let mut flat = Vec::with_capacity(4);
        for layer in [&self.first, &self.second] {
            flat.push(layer.weight.flatten_all()?);
            flat.push(layer.bias.flatten_all()?);
        }
        Tensor::cat(&flat, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Mode, StateBuilder};
    use candle_core::{DType, Device, Var};
    use contract::Random;

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
    fn the_operation_agrees_with_its_layers_forward_and_backward() {
        let mut random = Random::new(8, "feed-forward");
        for (rows, input, hidden, output, rate) in [
            (1, 1, 1, 1, 0.0),
            (67, 5, 9, 3, 0.0),
            (41, 33, 17, 20, 0.25),
            (900, 8, 600, 4, 0.1),
        ] {
            let mut builder = StateBuilder::new(&Device::Cpu, &mut random);
            let first = Linear::pointwise(&mut builder, "first", input, hidden).unwrap();
            let layer = FeedForward::new(
                first,
                Linear::new(&mut builder, "second", hidden, output).unwrap(),
            )
            .unwrap();
            let mut draw = |width: usize| {
                let values = (0..rows * width)
                    .map(|_| random.range(-1.5, 1.5) as f32)
                    .collect::<Vec<_>>();
                Var::from_vec(values, (1, rows, width), &Device::Cpu).unwrap()
            };
            let (x, upstream) = (draw(input), draw(output));
            let dropout = Dropout::draw(rate, Mode::Train, &mut random);
            let found = layer.forward(&x, dropout).unwrap();
            let expected = layer.compose(&x, dropout).unwrap();
            assert!(apart(&found, &expected) < 1e-5);
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
            let parameters = [
                &layer.first.weight,
                &layer.first.bias,
                &layer.second.weight,
                &layer.second.bias,
            ];
            for variable in parameters.into_iter().chain([&x]) {
                let (found, expected) = (
                    found.get(variable).unwrap(),
                    expected.get(variable).unwrap(),
                );
                let largest = apart(expected, &expected.zeros_like().unwrap());
                assert!(
                    apart(found, expected) < 1e-5 * largest.max(1.0),
                    "{rows}: {}",
                    apart(found, expected)
                );
            }
        }
    }

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

//! Self-attention as an operation. Its kernels work on samples in parallel, and on the heads of a sample one after another.

use candle_core::{Result, Shape, Tensor};

use super::head::{HeadKernel, Sizes};
use super::{combine, weights};
use crate::chunks::{chunks, fill_rows};
use crate::dropout::Dropout;
#[cfg(feature = "cuda")]
use crate::operation::OnCuda;
use crate::operation::{Input, Operation};
use crate::simd::Level;

/// Queries, keys and values side by side, `[batch, length, 3 * width]`, to what the heads found, `[batch, length, width]`.
pub(crate) struct AttentionOp {
    pub heads: usize,
    /// Of the attention weights; the mask's rows are numbered by sample, head and row.
    pub dropout: Dropout,
}

impl AttentionOp {
    fn run(&self, x: &[f32], batch: usize, sizes: Sizes) -> Vec<f32> {
        let Sizes {
            length,
            width,
            heads,
        } = sizes;
        let ([target], _) = fill_rows(&chunks(batch), [length * width], |samples, [target]| {
            let mut kernel = HeadKernel::new(Level::detect(), sizes);
            let mut weights = vec![0.0; length * length];
            let mut factors = vec![0.0; length];
            for (sample, target) in samples.zip(target.chunks_exact_mut(length * width)) {
                let x = &x[sample * 3 * length * width..][..3 * length * width];
                for head in 0..heads {
                    kernel.weights(x, head, &mut weights);
                    self.drop(sample * heads + head, length, &mut factors, &mut weights);
                    kernel.combine(x, head, &weights, target);
                }
            }
        });
        target
    }

    /// Multiplies the rows of a head's weights, or of their gradient, by the mask.
    fn drop(&self, head: usize, length: usize, factors: &mut [f32], weights: &mut [f32]) {
        if self.dropout.is_none() {
            return;
        }
        for (row, weights) in weights.chunks_exact_mut(length).enumerate() {
            self.dropout.fill(head * length + row, factors);
            for (weight, factor) in weights.iter_mut().zip(&*factors) {
                *weight *= factor;
            }
        }
    }

    fn run_back(&self, x: &[f32], gradient: &[f32], batch: usize, sizes: Sizes) -> Vec<f32> {
        let Sizes {
            length,
            width,
            heads,
        } = sizes;
        let ([target], _) = fill_rows(&chunks(batch), [3 * length * width], |samples, [target]| {
            let mut kernel = HeadKernel::new(Level::detect(), sizes);
            let [mut weights, mut dropped, mut slopes] =
                [(); 3].map(|()| vec![0.0; length * length]);
            let mut factors = vec![0.0; length];
            for (sample, target) in samples.zip(target.chunks_exact_mut(3 * length * width)) {
                let x = &x[sample * 3 * length * width..][..3 * length * width];
                let gradient = &gradient[sample * length * width..][..length * width];
                for head in 0..heads {
                    let number = sample * heads + head;
                    // The softmax needs the weights as they were before dropout, the values those after it.
                    kernel.weights(x, head, &mut weights);
                    if self.dropout.is_none() {
                        kernel.combine_backward(x, head, &weights, gradient, &mut slopes, target);
                    } else {
                        dropped.copy_from_slice(&weights);
                        self.drop(number, length, &mut factors, &mut dropped);
                        kernel.combine_backward(x, head, &dropped, gradient, &mut slopes, target);
                        self.drop(number, length, &mut factors, &mut slopes);
                    }
                    kernel.weights_backward(x, head, &weights, &mut slopes, target);
                }
            }
        });
        target
    }

    pub(super) fn sizes(&self, dims: &[usize]) -> Result<(usize, Sizes)> {
        let (batch, length, triple) = Shape::from(dims).dims3()?;
        let sizes = Sizes {
            length,
            width: triple / 3,
            heads: self.heads,
        };
        Ok((batch, sizes))
    }
}

impl Operation<1> for AttentionOp {
    const LABEL: &'static str = "attention";

    #[cfg(feature = "cuda")]
    fn on_cuda(&self, [x]: [&[usize]; 1]) -> Option<&dyn OnCuda<1>> {
        self.fits_cuda(x).then_some(self)
    }

    fn compose(&self, [projected]: [&Tensor; 1]) -> Result<Tensor> {
        let weights = self.dropout.composed(&weights(projected, self.heads)?)?;
        combine(&weights, projected, self.heads)
    }

    fn forward(&self, [x]: [Input<'_>; 1]) -> Result<(Vec<f32>, Shape)> {
        let (batch, sizes) = self.sizes(x.dims)?;
        let target = self.run(x.values, batch, sizes);
        Ok((target, (batch, sizes.length, sizes.width).into()))
    }

    fn backward(
        &self,
        [x]: [Input<'_>; 1],
        _: &[f32],
        gradient: &[f32],
    ) -> Result<[Option<Vec<f32>>; 1]> {
        let (batch, sizes) = self.sizes(x.dims)?;
        Ok([Some(self.run_back(x.values, gradient, batch, sizes))])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::{Draw, Example, Examples};

    impl Examples<1> for AttentionOp {
        fn examples(draw: &mut Draw) -> Vec<Example<Self, 1>> {
            let mut example = |(batch, length, width, heads, rate): (_, _, usize, _, _)| Example {
                operation: Self {
                    heads,
                    dropout: draw.dropout(rate),
                },
                inputs: [draw.between(-1.5, 1.5, &[batch, length, 3 * width])],
            };
            [
                (1, 1, 1, 1, 0.0),
                (3, 7, 6, 2, 0.0),
                (2, 33, 20, 5, 0.0),
                (18, 5, 8, 1, 0.3),
                (2, 19, 12, 3, 0.2),
                (2, 34, 48, 2, 0.1),
                (1, 100, 66, 2, 0.0),
                (1, 128, 40, 1, 0.5),
            ]
            .map(&mut example)
            .into()
        }
    }
}

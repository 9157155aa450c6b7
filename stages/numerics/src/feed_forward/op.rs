//! A feed-forward layer as an operation.

use std::ops::Range;

use candle_core::{Result, Shape, Tensor};

use crate::chunks::{chunks, cut, fill_rows, sum_shares};
use crate::dropout::Dropout;
use crate::gelu::{gelu, gelu_backward, gelu_forward};
use crate::linear::{self, LinearKernel, Starts};
#[cfg(feature = "cuda")]
use crate::operation::OnCuda;
use crate::operation::{Input, Kept, Operation};
use crate::simd::{Level, vectorised};

/// Hidden values that are worked on together: so many stay in the second-level cache.
const HIDDEN: usize = 1 << 16;

/// `x`, `[…, input]`, and all parameters as one, to `[…, output]`.
///
/// The parameters are the weights `[hidden, input]` and `[output, hidden]`, each followed by its bias.
pub(crate) struct FeedForwardOp {
    pub input: usize,
    pub hidden: usize,
    pub output: usize,
    /// Of the hidden values.
    pub dropout: Dropout,
    #[cfg_attr(
        not(feature = "cuda"),
        expect(dead_code, reason = "kernels on CUDA alone keep something")
    )]
    pub kept: Kept,
}

/// Both layers, ready to be multiplied with.
struct Kernels {
    first: LinearKernel,
    second: LinearKernel,
}

/// Memory of one thread.
#[derive(Default)]
struct Scratch {
    starts: [Starts; 3],
    /// `[rows, hidden]`: before and after the GELU, and the gradient there.
    before: Vec<f32>,
    after: Vec<f32>,
    gradient: Vec<f32>,
    factors: Vec<f32>,
}

impl FeedForwardOp {
    /// Where the parts of the parameters end: the first weight, the first bias, the second weight.
    pub(super) fn ends(&self) -> [usize; 3] {
        let first = self.hidden * self.input;
        [
            first,
            first + self.hidden,
            first + self.hidden + self.output * self.hidden,
        ]
    }

    fn kernels(&self, parameters: &[f32], backward: bool) -> Kernels {
        let level = Level::detect();
        let [first, bias, second] = self.ends();
        let mut kernels = Kernels {
            first: LinearKernel::new(level, self.input, self.hidden),
            second: LinearKernel::new(level, self.hidden, self.output),
        };
        kernels
            .first
            .load(&parameters[..first], &parameters[first..bias], backward);
        kernels
            .second
            .load(&parameters[bias..second], &parameters[second..], backward);
        kernels
    }

    /// Cuts a chunk of rows into blocks of about equal size that fit the cache.
    fn blocks(&self, rows: &Range<usize>) -> impl Iterator<Item = Range<usize>> + use<> {
        let most = (HIDDEN / self.hidden).max(16);
        let first = rows.start;
        cut(rows.len(), rows.len().div_ceil(most))
            .into_iter()
            .map(move |block| first + block.start..first + block.end)
    }

    /// Computes the hidden values of a block of rows.
    fn hide(&self, kernels: &Kernels, x: &[f32], rows: &Range<usize>, scratch: &mut Scratch) {
        let count = rows.len() * self.hidden;
        for buffer in [
            &mut scratch.before,
            &mut scratch.after,
            &mut scratch.gradient,
        ] {
            buffer.resize(count, 0.0);
        }
        let x = &x[rows.start * self.input..rows.end * self.input];
        let starts = &mut scratch.starts[0];
        kernels.first.forward(starts, x, &mut scratch.before);
        gelu_forward(Level::detect(), &scratch.before, &mut scratch.after);
        self.drop(rows, &mut scratch.factors, &mut scratch.after);
    }

    /// Multiplies hidden values, or their gradient, by the mask.
    fn drop(&self, rows: &Range<usize>, factors: &mut Vec<f32>, values: &mut [f32]) {
        if self.dropout.is_none() {
            return;
        }
        factors.resize(self.hidden, 0.0);
        for (row, values) in rows.clone().zip(values.chunks_exact_mut(self.hidden)) {
            self.dropout.fill(row, factors);
            scale(Level::detect(), factors, values);
        }
    }

    fn run(&self, x: &[f32], parameters: &[f32]) -> Vec<f32> {
        let kernels = self.kernels(parameters, false);
        let parts = chunks(x.len() / self.input);
        let ([target], _) = fill_rows(&parts, [self.output], |rows, [mut target]| {
            let mut scratch = Scratch::default();
            for block in self.blocks(&rows) {
                self.hide(&kernels, x, &block, &mut scratch);
                let (own, rest) = target.split_at_mut(block.len() * self.output);
                let starts = &mut scratch.starts[1];
                kernels.second.forward(starts, &scratch.after, own);
                target = rest;
            }
        });
        target
    }

    /// The gradients of the input and of all parameters.
    fn run_back(&self, x: &[f32], parameters: &[f32], gradient: &[f32]) -> [Vec<f32>; 2] {
        let kernels = self.kernels(parameters, true);
        let parts = chunks(x.len() / self.input);
        let ([target], shares) = fill_rows(&parts, [self.input], |rows, [mut target]| {
            let (mut scratch, mut share) = (Scratch::default(), vec![0.0; parameters.len()]);
            for block in self.blocks(&rows) {
                let (own, rest) = target.split_at_mut(block.len() * self.input);
                self.backward_block(&kernels, x, gradient, &block, &mut scratch, &mut share, own);
                target = rest;
            }
            share
        });
        [target, sum_shares(shares, parameters.len())]
    }

    #[allow(clippy::too_many_arguments)]
    fn backward_block(
        &self,
        kernels: &Kernels,
        x: &[f32],
        gradient: &[f32],
        rows: &Range<usize>,
        scratch: &mut Scratch,
        share: &mut [f32],
        target: &mut [f32],
    ) {
        // Computing the hidden values again costs less than keeping them from the forward pass.
        self.hide(kernels, x, rows, scratch);
        let x = &x[rows.start * self.input..rows.end * self.input];
        let gradient = &gradient[rows.start * self.output..rows.end * self.output];
        let [first, bias, second] = self.ends();
        let (first_share, second_share) = share.split_at_mut(bias);
        let (weight, bias) = second_share.split_at_mut(second - bias);
        let Scratch {
            starts,
            before,
            after,
            gradient: inner,
            factors,
        } = scratch;
        kernels
            .second
            .add_gradients(&mut starts[1], after, gradient, weight, bias);
        kernels
            .second
            .input_gradient(&mut starts[1], gradient, inner);
        self.drop(rows, factors, inner);
        gelu_backward(Level::detect(), before, inner);
        let (weight, bias) = first_share.split_at_mut(first);
        kernels
            .first
            .add_gradients(&mut starts[2], x, inner, weight, bias);
        kernels.first.input_gradient(&mut starts[2], inner, target);
    }
}

vectorised! {
    /// `values *= factors`.
    fn scale(factors: &[f32], values: &mut [f32]) {
        for (value, factor) in values.iter_mut().zip(factors) {
            *value *= factor;
        }
    }
}

impl Operation<2> for FeedForwardOp {
    const LABEL: &'static str = "feed-forward";

    #[cfg(feature = "cuda")]
    fn on_cuda(&self, _: [&[usize]; 2]) -> Option<&dyn OnCuda<2>> {
        Some(self)
    }

    /// Layer by layer.
    fn compose(&self, [x, parameters]: [&Tensor; 2]) -> Result<Tensor> {
        let [first, bias, second] = self.ends();
        let part = |from: usize, to: usize| parameters.narrow(0, from, to - from);
        let weight = part(0, first)?.reshape((self.hidden, self.input))?;
        let hidden = linear::forward(x, &weight, &part(first, bias)?)?;
        let hidden = self.dropout.forward(&gelu(&hidden)?)?;
        let weight = part(bias, second)?.reshape((self.output, self.hidden))?;
        linear::forward(&hidden, &weight, &part(second, second + self.output)?)
    }

    fn forward(&self, [x, parameters]: [Input<'_>; 2]) -> Result<(Vec<f32>, Shape)> {
        let target = self.run(x.values, parameters.values);
        Ok((target, x.with_last(self.output)))
    }

    fn backward(
        &self,
        [x, parameters]: [Input<'_>; 2],
        _: &[f32],
        gradient: &[f32],
    ) -> Result<[Option<Vec<f32>>; 2]> {
        let gradients = self.run_back(x.values, parameters.values, gradient);
        Ok(gradients.map(Some))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::{Draw, Example, Examples};

    impl Examples<2> for FeedForwardOp {
        fn examples(draw: &mut Draw) -> Vec<Example<Self, 2>> {
            let mut example = |(rows, input, hidden, output, rate)| Example {
                operation: Self {
                    input,
                    hidden,
                    output,
                    dropout: draw.dropout(rate),
                    kept: Kept::default(),
                },
                inputs: [
                    draw.variable(&[1, rows, input]),
                    draw.between(-0.5, 0.5, &[hidden * (input + 1) + output * (hidden + 1)]),
                ],
            };
            [
                (1, 1, 1, 1, 0.0),
                (67, 5, 9, 3, 0.0),
                (41, 33, 17, 20, 0.25),
                (900, 8, 600, 4, 0.1),
            ]
            .map(&mut example)
            .into()
        }
    }
}

//! A feed-forward layer as an operation of Candle's graph on the CPU, with its backward pass.

use std::ops::Range;

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};

use crate::chunks::{chunks, fill_rows, sum_shares};
use crate::dropout::Dropout;
use crate::gelu::{gelu_backward, gelu_forward};
use crate::host::{floats, with_slices};
use crate::linear::{LinearKernel, Starts};
use crate::simd::{Level, vectorised};

/// Hidden values that are worked on together: so many stay in the second-level cache.
const HIDDEN: usize = 1 << 16;

/// `x`, `[…, input]`, and all parameters as one, to `[…, output]`.
///
/// The parameters are the weights `[hidden, input]` and `[output, hidden]`, each followed by its bias.
pub(super) struct FeedForwardOp {
    pub input: usize,
    pub hidden: usize,
    pub output: usize,
    /// Of the hidden values.
    pub dropout: Dropout,
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
    fn ends(&self) -> [usize; 3] {
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
        let (first, count) = (rows.start, rows.len());
        let blocks = count.div_ceil(most);
        (0..blocks)
            .map(move |block| first + block * count / blocks..first + (block + 1) * count / blocks)
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
        kernels.first.forward(
            &mut scratch.starts[0],
            &x[rows.start * self.input..rows.end * self.input],
            &mut scratch.before,
        );
        gelu_forward(Level::detect(), &scratch.before, &mut scratch.after);
        let (factors, after) = (&mut scratch.factors, &mut scratch.after);
        self.drop(rows, factors, after);
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

    fn forward(&self, x: &[f32], parameters: &[f32]) -> Vec<f32> {
        let kernels = self.kernels(parameters, false);
        let ([target], _) = fill_rows(
            &chunks(x.len() / self.input),
            [self.output],
            |rows, [target]| {
                let mut scratch = Scratch::default();
                for block in self.blocks(&rows) {
                    self.hide(&kernels, x, &block, &mut scratch);
                    let place = (block.start - rows.start) * self.output
                        ..(block.end - rows.start) * self.output;
                    kernels.second.forward(
                        &mut scratch.starts[1],
                        &scratch.after,
                        &mut target[place],
                    );
                }
            },
        );
        target
    }

    /// The gradients of the input and of all parameters.
    fn backward(&self, x: &[f32], parameters: &[f32], gradient: &[f32]) -> [Vec<f32>; 2] {
        let kernels = self.kernels(parameters, true);
        let ([target], shares) = fill_rows(
            &chunks(x.len() / self.input),
            [self.input],
            |rows, [target]| {
                let mut scratch = Scratch::default();
                let mut share = vec![0.0; parameters.len()];
                for block in self.blocks(&rows) {
                    let place = (block.start - rows.start) * self.input
                        ..(block.end - rows.start) * self.input;
                    self.backward_block(
                        &kernels,
                        x,
                        gradient,
                        &block,
                        &mut scratch,
                        &mut share,
                        &mut target[place],
                    );
                }
                share
            },
        );
        let parameters = if shares.is_empty() {
            vec![0.0; parameters.len()]
        } else {
            sum_shares(shares)
        };
        [target, parameters]
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

impl CustomOp2 for FeedForwardOp {
    fn name(&self) -> &'static str {
        "feed-forward"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        parameters: &CpuStorage,
        layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let target = self.forward(floats(x, x_layout)?, floats(parameters, layout)?);
        let mut shape = x_layout.dims().to_vec();
        if let Some(last) = shape.last_mut() {
            *last = self.output;
        }
        Ok((CpuStorage::F32(target), shape.into()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        parameters: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let gradient = gradient.contiguous()?;
        let [x_gradient, parameter_gradients] =
            with_slices([x, parameters, &gradient], |[x, parameters, gradient]| {
                self.backward(x, parameters, gradient)
            })?;
        Ok((
            Some(Tensor::from_vec(x_gradient, x.shape(), x.device())?),
            Some(Tensor::from_vec(
                parameter_gradients,
                parameters.shape(),
                x.device(),
            )?),
        ))
    }
}

//! The one-dimensional convolution as an operation of Candle's graph on the CPU, with its backward pass.
//! On other devices the layer is composed of Candle's own operations instead.

use std::ops::Range;

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::{ConvKernel, Sizes};
use crate::chunks::{chunks, split_rows};
use crate::elementwise::{add, add_rows};
use crate::host::{floats, with_slice};
use crate::simd::Level;

/// `x`, `[batch, length, input]`, weight, `[output, input, kernel]`, and bias, `[output]`, to
/// `[batch, positions, output]`. All are contiguous.
pub(super) struct ConvOp {
    pub sizes: Sizes,
}

/// What the sizes of a batch mean for the kernels.
struct Plan {
    batch: usize,
    /// Floats of a sample in front of the convolution and behind it.
    from: usize,
    to: usize,
    /// Where in a sample the kernel starts.
    starts: Vec<usize>,
}

impl Plan {
    fn new(sizes: Sizes, dims: &[usize]) -> Self {
        let positions = sizes.positions(dims[1]);
        let starts = (0..positions)
            .map(|position| position * sizes.stride * sizes.input)
            .collect();
        Self {
            batch: dims[0],
            from: dims[1] * sizes.input,
            to: positions * sizes.output,
            starts,
        }
    }

    /// The samples of a range, in front of the convolution and behind it.
    fn samples<'a>(
        &self,
        range: &Range<usize>,
        x: &'a [f32],
        y: &'a [f32],
    ) -> impl Iterator<Item = (&'a [f32], &'a [f32])> {
        let x = x[range.start * self.from..range.end * self.from].chunks_exact(self.from);
        x.zip(y[range.start * self.to..range.end * self.to].chunks_exact(self.to))
    }
}

impl ConvOp {
    fn input_gradient(&self, kernel: &ConvKernel, plan: &Plan, gradient: &[f32]) -> Vec<f32> {
        let mut target = vec![0.0; plan.batch * plan.from];
        let parts = chunks(plan.batch);
        split_rows(&mut target, &parts, plan.from)
            .into_par_iter()
            .zip(&parts)
            .for_each(|(target, range)| {
                let mut columns = vec![0.0; plan.starts.len() * self.sizes.depth()];
                let gradient =
                    gradient[range.start * plan.to..range.end * plan.to].chunks_exact(plan.to);
                for (gradient, target) in gradient.zip(target.chunks_exact_mut(plan.from)) {
                    kernel.add_input_gradient(&plan.starts, gradient, &mut columns, target);
                }
            });
        target
    }

    /// The gradients of weight and bias; the chunks' shares are added in their order.
    fn parameter_gradients(
        &self,
        kernel: &ConvKernel,
        plan: &Plan,
        x: &[f32],
        gradient: &[f32],
    ) -> [Vec<f32>; 2] {
        let (depth, output) = (self.sizes.depth(), self.sizes.output);
        let share = |range: Range<usize>| {
            let mut share = [vec![0.0; depth * output], vec![0.0; output]];
            let [weight, bias] = &mut share;
            for (x, gradient) in plan.samples(&range, x, gradient) {
                kernel.add_weight_gradient(&plan.starts, x, gradient, weight);
                add_rows(Level::detect(), gradient, bias);
            }
            share
        };
        let shares: Vec<[Vec<f32>; 2]> = chunks(plan.batch).into_par_iter().map(share).collect();
        let mut sums = [vec![0.0; depth * output], vec![0.0; output]];
        for share in &shares {
            sums.iter_mut()
                .zip(share)
                .for_each(|(sum, share)| add(Level::detect(), share, sum));
        }
        let [raw, bias] = sums;
        let mut weight = vec![0.0; raw.len()];
        for (index, row) in raw.chunks_exact(output).enumerate() {
            let place = self.sizes.place(index);
            row.iter()
                .enumerate()
                .for_each(|(to, value)| weight[to * depth + place] = *value);
        }
        [weight, bias]
    }
}

impl CustomOp3 for ConvOp {
    fn name(&self) -> &'static str {
        "conv1d-rows"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let x = floats(x, x_layout)?;
        let (weight, bias) = (floats(weight, weight_layout)?, floats(bias, bias_layout)?);
        let kernel = ConvKernel::new(self.sizes, weight, bias, false);
        let plan = Plan::new(self.sizes, x_layout.dims());
        let mut target = vec![0.0; plan.batch * plan.to];
        let parts = chunks(plan.batch);
        split_rows(&mut target, &parts, plan.to)
            .into_par_iter()
            .zip(&parts)
            .for_each(|(target, range)| {
                let x = x[range.start * plan.from..range.end * plan.from].chunks_exact(plan.from);
                for (x, target) in x.zip(target.chunks_exact_mut(plan.to)) {
                    kernel.forward(&plan.starts, x, target);
                }
            });
        Ok((
            CpuStorage::F32(target),
            Shape::from((plan.batch, plan.starts.len(), self.sizes.output)),
        ))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let gradient = gradient.contiguous()?;
        let kernel = with_slice(weight, |weight| {
            with_slice(bias, |bias| ConvKernel::new(self.sizes, weight, bias, true))
        })??;
        let plan = Plan::new(self.sizes, x.dims());
        let x_gradient = match x.track_op() {
            true => {
                let values = with_slice(&gradient, |gradient| {
                    self.input_gradient(&kernel, &plan, gradient)
                })?;
                Some(Tensor::from_vec(values, x.shape(), x.device())?)
            }
            false => None,
        };
        let [weight_gradient, bias_gradient] = with_slice(x, |x| {
            with_slice(&gradient, |gradient| {
                self.parameter_gradients(&kernel, &plan, x, gradient)
            })
        })??;
        Ok((
            x_gradient,
            Some(Tensor::from_vec(
                weight_gradient,
                weight.shape(),
                x.device(),
            )?),
            Some(Tensor::from_vec(bias_gradient, bias.shape(), x.device())?),
        ))
    }
}

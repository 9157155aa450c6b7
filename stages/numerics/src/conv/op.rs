//! The convolution as an operation of Candle's graph on the CPU, with its backward pass.
//! On other devices the layer is composed of Candle's own operations instead.

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::{ConvKernel, Plane, TAPS};
use crate::chunks::{chunks, split_rows};
use crate::elementwise::{add, add_rows};
use crate::host::{floats, with_slice};
use crate::simd::Level;

/// `x`, `[batch, height, width, input]`, weight, `[output, input, 3, 3]`, and bias, `[output]`, to
/// `[batch, height, width, output]`. All are contiguous.
pub(super) struct ConvOp {
    pub input: usize,
    pub output: usize,
}

impl ConvOp {
    fn kernel(&self, weight: &[f32], bias: &[f32], backward: bool) -> ConvKernel {
        let mut kernel = ConvKernel::new(Level::detect(), self.input, self.output);
        kernel.load(weight, bias, backward);
        kernel
    }

    /// The planes of one sample in front of the convolution and behind it.
    fn planes(&self, dims: &[usize]) -> (Plane, Plane) {
        (
            Plane::new(dims[1], dims[2], self.input),
            Plane::new(dims[1], dims[2], self.output),
        )
    }

    fn input_gradient(&self, kernel: &ConvKernel, dims: &[usize], gradient: &[f32]) -> Vec<f32> {
        let (from, to) = self.planes(dims);
        let mut target = vec![0.0; dims[0] * from.len()];
        let parts = chunks(dims[0]);
        split_rows(&mut target, &parts, from.len())
            .into_par_iter()
            .zip(&parts)
            .for_each(|(target, samples)| {
                let mut bordered = to.bordered();
                let gradient = gradient[samples.start * to.len()..samples.end * to.len()]
                    .chunks_exact(to.len());
                for (gradient, target) in gradient.zip(target.chunks_exact_mut(from.len())) {
                    to.fill(gradient, &mut bordered);
                    kernel.add_input_gradient(&to, &bordered, target);
                }
            });
        target
    }

    /// The gradients of weight and bias; the chunks' shares are added in their order.
    fn parameter_gradients(
        &self,
        kernel: &ConvKernel,
        dims: &[usize],
        x: &[f32],
        gradient: &[f32],
    ) -> [Vec<f32>; 2] {
        let (from, to) = self.planes(dims);
        let size = TAPS * self.input * self.output;
        let share = |samples: std::ops::Range<usize>| {
            let mut bordered = from.bordered();
            let mut share = [vec![0.0; size], vec![0.0; self.output]];
            let [weight, bias] = &mut share;
            for sample in samples {
                let gradient = &gradient[sample * to.len()..(sample + 1) * to.len()];
                from.fill(
                    &x[sample * from.len()..(sample + 1) * from.len()],
                    &mut bordered,
                );
                kernel.add_weight_gradient(&from, &bordered, gradient, weight);
                add_rows(Level::detect(), gradient, bias);
            }
            share
        };
        let shares: Vec<[Vec<f32>; 2]> = chunks(dims[0]).into_par_iter().map(share).collect();
        let mut sums = [vec![0.0; size], vec![0.0; self.output]];
        for share in &shares {
            sums.iter_mut()
                .zip(share)
                .for_each(|(sum, share)| add(Level::detect(), share, sum));
        }
        let [raw, bias] = sums;
        let mut weight = vec![0.0; size];
        kernel.gather_weight_gradient(&raw, &mut weight);
        [weight, bias]
    }
}

impl CustomOp3 for ConvOp {
    fn name(&self) -> &'static str {
        "conv3x3"
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
        let (x, dims) = (floats(x, x_layout)?, x_layout.dims());
        let kernel = self.kernel(
            floats(weight, weight_layout)?,
            floats(bias, bias_layout)?,
            false,
        );
        let (from, to) = self.planes(dims);
        let mut target = vec![0.0; dims[0] * to.len()];
        let parts = chunks(dims[0]);
        split_rows(&mut target, &parts, to.len())
            .into_par_iter()
            .zip(&parts)
            .for_each(|(target, samples)| {
                let mut bordered = from.bordered();
                let x = x[samples.start * from.len()..samples.end * from.len()]
                    .chunks_exact(from.len());
                for (x, target) in x.zip(target.chunks_exact_mut(to.len())) {
                    from.fill(x, &mut bordered);
                    kernel.forward(&from, &bordered, target);
                }
            });
        Ok((
            CpuStorage::F32(target),
            Shape::from(&[dims[0], dims[1], dims[2], self.output][..]),
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
        let (gradient, dims) = (gradient.contiguous()?, x.dims());
        let kernel = with_slice(weight, |weight| {
            with_slice(bias, |bias| self.kernel(weight, bias, true))
        })??;
        let x_gradient = match x.track_op() {
            true => Some(with_slice(&gradient, |gradient| {
                self.input_gradient(&kernel, dims, gradient)
            })?),
            false => None,
        };
        let parameters = with_slice(x, |x| {
            with_slice(&gradient, |gradient| {
                self.parameter_gradients(&kernel, dims, x, gradient)
            })
        })??;
        let [weight_gradient, bias_gradient] = parameters;
        let x_gradient = x_gradient
            .map(|values| Tensor::from_vec(values, x.shape(), x.device()))
            .transpose()?;
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

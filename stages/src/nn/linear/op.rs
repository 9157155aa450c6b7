//! The linear layer as an operation of Candle's graph on the CPU, with its backward pass.
//! On other devices the layer is composed of Candle's own operations instead.

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::{LinearKernel, Starts};
use crate::nn::chunks::{chunks, split_rows};
use crate::nn::elementwise::add;
use crate::nn::host::{floats, with_slice};
use crate::nn::simd::Level;

/// `x`, `[…, input]`, weight, `[output, input, …]`, and bias, `[output]`, to `[…, output]`. All are contiguous.
pub(super) struct LinearOp {
    pub input: usize,
    pub output: usize,
}

impl LinearOp {
    fn kernel(&self, weight: &[f32], bias: &[f32], backward: bool) -> LinearKernel {
        let mut kernel = LinearKernel::new(Level::detect(), self.input, self.output);
        kernel.load(weight, bias, backward);
        kernel
    }

    fn input_gradient(&self, kernel: &LinearKernel, gradient: &[f32]) -> Vec<f32> {
        let rows = gradient.len() / self.output;
        let mut target = vec![0.0; rows * self.input];
        let parts: Vec<_> = chunks(rows);
        split_rows(&mut target, &parts, self.input).into_par_iter().zip(&parts).for_each(|(target, rows)| {
            let gradient = &gradient[rows.start * self.output..rows.end * self.output];
            kernel.input_gradient(&mut Starts::default(), gradient, target);
        });
        target
    }

    /// The gradients of weight and bias; the chunks' shares are added in their order.
    fn parameter_gradients(&self, kernel: &LinearKernel, x: &[f32], gradient: &[f32]) -> [Vec<f32>; 2] {
        let (input, output) = (self.input, self.output);
        let shares: Vec<[Vec<f32>; 2]> = chunks(gradient.len() / output)
            .into_par_iter()
            .map(|rows| {
                let mut share = [vec![0.0; input * output], vec![0.0; output]];
                let [weight, bias] = &mut share;
                let x = &x[rows.start * input..rows.end * input];
                let gradient = &gradient[rows.start * output..rows.end * output];
                kernel.add_gradients(&mut Starts::default(), x, gradient, weight, bias);
                share
            })
            .collect();
        let mut sums = [vec![0.0; input * output], vec![0.0; output]];
        for share in &shares {
            sums.iter_mut().zip(share).for_each(|(sum, share)| add(Level::detect(), share, sum));
        }
        sums
    }
}

impl CustomOp3 for LinearOp {
    fn name(&self) -> &'static str {
        "linear"
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
        let kernel = self.kernel(floats(weight, weight_layout)?, floats(bias, bias_layout)?, false);
        let rows = x.len() / self.input;
        let mut target = vec![0.0; rows * self.output];
        let parts = chunks(rows);
        split_rows(&mut target, &parts, self.output).into_par_iter().zip(&parts).for_each(|(target, rows)| {
            kernel.forward(&mut Starts::default(), &x[rows.start * self.input..rows.end * self.input], target);
        });
        let mut shape = x_layout.dims().to_vec();
        if let Some(last) = shape.last_mut() {
            *last = self.output;
        }
        Ok((CpuStorage::F32(target), shape.into()))
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
        let kernel = with_slice(weight, |weight| with_slice(bias, |bias| self.kernel(weight, bias, true)))??;
        let x_gradient = match x.track_op() {
            true => Some(with_slice(&gradient, |gradient| self.input_gradient(&kernel, gradient))?),
            false => None,
        };
        let parameters =
            with_slice(x, |x| with_slice(&gradient, |gradient| self.parameter_gradients(&kernel, x, gradient)))??;
        let [weight_gradient, bias_gradient] = parameters;
        let x_gradient = x_gradient.map(|values| Tensor::from_vec(values, x.shape(), x.device())).transpose()?;
        Ok((
            x_gradient,
            Some(Tensor::from_vec(weight_gradient, weight.shape(), x.device())?),
            Some(Tensor::from_vec(bias_gradient, bias.shape(), x.device())?),
        ))
    }
}

//! The linear layer as an operation of Candle's graph on the CPU, with its backward pass.
//! On other devices the layer is composed of Candle's own operations instead.

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};

use super::{LinearKernel, Starts};
use crate::chunks::{chunks, fill_rows, sum_shares};
use crate::host::{floats, with_slice, with_slices};
use crate::simd::Level;

/// `x`, `[…, input]`, weight, `[output, input, …]`, and bias, `[output]`, to `[…, output]`. All are contiguous.
pub(super) struct LinearOp {
    pub input: usize,
    pub output: usize,
}

impl LinearOp {
    fn kernel(&self) -> LinearKernel {
        LinearKernel::new(Level::detect(), self.input, self.output)
    }

    fn input_gradient(&self, kernel: &LinearKernel, gradient: &[f32]) -> Vec<f32> {
        let ([target], _) = fill_rows(
            &chunks(gradient.len() / self.output),
            [self.input],
            |rows, [target]| {
                let gradient = &gradient[rows.start * self.output..rows.end * self.output];
                kernel.input_gradient(&mut Starts::default(), gradient, target);
            },
        );
        target
    }

    /// The gradients of weight and bias; the chunks' shares are added in their order.
    fn parameter_gradients(
        &self,
        kernel: &LinearKernel,
        x: &[f32],
        gradient: &[f32],
    ) -> [Vec<f32>; 2] {
        let (input, output) = (self.input, self.output);
        let (_, shares) = fill_rows(&chunks(gradient.len() / output), [], |rows, []| {
            let mut share = vec![0.0; input * output + output];
            let (weight, bias) = share.split_at_mut(input * output);
            let x = &x[rows.start * input..rows.end * input];
            let gradient = &gradient[rows.start * output..rows.end * output];
            kernel.add_gradients(&mut Starts::default(), x, gradient, weight, bias);
            share
        });
        let mut weight = match shares.is_empty() {
            true => vec![0.0; input * output + output],
            false => sum_shares(shares),
        };
        let bias = weight.split_off(input * output);
        [weight, bias]
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
        let mut kernel = self.kernel();
        kernel.load(
            floats(weight, weight_layout)?,
            floats(bias, bias_layout)?,
            false,
        );
        let ([target], _) = fill_rows(
            &chunks(x.len() / self.input),
            [self.output],
            |rows, [target]| {
                kernel.forward(
                    &mut Starts::default(),
                    &x[rows.start * self.input..rows.end * self.input],
                    target,
                );
            },
        );
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
        let mut kernel = self.kernel();
        let x_gradient = match x.track_op() {
            true => {
                with_slice(weight, |weight| kernel.load_backward(weight))?;
                Some(with_slice(&gradient, |gradient| {
                    self.input_gradient(&kernel, gradient)
                })?)
            }
            false => None,
        };
        let [weight_gradient, bias_gradient] = with_slices([x, &gradient], |[x, gradient]| {
            self.parameter_gradients(&kernel, x, gradient)
        })?;
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

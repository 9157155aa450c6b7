//! The linear layer as an operation.

use candle_core::{Result, Shape, Tensor};

use super::{LinearKernel, Starts};
use crate::chunks::{chunks, fill_rows, sum_parts};
#[cfg(feature = "cuda")]
use crate::operation::OnCuda;
use crate::operation::{Input, Operation};
use crate::precision::matmul;
use crate::simd::Level;

/// `x`, `[…, input]`, weight, `[output, input, …]`, and bias, `[output]`, to `[…, output]`.
pub(crate) struct LinearOp {
    pub input: usize,
    pub output: usize,
}

impl LinearOp {
    fn kernel(&self) -> LinearKernel {
        LinearKernel::new(Level::detect(), self.input, self.output)
    }

    fn input_gradient(&self, kernel: &LinearKernel, gradient: &[f32]) -> Vec<f32> {
        let parts = chunks(gradient.len() / self.output);
        let ([target], _) = fill_rows(&parts, [self.input], |rows, [target]| {
            let gradient = &gradient[rows.start * self.output..rows.end * self.output];
            kernel.input_gradient(&mut Starts::default(), gradient, target);
        });
        target
    }

    /// The gradients of weight and bias.
    fn parameter_gradients(
        &self,
        kernel: &LinearKernel,
        x: &[f32],
        gradient: &[f32],
    ) -> [Vec<f32>; 2] {
        let (input, output) = (self.input, self.output);
        let (parts, size) = (chunks(gradient.len() / output), input * output);
        let mut weight = sum_parts(&parts, size + output, |rows, share| {
            let (weight, bias) = share.split_at_mut(size);
            let x = &x[rows.start * input..rows.end * input];
            let gradient = &gradient[rows.start * output..rows.end * output];
            kernel.add_gradients(&mut Starts::default(), x, gradient, weight, bias);
        });
        let bias = weight.split_off(size);
        [weight, bias]
    }
}

impl Operation<3> for LinearOp {
    const LABEL: &'static str = "linear";

    #[cfg(feature = "cuda")]
    fn on_cuda(&self, _: [&[usize]; 3]) -> Option<&dyn OnCuda<3>> {
        Some(self)
    }

    fn compose(&self, [x, weight, bias]: [&Tensor; 3]) -> Result<Tensor> {
        let mut shape = x.dims().to_vec();
        if let Some(last) = shape.last_mut() {
            *last = self.output;
        }
        let rows = x.reshape((x.elem_count() / self.input, self.input))?;
        let weight = weight.reshape((self.output, self.input))?;
        matmul(&rows, &weight.t()?)?
            .broadcast_add(bias)?
            .reshape(shape)
    }

    fn forward(&self, [x, weight, bias]: [Input<'_>; 3]) -> Result<(Vec<f32>, Shape)> {
        let mut kernel = self.kernel();
        kernel.load(weight.values, bias.values, false);
        let parts = chunks(x.values.len() / self.input);
        let ([target], _) = fill_rows(&parts, [self.output], |rows, [target]| {
            let x = &x.values[rows.start * self.input..rows.end * self.input];
            kernel.forward(&mut Starts::default(), x, target);
        });
        Ok((target, x.with_last(self.output)))
    }

    fn backward(
        &self,
        [x, weight, _]: [Input<'_>; 3],
        _: &[f32],
        gradient: &[f32],
    ) -> Result<[Option<Vec<f32>>; 3]> {
        let mut kernel = self.kernel();
        let of_x = x.tracked.then(|| {
            kernel.load_backward(weight.values);
            self.input_gradient(&kernel, gradient)
        });
        let [weight, bias] = self.parameter_gradients(&kernel, x.values, gradient);
        Ok([of_x, Some(weight), Some(bias)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::{Draw, Example, Examples};

    impl Examples<3> for LinearOp {
        fn examples(draw: &mut Draw) -> Vec<Example<Self, 3>> {
            let mut example = |dims: &[usize], input, output, weight: &[usize]| Example {
                operation: Self { input, output },
                inputs: [
                    draw.variable(dims),
                    draw.variable(weight),
                    draw.variable(&[output]),
                ],
            };
            vec![
                example(&[1, 1], 1, 1, &[1, 1]),
                example(&[5, 3], 3, 9, &[9, 3]),
                // A 1x1 convolution's weight has an axis more; so many weights are packed by several threads.
                example(&[2, 7, 257], 257, 256, &[256, 257, 1]),
            ]
        }
    }
}

//! The convolution as an operation.

use candle_core::{Result, Shape, Tensor};

use super::{ConvKernel, Plane, TAPS};
use crate::chunks::{chunks, fill_rows, sum_parts};
use crate::conv2d::Window2d;
use crate::elementwise::add_rows;
#[cfg(feature = "cuda")]
use crate::operation::OnCuda;
use crate::operation::{Input, Operation};
use crate::simd::Level;
use crate::unfolded::convolve;

/// `x`, `[batch, height, width, input]`, weight, `[output, input, 3, 3]`, and bias, `[output]`, to
/// `[batch, height, width, output]`.
pub(crate) struct Conv3x3Op {
    pub input: usize,
    pub output: usize,
}

impl Conv3x3Op {
    fn kernel(&self, weight: Input<'_>, bias: Input<'_>, backward: bool) -> ConvKernel {
        let mut kernel = ConvKernel::new(Level::detect(), self.input, self.output);
        kernel.load(weight.values, bias.values, backward);
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
        let ([target], _) = fill_rows(&chunks(dims[0]), [from.len()], |samples, [target]| {
            let mut bordered = to.bordered();
            for (sample, target) in samples.zip(target.chunks_exact_mut(from.len())) {
                to.fill(&gradient[sample * to.len()..][..to.len()], &mut bordered);
                kernel.add_input_gradient(&to, &bordered, target);
            }
        });
        target
    }

    /// The gradients of weight and bias.
    fn parameter_gradients(
        &self,
        kernel: &ConvKernel,
        x: Input<'_>,
        gradient: &[f32],
    ) -> [Vec<f32>; 2] {
        let (from, to) = self.planes(x.dims);
        let size = TAPS * self.input * self.output;
        let mut sums = sum_parts(&chunks(x.dims[0]), size + self.output, |samples, share| {
            let (weight, bias) = share.split_at_mut(size);
            let mut bordered = from.bordered();
            for sample in samples {
                let x = &x.values[sample * from.len()..][..from.len()];
                let gradient = &gradient[sample * to.len()..][..to.len()];
                from.fill(x, &mut bordered);
                kernel.add_weight_gradient(&from, &bordered, gradient, weight);
                add_rows(Level::detect(), gradient, bias);
            }
        });
        let bias = sums.split_off(size);
        let mut weight = vec![0.0; size];
        kernel.gather_weight_gradient(&sums, &mut weight);
        [weight, bias]
    }
}

impl Operation<3> for Conv3x3Op {
    const LABEL: &'static str = "conv3x3";

    #[cfg(feature = "cuda")]
    fn on_cuda(&self, _: [&[usize]; 3]) -> Option<&dyn OnCuda<3>> {
        Some(self)
    }

    fn compose(&self, [x, weight, bias]: [&Tensor; 3]) -> Result<Tensor> {
        convolve(x, weight, &Window2d::square(3).padding(1))?.broadcast_add(bias)
    }

    fn forward(&self, [x, weight, bias]: [Input<'_>; 3]) -> Result<(Vec<f32>, Shape)> {
        let kernel = self.kernel(weight, bias, false);
        let (from, to) = self.planes(x.dims);
        let ([target], _) = fill_rows(&chunks(x.dims[0]), [to.len()], |samples, [target]| {
            let mut bordered = from.bordered();
            for (sample, target) in samples.zip(target.chunks_exact_mut(to.len())) {
                from.fill(
                    &x.values[sample * from.len()..][..from.len()],
                    &mut bordered,
                );
                kernel.forward(&from, &bordered, target);
            }
        });
        Ok((target, x.with_last(self.output)))
    }

    fn backward(
        &self,
        [x, weight, bias]: [Input<'_>; 3],
        _: &[f32],
        gradient: &[f32],
    ) -> Result<[Option<Vec<f32>>; 3]> {
        let kernel = self.kernel(weight, bias, x.tracked);
        let mut of_x = None;
        if x.tracked {
            of_x = Some(self.input_gradient(&kernel, x.dims, gradient));
        }
        let [weight, bias] = self.parameter_gradients(&kernel, x, gradient);
        Ok([of_x, Some(weight), Some(bias)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::{Draw, Example, Examples};

    impl Examples<3> for Conv3x3Op {
        fn examples(draw: &mut Draw) -> Vec<Example<Self, 3>> {
            let mut example = |(batch, height, width, input, output)| Example {
                operation: Self { input, output },
                inputs: [
                    draw.variable(&[batch, height, width, input]),
                    draw.variable(&[output, input, 3, 3]),
                    draw.variable(&[output]),
                ],
            };
            [(1, 1, 1, 1, 1), (2, 3, 4, 5, 7), (19, 2, 5, 3, 17)]
                .map(&mut example)
                .into()
        }
    }
}

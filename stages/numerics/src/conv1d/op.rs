//! The one-dimensional convolution as an operation.

use candle_core::{Result, Shape, Tensor};

use super::Sizes;
use crate::chunks::{chunks, fill_rows, sum_parts};
use crate::conv2d::Window2d;
use crate::elementwise::{add, add_rows};
#[cfg(feature = "cuda")]
use crate::operation::OnCuda;
use crate::operation::{Input, Operation};
use crate::product::{Panels, Rows, Start, accumulate_outer, multiply, starts};
use crate::simd::Level;
use crate::unfolded::convolve;

/// `x`, `[batch, length, input]`, weight, `[output, input, kernel]`, and bias, `[output]`, to
/// `[batch, positions, output]`.
pub(crate) struct Conv1dOp {
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
        let starts = sizes.starts(dims[1]);
        Self {
            batch: dims[0],
            from: dims[1] * sizes.input,
            to: starts.len() * sizes.output,
            starts,
        }
    }
}

impl Conv1dOp {
    fn input_gradient(&self, panels: &Panels, plan: &Plan, gradient: &[f32]) -> Vec<f32> {
        let depth = self.sizes.depth();
        // What every position of the kernel passes back to the values under it; overlapping ones are then added.
        let dense = starts(0, self.sizes.output, plan.starts.len());
        let parts = chunks(plan.batch);
        let ([target], _) = fill_rows(&parts, [plan.from], |samples, [target]| {
            let mut columns = vec![0.0; plan.starts.len() * depth];
            for (sample, target) in samples.zip(target.chunks_exact_mut(plan.from)) {
                let gradient = &gradient[sample * plan.to..][..plan.to];
                let rows = Rows::new(gradient, &dense);
                multiply(rows, panels, Start::Zeros, &mut columns);
                for (start, values) in plan.starts.iter().zip(columns.chunks_exact(depth)) {
                    add(Level::detect(), values, &mut target[*start..][..depth]);
                }
            }
        });
        target
    }

    /// The gradients of weight and bias.
    fn parameter_gradients(&self, plan: &Plan, x: &[f32], gradient: &[f32]) -> [Vec<f32>; 2] {
        let (level, depth, output) = (Level::detect(), self.sizes.depth(), self.sizes.output);
        let parts = chunks(plan.batch);
        let mut sums = sum_parts(&parts, (depth + 1) * output, |samples, share| {
            let (weight, bias) = share.split_at_mut(depth * output);
            for sample in samples {
                let rows = Rows::new(&x[sample * plan.from..][..plan.from], &plan.starts);
                let gradient = &gradient[sample * plan.to..][..plan.to];
                accumulate_outer(level, rows, depth, gradient, output, weight);
                add_rows(level, gradient, bias);
            }
        });
        let bias = sums.split_off(depth * output);
        [self.sizes.in_layout(&sums), bias]
    }
}

impl Operation<3> for Conv1dOp {
    const LABEL: &'static str = "conv1d-rows";

    #[cfg(feature = "cuda")]
    fn on_cuda(&self, _: [&[usize]; 3]) -> Option<&dyn OnCuda<3>> {
        Some(self)
    }

    /// As a two-dimensional convolution of height 1.
    fn compose(&self, [x, weight, bias]: [&Tensor; 3]) -> Result<Tensor> {
        let Sizes {
            input,
            output,
            kernel,
            stride,
        } = self.sizes;
        let window = Window2d {
            kernel: [1, kernel],
            stride: [1, stride],
            ..Window2d::square(1)
        };
        let weight = weight.reshape((output, input, 1, kernel))?;
        convolve(&x.unsqueeze(1)?, &weight, &window)?
            .squeeze(1)?
            .broadcast_add(bias)
    }

    fn forward(&self, [x, weight, bias]: [Input<'_>; 3]) -> Result<(Vec<f32>, Shape)> {
        let plan = Plan::new(self.sizes, x.dims);
        let panels = self.sizes.pack(weight.values);
        let ([target], _) = fill_rows(&chunks(plan.batch), [plan.to], |samples, [target]| {
            for (sample, target) in samples.zip(target.chunks_exact_mut(plan.to)) {
                let x = &x.values[sample * plan.from..][..plan.from];
                let rows = Rows::new(x, &plan.starts);
                multiply(rows, &panels, Start::Bias(bias.values), target);
            }
        });
        let shape = (plan.batch, plan.starts.len(), self.sizes.output);
        Ok((target, shape.into()))
    }

    fn backward(
        &self,
        [x, weight, _]: [Input<'_>; 3],
        _: &[f32],
        gradient: &[f32],
    ) -> Result<[Option<Vec<f32>>; 3]> {
        let plan = Plan::new(self.sizes, x.dims);
        let mut of_x = None;
        if x.tracked {
            let panels = self.sizes.pack_transposed(weight.values);
            of_x = Some(self.input_gradient(&panels, &plan, gradient));
        }
        let [weight, bias] = self.parameter_gradients(&plan, x.values, gradient);
        Ok([of_x, Some(weight), Some(bias)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::{Draw, Example, Examples};

    const CASES: [(usize, usize, Sizes); 5] = [
        (
            3,
            7,
            Sizes {
                input: 4,
                output: 5,
                kernel: 3,
                stride: 1,
            },
        ),
        (
            2,
            11,
            Sizes {
                input: 1,
                output: 8,
                kernel: 8,
                stride: 3,
            },
        ),
        (
            19,
            9,
            Sizes {
                input: 2,
                output: 33,
                kernel: 4,
                stride: 4,
            },
        ),
        (
            1,
            5,
            Sizes {
                input: 3,
                output: 2,
                kernel: 1,
                stride: 2,
            },
        ),
        (
            4,
            6,
            Sizes {
                input: 3,
                output: 3,
                kernel: 6,
                stride: 1,
            },
        ),
    ];

    impl Examples<3> for Conv1dOp {
        fn examples(draw: &mut Draw) -> Vec<Example<Self, 3>> {
            let mut examples = Vec::new();
            for (batch, length, sizes) in CASES {
                examples.push(Example {
                    operation: Self { sizes },
                    inputs: [
                        draw.variable(&[batch, length, sizes.input]),
                        draw.variable(&[sizes.output, sizes.input, sizes.kernel]),
                        draw.variable(&[sizes.output]),
                    ],
                });
            }
            examples
        }
    }
}

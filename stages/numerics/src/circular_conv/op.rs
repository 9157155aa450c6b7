//! The circular convolution as an operation. Its kernels convolve samples whose ends were put around them.

use candle_core::{Result, Shape, Tensor};

use super::TAPS;
use crate::chunks::{chunks, fill_rows, sum_parts};
use crate::conv1d::Sizes;
#[cfg(feature = "cuda")]
use crate::operation::OnCuda;
use crate::operation::{Input, Operation};
use crate::positions::Positions;
use crate::precision::matmul;
use crate::product::{Rows, Start, accumulate_outer, multiply};
use crate::simd::Level;

/// `x`, `[batch, length, input]`, and weight, `[output, input, 3]`, to `[batch, length, output]`.
pub(crate) struct CircularConvOp {
    pub input: usize,
    pub output: usize,
    /// What the sums start from.
    pub positions: Positions,
}

/// Convolves samples, `[batch, length, sizes.input]`, onto positions if there are any.
fn convolve(
    x: &[f32],
    [batch, length]: [usize; 2],
    sizes: Sizes,
    weight: &[f32],
    positions: Option<&[f32]>,
) -> Vec<f32> {
    let (from, to) = (length * sizes.input, length * sizes.output);
    let (panels, starts) = (sizes.pack(weight), sizes.starts(length + 2));
    let ([target], _) = fill_rows(&chunks(batch), [to], |samples, [target]| {
        let mut padded = vec![0.0; from + 2 * sizes.input];
        for (sample, target) in samples.zip(target.chunks_exact_mut(to)) {
            pad(&x[sample * from..][..from], sizes.input, &mut padded);
            let mut start = Start::Zeros;
            if let Some(positions) = positions {
                target.copy_from_slice(positions);
                start = Start::Target;
            }
            multiply(Rows::new(&padded, &starts), &panels, start, target);
        }
    });
    target
}

/// A sample with its last row in front of it and its first row behind it.
fn pad(sample: &[f32], width: usize, padded: &mut [f32]) {
    let end = sample.len();
    padded[..width].copy_from_slice(&sample[end - width..]);
    padded[width..width + end].copy_from_slice(sample);
    padded[width + end..].copy_from_slice(&sample[..width]);
}

impl CircularConvOp {
    fn sizes(&self) -> Sizes {
        Sizes::new(self.input, self.output, TAPS)
    }

    /// A convolution of the gradient with the taps in opposite order.
    fn input_gradient(&self, gradient: &[f32], weight: &[f32], dims: [usize; 2]) -> Vec<f32> {
        let (input, output) = (self.input, self.output);
        let mut turned = Vec::with_capacity(weight.len());
        for from in 0..input {
            for to in 0..output {
                let taps = &weight[(to * input + from) * TAPS..][..TAPS];
                turned.extend(taps.iter().rev());
            }
        }
        let sizes = Sizes::new(output, input, TAPS);
        convolve(gradient, dims, sizes, &turned, None)
    }

    fn weight_gradient(
        &self,
        x: &[f32],
        gradient: &[f32],
        [batch, length]: [usize; 2],
    ) -> Vec<f32> {
        let (level, sizes) = (Level::detect(), self.sizes());
        let (from, to) = (length * self.input, length * self.output);
        let (depth, starts) = (TAPS * self.input, sizes.starts(length + 2));
        let sums = sum_parts(&chunks(batch), depth * self.output, |samples, share| {
            let mut padded = vec![0.0; from + 2 * self.input];
            for sample in samples {
                pad(&x[sample * from..][..from], self.input, &mut padded);
                let rows = Rows::new(&padded, &starts);
                let gradient = &gradient[sample * to..][..to];
                accumulate_outer(level, rows, depth, gradient, self.output, share);
            }
        });
        sizes.in_layout(&sums)
    }
}

impl Operation<2> for CircularConvOp {
    const LABEL: &'static str = "circular-convolution";

    #[cfg(feature = "cuda")]
    fn on_cuda(&self, _: [&[usize]; 2]) -> Option<&dyn OnCuda<2>> {
        Some(self)
    }

    fn compose(&self, [x, weight]: [&Tensor; 2]) -> Result<Tensor> {
        let (batch, length, input) = x.dims3()?;
        let (last, first) = (x.narrow(1, length - 1, 1)?, x.narrow(1, 0, 1)?);
        let (before, after) = match length {
            1 => (last, first),
            _ => (
                Tensor::cat(&[&last, &x.narrow(1, 0, length - 1)?], 1)?,
                Tensor::cat(&[&x.narrow(1, 1, length - 1)?, &first], 1)?,
            ),
        };
        let rows =
            Tensor::cat(&[&before, x, &after], 2)?.reshape((batch * length, TAPS * input))?;
        let weight = weight.permute((2, 1, 0))?;
        let weight = weight.reshape((TAPS * input, self.output))?;
        let positions = self.positions.tensor(x.device())?.to_dtype(x.dtype())?;
        matmul(&rows, &weight)?
            .reshape((batch, length, self.output))?
            .broadcast_add(&positions)
    }

    fn forward(&self, [x, weight]: [Input<'_>; 2]) -> Result<(Vec<f32>, Shape)> {
        let dims = [x.dims[0], x.dims[1]];
        let start = Some(self.positions.values());
        let target = convolve(x.values, dims, self.sizes(), weight.values, start);
        Ok((target, x.with_last(self.output)))
    }

    fn backward(
        &self,
        [x, weight]: [Input<'_>; 2],
        _: &[f32],
        gradient: &[f32],
    ) -> Result<[Option<Vec<f32>>; 2]> {
        let dims = [x.dims[0], x.dims[1]];
        let mut of_x = None;
        if x.tracked {
            of_x = Some(self.input_gradient(gradient, weight.values, dims));
        }
        let of_weight = self.weight_gradient(x.values, gradient, dims);
        Ok([of_x, Some(of_weight)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::{Draw, Example, Examples};

    impl Examples<2> for CircularConvOp {
        fn examples(draw: &mut Draw) -> Vec<Example<Self, 2>> {
            let mut example = |(batch, length, input, output)| Example {
                operation: Self {
                    input,
                    output,
                    positions: Positions::new(length, output),
                },
                inputs: [
                    draw.variable(&[batch, length, input]),
                    draw.variable(&[output, input, TAPS]),
                ],
            };
            [(1, 1, 1, 1), (2, 2, 3, 5), (3, 9, 7, 20), (17, 5, 2, 33)]
                .map(&mut example)
                .into()
        }
    }
}

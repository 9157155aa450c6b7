//! The authors' dynamic convolution: a convolution followed by the transposed convolution with the same kernel.
//! Where the kernel's weights come from is the block's business.
//!
//! A kernel whose output channels are scaled by `a` gives `Wᵀ(a ⊙ a ⊙ (W x))`. So the scales, and not kernels per sample,
//! are all that a batch needs: `a²` of each sample alone, or, as the authors' program has it, the sum of `a²` over the
//! batch for every sample.

use std::ops::Range;

use candle_core::{Result, Shape, Tensor, bail};
use rayon::prelude::*;

use numerics::Level;
use numerics::chunks::{chunks, split_rows};
use numerics::conv::TAPS;
use numerics::elementwise::add;
use numerics::operation::{Input, Operation, apply};
use numerics::product::{Panels, Rows, Start, accumulate_outer, multiply};

/// `Wᵀ(scales ⊙ (W x))`: `x` is `[batch, height, width, channels]`, the kernel `[output, channels, 3, 3]`, scales
/// `[batch, output]`; the result has the shape of `x`. There is no border.
///
/// # Errors
/// If planes are smaller than the kernel, or sizes disagree.
pub(super) fn tied_convolution(x: &Tensor, kernel: &Tensor, scales: &Tensor) -> Result<Tensor> {
    let (batch, height, width, channels) = x.dims4()?;
    let (output, input, _, _) = kernel.dims4()?;
    if height < 3 || width < 3 || input != channels || scales.dims() != [batch, output] {
        bail!(
            "a tied convolution {:?} scaled by {:?} cannot take {:?}",
            kernel.dims(),
            scales.dims(),
            x.dims()
        )
    }
    let op = TiedOp {
        height,
        width,
        channels,
        output,
    };
    apply(op, [x, kernel, scales])
}

pub(crate) struct TiedOp {
    height: usize,
    width: usize,
    channels: usize,
    output: usize,
}

/// Weights as the kernels want them, and where a plane's values are.
struct Kernel<'a> {
    level: Level,
    sizes: &'a TiedOp,
    forward: Panels,
    transposed: Panels,
    /// Where a plane's patches start, where their three lines start in them, and where dense rows start.
    starts: Vec<usize>,
    lines: [usize; 3],
    dense: Vec<usize>,
    zeros: Vec<f32>,
}

/// Memory for one sample.
struct Scratch {
    /// `[positions, output]`, twice.
    inner: Vec<f32>,
    other: Vec<f32>,
    /// `[positions, 3, 3, channels]`.
    columns: Vec<f32>,
}

impl Kernel<'_> {
    /// Values under one line of the kernel.
    fn depth(&self) -> usize {
        3 * self.sizes.channels
    }

    fn scratch(&self) -> Scratch {
        let (rows, sizes) = (self.starts.len(), self.sizes);
        Scratch {
            inner: vec![0.0; rows * sizes.output],
            other: vec![0.0; rows * sizes.output],
            columns: vec![0.0; rows * TAPS * sizes.channels],
        }
    }

    fn rows<'b>(&'b self, x: &'b [f32]) -> Rows<'b> {
        Rows {
            values: x,
            starts: &self.starts,
            taps: &self.lines,
        }
    }

    /// `W x` of one plane.
    fn convolve(&self, x: &[f32], target: &mut [f32]) {
        multiply(
            self.rows(x),
            &self.forward,
            Start::Bias(&self.zeros[..self.sizes.output]),
            target,
        );
    }

    /// Adds `Wᵀ inner` to a plane.
    fn add_transposed(&self, inner: &[f32], columns: &mut [f32], target: &mut [f32]) {
        let rows = Rows {
            values: inner,
            starts: &self.dense,
            taps: &[0],
        };
        multiply(rows, &self.transposed, Start::Bias(&self.zeros), columns);
        let depth = self.depth();
        for (start, patch) in self.starts.iter().zip(columns.chunks_exact(3 * depth)) {
            for (line, values) in self.lines.iter().zip(patch.chunks_exact(depth)) {
                add(
                    self.level,
                    values,
                    &mut target[start + line..start + line + depth],
                );
            }
        }
    }

    /// Adds the outer product of a plane's patches and `inner` to `sums`, `[3, 3, channels, output]`.
    fn add_outer(&self, x: &[f32], inner: &[f32], sums: &mut [f32]) {
        accumulate_outer(
            self.level,
            self.rows(x),
            self.depth(),
            inner,
            self.sizes.output,
            sums,
        );
    }
}

/// `rows[position, output] *= scales[output]`.
fn scale(rows: &mut [f32], scales: &[f32]) {
    for row in rows.chunks_exact_mut(scales.len()) {
        for (value, scale) in row.iter_mut().zip(scales) {
            *value *= scale;
        }
    }
}

impl TiedOp {
    fn plane(&self) -> usize {
        self.height * self.width * self.channels
    }

    /// Where the weight under a line and a place in it, `[3, channels]`, stands in the weight of one output.
    fn place(&self, line: usize, index: usize) -> usize {
        index % self.channels * TAPS + line * 3 + index / self.channels
    }

    fn kernel(&self, weight: &[f32]) -> Kernel<'_> {
        let (level, depth) = (Level::detect(), 3 * self.channels);
        let mut forward = Panels::new(level, 3, depth, self.output);
        forward.fill(|line, index, to| weight[to * 3 * depth + self.place(line, index)]);
        let mut transposed = Panels::new(level, 1, self.output, 3 * depth);
        transposed
            .fill(|_, to, index| weight[to * 3 * depth + self.place(index / depth, index % depth)]);
        let line = self.width * self.channels;
        let mut starts = Vec::with_capacity((self.height - 2) * (self.width - 2));
        for row in 0..self.height - 2 {
            for column in 0..self.width - 2 {
                starts.push(row * line + column * self.channels);
            }
        }
        let dense = (0..starts.len()).map(|row| row * self.output).collect();
        let zeros = vec![0.0; (3 * depth).max(self.output)];
        Kernel {
            level,
            sizes: self,
            forward,
            transposed,
            starts,
            lines: [0, line, 2 * line],
            dense,
            zeros,
        }
    }

    fn run(&self, kernel: &Kernel<'_>, x: &[f32], scales: &[f32]) -> Vec<f32> {
        let mut target = vec![0.0; x.len()];
        let (plane, parts) = (self.plane(), chunks(x.len() / self.plane()));
        let targets = split_rows(&mut target, &parts, plane).into_par_iter();
        targets.zip(&parts).for_each(|(target, samples)| {
            let mut scratch = kernel.scratch();
            for (sample, target) in samples.clone().zip(target.chunks_exact_mut(plane)) {
                kernel.convolve(&x[sample * plane..(sample + 1) * plane], &mut scratch.inner);
                let scales = &scales[sample * self.output..(sample + 1) * self.output];
                scale(&mut scratch.inner, scales);
                kernel.add_transposed(&scratch.inner, &mut scratch.columns, target);
            }
        });
        target
    }

    /// The gradient of the kernel in the layout of its sums, and of the scales, of some samples.
    ///
    /// With `z = W x` and `q = W g`, `g` being the gradient of the output, what is differentiated is `Σ scales ⊙ z ⊙ q`.
    fn parameter_share(
        &self,
        kernel: &Kernel<'_>,
        samples: Range<usize>,
        (x, gradient, scales): (&[f32], &[f32], &[f32]),
    ) -> [Vec<f32>; 2] {
        let (plane, output) = (self.plane(), self.output);
        let mut sums = vec![0.0; TAPS * self.channels * output];
        let mut of_scales = vec![0.0; samples.len() * output];
        let mut scratch = kernel.scratch();
        for (sample, of_scales) in samples.zip(of_scales.chunks_exact_mut(output)) {
            let own = sample * plane..(sample + 1) * plane;
            let (x, gradient) = (&x[own.clone()], &gradient[own]);
            kernel.convolve(x, &mut scratch.inner);
            kernel.convolve(gradient, &mut scratch.other);
            let inner = scratch.inner.chunks_exact(output);
            for (z, q) in inner.zip(scratch.other.chunks_exact(output)) {
                for ((sum, z), q) in of_scales.iter_mut().zip(z).zip(q) {
                    *sum += z * q;
                }
            }
            let scales = &scales[sample * output..(sample + 1) * output];
            scale(&mut scratch.inner, scales);
            scale(&mut scratch.other, scales);
            kernel.add_outer(x, &scratch.other, &mut sums);
            kernel.add_outer(gradient, &scratch.inner, &mut sums);
        }
        [sums, of_scales]
    }

    /// The gradients of kernel and scales; the chunks' shares are added in their order.
    fn parameter_gradients(
        &self,
        kernel: &Kernel<'_>,
        values: (&[f32], &[f32], &[f32]),
    ) -> [Vec<f32>; 2] {
        let parts = chunks(values.0.len() / self.plane());
        let shares: Vec<[Vec<f32>; 2]> = parts
            .into_par_iter()
            .map(|samples| self.parameter_share(kernel, samples, values))
            .collect();
        let mut sums = vec![0.0; TAPS * self.channels * self.output];
        let mut of_scales = Vec::with_capacity(values.2.len());
        for [share, scales] in &shares {
            add(kernel.level, share, &mut sums);
            of_scales.extend_from_slice(scales);
        }
        let depth = 3 * self.channels;
        let mut weight = vec![0.0; sums.len()];
        for (index, row) in sums.chunks_exact(self.output).enumerate() {
            let place = self.place(index / depth, index % depth);
            for (to, value) in row.iter().enumerate() {
                weight[to * 3 * depth + place] = *value;
            }
        }
        [weight, of_scales]
    }
}

impl Operation<3> for TiedOp {
    const LABEL: &'static str = "tied-convolution";

    fn compose(&self, [x, kernel, scales]: [&Tensor; 3]) -> Result<Tensor> {
        let planes = x.permute((0, 3, 1, 2))?.contiguous()?;
        let inner = planes
            .conv2d(kernel, 0, 1, 1, 1)?
            .broadcast_mul(&scales.unsqueeze(2)?.unsqueeze(3)?)?;
        inner
            .conv_transpose2d(kernel, 0, 0, 1, 1)?
            .permute((0, 2, 3, 1))?
            .contiguous()
    }

    fn forward(&self, [x, kernel, scales]: [Input<'_>; 3]) -> Result<(Vec<f32>, Shape)> {
        let kernel = self.kernel(kernel.values);
        Ok((self.run(&kernel, x.values, scales.values), x.dims.into()))
    }

    fn backward(
        &self,
        [x, kernel, scales]: [Input<'_>; 3],
        _: &[f32],
        gradient: &[f32],
    ) -> Result<[Option<Vec<f32>>; 3]> {
        let kernel = self.kernel(kernel.values);
        // The operation is its own transpose.
        let of_x = x
            .tracked
            .then(|| self.run(&kernel, gradient, scales.values));
        let values = (x.values, gradient, scales.values);
        let [of_kernel, of_scales] = self.parameter_gradients(&kernel, values);
        Ok([of_x, Some(of_kernel), Some(of_scales)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};
    use contract::Random;
    use numerics::conformance::{Draw, Example, Examples};

    impl Examples<3> for TiedOp {
        fn examples(draw: &mut Draw) -> Vec<Example<Self, 3>> {
            let mut example = |(batch, height, width, channels, output)| Example {
                operation: Self {
                    height,
                    width,
                    channels,
                    output,
                },
                inputs: [
                    draw.variable(&[batch, height, width, channels]),
                    draw.variable(&[output, channels, 3, 3]),
                    draw.variable(&[batch, output]),
                ],
            };
            [(3, 4, 5, 2, 7), (19, 3, 3, 5, 5), (1, 6, 4, 33, 3)]
                .map(&mut example)
                .into()
        }
    }

    fn draws(shape: &[usize], random: &mut Random) -> Var {
        let values = (0..shape.iter().product())
            .map(|_| random.range(-1.0, 1.0) as f32)
            .collect::<Vec<_>>();
        Var::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    #[test]
    fn planes_below_the_kernel_are_refused() {
        let mut random = Random::new(10, "tied");
        let (x, kernel) = (
            draws(&[2, 2, 5, 3], &mut random),
            draws(&[3, 3, 3, 3], &mut random),
        );
        let scales = draws(&[2, 3], &mut random);
        assert!(
            tied_convolution(&x, &kernel, &scales)
                .unwrap_err()
                .to_string()
                .contains("[2, 2, 5, 3]")
        );
    }
}

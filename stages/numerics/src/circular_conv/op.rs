//! The circular convolution as an operation of Candle's graph on the CPU, with its backward pass.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};

use super::TAPS;
use crate::chunks::{chunks, fill_rows, sum_shares};
use crate::host::{floats, with_slices};
use crate::positions::Positions;
use crate::product::{Panels, Rows, Start, accumulate_outer, multiply};
use crate::simd::Level;

/// `x`, `[batch, length, input]`, and weight, `[output, input, 3]`, to `[batch, length, output]`. All are contiguous.
pub(super) struct CircularConvOp {
    pub input: usize,
    pub output: usize,
    /// What the sums start from, if not zero.
    pub positions: Option<Positions>,
}

/// Convolves samples, `[batch, length, width]`, with packed weights, `[3 * width, columns]`, onto positions if there are
/// any.
fn convolve(
    x: &[f32],
    [batch, length, width]: [usize; 3],
    columns: usize,
    panels: &Panels,
    positions: Option<&[f32]>,
) -> Vec<f32> {
    let starts: Vec<usize> = (0..length).map(|row| row * width).collect();
    let zeros = vec![0.0; columns];
    let ([target], _) = fill_rows(&chunks(batch), [length * columns], |samples, [target]| {
        let mut padded = vec![0.0; (length + 2) * width];
        for (sample, target) in samples.zip(target.chunks_exact_mut(length * columns)) {
            pad(
                &x[sample * length * width..][..length * width],
                width,
                &mut padded,
            );
            let start = match positions {
                Some(positions) => {
                    target.copy_from_slice(positions);
                    Start::Target
                }
                None => Start::Bias(&zeros),
            };
            multiply(
                Rows {
                    values: &padded,
                    starts: &starts,
                    taps: &[0],
                },
                panels,
                start,
                target,
            );
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
    fn forward(&self, x: &[f32], weight: &[f32], batch: usize, length: usize) -> Vec<f32> {
        let (input, output) = (self.input, self.output);
        let mut panels = Panels::new(Level::detect(), 1, TAPS * input, output);
        panels.fill(|_, row, column| weight[(column * input + row % input) * TAPS + row / input]);
        convolve(
            x,
            [batch, length, input],
            output,
            &panels,
            self.positions.as_ref().map(Positions::values),
        )
    }

    /// A convolution of the gradient with the taps in opposite order.
    fn input_gradient(
        &self,
        gradient: &[f32],
        weight: &[f32],
        batch: usize,
        length: usize,
    ) -> Vec<f32> {
        let (input, output) = (self.input, self.output);
        let mut panels = Panels::new(Level::detect(), 1, TAPS * output, input);
        panels.fill(|_, row, column| {
            let (tap, channel) = (row / output, row % output);
            weight[(channel * input + column) * TAPS + TAPS - 1 - tap]
        });
        convolve(gradient, [batch, length, output], input, &panels, None)
    }

    fn weight_gradient(
        &self,
        x: &[f32],
        gradient: &[f32],
        batch: usize,
        length: usize,
    ) -> Vec<f32> {
        let (input, output) = (self.input, self.output);
        let starts: Vec<usize> = (0..length).map(|row| row * input).collect();
        let (_, shares) = fill_rows(&chunks(batch), [], |samples, []| {
            let mut share = vec![0.0; TAPS * input * output];
            let mut padded = vec![0.0; (length + 2) * input];
            for sample in samples {
                pad(
                    &x[sample * length * input..][..length * input],
                    input,
                    &mut padded,
                );
                let rows = Rows {
                    values: &padded,
                    starts: &starts,
                    taps: &[0],
                };
                let gradient = &gradient[sample * length * output..][..length * output];
                accumulate_outer(
                    Level::detect(),
                    rows,
                    TAPS * input,
                    gradient,
                    output,
                    &mut share,
                );
            }
            share
        });
        let mut weight = vec![0.0; TAPS * input * output];
        for (row, sums) in sum_shares(shares).chunks_exact(output).enumerate() {
            for (column, sum) in sums.iter().enumerate() {
                weight[(column * input + row % input) * TAPS + row / input] = *sum;
            }
        }
        weight
    }
}

impl CustomOp2 for CircularConvOp {
    fn name(&self) -> &'static str {
        "circular-convolution"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (batch, length, _) = x_layout.shape().dims3()?;
        let target = self.forward(
            floats(x, x_layout)?,
            floats(weight, weight_layout)?,
            batch,
            length,
        );
        Ok((
            CpuStorage::F32(target),
            Shape::from((batch, length, self.output)),
        ))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (batch, length, _) = x.dims3()?;
        let gradient = gradient.contiguous()?;
        let x_gradient = match x.track_op() {
            true => {
                let values = with_slices([&gradient, weight], |[gradient, weight]| {
                    self.input_gradient(gradient, weight, batch, length)
                })?;
                Some(Tensor::from_vec(values, x.shape(), x.device())?)
            }
            false => None,
        };
        let values = with_slices([x, &gradient], |[x, gradient]| {
            self.weight_gradient(x, gradient, batch, length)
        })?;
        Ok((
            x_gradient,
            Some(Tensor::from_vec(values, weight.shape(), x.device())?),
        ))
    }
}

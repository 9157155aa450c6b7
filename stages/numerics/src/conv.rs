//! Convolutions with a 3x3 kernel and a border of zeros, over channels-last planes.
//! Other kernel sizes and strides are not here yet: no model of ours asks for them.

#[cfg(feature = "cuda")]
mod cuda;
pub(crate) mod op;

use candle_core::{Result, Tensor, Var};

use super::initialise::Initial;
use super::operation::apply;
use super::product::{Panels, Rows, Start, accumulate_outer, multiply, starts};
use super::simd::Level;
use super::state::StateBuilder;

/// Positions of the kernel.
pub const TAPS: usize = 9;

/// A convolution's parameters, under PyTorch's names and layouts: weight `[output, input, 3, 3]`, bias `[output]`.
#[derive(Clone, Debug)]
pub struct Conv3x3 {
    pub weight: Var,
    pub bias: Var,
}

impl Conv3x3 {
    pub fn new(
        builder: &mut StateBuilder<'_>,
        name: &str,
        input: usize,
        output: usize,
    ) -> Result<Self> {
        let fan_in = Initial::FanIn(input * TAPS);
        Ok(Self {
            weight: builder.parameter(format!("{name}.weight"), &[output, input, 3, 3], fan_in)?,
            bias: builder.parameter(format!("{name}.bias"), &[output], fan_in)?,
        })
    }

    /// `[batch, height, width, input]` to `[batch, height, width, output]`.
    ///
    /// # Errors
    /// If the input has another number of axes or channels.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (output, input, _, _) = self.weight.dims4()?;
        let (_, _, _, channels) = x.dims4()?;
        if channels != input {
            candle_core::bail!(
                "a convolution of {input} channels cannot take {:?}",
                x.dims()
            )
        }
        apply(
            op::Conv3x3Op { input, output },
            [x, &self.weight, &self.bias],
        )
    }
}

/// The sizes of a plane, `[height, width, channels]`, and where the kernel finds its values once there is a border.
#[derive(Clone, Debug)]
pub struct Plane {
    pub height: usize,
    pub width: usize,
    pub channels: usize,
    starts: Vec<usize>,
    taps: Vec<usize>,
}

impl Plane {
    pub fn new(height: usize, width: usize, channels: usize) -> Self {
        let line = (width + 2) * channels;
        let (mut all, mut taps) = (Vec::with_capacity(height * width), Vec::with_capacity(TAPS));
        for row in 0..height {
            all.extend(starts(row * line, channels, width));
        }
        for row in 0..3 {
            taps.extend(starts(row * line, channels, 3));
        }
        Self {
            height,
            width,
            channels,
            starts: all,
            taps,
        }
    }

    /// Floats of one plane.
    pub fn len(&self) -> usize {
        self.height * self.width * self.channels
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A plane with its border, all zeros.
    pub(crate) fn bordered(&self) -> Vec<f32> {
        vec![0.0; (self.height + 2) * (self.width + 2) * self.channels]
    }

    /// Copies a plane into one with a border, which stays as it is.
    pub fn fill(&self, plane: &[f32], bordered: &mut [f32]) {
        let (line, stride) = (self.width * self.channels, (self.width + 2) * self.channels);
        let inner = bordered[stride + self.channels..].chunks_mut(stride);
        for (source, target) in plane.chunks_exact(line).zip(inner) {
            target[..line].copy_from_slice(source);
        }
    }

    fn rows<'a>(&'a self, bordered: &'a [f32]) -> Rows<'a> {
        Rows {
            values: bordered,
            starts: &self.starts,
            taps: &self.taps,
        }
    }
}

/// A convolution's weights as the CPU kernels want them. One plane at a time, on one thread.
#[derive(Clone, Debug)]
pub struct ConvKernel {
    level: Level,
    input: usize,
    output: usize,
    forward: Panels,
    backward: Panels,
    bias: Vec<f32>,
}

impl ConvKernel {
    pub fn new(level: Level, input: usize, output: usize) -> Self {
        Self {
            level,
            input,
            output,
            forward: Panels::new(level, TAPS, input, output),
            backward: Panels::new(level, TAPS, output, input),
            bias: vec![0.0; output],
        }
    }

    /// Takes weights over: weight `[output, input, 3, 3]`, bias `[output]`.
    pub fn load(&mut self, weight: &[f32], bias: &[f32], backward: bool) {
        let input = self.input;
        self.forward
            .fill(|tap, from, to| weight[(to * input + from) * TAPS + tap]);
        if backward {
            self.backward
                .fill(|tap, to, from| weight[(to * input + from) * TAPS + (TAPS - 1 - tap)]);
        }
        self.bias.copy_from_slice(bias);
    }

    /// `target`, `[height, width, output]`, from an input plane with its border.
    pub fn forward(&self, plane: &Plane, bordered: &[f32], target: &mut [f32]) {
        let rows = plane.rows(bordered);
        multiply(rows, &self.forward, Start::Bias(&self.bias), target);
    }

    /// Adds to `target`, `[height, width, input]`, from the gradient of the output with its border.
    pub(crate) fn add_input_gradient(&self, plane: &Plane, bordered: &[f32], target: &mut [f32]) {
        multiply(plane.rows(bordered), &self.backward, Start::Target, target);
    }

    /// Adds to `sums`, `[3, 3, input, output]`, from an input plane with its border and the gradient of the output.
    pub(crate) fn add_weight_gradient(
        &self,
        plane: &Plane,
        bordered: &[f32],
        gradient: &[f32],
        sums: &mut [f32],
    ) {
        let rows = plane.rows(bordered);
        accumulate_outer(self.level, rows, self.input, gradient, self.output, sums);
    }

    /// Adds sums as `add_weight_gradient` made them to a gradient in the layout of the weight.
    pub fn gather_weight_gradient(&self, sums: &[f32], target: &mut [f32]) {
        for (index, row) in sums.chunks_exact(self.output).enumerate() {
            let (tap, from) = (index / self.input, index % self.input);
            for (to, value) in row.iter().enumerate() {
                target[(to * self.input + from) * TAPS + tap] += value;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::with_slice;
    use candle_core::Device;
    use contract::Random;

    #[test]
    fn the_kernel_of_a_plane_agrees_with_the_operation_at_every_level() {
        let mut random = Random::new(5, "conv");
        let (height, width, input, output) = (3, 4, 5, 7);
        let mut builder = StateBuilder::new(&Device::Cpu, &mut random);
        let conv = Conv3x3::new(&mut builder, "conv", input, output).unwrap();
        let mut draw = |count: usize| {
            (0..count)
                .map(|_| random.range(-1.0, 1.0) as f32)
                .collect::<Vec<_>>()
        };
        let x = Var::from_vec(
            draw(height * width * input),
            (1, height, width, input),
            &Device::Cpu,
        )
        .unwrap();
        let upstream = Tensor::from_vec(
            draw(height * width * output),
            (1, height, width, output),
            &Device::Cpu,
        );
        let upstream = upstream.unwrap();
        let y = conv.forward(&x).unwrap();
        let differentiate = |y: &Tensor| {
            (y * &upstream)
                .unwrap()
                .sum_all()
                .unwrap()
                .backward()
                .unwrap()
        };
        let gradients = differentiate(&y);
        for level in Level::available() {
            let mut kernel = ConvKernel::new(level, input, output);
            with_slice(&conv.weight, |weight| {
                with_slice(&conv.bias, |bias| kernel.load(weight, bias, true)).unwrap();
            })
            .unwrap();
            let (from, to) = (
                Plane::new(height, width, input),
                Plane::new(height, width, output),
            );
            let (mut bordered, mut bordered_gradient) = (from.bordered(), to.bordered());
            let upstream: Vec<f32> = upstream.flatten_all().unwrap().to_vec1().unwrap();
            with_slice(&x, |x| from.fill(x, &mut bordered)).unwrap();
            to.fill(&upstream, &mut bordered_gradient);
            let mut target = vec![0.0; to.len()];
            kernel.forward(&from, &bordered, &mut target);
            assert_close(&target, &y);
            let mut input_gradient = vec![0.0; from.len()];
            kernel.add_input_gradient(&to, &bordered_gradient, &mut input_gradient);
            assert_close(&input_gradient, gradients.get(&x).unwrap());
            let mut sums = vec![0.0; TAPS * input * output];
            kernel.add_weight_gradient(&from, &bordered, &upstream, &mut sums);
            let mut weight_gradient = vec![0.0; sums.len()];
            kernel.gather_weight_gradient(&sums, &mut weight_gradient);
            assert_close(&weight_gradient, gradients.get(&conv.weight).unwrap());
        }
    }

    fn assert_close(found: &[f32], expected: &Tensor) {
        let expected: Vec<f32> = expected.flatten_all().unwrap().to_vec1().unwrap();
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(&expected) {
            assert!((found - expected).abs() < 1e-5, "{found} {expected}");
        }
    }
}

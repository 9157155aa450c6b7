//! One-dimensional convolutions over channels-last series, any kernel length and stride.
//! Channels-last, the values under a kernel lie next to each other: a convolution is a linear layer over overlapping rows.
//! Borders are made beforehand, by [`Border`].

mod op;

use candle_core::{DType, Result, Tensor, Var, bail};

use super::conv2d::Window2d;
use super::initialise::Initial;
use super::product::{Panels, Rows, Start, accumulate_outer, multiply};
use super::simd::Level;
use super::state::StateBuilder;
use super::unfolded::convolve;

/// Sizes of a one-dimensional convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    pub input: usize,
    pub output: usize,
    pub kernel: usize,
    pub stride: usize,
}

impl Sizes {
    /// A kernel that moves step by step.
    pub fn new(input: usize, output: usize, kernel: usize) -> Self {
        Self {
            input,
            output,
            kernel,
            stride: 1,
        }
    }

    /// Rows of the output for rows of the input.
    pub fn positions(&self, length: usize) -> usize {
        (length + self.stride).saturating_sub(self.kernel) / self.stride
    }

    /// Floats under the kernel.
    fn depth(&self) -> usize {
        self.kernel * self.input
    }

    /// Where a value under the kernel, `[kernel, input]`, stands in the weight of one output, `[input, kernel]`.
    fn place(&self, index: usize) -> usize {
        index % self.input * self.kernel + index / self.input
    }
}

/// Parameters under PyTorch's names and layouts: weight `[output, input, kernel]`, bias `[output]`.
#[derive(Clone, Debug)]
pub struct Conv1d {
    pub weight: Var,
    pub bias: Option<Var>,
    pub sizes: Sizes,
}

impl Conv1d {
    pub fn new(builder: &mut StateBuilder<'_>, name: &str, sizes: Sizes) -> Result<Self> {
        let mut layer = Self::without_bias(builder, name, sizes, Initial::FanIn(sizes.depth()))?;
        let bias = builder.parameter(
            format!("{name}.bias"),
            &[sizes.output],
            Initial::FanIn(sizes.depth()),
        )?;
        layer.bias = Some(bias);
        Ok(layer)
    }

    /// A layer as `torch.nn.Conv2d` with a kernel of one column declares it: weight `[output, input, kernel, 1]`.
    pub fn column(builder: &mut StateBuilder<'_>, name: &str, sizes: Sizes) -> Result<Self> {
        let (shape, fan_in) = (
            [sizes.output, sizes.input, sizes.kernel, 1],
            Initial::FanIn(sizes.depth()),
        );
        let weight = builder.parameter(format!("{name}.weight"), &shape, fan_in)?;
        let bias = Some(builder.parameter(format!("{name}.bias"), &[sizes.output], fan_in)?);
        Ok(Self {
            weight,
            bias,
            sizes,
        })
    }

    /// A layer that has no bias, with a distribution of its own.
    pub fn without_bias(
        builder: &mut StateBuilder<'_>,
        name: &str,
        sizes: Sizes,
        initial: Initial,
    ) -> Result<Self> {
        let shape = [sizes.output, sizes.input, sizes.kernel];
        Ok(Self {
            weight: builder.parameter(format!("{name}.weight"), &shape, initial)?,
            bias: None,
            sizes,
        })
    }

    /// `[batch, length, input]` to `[batch, positions, output]`; no border is added.
    ///
    /// # Errors
    /// If the input has another number of axes or channels, or is shorter than the kernel.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.check(x)?;
        if x.device().is_cpu() && x.dtype() == DType::F32 {
            let bias = match &self.bias {
                Some(bias) => bias.as_tensor().clone(),
                None => Tensor::zeros(self.sizes.output, DType::F32, x.device())?,
            };
            return x.contiguous()?.apply_op3(
                &self.weight,
                &bias,
                op::ConvOp { sizes: self.sizes },
            );
        }
        self.compose(x)
    }

    /// The same with Candle's own operations, on any device: a two-dimensional convolution of height 1.
    ///
    /// # Errors
    /// As [`Self::forward`].
    pub fn compose(&self, x: &Tensor) -> Result<Tensor> {
        self.check(x)?;
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
        let y = convolve(
            &x.unsqueeze(1)?,
            &self.weight.reshape((output, input, 1, kernel))?,
            &window,
        )?
        .squeeze(1)?;
        match &self.bias {
            Some(bias) => y.broadcast_add(bias),
            None => Ok(y),
        }
    }

    fn check(&self, x: &Tensor) -> Result<()> {
        let (_, length, channels) = x.dims3()?;
        let Sizes { input, kernel, .. } = self.sizes;
        if channels != input || length < kernel {
            bail!(
                "a convolution of {input} channels and {kernel} rows cannot take {:?}",
                x.dims()
            )
        }
        Ok(())
    }
}

/// Rows put before and behind a series, `[batch, length, channels]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Border {
    /// This many zeros on both sides.
    Zeros(usize),
    /// This many rows of the other end on both sides, as if the series were a circle.
    Circular(usize),
    /// The last row this many times more.
    RepeatLast(usize),
}

impl Border {
    /// # Errors
    /// If the series is shorter than a circular border.
    pub fn apply(self, x: &Tensor) -> Result<Tensor> {
        let length = x.dim(1)?;
        match self {
            Self::Zeros(0) | Self::Circular(0) | Self::RepeatLast(0) => Ok(x.clone()),
            Self::Zeros(rows) => x.pad_with_zeros(1, rows, rows),
            Self::Circular(rows) if rows > length => {
                bail!("{length} rows do not make a circular border of {rows}")
            }
            Self::Circular(rows) => Tensor::cat(
                &[
                    &x.narrow(1, length - rows, rows)?,
                    x,
                    &x.narrow(1, 0, rows)?,
                ],
                1,
            ),
            Self::RepeatLast(rows) => {
                let last = x.narrow(1, length - 1, 1)?;
                let mut parts = vec![x.clone()];
                parts.extend(std::iter::repeat_n(last, rows));
                Tensor::cat(&parts, 1)
            }
        }
    }
}

/// A convolution's weights as the CPU kernels want them. One sample at a time, on one thread.
struct ConvKernel {
    level: Level,
    sizes: Sizes,
    forward: Panels,
    backward: Panels,
    bias: Vec<f32>,
    no_bias: Vec<f32>,
}

impl ConvKernel {
    fn new(sizes: Sizes, weight: &[f32], bias: &[f32], backward: bool) -> Self {
        let (level, depth) = (Level::detect(), sizes.depth());
        let value = |index: usize, to: usize| weight[to * depth + sizes.place(index)];
        let mut panels = Panels::new(level, 1, depth, sizes.output);
        panels.fill(|_, index, to| value(index, to));
        let mut turned = Panels::new(level, 1, sizes.output, depth);
        if backward {
            turned.fill(|_, to, index| value(index, to));
        }
        Self {
            level,
            sizes,
            forward: panels,
            backward: turned,
            bias: bias.to_vec(),
            no_bias: vec![0.0; depth],
        }
    }

    /// `target`, `[positions, output]`, from a sample, `[length, input]`.
    fn forward(&self, starts: &[usize], x: &[f32], target: &mut [f32]) {
        multiply(
            Rows {
                values: x,
                starts,
                taps: &[0],
            },
            &self.forward,
            Start::Bias(&self.bias),
            target,
        );
    }

    /// Adds to `target`, `[length, input]`, from the gradient of the output; `columns` is memory of
    /// `[positions, kernel, input]`.
    fn add_input_gradient(
        &self,
        starts: &[usize],
        gradient: &[f32],
        columns: &mut [f32],
        target: &mut [f32],
    ) {
        let dense: Vec<usize> = (0..starts.len())
            .map(|row| row * self.sizes.output)
            .collect();
        let rows = Rows {
            values: gradient,
            starts: &dense,
            taps: &[0],
        };
        multiply(rows, &self.backward, Start::Bias(&self.no_bias), columns);
        let depth = self.sizes.depth();
        for (start, values) in starts.iter().zip(columns.chunks_exact(depth)) {
            super::elementwise::add(self.level, values, &mut target[*start..start + depth]);
        }
    }

    /// Adds to `sums`, `[kernel, input, output]`.
    fn add_weight_gradient(&self, starts: &[usize], x: &[f32], gradient: &[f32], sums: &mut [f32]) {
        let rows = Rows {
            values: x,
            starts,
            taps: &[0],
        };
        accumulate_outer(
            self.level,
            rows,
            self.sizes.depth(),
            gradient,
            self.sizes.output,
            sums,
        );
    }
}

#[cfg(test)]
mod tests;

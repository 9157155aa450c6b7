//! One-dimensional convolutions over channels-last series, any kernel length and stride.
//! Channels-last, the values under a kernel lie next to each other: a convolution is a linear layer over overlapping rows.
//! Borders are made beforehand, by [`Border`].

#[cfg(feature = "cuda")]
mod cuda;
pub(crate) mod op;

use candle_core::{Result, Tensor, Var, bail};

use super::initialise::Initial;
use super::operation::apply;
use super::product::{Panels, starts};
use super::simd::Level;
use super::state::StateBuilder;

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

    /// Where the kernel stands on a series, in floats.
    pub(crate) fn starts(&self, length: usize) -> Vec<usize> {
        starts(0, self.stride * self.input, self.positions(length))
    }

    /// Where a value under the kernel, `[kernel, input]`, stands in the weight of one output, `[input, kernel]`.
    fn place(&self, index: usize) -> usize {
        index % self.input * self.kernel + index / self.input
    }

    /// A weight, `[output, input, kernel]`, for products with the values under the kernel.
    pub(crate) fn pack(&self, weight: &[f32]) -> Panels {
        let depth = self.depth();
        let mut panels = Panels::new(Level::detect(), 1, depth, self.output);
        panels.fill(|_, index, to| weight[to * depth + self.place(index)]);
        panels
    }

    /// The same for products with gradients of the output.
    fn pack_transposed(&self, weight: &[f32]) -> Panels {
        let depth = self.depth();
        let mut panels = Panels::new(Level::detect(), 1, self.output, depth);
        panels.fill(|_, to, index| weight[to * depth + self.place(index)]);
        panels
    }

    /// `[kernel, input, output]`, as sums of outer products are, in the layout of the weight.
    pub(crate) fn in_layout(&self, sums: &[f32]) -> Vec<f32> {
        let mut weight = vec![0.0; sums.len()];
        for (index, row) in sums.chunks_exact(self.output).enumerate() {
            for (to, sum) in row.iter().enumerate() {
                weight[to * self.depth() + self.place(index)] = *sum;
            }
        }
        weight
    }
}

/// Parameters under PyTorch's names and layouts: weight `[output, input, kernel]`, bias `[output]`.
#[derive(Clone, Debug)]
pub struct Conv1d {
    pub(crate) weight: Var,
    pub(crate) bias: Option<Var>,
    pub sizes: Sizes,
}

impl Conv1d {
    pub fn new(builder: &mut StateBuilder<'_>, name: &str, sizes: Sizes) -> Result<Self> {
        let fan_in = Initial::FanIn(sizes.depth());
        let mut layer = Self::without_bias(builder, name, sizes, fan_in)?;
        layer.bias = Some(builder.parameter(format!("{name}.bias"), &[sizes.output], fan_in)?);
        Ok(layer)
    }

    /// A layer as `torch.nn.Conv2d` with a kernel of one column declares it: weight `[output, input, kernel, 1]`.
    pub fn column(builder: &mut StateBuilder<'_>, name: &str, sizes: Sizes) -> Result<Self> {
        let shape = [sizes.output, sizes.input, sizes.kernel, 1];
        let fan_in = Initial::FanIn(sizes.depth());
        let weight = builder.parameter(format!("{name}.weight"), &shape, fan_in)?;
        let bias = Some(builder.parameter(format!("{name}.bias"), &[sizes.output], fan_in)?);
        Ok(Self {
            weight,
            bias,
            sizes,
        })
    }

    /// A layer that has no bias, started from the given distribution.
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
        let bias = match &self.bias {
            Some(bias) => bias.as_tensor().clone(),
            None => Tensor::zeros(self.sizes.output, x.dtype(), x.device())?,
        };
        let op = op::Conv1dOp { sizes: self.sizes };
        apply(op, [x, &self.weight, &bias])
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

#[cfg(test)]
mod tests;

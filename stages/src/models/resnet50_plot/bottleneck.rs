//! The block of the deeper residual networks: three convolutions, each normalised, around which the input passes.

use candle_core::{Result, Tensor};

use crate::nn::batch_norm::BatchNorm;
use crate::nn::conv2d::{Conv2d, Window2d};
use crate::nn::initialise::Initial;
use crate::nn::{Mode, StateBuilder};

/// A bottleneck block; names are torchvision's.
#[derive(Clone, Debug)]
pub(super) struct Bottleneck {
    convs: [Conv2d; 3],
    norms: [BatchNorm; 3],
    /// What the input passes through where the block changes its shape.
    shortcut: Option<(Conv2d, BatchNorm)>,
}

impl Bottleneck {
    /// Channels behind the block for each one inside.
    pub const EXPANSION: usize = 4;

    pub fn new(builder: &mut StateBuilder<'_>, name: &str, input: usize, planes: usize, stride: usize) -> Result<Self> {
        let output = planes * Self::EXPANSION;
        let windows = [Window2d::square(1), Window2d::square(3).stride(stride).padding(1), Window2d::square(1)];
        let sizes = [(input, planes), (planes, planes), (planes, output)];
        let mut layer = |index: usize| -> Result<(Conv2d, BatchNorm)> {
            let number = index + 1;
            let conv = convolution(builder, &format!("{name}.conv{number}"), sizes[index], windows[index])?;
            Ok((conv, BatchNorm::new(builder, &format!("{name}.bn{number}"), sizes[index].1)?))
        };
        let [first, second, third] = [layer(0)?, layer(1)?, layer(2)?];
        let shortcut = if stride != 1 || input != output {
            let window = Window2d::square(1).stride(stride);
            let conv = convolution(builder, &format!("{name}.downsample.0"), (input, output), window)?;
            Some((conv, BatchNorm::new(builder, &format!("{name}.downsample.1"), output)?))
        } else {
            None
        };
        Ok(Self { convs: [first.0, second.0, third.0], norms: [first.1, second.1, third.1], shortcut })
    }

    /// `[batch, height, width, input]` to `[batch, height / stride, width / stride, 4 * planes]`.
    pub fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        let [first, second, third] = &self.convs;
        let y = self.norms[0].forward_relu(&first.forward(x)?, mode)?;
        let y = self.norms[1].forward_relu(&second.forward(&y)?, mode)?;
        let y = third.forward(&y)?;
        match &self.shortcut {
            Some((conv, norm)) => {
                let residual = norm.forward(&conv.forward(x)?, mode)?;
                self.norms[2].forward_add_relu(&y, &residual, mode)
            }
            None => self.norms[2].forward_add_relu(&y, x, mode),
        }
    }
}

fn convolution(builder: &mut StateBuilder<'_>, name: &str, sizes: (usize, usize), window: Window2d) -> Result<Conv2d> {
    Conv2d::without_bias(builder, name, sizes, window, Initial::KaimingNormal(sizes.1 * window.taps()))
}

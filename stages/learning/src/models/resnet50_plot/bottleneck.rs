//! The block of the deeper residual networks: three convolutions, each normalised, around which the input passes.

use candle_core::{Result, Tensor};

use numerics::batch_norm::BatchNorm;
use numerics::conv2d::{Conv2d, Window2d};
use numerics::initialise::Initial;
use numerics::{Mode, StateBuilder};

/// A convolution and its normalisation.
#[derive(Clone, Debug)]
pub(super) struct Unit {
    pub conv: Conv2d,
    pub norm: BatchNorm,
}

impl Unit {
    fn new(
        builder: &mut StateBuilder<'_>,
        [conv, norm]: [String; 2],
        sizes: (usize, usize),
        window: Window2d,
    ) -> Result<Self> {
        let initial = Initial::KaimingNormal(sizes.1 * window.taps());
        Ok(Self {
            conv: Conv2d::without_bias(builder, &conv, sizes, window, initial)?,
            norm: BatchNorm::new(builder, &norm, sizes.1)?,
        })
    }
}

/// A bottleneck block; names are torchvision's.
#[derive(Clone, Debug)]
pub(super) struct Bottleneck {
    pub units: [Unit; 3],
    /// What the input passes through where the block changes its shape.
    pub shortcut: Option<Unit>,
}

impl Bottleneck {
    /// Channels of the output for each one inside.
    pub const EXPANSION: usize = 4;

    pub fn new(
        builder: &mut StateBuilder<'_>,
        name: &str,
        input: usize,
        planes: usize,
        stride: usize,
    ) -> Result<Self> {
        let output = planes * Self::EXPANSION;
        let [first, second, third] =
            [1, 2, 3].map(|index| ["conv", "bn"].map(|layer| format!("{name}.{layer}{index}")));
        let (one, three) = (Window2d::square(1), Window2d::square(3));
        let units = [
            Unit::new(builder, first, (input, planes), one)?,
            Unit::new(
                builder,
                second,
                (planes, planes),
                three.stride(stride).padding(1),
            )?,
            Unit::new(builder, third, (planes, output), one)?,
        ];
        let mut shortcut = None;
        if stride != 1 || input != output {
            let names = [0, 1].map(|layer| format!("{name}.downsample.{layer}"));
            shortcut = Some(Unit::new(
                builder,
                names,
                (input, output),
                one.stride(stride),
            )?);
        }
        Ok(Self { units, shortcut })
    }

    /// `[batch, height, width, input]` to `[batch, height / stride, width / stride, 4 * planes]`.
    pub fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        let [first, second, third] = &self.units;
        let y = first.norm.forward_relu(&first.conv.forward(x)?, mode)?;
        let y = second.norm.forward_relu(&second.conv.forward(&y)?, mode)?;
        let y = third.conv.forward(&y)?;
        match &self.shortcut {
            Some(Unit { conv, norm }) => {
                let residual = norm.forward(&conv.forward(x)?, mode)?;
                third.norm.forward_add_relu(&y, &residual, mode)
            }
            None => third.norm.forward_add_relu(&y, x, mode),
        }
    }
}

//! Two-dimensional convolutions and transposed convolutions over channels-last planes, any kernel, stride, padding and
//! dilation. Groups are not here: no model of ours asks for them. `conv` keeps the faster path for 3x3 kernels alone.

mod correlation;
#[cfg(feature = "cuda")]
mod cuda;
pub(crate) mod op;
mod patches;
mod window;

use candle_core::{Result, Tensor, Var, bail};

use super::initialise::Initial;
use super::operation::apply;
use super::simd::Level;
use super::state::StateBuilder;
pub use correlation::Correlation;
use op::{Conv2dOp, Way};
pub use patches::Grid;
pub use window::Window2d;

/// A convolution's parameters under PyTorch's names and layouts: weight `[output, input, kernel height, kernel width]`,
/// bias `[output]`.
#[derive(Clone, Debug)]
pub struct Conv2d {
    pub weight: Var,
    pub(crate) bias: Option<Var>,
    pub(crate) window: Window2d,
}

impl Conv2d {
    /// A layer as `torch.nn.Conv2d` declares it.
    pub fn new(
        builder: &mut StateBuilder<'_>,
        name: &str,
        (input, output): (usize, usize),
        window: Window2d,
    ) -> Result<Self> {
        let fan_in = Initial::FanIn(input * window.taps());
        let mut layer = Self::without_bias(builder, name, (input, output), window, fan_in)?;
        layer.bias = Some(builder.parameter(format!("{name}.bias"), &[output], fan_in)?);
        Ok(layer)
    }

    /// A layer without a bias, as it stands in front of a normalisation.
    pub fn without_bias(
        builder: &mut StateBuilder<'_>,
        name: &str,
        (input, output): (usize, usize),
        window: Window2d,
        initial: Initial,
    ) -> Result<Self> {
        let shape = [output, input, window.kernel[0], window.kernel[1]];
        Ok(Self {
            weight: builder.parameter(format!("{name}.weight"), &shape, initial)?,
            bias: None,
            window,
        })
    }

    /// `[batch, height, width, input]` to `[batch, rows, columns, output]`.
    ///
    /// # Errors
    /// If the input has another number of axes or channels, or the window does not fit on it.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        check_channels(x, self.weight.dim(1)?)?;
        let op = Conv2dOp {
            window: self.window,
            way: Way::Convolve,
        };
        match &self.bias {
            Some(bias) => apply(op, [x, &self.weight, bias]),
            None => apply(op, [x, self.weight.as_tensor()]),
        }
    }

    /// The products behind this layer for a batch of images, for networks that keep their own tape.
    ///
    /// # Errors
    /// If the images have another number of channels, or the window does not fit on them.
    pub fn on_host(&self, batch: usize, image: Grid) -> Result<Correlation> {
        let (output, input, _, _) = self.weight.dims4()?;
        match self.window.places(image.size) {
            Some(size) if image.channels == input => {
                let map = Grid {
                    size,
                    channels: output,
                };
                Ok(Correlation {
                    level: Level::detect(),
                    window: self.window,
                    batch,
                    image,
                    map,
                })
            }
            _ => bail!(
                "a convolution of {input} channels and {:?} cannot take {image:?}",
                self.window.kernel
            ),
        }
    }
}

/// A transposed convolution's parameters under PyTorch's names and layouts: weight
/// `[input, output, kernel height, kernel width]`, bias `[output]`.
#[derive(Clone, Debug)]
pub struct ConvTranspose2d {
    pub(crate) weight: Var,
    pub(crate) bias: Var,
    pub(crate) window: Window2d,
    /// Rows and columns added at the end of the plane, fewer than the stride.
    pub(crate) added: [usize; 2],
}

impl ConvTranspose2d {
    /// A layer as `torch.nn.ConvTranspose2d` declares it; `added` is its `output_padding`.
    pub fn new(
        builder: &mut StateBuilder<'_>,
        name: &str,
        (input, output): (usize, usize),
        window: Window2d,
        added: [usize; 2],
    ) -> Result<Self> {
        // PyTorch takes the second axis of the weight for the inputs, whatever the layer.
        let fan_in = Initial::FanIn(output * window.taps());
        let shape = [input, output, window.kernel[0], window.kernel[1]];
        Ok(Self {
            weight: builder.parameter(format!("{name}.weight"), &shape, fan_in)?,
            bias: builder.parameter(format!("{name}.bias"), &[output], fan_in)?,
            window,
            added,
        })
    }

    /// `[batch, rows, columns, input]` to `[batch, height, width, output]`.
    ///
    /// # Errors
    /// If the input has another number of axes or channels, or nothing would be left of the plane.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        check_channels(x, self.weight.dim(0)?)?;
        let op = Conv2dOp {
            window: self.window,
            way: Way::Transpose(self.added),
        };
        apply(op, [x, &self.weight, &self.bias])
    }
}

fn check_channels(x: &Tensor, input: usize) -> Result<()> {
    let (batch, _, _, channels) = x.dims4()?;
    if channels != input || batch == 0 {
        bail!(
            "a convolution of {input} channels cannot take {:?}",
            x.dims()
        )
    }
    Ok(())
}

#[cfg(test)]
mod tests;

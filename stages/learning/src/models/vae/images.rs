//! Encoder and decoder of images: convolutions that halve height and width, and transposed ones that double them.

use candle_core::Tensor;
use candle_nn::ops::sigmoid;

use super::Coder;
use crate::models::{DataShape, Result};
use numerics::StateBuilder;
use numerics::conv2d::{Conv2d, ConvTranspose2d, Window2d};
use numerics::linear::Linear;
use numerics::relu::relu;

/// Convolutions with a ReLU behind each; values of images, from 0 to 1, come from a logistic function.
pub(super) struct Convolutions {
    encoder: Vec<Conv2d>,
    /// From the code to the smallest plane.
    spread: Linear,
    /// Height, width and channels of the smallest plane.
    smallest: [usize; 3],
    decoder: Vec<ConvTranspose2d>,
}

impl Convolutions {
    pub fn new(
        builder: &mut StateBuilder<'_>,
        shape: DataShape,
        hidden: &[usize],
        latent: usize,
    ) -> Result<Self> {
        let window = Window2d::square(3).stride(2).padding(1);
        let mut sizes = vec![[shape.length, shape.width]];
        let mut encoder = Vec::new();
        let mut channels = vec![shape.channels];
        channels.extend(hidden);
        for (index, pair) in channels.windows(2).enumerate() {
            let name = format!("encoder.{index}");
            encoder.push(Conv2d::new(builder, &name, (pair[0], pair[1]), window)?);
            sizes.push(sizes[index].map(|side| side.div_ceil(2)));
        }
        let [height, width] = sizes[hidden.len()];
        let smallest = [height, width, channels[hidden.len()]];
        let spread = Linear::new(builder, "spread", latent, smallest.iter().product())?;
        let mut decoder = Vec::new();
        for (index, pair) in channels.windows(2).rev().enumerate() {
            let (small, large) = (sizes[hidden.len() - index], sizes[hidden.len() - index - 1]);
            // An odd side came from one less than twice the half.
            let added = [0, 1].map(|axis| large[axis] + 1 - 2 * small[axis]);
            let (name, sizes) = (format!("decoder.{index}"), (pair[1], pair[0]));
            decoder.push(ConvTranspose2d::new(builder, &name, sizes, window, added)?);
        }
        Ok(Self {
            encoder,
            spread,
            smallest,
            decoder,
        })
    }
}

impl Coder for Convolutions {
    fn width(&self) -> usize {
        self.smallest.iter().product()
    }

    fn encode(&self, x: &Tensor) -> Result<Tensor> {
        let mut x = x.clone();
        for conv in &self.encoder {
            x = relu(&conv.forward(&x)?)?;
        }
        x.flatten_from(1)
    }

    fn decode(&self, code: &Tensor) -> Result<Tensor> {
        let [height, width, channels] = self.smallest;
        let spread = relu(&self.spread.forward(code)?)?;
        let mut x = spread.reshape((code.dim(0)?, height, width, channels))?;
        for (index, conv) in self.decoder.iter().enumerate() {
            x = conv.forward(&x)?;
            if index + 1 < self.decoder.len() {
                x = relu(&x)?;
            }
        }
        sigmoid(&x)
    }
}

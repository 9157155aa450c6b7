//! Encoder and decoder of windows: layers of units over all values of a window at once.

use candle_core::Tensor;

use super::Coder;
use crate::models::{DataShape, Result};
use numerics::StateBuilder;
use numerics::linear::Linear;
use numerics::relu::relu;

/// Layers of units with a ReLU behind each but the last.
pub(super) struct Layers {
    shape: DataShape,
    encoder: Vec<Linear>,
    decoder: Vec<Linear>,
}

impl Layers {
    pub fn new(
        builder: &mut StateBuilder<'_>,
        shape: DataShape,
        hidden: &[usize],
        latent: usize,
    ) -> Result<Self> {
        let mut sizes = vec![shape.length * shape.channels];
        sizes.extend(hidden);
        let encoder = chain(builder, "encoder", &sizes)?;
        sizes.push(latent);
        sizes.reverse();
        Ok(Self {
            shape,
            encoder,
            decoder: chain(builder, "decoder", &sizes)?,
        })
    }
}

/// Layers from each size to the next.
fn chain(builder: &mut StateBuilder<'_>, name: &str, sizes: &[usize]) -> Result<Vec<Linear>> {
    let mut layers = Vec::new();
    for (index, pair) in sizes.windows(2).enumerate() {
        layers.push(Linear::new(
            builder,
            &format!("{name}.{index}"),
            pair[0],
            pair[1],
        )?);
    }
    Ok(layers)
}

impl Coder for Layers {
    fn width(&self) -> usize {
        self.encoder.last().map_or(0, |layer| layer.output)
    }

    fn encode(&self, x: &Tensor) -> Result<Tensor> {
        let mut x = x.flatten_from(1)?;
        for layer in &self.encoder {
            x = relu(&layer.forward(&x)?)?;
        }
        Ok(x)
    }

    fn decode(&self, code: &Tensor) -> Result<Tensor> {
        let mut x = code.clone();
        for (index, layer) in self.decoder.iter().enumerate() {
            x = layer.forward(&x)?;
            if index + 1 < self.decoder.len() {
                x = relu(&x)?;
            }
        }
        x.reshape((code.dim(0)?, self.shape.length, self.shape.channels))
    }
}

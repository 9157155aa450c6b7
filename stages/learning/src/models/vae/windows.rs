//! Encoder and decoder of windows: layers of units over all values of a window at once.

use candle_core::{Result, Tensor};

use super::Coder;
use numerics::StateBuilder;
use numerics::linear::Linear;
use numerics::relu::relu;

/// Layers of units with a ReLU behind each but the last.
pub(super) struct Layers {
    /// Rows and channels.
    window: [usize; 2],
    encoder: Vec<Linear>,
    decoder: Vec<Linear>,
}

impl Layers {
    pub fn new(
        builder: &mut StateBuilder<'_>,
        window: [usize; 2],
        hidden: &[usize],
        latent: usize,
    ) -> Result<Self> {
        let values = window[0] * window[1];
        let encoder = chain(
            builder,
            "encoder",
            std::iter::once(values).chain(hidden.iter().copied()),
        )?;
        let back = std::iter::once(latent)
            .chain(hidden.iter().rev().copied())
            .chain([values]);
        let decoder = chain(builder, "decoder", back)?;
        Ok(Self {
            window,
            encoder,
            decoder,
        })
    }
}

fn chain(
    builder: &mut StateBuilder<'_>,
    name: &str,
    sizes: impl Iterator<Item = usize>,
) -> Result<Vec<Linear>> {
    let sizes: Vec<usize> = sizes.collect();
    let layer = |(index, pair): (usize, &[usize])| {
        Linear::new(builder, &format!("{name}.{index}"), pair[0], pair[1])
    };
    sizes.windows(2).enumerate().map(layer).collect()
}

impl Coder for Layers {
    fn width(&self) -> usize {
        self.encoder.last().map_or(0, |layer| layer.output)
    }

    fn encode(&self, x: &Tensor) -> Result<Tensor> {
        let flat = x.flatten_from(1)?;
        self.encoder
            .iter()
            .try_fold(flat, |x, layer| relu(&layer.forward(&x)?))
    }

    fn decode(&self, code: &Tensor) -> Result<Tensor> {
        let mut x = code.clone();
        for (index, layer) in self.decoder.iter().enumerate() {
            x = layer.forward(&x)?;
            if index + 1 < self.decoder.len() {
                x = relu(&x)?;
            }
        }
        x.reshape((code.dim(0)?, self.window[0], self.window[1]))
    }
}

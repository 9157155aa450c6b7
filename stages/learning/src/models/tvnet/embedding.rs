//! From a series to patches, as the authors' program embeds it: values, positions, and a convolution over each feature.
//! The networks lay the patches out for their blocks.

use candle_core::{Device, Tensor};

use super::{Pass, Tvnet};
use crate::models::{DataShape, Result};
use numerics::StateBuilder;
use numerics::conv1d::{Border, Conv1d, Sizes};
use numerics::initialise::Initial;

/// Lengths of patches, and how far apart they start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Patches {
    pub length: usize,
    pub stride: usize,
}

impl Patches {
    /// Patches of a window; its end is padded so that every row lies in one.
    pub fn count(self, rows: usize) -> usize {
        rows.div_ceil(self.stride)
    }

    /// Rows to be added after a window.
    fn padding(self, rows: usize) -> usize {
        ((self.count(rows) - 1) * self.stride + self.length).saturating_sub(rows)
    }
}

/// Values and positions of a window, then its patches.
#[derive(Debug)]
pub(super) struct Embedding {
    values: Conv1d,
    /// `[1, length, width]`.
    positions: Tensor,
    patching: Conv1d,
    patches: Patches,
    dropout: f64,
}

impl Embedding {
    pub fn new(builder: &mut StateBuilder<'_>, shape: DataShape, config: &Tvnet) -> Result<Self> {
        let (channels, width, patches) = (shape.channels, config.cm, config.patches());
        let values = "enc_embedding.value_embedding.tokenConv";
        let (sizes, initial) = (Sizes::new(channels, width, 3), Initial::FanIn(3 * channels));
        let cut = Sizes {
            stride: patches.stride,
            ..Sizes::new(1, patches.length, patches.length)
        };
        Ok(Self {
            values: Conv1d::without_bias(builder, values, sizes, initial)?,
            patching: Conv1d::new(builder, "thd_reshape.conv1d", cut)?,
            positions: positions(shape.length, width, builder.device())?,
            patches,
            dropout: config.dropout,
        })
    }

    /// `[batch, length, channels]` to `[batch, length, width]`: a circular convolution over three rows, and sinusoids that
    /// tell the rows apart.
    pub fn values(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let values = self.values.forward(&Border::Circular(1).apply(x)?)?;
        pass.dropout(&values.broadcast_add(&self.positions)?, self.dropout)
    }

    /// Series, `[count, length, 1]`, to their patches, `[count, patches, patch]`: one convolution for all of them, after
    /// their last value was repeated.
    pub fn patches(&self, series: &Tensor) -> Result<Tensor> {
        let border = Border::RepeatLast(self.patches.padding(series.dim(1)?));
        self.patching.forward(&border.apply(series)?)
    }
}

/// The sinusoids of the Transformer (Vaswani et al., 2017, section 3.5), `[1, length, width]`.
fn positions(length: usize, width: usize, device: &Device) -> Result<Tensor> {
    let mut values = Vec::with_capacity(length * width);
    for row in 0..length {
        for feature in 0..width {
            let frequency = (-(10_000_f64.ln()) * (feature / 2 * 2) as f64 / width as f64).exp();
            let (sine, cosine) = (row as f64 * frequency).sin_cos();
            let even = feature.is_multiple_of(2);
            values.push((if even { sine } else { cosine }) as f32);
        }
    }
    Tensor::from_vec(values, (1, length, width), device)
}

/// Elements 0, 2, 4, … of every patch in front of the others: `[batch, patches, patch, width]` to the same shape, in
/// which a patch is `[2, patch / 2]`.
pub(super) fn split_parity(x: &Tensor) -> Result<Tensor> {
    let (batch, patches, patch, width) = x.dims4()?;
    let pairs = x.reshape((batch, patches, patch / 2, 2, width))?;
    pairs.transpose(2, 3)?.contiguous()?.reshape(x.shape())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_lies_in_a_patch() {
        for (length, stride, rows, count, padding) in [
            (8, 4, 48, 12, 4),
            (8, 8, 50, 7, 6),
            (8, 4, 1, 1, 7),
            (6, 3, 7, 3, 5),
        ] {
            let patches = Patches { length, stride };
            assert_eq!(
                (patches.count(rows), patches.padding(rows)),
                (count, padding)
            );
        }
    }

    #[test]
    fn even_elements_come_first() {
        let x = Tensor::arange(0_f32, 12.0, &Device::Cpu)
            .unwrap()
            .reshape((1, 2, 6, 1))
            .unwrap();
        let split = split_parity(&x).unwrap();
        let values: Vec<f32> = split.flatten_all().unwrap().to_vec1().unwrap();
        assert_eq!(
            values,
            [0.0, 2.0, 4.0, 1.0, 3.0, 5.0, 6.0, 8.0, 10.0, 7.0, 9.0, 11.0]
        );
    }
}

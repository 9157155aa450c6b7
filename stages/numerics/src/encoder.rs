//! What transformers for series have around their attention: the embedding of values and positions, and the rest of an
//! encoder layer. The attention itself differs between models.

use candle_core::{Result, Tensor};

use super::circular_conv::CircularConv;
use super::dropout::Dropout;
use super::feed_forward::FeedForward;
use super::layer_norm::LayerNorm;
use super::linear::Linear;
use super::positions::Positions;
use super::state::StateBuilder;

/// A row's values and those of its neighbours, plus its position.
#[derive(Clone, Debug)]
pub struct Embedding {
    pub(crate) values: CircularConv,
    pub(crate) positions: Positions,
}

impl Embedding {
    /// An embedding of windows of `length` rows of `channels` values into rows of `width`.
    ///
    /// # Errors
    /// If a tensor operation fails.
    pub fn new(
        builder: &mut StateBuilder<'_>,
        name: &str,
        length: usize,
        channels: usize,
        width: usize,
    ) -> Result<Self> {
        let values = CircularConv::new(
            builder,
            &format!("{name}.value_embedding.tokenConv"),
            channels,
            width,
        )?;
        Ok(Self {
            values,
            positions: Positions::new(length, width),
        })
    }

    /// `[batch, length, channels]` to `[batch, length, width]`.
    ///
    /// # Errors
    /// If the windows are of another size.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.values.forward_onto(x, &self.positions)
    }
}

/// An encoder layer but for its attention, normalised after each residual connection ("post-norm").
#[derive(Clone, Debug)]
pub struct EncoderBlock {
    pub(crate) feed_forward: FeedForward,
    pub(crate) norm_attention: LayerNorm,
    pub(crate) norm_feed_forward: LayerNorm,
}

impl EncoderBlock {
    /// A layer over rows of `width` values with `hidden` in between.
    ///
    /// # Errors
    /// If a tensor operation fails.
    pub fn new(
        builder: &mut StateBuilder<'_>,
        name: &str,
        width: usize,
        hidden: usize,
    ) -> Result<Self> {
        let first = Linear::pointwise(builder, &format!("{name}.conv1"), width, hidden)?;
        let second = Linear::pointwise(builder, &format!("{name}.conv2"), hidden, width)?;
        Ok(Self {
            feed_forward: FeedForward::new(first, second)?,
            norm_attention: LayerNorm::new(builder, &format!("{name}.norm1"), width)?,
            norm_feed_forward: LayerNorm::new(builder, &format!("{name}.norm2"), width)?,
        })
    }

    /// From a layer's input and what its attention found, both `[batch, length, width]`, to its output.
    ///
    /// `draw` gives the masks of dropout: of what the attention found, of the hidden values, of what follows them.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn forward(
        &self,
        x: &Tensor,
        attended: &Tensor,
        mut draw: impl FnMut() -> Dropout,
    ) -> Result<Tensor> {
        let x = self.norm_attention.forward_residual(x, attended, draw())?;
        let hidden = draw();
        self.norm_feed_forward
            .forward_residual(&x, &self.feed_forward.forward(&x, hidden)?, draw())
    }
}

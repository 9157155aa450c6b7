//! `form: reference`: the authors' program, number by number (Curyyfaust/TVNet, `TVNet_code.zip`, long-term forecasting).
//! What it does that the paper does not say is kept here and nowhere else.
//!
//! - A sample's kernels are applied to the whole batch and their results added, so that its forecast depends on the others.
//! - The kernel's weights have no patch index: one kernel per sample.
//! - `[batch, length, width]` is read as `[batch * width, length]` without transposing, and
//!   `[batch * width, patches, patch]` as `[batch, patches, patch, width]`; after the blocks,
//!   `[batch, width, patches, patch]` as `[batch, 2 * length, width]`.
//! - A block is a convolution and its transpose with the same kernel, without bias and activation.

use candle_core::{Tensor, Var};

use super::embedding::{Embedding, split_parity};
use super::tied::tied_convolution;
use super::{Body, Forward, Pass, Tvnet};
use crate::models::{Batch, DataShape, Result, named};
use numerics::StateBuilder;
use numerics::batch_norm::BatchNorm;
use numerics::conv1d::{Border, Conv1d, Sizes};
use numerics::group_mean::group_mean;
use numerics::initialise::Initial;
use numerics::linear::Linear;

/// What the network consists of.
pub(super) struct Official {
    embedding: Embedding,
    blocks: Vec<Block>,
    over_time: Linear,
    over_width: Linear,
    patches: (usize, usize),
    width: usize,
}

struct Block {
    period: Conv1d,
    norm: BatchNorm,
    alpha: Conv1d,
    kernel: Var,
}

impl Block {
    fn new(builder: &mut StateBuilder<'_>, name: &str, width: usize) -> Result<Self> {
        // The program's initialiser takes the leading axis of length 1 for the outputs, and the rest for the inputs.
        let initial = Initial::FanIn(width * width * 9);
        let kernel = builder.parameter(format!("{name}.Wi"), &[1, width, width, 3, 3], initial)?;
        // Declared by the program, and never used.
        builder.parameter(format!("{name}.bias"), &[width], Initial::Zeros)?;
        let (period, alpha) = (format!("{name}.period_conv"), format!("{name}.alpha_conv"));
        let (three, one) = (Sizes::new(width, width, 3), Sizes::new(width, width, 1));
        Ok(Self {
            kernel,
            period: Conv1d::new(builder, &period, three)?,
            norm: BatchNorm::new(builder, &format!("{name}.bn_relu.0"), width)?,
            alpha: Conv1d::without_bias(builder, &alpha, one, Initial::FanIn(width))?,
        })
    }

    /// One factor per sample and output channel, `[batch, width]`, from `[batch, patches, patch, width]`.
    fn weights(&self, x: &Tensor, pass: &Pass<'_>) -> Result<Tensor> {
        let pooled = Border::Zeros(1).apply(&group_mean(x)?)?;
        let inner = self.period.forward(&pooled)?;
        let inner = self.norm.forward_relu(&inner, pass.mode)?;
        let alpha = self.alpha.forward(&group_mean(&inner)?.unsqueeze(1)?)?;
        alpha.squeeze(1)? + 1.0
    }

    fn forward(&self, x: &Tensor, pass: &Pass<'_>) -> Result<Tensor> {
        let weights = self.weights(x, pass)?;
        // The sum over the samples, for every sample.
        let squares = weights.sqr()?.sum_keepdim(0)?;
        let mixed = squares.broadcast_as(weights.shape())?;
        x + tied_convolution(x, &self.kernel.squeeze(0)?, &mixed)?
    }
}

impl Official {
    pub fn new(builder: &mut StateBuilder<'_>, shape: DataShape, config: &Tvnet) -> Result<Self> {
        let (width, patch) = (config.cm, config.patch);
        let embedding = Embedding::new(builder, shape, config)?;
        let mut blocks = Vec::with_capacity(config.blocks);
        for index in 0..config.blocks {
            blocks.push(Block::new(builder, &format!("model.{index}"), width)?);
        }
        let patches = config.patches().count(shape.length);
        Ok(Self {
            embedding,
            blocks,
            over_time: Linear::new(builder, "fc1", patches * patch, shape.horizon)?,
            over_width: Linear::new(builder, "fc2", width, shape.channels)?,
            patches: (patches, patch),
            width,
        })
    }
}

impl Body for Official {
    fn forward(&self, batch: &Batch, pass: &mut Pass<'_>) -> Result<Forward> {
        let (patches, patch) = self.patches;
        let count = batch.inputs.dim(0)?;
        let embedded = self.embedding.values(&batch.inputs, pass)?;
        let series = embedded.reshape((count * self.width, (), 1))?;
        let cut = self.embedding.patches(&series)?;
        let mut x = split_parity(&cut.reshape((count, patches, patch, self.width))?)?;
        let five = (count, patches, 2, patch / 2, self.width);
        let mut named = named([
            ("enc_embedding", embedded),
            ("thd_reshape", x.reshape(five)?),
        ]);
        for (index, block) in self.blocks.iter().enumerate() {
            x = block.forward(&x, pass)?;
            let output = x.reshape(five)?.permute((0, 4, 1, 2, 3))?;
            named.push((format!("block{index}"), output));
        }
        let read = x.permute((0, 3, 1, 2))?.contiguous()?;
        let read = read.reshape((count, patches * patch, self.width))?;
        let rows = self
            .over_time
            .forward(&read.transpose(1, 2)?.contiguous()?)?;
        let output = self
            .over_width
            .forward(&rows.transpose(1, 2)?.contiguous()?)?;
        Ok(Forward { output, named })
    }
}

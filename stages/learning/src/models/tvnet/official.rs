//! `form: reference`: the authors' program, number by number (Curyyfaust/TVNet, `TVNet_code.zip`, long-term forecasting).
//! What it does that the paper does not say is kept here and nowhere else.
//!
//! - A sample's kernels are applied to the whole batch and their results added, so that its forecast depends on the others.
//! - The kernel's weights have no patch index: one kernel per sample.
//! - `[batch, length, width]` is read as `[batch * width, length]` without transposing, and
//!   `[batch * width, patches, patch]` as `[batch, patches, patch, width]`; behind the blocks,
//!   `[batch, width, patches, patch]` as `[batch, 2 * length, width]`.
//! - A block is a convolution and its transpose with the same kernel, without bias and activation.

use candle_core::{Result, Tensor, Var};

use super::embedding::{Embedding, Patches, split_parity};
use super::tied::tied_convolution;
use super::{Body, Forward, Pass};
use crate::models::{Batch, DataShape};
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
        Ok(Self {
            kernel,
            period: Conv1d::new(
                builder,
                &format!("{name}.period_conv"),
                Sizes::new(width, width, 3),
            )?,
            norm: BatchNorm::new(builder, &format!("{name}.bn_relu.0"), width)?,
            alpha: Conv1d::without_bias(
                builder,
                &format!("{name}.alpha_conv"),
                Sizes::new(width, width, 1),
                Initial::FanIn(width),
            )?,
        })
    }

    /// One factor per sample and output channel, `[batch, width]`, from `[batch, patches, patch, width]`.
    fn weights(&self, x: &Tensor, pass: &Pass<'_>) -> Result<Tensor> {
        let pooled = Border::Zeros(1).apply(&group_mean(x)?)?;
        let inner = self
            .norm
            .forward_relu(&self.period.forward(&pooled)?, pass.mode)?;
        self.alpha
            .forward(&group_mean(&inner)?.unsqueeze(1)?)?
            .squeeze(1)?
            + 1.0
    }

    fn forward(&self, x: &Tensor, pass: &Pass<'_>) -> Result<Tensor> {
        let weights = self.weights(x, pass)?;
        let mixed = weights
            .sqr()?
            .sum_keepdim(0)?
            .broadcast_as(weights.shape())?;
        x + tied_convolution(x, &self.kernel.squeeze(0)?, &mixed)?
    }
}

impl Official {
    pub fn new(
        builder: &mut StateBuilder<'_>,
        shape: DataShape,
        (width, blocks): (usize, usize),
        patches: Patches,
        dropout: f64,
    ) -> Result<Self> {
        let embedding = Embedding::new(
            builder,
            (shape.length, shape.channels, width),
            patches,
            dropout,
        )?;
        let blocks = (0..blocks)
            .map(|index| Block::new(builder, &format!("model.{index}"), width))
            .collect::<Result<Vec<_>>>()?;
        let count = patches.count(shape.length);
        Ok(Self {
            embedding,
            blocks,
            over_time: Linear::new(builder, "fc1", count * patches.length, shape.horizon)?,
            over_width: Linear::new(builder, "fc2", width, shape.channels)?,
            patches: (count, patches.length),
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
        let cut = self
            .embedding
            .patches(&series)?
            .reshape((count, patches, patch, self.width))?;
        let mut x = split_parity(&cut)?;
        let five = (count, patches, 2, patch / 2, self.width);
        let mut named = vec![
            ("enc_embedding".to_owned(), embedded),
            ("thd_reshape".to_owned(), x.reshape(five)?),
        ];
        for (index, block) in self.blocks.iter().enumerate() {
            x = block.forward(&x, pass)?;
            named.push((
                format!("block{index}"),
                x.reshape(five)?.permute((0, 4, 1, 2, 3))?,
            ));
        }
        let read =
            x.permute((0, 3, 1, 2))?
                .contiguous()?
                .reshape((count, patches * patch, self.width))?;
        let over_time = self
            .over_time
            .forward(&read.transpose(1, 2)?.contiguous()?)?;
        let output = self
            .over_width
            .forward(&over_time.transpose(1, 2)?.contiguous()?)?;
        Ok(Forward { output, named })
    }
}

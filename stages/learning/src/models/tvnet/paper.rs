//! `form: paper`: the published method. Patches keep time and features apart, every patch has a kernel of its own, samples do
//! not meet.
//!
//! What the paper leaves open, and what is done here:
//! - Values are embedded as the authors' program does it: a circular convolution over three rows and sinusoidal positions;
//!   patches come from one convolution that all features share, half a patch apart unless `stride` says otherwise.
//! - The weights of patch `i` are `1 + F_intra(v_i) + F_inter(v)`. `v_i` is the mean over the patch; `F_intra` is a convolution
//!   over three neighbouring patches, batch normalisation and ReLU, and `F_inter` a 1x1 convolution of the mean of that over
//!   all patches. They scale the kernel's output channels, which is to scale what the kernel gives: so no kernel per patch is
//!   ever built, and the gradients of the weights are those of a product.
//! - The kernel is 3x3 without bias, over the plane of one patch, `[2, patch / 2]`, with zeros around it; batch normalisation
//!   and ReLU follow inside the residual.
//! - Heads are linear: over time and then over features for forecasts and reconstructions; over the mean of all patches for
//!   classes.
//! - Windows are normalised one by one (mean and deviation of each channel, put back at the end) where
//!   `instance_norm` says so. The authors' program does not do it.

use candle_core::{Tensor, Var};

use super::dynamic::dynamic_convolution;
use super::embedding::Embedding;
use super::{Body, Forward, Pass, Tvnet};
use crate::models::instance_norm::Instance;
use crate::models::{Batch, DataShape, Result, Task, named};
use numerics::StateBuilder;
use numerics::batch_norm::BatchNorm;
use numerics::conv1d::{Border, Conv1d, Sizes};
use numerics::group_mean::group_mean;
use numerics::initialise::Initial;
use numerics::linear::Linear;

/// What the network consists of.
pub(super) struct Paper {
    embedding: Embedding,
    blocks: Vec<Block>,
    head: Head,
    patches: (usize, usize),
    width: usize,
    normalise: bool,
}

/// A dynamic convolution inside a residual.
struct Block {
    intra: Conv1d,
    intra_norm: BatchNorm,
    inter: Conv1d,
    /// `[width, width, 3, 3]`.
    kernel: Var,
    norm: BatchNorm,
}

impl Block {
    fn new(builder: &mut StateBuilder<'_>, name: &str, width: usize) -> Result<Self> {
        let [intra, inter, kernel] =
            ["intra", "inter", "kernel"].map(|part| format!("{name}.{part}"));
        let (three, one) = (Sizes::new(width, width, 3), Sizes::new(width, width, 1));
        let shape = [width, width, 3, 3];
        Ok(Self {
            intra: Conv1d::new(builder, &intra, three)?,
            intra_norm: BatchNorm::new(builder, &format!("{name}.intra_norm"), width)?,
            inter: Conv1d::without_bias(builder, &inter, one, Initial::FanIn(width))?,
            kernel: builder.parameter(kernel, &shape, Initial::FanIn(9 * width))?,
            norm: BatchNorm::new(builder, &format!("{name}.norm"), width)?,
        })
    }

    /// One factor per patch and output channel, `[batch, patches, width]`, from `[batch, patches, patch, width]`.
    fn weights(&self, x: &Tensor, pass: &Pass<'_>) -> Result<Tensor> {
        let means = Border::Zeros(1).apply(&group_mean(x)?)?;
        let intra = self.intra.forward(&means)?;
        let intra = self.intra_norm.forward_relu(&intra, pass.mode)?;
        let inter = self.inter.forward(&group_mean(&intra)?.unsqueeze(1)?)?;
        intra.broadcast_add(&inter)? + 1.0
    }

    fn forward(&self, x: &Tensor, pass: &Pass<'_>) -> Result<(Tensor, Tensor)> {
        let (batch, patches, patch, width) = x.dims4()?;
        let weights = self.weights(x, pass)?;
        let planes = x.reshape((batch * patches, patch, width))?;
        let of_planes = weights.reshape((batch * patches, width))?;
        let dynamic = dynamic_convolution(&planes, &self.kernel, &of_planes)?;
        let inner = self.norm.forward_relu(&dynamic, pass.mode)?;
        Ok(((inner.reshape(x.shape())? + x)?, weights))
    }
}

/// What comes after the blocks.
enum Head {
    /// Rows of patches to rows of the output, then features to channels.
    Rows { time: Linear, width: Linear },
    /// The mean of all patches to classes.
    Classes(Linear),
}

impl Head {
    fn new(
        builder: &mut StateBuilder<'_>,
        shape: DataShape,
        patches: (usize, usize),
        width: usize,
    ) -> Result<Self> {
        let rows = match shape.task {
            Task::Classify => {
                let inputs = patches.1 * width;
                let classes = Linear::new(builder, "head.classes", inputs, shape.classes)?;
                return Ok(Self::Classes(classes));
            }
            Task::Forecast => shape.horizon,
            Task::Impute | Task::Detect => shape.length,
        };
        Ok(Self::Rows {
            time: Linear::new(builder, "head.time", patches.0 * patches.1, rows)?,
            width: Linear::new(builder, "head.width", width, shape.channels)?,
        })
    }

    /// From `[batch, patches, patch, width]`, a patch being `[2, patch / 2]`.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, patches, patch, features) = x.dims4()?;
        match self {
            Self::Rows { time, width } => {
                // Features first, and the rows of a patch in their order again.
                let halves = x.reshape((batch, patches, 2, patch / 2, features))?;
                let rows = halves.permute((0, 4, 1, 3, 2))?.contiguous()?;
                let rows = rows.reshape((batch, features, patches * patch))?;
                width.forward(&time.forward(&rows)?.transpose(1, 2)?.contiguous()?)
            }
            Self::Classes(classes) => {
                let flat = x.reshape((batch, patches, patch * features))?;
                classes.forward(&group_mean(&flat)?)
            }
        }
    }
}

impl Paper {
    pub fn new(builder: &mut StateBuilder<'_>, shape: DataShape, config: &Tvnet) -> Result<Self> {
        let embedding = Embedding::new(builder, shape, config)?;
        let mut blocks = Vec::with_capacity(config.blocks);
        for index in 0..config.blocks {
            blocks.push(Block::new(builder, &format!("blocks.{index}"), config.cm)?);
        }
        let patches = (config.patches().count(shape.length), config.patch);
        Ok(Self {
            embedding,
            blocks,
            head: Head::new(builder, shape, patches, config.cm)?,
            patches,
            width: config.cm,
            normalise: config.instance_norm && shape.task != Task::Classify,
        })
    }
}

impl Body for Paper {
    fn forward(&self, batch: &Batch, pass: &mut Pass<'_>) -> Result<Forward> {
        let (patches, patch) = self.patches;
        let count = batch.inputs.dim(0)?;
        let (mut inputs, mut instance) = (batch.inputs.clone(), None);
        if self.normalise {
            let own = Instance::of(&inputs, batch.mask.as_ref())?;
            inputs = own.normalise(&inputs)?;
            instance = Some(own);
        }
        let embedded = self.embedding.values(&inputs, pass)?;
        let series = embedded.transpose(1, 2)?.contiguous()?;
        let cut = self
            .embedding
            .patches(&series.reshape((count * self.width, (), 1))?)?;
        // Elements 0, 2, 4, … of a patch become its first row, the others its second.
        let halves = cut.reshape((count, self.width, patches, patch / 2, 2))?;
        let halves = halves.permute((0, 2, 4, 3, 1))?.contiguous()?;
        let mut x = halves.reshape((count, patches, patch, self.width))?;
        let mut named = named([("enc_embedding", embedded), ("patches", x.clone())]);
        for (index, block) in self.blocks.iter().enumerate() {
            let (y, weights) = block.forward(&x, pass)?;
            named.push((format!("weights{index}"), weights));
            x = y;
        }
        let mut output = self.head.forward(&x)?;
        if let Some(instance) = &instance {
            output = instance.restore(&output)?;
        }
        Ok(Forward { output, named })
    }
}

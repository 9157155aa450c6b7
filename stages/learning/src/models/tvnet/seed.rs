//! `variant: seed`: what the task scripts of bishesh-droid/TVNet-Anomaly-Detection train for forecasting, classification and
//! imputation. Its anomaly detector is the model `tvnet-recon`; `detect` here is its imputer with nothing hidden.
//!
//! With `form: reference`, forecasts go through a ReLU and are never negative, they are a staircase where the horizon is longer
//! than the number of patches, the last layer of the head is never used, and dynamic weights lack the 1. With `form: paper`,
//! none of this: no ReLU, the unused layer maps the staircase to the horizon, and weights are 1 plus what is generated.
//! In both, patches do not overlap, and laying them out in two rows changes nothing, as the first block flattens them again.

use candle_core::{Device, Tensor};

use super::{Body, Forward, Pass, Tvnet};
use crate::models::{Batch, DataShape, Form, Result, Task, named};
use numerics::batch_norm::BatchNorm;
use numerics::conv1d::{Border, Conv1d, Sizes};
use numerics::group_mean::group_mean;
use numerics::linear::Linear;
use numerics::{Mode, StateBuilder};

/// `models/tvnet.py`: forecasting and classification.
pub(super) struct Seed {
    projection: Linear,
    norm: BatchNorm,
    patching: Conv1d,
    blocks: Vec<Block>,
    head: Head,
    form: Form,
}

struct Block {
    first: Conv1d,
    first_norm: BatchNorm,
    second: Conv1d,
    second_norm: BatchNorm,
    intra: Linear,
    intra_norm: BatchNorm,
    alpha: Conv1d,
    alpha_norm: BatchNorm,
}

impl Block {
    fn new(
        builder: &mut StateBuilder<'_>,
        name: &str,
        width: usize,
        kernel: usize,
    ) -> Result<Self> {
        let sizes = Sizes::new(width, width, kernel);
        let (intra, alpha) = (
            format!("{name}.alpha_gen.fintra"),
            format!("{name}.alpha_gen.conv"),
        );
        Ok(Self {
            intra: Linear::pointwise(builder, &format!("{intra}.0"), width, width)?,
            intra_norm: BatchNorm::new(builder, &format!("{intra}.1"), width)?,
            alpha: Conv1d::new(builder, &alpha, Sizes::new(width, width, 3))?,
            alpha_norm: BatchNorm::new(builder, &format!("{name}.alpha_gen.norm"), width)?,
            first: Conv1d::new(builder, &format!("{name}.conv.0"), sizes)?,
            first_norm: BatchNorm::new(builder, &format!("{name}.conv.1"), width)?,
            second: Conv1d::new(builder, &format!("{name}.conv.3"), sizes)?,
            second_norm: BatchNorm::new(builder, &format!("{name}.conv.4"), width)?,
        })
    }

    /// `[batch, patches, width]` to the same shape.
    fn forward(&self, x: &Tensor, form: Form, mode: Mode) -> Result<Tensor> {
        let border = Border::Zeros(self.first.sizes.kernel / 2);
        let inner = self.first.forward(&border.apply(x)?)?;
        let inner = self.first_norm.forward_relu(&inner, mode)?;
        let convolved = self.second.forward(&border.apply(&inner)?)?;
        let convolved = self.second_norm.forward(&convolved, mode)?;
        let intra = self.intra.forward(x)?;
        let intra = self.intra_norm.forward_relu(&intra, mode)?;
        let alpha = self.alpha.forward(&Border::Zeros(1).apply(&intra)?)?;
        let mut alpha = self.alpha_norm.forward_relu(&alpha, mode)?;
        if form == Form::Paper {
            alpha = (alpha + 1.0)?;
        }
        ((convolved * alpha)? + x)?.relu()
    }
}

/// What comes after the blocks.
enum Head {
    Forecast {
        channels: Linear,
        staircase: Tensor,
        time: Linear,
    },
    Classes(Linear),
}

impl Head {
    fn new(
        builder: &mut StateBuilder<'_>,
        shape: DataShape,
        patches: usize,
        width: usize,
    ) -> Result<Self> {
        if shape.task == Task::Classify {
            let classes = Linear::new(builder, "head.fc.2", width, shape.classes)?;
            return Ok(Self::Classes(classes));
        }
        Ok(Self::Forecast {
            channels: Linear::pointwise(builder, "head.fc.0", width, shape.channels)?,
            time: Linear::new(builder, "head.proj", shape.horizon, shape.horizon)?,
            staircase: staircase(patches, shape.horizon, builder.device())?,
        })
    }

    /// From `[batch, patches, width]`.
    fn forward(&self, x: &Tensor, form: Form) -> Result<Tensor> {
        let (channels, staircase, time) = match self {
            Self::Classes(classes) => return classes.forward(&group_mean(x)?),
            Self::Forecast {
                channels,
                staircase,
                time,
            } => (channels, staircase, time),
        };
        let mut values = channels.forward(x)?;
        // The program's forecasts are never negative.
        if form == Form::Reference {
            values = values.relu()?;
        }
        let (batch, patches, width) = values.dims3()?;
        let columns = values.transpose(1, 2)?.contiguous()?;
        let mut steps = columns
            .reshape((batch * width, patches))?
            .matmul(staircase)?;
        if form == Form::Paper {
            steps = time.forward(&steps)?;
        }
        let steps = steps.reshape((batch, width, staircase.dim(1)?))?;
        steps.transpose(1, 2)?.contiguous()
    }
}

/// `AdaptiveAvgPool1d` as a matrix, `[patches, horizon]`: step `i` is the mean of patches `⌊i n / h⌋` to `⌈(i + 1) n / h⌉`.
fn staircase(patches: usize, horizon: usize, device: &Device) -> Result<Tensor> {
    let mut values = vec![0.0_f32; patches * horizon];
    for step in 0..horizon {
        let range = step * patches / horizon..((step + 1) * patches).div_ceil(horizon);
        let share = 1.0 / range.len() as f32;
        for patch in range {
            values[patch * horizon + step] = share;
        }
    }
    Tensor::from_vec(values, (patches, horizon), device)
}

impl Seed {
    pub fn new(builder: &mut StateBuilder<'_>, shape: DataShape, config: &Tvnet) -> Result<Self> {
        let (patch, width) = (config.patch, config.cm);
        let cut = Sizes {
            stride: patch,
            ..Sizes::new(width, width, patch)
        };
        let projection = "embedding.feature_proj";
        let projection = Linear::pointwise(builder, projection, shape.channels, width)?;
        let patching = Conv1d::new(builder, "embedding.patch_conv", cut)?;
        let norm = BatchNorm::new(builder, "embedding.norm", width)?;
        let mut blocks = Vec::with_capacity(config.blocks);
        for index in 0..config.blocks {
            let name = format!("blocks.{index}");
            blocks.push(Block::new(builder, &name, width, config.kernel)?);
        }
        Ok(Self {
            projection,
            norm,
            patching,
            blocks,
            head: Head::new(builder, shape, even(shape.length / patch), width)?,
            form: config.form,
        })
    }
}

/// Patches are laid out in two rows, so that an odd number of them is made even, and one is not enough.
fn even(patches: usize) -> usize {
    patches.max(1).next_multiple_of(2)
}

impl Body for Seed {
    fn forward(&self, batch: &Batch, pass: &mut Pass<'_>) -> Result<Forward> {
        let values = self.projection.forward(&batch.inputs)?;
        let cut = self
            .patching
            .forward(&self.norm.forward(&values, pass.mode)?)?;
        let patches = cut.dim(1)?;
        let mut x = Border::RepeatLast(even(patches) - patches).apply(&cut)?;
        let (count, patches, width) = x.dims3()?;
        let rows = x.transpose(1, 2)?.contiguous()?;
        let rows = rows.reshape((count, width, 2, patches / 2))?;
        for block in &self.blocks {
            x = block.forward(&x, self.form, pass.mode)?;
        }
        let output = self.head.forward(&x, self.form)?;
        Ok(Forward {
            output,
            named: named([("embedding", rows)]),
        })
    }
}

/// `tasks/imputation.py`: every row is a patch, and the kernel covers three of them.
pub(super) struct Imputer {
    embed: Linear,
    blocks: Vec<ImputerBlock>,
    head: Linear,
}

struct ImputerBlock {
    kernel: Conv1d,
    norm: BatchNorm,
    intra: Linear,
    intra_norm: BatchNorm,
    inter: Linear,
}

impl ImputerBlock {
    fn new(builder: &mut StateBuilder<'_>, name: &str, width: usize) -> Result<Self> {
        let [intra, intra_norm, inter] =
            ["fintra", "bn", "finter"].map(|part| format!("{name}.alpha_gen.{part}"));
        let (kernel, three) = (format!("{name}.conv2d"), Sizes::new(width, width, 3));
        Ok(Self {
            intra: Linear::pointwise(builder, &intra, width, width)?,
            intra_norm: BatchNorm::new(builder, &intra_norm, width)?,
            inter: Linear::pointwise(builder, &inter, width, width)?,
            kernel: Conv1d::column(builder, &kernel, three)?,
            norm: BatchNorm::new(builder, &format!("{name}.bn"), width)?,
        })
    }

    fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        let intra = self.intra.forward(x)?;
        let intra = self.intra_norm.forward_relu(&intra, mode)?;
        let inter = self.inter.forward(&group_mean(&intra)?.unsqueeze(1)?)?;
        let alpha = (intra.broadcast_add(&inter)? + 1.0)?;
        let convolved = self.kernel.forward(&Border::Zeros(1).apply(x)?)?;
        let convolved = self.norm.forward(&convolved, mode)?;
        (convolved * alpha)?.relu()? + x
    }
}

impl Imputer {
    pub fn new(builder: &mut StateBuilder<'_>, shape: DataShape, config: &Tvnet) -> Result<Self> {
        let (channels, width) = (shape.channels, config.cm);
        let embed = Linear::pointwise(builder, "embed.channel_embed", channels, width)?;
        let mut blocks = Vec::with_capacity(config.blocks);
        for index in 0..config.blocks {
            blocks.push(ImputerBlock::new(
                builder,
                &format!("blocks.{index}"),
                width,
            )?);
        }
        Ok(Self {
            embed,
            blocks,
            head: Linear::pointwise(builder, "head", width, channels)?,
        })
    }
}

impl Body for Imputer {
    fn forward(&self, batch: &Batch, pass: &mut Pass<'_>) -> Result<Forward> {
        let mut x = self.embed.forward(&batch.inputs)?;
        for block in &self.blocks {
            x = block.forward(&x, pass.mode)?;
        }
        Ok(Forward {
            output: self.head.forward(&x)?,
            named: Vec::new(),
        })
    }
}

//! The classifier of line plots: ResNet-50 (He, Zhang, Ren and Sun, CVPR 2016) in the form v1.5, whose stride of two
//! sits on the 3x3 convolution of a block, with a head of three layers. Images are normalised inside the model.
//! Kernels are in the crate `numerics`; how images are altered while training is the recipe's business.

mod bottleneck;
mod head;
mod host;
mod pretrained;

use std::path::PathBuf;

use candle_core::{Device, Result, Tensor, bail};
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Architecture, Batch, DataShape, Network, Task};
use bottleneck::Bottleneck;
use contract::{Fault, FileRequest, Named, Random, StageContext, Trouble};
use head::Head;
use numerics::batch_norm::BatchNorm;
use numerics::conv2d::{Conv2d, Window2d};
use numerics::host::with_slice;
use numerics::initialise::Initial;
use numerics::pool::{global_mean, max_pool2d};
use numerics::{Gradients, Mode, State, StateBuilder};

/// Means and standard deviations of red, green and blue over ImageNet, which backbones of torchvision were trained with.
const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const DEVIATION: [f32; 3] = [0.229, 0.224, 0.225];

/// ResNet-50 with a head of three layers.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Resnet50Plot {
    /// Channels of the stem. The four stages have one, two, four and eight times as many inside their blocks.
    #[schemars(range(min = 1, max = 1024))]
    pub width: usize,
    /// Blocks of the four stages.
    #[schemars(inner(range(min = 1, max = 4096)))]
    pub depth: [usize; 4],
    /// Channels inside the blocks of the four stages, if not by `width`.
    #[schemars(inner(range(min = 1, max = 4096)))]
    pub planes: Option<[usize; 4]>,
    /// Sizes of the head's two inner layers.
    #[schemars(inner(range(min = 1, max = 4096)))]
    pub head: [usize; 2],
    /// Shares of values that training drops in front of the head's three layers.
    #[schemars(extend("items" = {"type": "number", "format": "double", "minimum": 0.0, "exclusiveMaximum": 1.0}))]
    pub dropout: [f64; 3],
    /// Whether images, from 0 to 1, are first normalised by the mean and deviation of ImageNet.
    pub normalise: bool,
    /// A safetensors file with torchvision's names, from which the weights of everything but the head start.
    pub pretrained: Option<PathBuf>,
}

impl Default for Resnet50Plot {
    fn default() -> Self {
        Self {
            width: 64,
            depth: [3, 4, 6, 3],
            planes: None,
            head: [512, 256],
            dropout: [0.3, 0.3, 0.2],
            normalise: true,
            pretrained: None,
        }
    }
}

impl Resnet50Plot {
    fn planes(&self) -> [usize; 4] {
        self.planes
            .unwrap_or([1, 2, 4, 8].map(|factor| factor * self.width))
    }
}

/// Channels in the blocks of a stage, at most.
const MOST_PLANES: usize = 4096;

impl Named for Resnet50Plot {
    const NAME: &'static str = "resnet50-plot";
    const DOC: &'static str =
        "ResNet-50 with a head of three layers, which classifies pictures of series";
    const EXAMPLE: &'static str = r#"{"width": 12, "depth": [1, 1, 1, 1], "planes": [8, 8, 8, 8], "head": [32, 32],
        "dropout": [0.0, 0.0, 0.0]}"#;
}

// Reference: He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition", CVPR 2016 (form v1.5)
impl Architecture for Resnet50Plot {
    fn tasks(&self) -> &'static [Task] {
        &[Task::Classify]
    }

    fn reads_images(&self) -> bool {
        true
    }

    fn check(&self) -> std::result::Result<(), Fault> {
        // By `width`, blocks of the last stage have eight times as many.
        match self
            .planes()
            .into_iter()
            .find(|planes| *planes > MOST_PLANES)
        {
            Some(planes) => {
                let reason = format!(
                    "gives the blocks of a stage {planes} channels, and {MOST_PLANES} is the most: it is at most {} without `planes`",
                    MOST_PLANES / 8
                );
                Err(Fault::new("width", reason))
            }
            None => Ok(()),
        }
    }

    fn files(&self) -> Vec<FileRequest> {
        self.pretrained
            .iter()
            .map(|path| FileRequest::new(pretrained::NAME, path))
            .collect()
    }

    fn build(
        &self,
        shape: DataShape,
        device: &Device,
        random: &mut Random,
    ) -> std::result::Result<Box<dyn Network>, Trouble> {
        if shape.width == 0 {
            return Err(
                Trouble::new("resnet50-plot classifies images, not windows of a series")
                    .hint("draw the samples with `render-plots` and train on its images"),
            );
        }
        if self.normalise && shape.channels != MEAN.len() {
            let message = format!(
                "ImageNet's mean and deviation are for three colours, not for {}",
                shape.channels
            );
            return Err(Trouble::new(message).hint("set the model's `normalise: false`"));
        }
        Ok(Box::new(Resnet::new(self, shape, device, random)?))
    }
}

/// The network. Images are `[batch, colours, height, width]`; inside, `[batch, height, width, channels]`.
struct Resnet {
    state: State,
    shape: DataShape,
    normalise: bool,
    conv: Conv2d,
    norm: BatchNorm,
    blocks: Vec<Bottleneck>,
    head: Head,
}

/// What a forward pass computes on its way.
struct Forward {
    /// `[batch, height, width, channels]`.
    stem: Tensor,
    /// `[batch, channels]`.
    features: Tensor,
    /// `[batch, classes]`.
    logits: Tensor,
}

impl Resnet {
    fn new(
        config: &Resnet50Plot,
        shape: DataShape,
        device: &Device,
        random: &mut Random,
    ) -> Result<Self> {
        let mut builder = StateBuilder::new(device, random);
        let window = Window2d::square(7).stride(2).padding(3);
        let initial = Initial::KaimingNormal(config.width * window.taps());
        let conv = Conv2d::without_bias(
            &mut builder,
            "conv1",
            (shape.channels, config.width),
            window,
            initial,
        )?;
        let norm = BatchNorm::new(&mut builder, "bn1", config.width)?;
        let (mut blocks, mut channels) = (Vec::new(), config.width);
        for (stage, (planes, count)) in config.planes().into_iter().zip(config.depth).enumerate() {
            for block in 0..count {
                let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                let name = format!("layer{}.{block}", stage + 1);
                blocks.push(Bottleneck::new(
                    &mut builder,
                    &name,
                    channels,
                    planes,
                    stride,
                )?);
                channels = planes * Bottleneck::EXPANSION;
            }
        }
        let sizes = [channels, config.head[0], config.head[1], shape.classes];
        let head = Head::new(&mut builder, "fc", sizes, config.dropout)?;
        Ok(Self {
            state: builder.finish(),
            shape,
            normalise: config.normalise,
            conv,
            norm,
            blocks,
            head,
        })
    }

    /// Images to `[batch, height / 4, width / 4, channels]`.
    fn stem(&self, images: &Tensor, mode: Mode) -> Result<Tensor> {
        let x = self.conv.forward(&self.arrange(images)?)?;
        max_pool2d(
            &self.norm.forward_relu(&x, mode)?,
            Window2d::square(3).stride(2).padding(1),
        )
    }

    fn forward(&self, images: &Tensor, mode: Mode, random: &mut Random) -> Result<Forward> {
        let stem = self.stem(images, mode)?;
        let mut x = stem.clone();
        for block in &self.blocks {
            x = block.forward(&x, mode)?;
        }
        let features = global_mean(&x)?;
        let logits = self.head.forward(&features, mode, random)?;
        Ok(Forward {
            stem,
            features,
            logits,
        })
    }

    /// Checks images, normalises them and puts their colours last.
    fn arrange(&self, images: &Tensor) -> Result<Tensor> {
        let (batch, colours, height, width) = images.dims4()?;
        let DataShape {
            length,
            channels,
            width: columns,
            ..
        } = self.shape;
        if batch == 0 || (colours, height, width) != (channels, length, columns) {
            bail!(
                "the model takes images of {channels} colours, {columns}x{length}, not {:?}",
                images.dims()
            )
        }
        let affine = |colour: usize| {
            if self.normalise {
                (MEAN[colour], 1.0 / DEVIATION[colour])
            } else {
                (0.0, 1.0)
            }
        };
        if !images.device().is_cpu() {
            let (mean, scale): (Vec<f32>, Vec<f32>) = (0..colours).map(affine).unzip();
            let [mean, scale] =
                [mean, scale].map(|values| Tensor::from_vec(values, colours, images.device()));
            return images
                .permute((0, 2, 3, 1))?
                .contiguous()?
                .broadcast_sub(&mean?)?
                .broadcast_mul(&scale?);
        }
        let plane = height * width;
        let mut values = vec![0.0; images.elem_count()];
        with_slice(&images.contiguous()?, |images| {
            let pairs = values
                .par_chunks_exact_mut(colours * plane)
                .zip(images.par_chunks_exact(colours * plane));
            pairs.for_each(|(target, source)| {
                for (colour, source) in source.chunks_exact(plane).enumerate() {
                    let (mean, scale) = affine(colour);
                    for (target, value) in
                        target.iter_mut().skip(colour).step_by(colours).zip(source)
                    {
                        *target = (value - mean) * scale;
                    }
                }
            });
        })?;
        Tensor::from_vec(values, (batch, height, width, colours), images.device())
    }
}

impl Network for Resnet {
    fn state(&self) -> &State {
        &self.state
    }

    fn start(&self, context: &StageContext<'_>) -> std::result::Result<(), Trouble> {
        match context.host.file(pretrained::NAME) {
            Some(path) => pretrained::load(&path, &self.state),
            None => Ok(()),
        }
    }

    fn loss(&self, batch: &Batch, mode: Mode, random: &mut Random) -> Result<Tensor> {
        batch.cross_entropy(&self.forward(&batch.inputs, mode, random)?.logits)
    }

    fn gradients(&self, _: usize, batch: &Batch, random: &mut Random) -> Result<(f64, Gradients)> {
        if self.state.device().is_cpu() {
            return host::gradients(self, batch, random);
        }
        let loss = self.loss(batch, Mode::Train, random)?;
        let gradients = Gradients::of(&self.state, &loss.backward()?);
        Ok((f64::from(loss.to_scalar::<f32>()?), gradients))
    }

    fn predict(&self, batch: &Batch) -> Result<Tensor> {
        // Nothing is drawn in evaluation.
        Ok(self
            .forward(&batch.inputs, Mode::Evaluate, &mut Random::new(0, "unused"))?
            .logits)
    }

    fn trace(&self, batch: &Batch, mode: Mode) -> Result<Vec<(String, Tensor)>> {
        let Forward {
            stem,
            features,
            logits,
        } = self.forward(&batch.inputs, mode, &mut Random::new(0, "trace"))?;
        Ok(vec![
            ("stem".to_owned(), stem),
            ("features".to_owned(), features),
            ("logits".to_owned(), logits),
        ])
    }
}

#[cfg(test)]
mod tests;

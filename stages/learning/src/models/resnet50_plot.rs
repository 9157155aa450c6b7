//! The classifier of line plots: ResNet-50 (He, Zhang, Ren and Sun, CVPR 2016) in the form v1.5, whose stride of two
//! sits on the 3x3 convolution of a block, with a head of three layers. Images are normalised inside the model.
//! Kernels are in the crate `numerics`; how images are altered while training is the recipe's business.

mod bottleneck;
mod head;
mod host;
mod pretrained;

use std::path::PathBuf;

use candle_core::Tensor;
use rayon::prelude::*;

use super::{Architecture, Batch, Built, DataShape, Network, Result, Task, differentiate, named};
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

contract::parameters! {
    /// ResNet-50 with a head of three layers.
    pub struct Resnet50Plot {
        /// Channels of the stem. The four stages have one, two, four and eight times as many inside their blocks.
        #[schemars(range(min = 1, max = 1024))]
        pub width: usize = 64,
        /// Blocks of the four stages.
        #[schemars(inner(range(min = 1, max = 4096)))]
        pub depth: [usize; 4] = [3, 4, 6, 3],
        /// Channels inside the blocks of the four stages, if not by `width`.
        #[schemars(inner(range(min = 1, max = 4096)))]
        pub planes: Option<[usize; 4]> = None,
        /// Sizes of the head's two inner layers.
        #[schemars(inner(range(min = 1, max = 4096)))]
        pub head: [usize; 2] = [512, 256],
        /// Shares of values that training drops in front of the head's three layers.
        #[schemars(extend("items" = {"type": "number", "format": "double", "minimum": 0.0, "exclusiveMaximum": 1.0}))]
        pub dropout: [f64; 3] = [0.3, 0.3, 0.2],
        /// Whether images, from 0 to 1, are first normalised by the mean and deviation of ImageNet.
        pub normalise: bool = true,
        /// A safetensors file with torchvision's names, from which the weights of everything but the head start.
        pub pretrained: Option<PathBuf> = None,
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
        "ResNet-50 with a head of three layers, which classifies plots of series";
    const EXAMPLE: &'static str = r#"{"width": 12, "depth": [1, 1, 1, 1], "planes": [8, 8, 8, 8], "head": [32, 32],
        "dropout": [0.0, 0.0, 0.0]}"#;
}

impl Architecture for Resnet50Plot {
    fn tasks(&self) -> &'static [Task] {
        &[Task::Classify]
    }

    fn reads_images(&self) -> bool {
        true
    }

    fn check(&self) -> Result<(), Fault> {
        // By `width`, blocks of the last stage have eight times as many; `planes` has a limit of its own.
        let [.., planes] = self.planes();
        if planes <= MOST_PLANES {
            return Ok(());
        }
        let reason = format!(
            "gives the blocks of a stage {planes} channels, and {MOST_PLANES} is the most: it is at most {} without `planes`",
            MOST_PLANES / 8
        );
        Err(Fault::new("width", reason))
    }

    fn files(&self) -> Vec<FileRequest> {
        match &self.pretrained {
            Some(path) => vec![FileRequest::new(pretrained::NAME, path)],
            None => Vec::new(),
        }
    }

    fn citation(&self) -> &'static str {
        "He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition. CVPR 2016. arXiv:1512.03385"
    }

    fn build(&self, shape: DataShape, builder: &mut StateBuilder<'_>) -> Built {
        if shape.width == 0 {
            let error = Trouble::new("resnet50-plot classifies images, not windows of a series");
            let hint = "draw the samples with `render-plots` and train on its images";
            return Err(error.hint(hint));
        }
        if self.normalise && shape.channels != MEAN.len() {
            let message = format!(
                "ImageNet's mean and deviation are for three colours, not for {}",
                shape.channels
            );
            return Err(Trouble::new(message).hint("set the model's `normalise: false`"));
        }
        Ok(Box::new(self.network(shape, builder)?))
    }
}

impl Resnet50Plot {
    fn network(&self, shape: DataShape, builder: &mut StateBuilder<'_>) -> Result<Resnet> {
        let window = Window2d::square(7).stride(2).padding(3);
        let initial = Initial::KaimingNormal(self.width * window.taps());
        let sizes = (shape.channels, self.width);
        let conv = Conv2d::without_bias(builder, "conv1", sizes, window, initial)?;
        let norm = BatchNorm::new(builder, "bn1", self.width)?;
        let (mut blocks, mut channels) = (Vec::new(), self.width);
        for (stage, (planes, count)) in self.planes().into_iter().zip(self.depth).enumerate() {
            for block in 0..count {
                // All stages but the first halve the plane.
                let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                let name = format!("layer{}.{block}", stage + 1);
                blocks.push(Bottleneck::new(builder, &name, channels, planes, stride)?);
                channels = planes * Bottleneck::EXPANSION;
            }
        }
        let sizes = [channels, self.head[0], self.head[1], shape.classes];
        Ok(Resnet {
            shape,
            normalise: self.normalise,
            conv,
            norm,
            blocks,
            head: Head::new(builder, "fc", sizes, self.dropout)?,
            state: builder.finish(),
        })
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
    /// Images to `[batch, height / 4, width / 4, channels]`.
    fn stem(&self, images: &Tensor, mode: Mode) -> Result<Tensor> {
        let x = self.conv.forward(&self.arrange(images)?)?;
        let x = self.norm.forward_relu(&x, mode)?;
        max_pool2d(&x, Window2d::square(3).stride(2).padding(1))
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
        self.shape.check_images(images)?;
        let (batch, colours, height, width) = images.dims4()?;
        let (mut means, mut scales) = (vec![0.0; colours], vec![1.0; colours]);
        if self.normalise {
            means = MEAN.to_vec();
            scales = DEVIATION.map(|deviation| 1.0 / deviation).to_vec();
        }
        let device = images.device();
        if !device.is_cpu() {
            let images = images.permute((0, 2, 3, 1))?.contiguous()?;
            let centred = images.broadcast_sub(&Tensor::from_vec(means, colours, device)?)?;
            return centred.broadcast_mul(&Tensor::from_vec(scales, colours, device)?);
        }
        let plane = height * width;
        let mut values = vec![0.0; images.elem_count()];
        with_slice(&images.contiguous()?, |images| {
            let targets = values.par_chunks_exact_mut(colours * plane);
            let pairs = targets.zip(images.par_chunks_exact(colours * plane));
            pairs.for_each(|(target, source)| {
                for (colour, source) in source.chunks_exact(plane).enumerate() {
                    let (mean, scale) = (means[colour], scales[colour]);
                    let pixels = target.iter_mut().skip(colour).step_by(colours);
                    for (target, value) in pixels.zip(source) {
                        *target = (value - mean) * scale;
                    }
                }
            });
        })?;
        Tensor::from_vec(values, (batch, height, width, colours), device)
    }
}

impl Network for Resnet {
    fn state(&self) -> &State {
        &self.state
    }

    fn start(&self, context: &StageContext<'_>) -> Result<(), Trouble> {
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
        differentiate(&self.state, &self.loss(batch, Mode::Train, random)?)
    }

    fn predict(&self, batch: &Batch) -> Result<Tensor> {
        // Nothing is drawn in evaluation.
        let mut unused = Random::new(0, "unused");
        let forward = self.forward(&batch.inputs, Mode::Evaluate, &mut unused)?;
        Ok(forward.logits)
    }

    fn trace(&self, batch: &Batch, mode: Mode) -> Result<Vec<(String, Tensor)>> {
        let forward = self.forward(&batch.inputs, mode, &mut Random::new(0, "trace"))?;
        Ok(named([
            ("stem", forward.stem),
            ("features", forward.features),
            ("logits", forward.logits),
        ]))
    }
}

#[cfg(test)]
mod tests;

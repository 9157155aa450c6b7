//! The variational autoencoder (Kingma and Welling, ICLR 2014) of whole windows, by layers of units, and of images, by
//! convolutions: what it reconstructs badly, or needs unlikely codes for, is unlike what it was trained on. Scores come
//! from the mean of the code, so nothing is drawn at scoring.

mod elbo;
mod images;
mod windows;

use candle_core::{Device, Result, Tensor, bail};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Architecture, Batch, DataShape, Network, Task};
use contract::{Named, Random, Trouble};
use elbo::Elbo;
use numerics::linear::Linear;
use numerics::{Mode, State, StateBuilder};

/// What the autoencoder looks at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Of {
    #[default]
    Windows,
    Images,
}

/// What the anomaly score is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Score {
    /// The squared error of the reconstruction.
    #[default]
    Reconstruction,
    /// The loss of the sample, its code being the mean: the squared error, and how far the code's distribution is from
    /// the standard normal one, which is spread evenly over the sample's values.
    Bound,
}

/// A variational autoencoder with a Gaussian code.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Vae {
    /// Windows of a series, or images.
    pub of: Of,
    /// Numbers of the code.
    #[schemars(range(min = 1, max = 4096))]
    pub latent: usize,
    /// Of windows: units of the encoder's layers, by default 128 and 64. Of images: channels of its convolutions, each
    /// of which halves height and width, by default 16, 32, 64 and 64. The decoder has the same in reverse.
    #[schemars(length(min = 1, max = 16), inner(range(min = 1, max = 65_536)))]
    pub hidden: Option<Vec<usize>>,
    /// The weight of the code's divergence from the standard normal distribution.
    #[schemars(range(min = 0.0))]
    pub beta: f64,
    /// The standard deviation with which values lie around their reconstruction: smaller, and details count more
    /// against the divergence.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub deviation: f64,
    /// What the anomaly score is.
    pub score: Score,
}

impl Default for Vae {
    fn default() -> Self {
        let (of, score) = (Of::Windows, Score::Reconstruction);
        Self {
            of,
            latent: 16,
            hidden: None,
            beta: 1.0,
            deviation: 1.0,
            score,
        }
    }
}

impl Vae {
    fn hidden(&self) -> Vec<usize> {
        let default = || match self.of {
            Of::Windows => vec![128, 64],
            Of::Images => vec![16, 32, 64, 64],
        };
        self.hidden.clone().unwrap_or_else(default)
    }
}

impl Named for Vae {
    const NAME: &'static str = "vae";
    const DOC: &'static str = "A variational autoencoder of windows or images; the error of the reconstruction is the anomaly score";
    const EXAMPLE: &'static str = r#"{"latent": 12, "hidden": [48, 32], "deviation": 0.3}"#;
}

// Reference: Kingma and Welling, "Auto-Encoding Variational Bayes", ICLR 2014
impl Architecture for Vae {
    fn tasks(&self) -> &'static [Task] {
        &[Task::Detect]
    }

    fn reads_images(&self) -> bool {
        self.of == Of::Images
    }

    fn build(
        &self,
        shape: DataShape,
        device: &Device,
        random: &mut Random,
    ) -> std::result::Result<Box<dyn Network>, Trouble> {
        match (self.of, shape.width) {
            (Of::Windows, 0) | (Of::Images, 1..) => {
                Ok(Box::new(Autoencoder::new(self, shape, device, random)?))
            }
            (Of::Windows, _) => Err(Trouble::new(
                "the autoencoder is one of windows and was given images",
            )
            .hint("set the model's `of: images`")),
            (Of::Images, _) => Err(Trouble::new(
                "the autoencoder is one of images and was given windows",
            )
            .hint("set the model's `of: windows`")),
        }
    }
}

/// From values to a vector that the code is read from, and back from the code to values. Values of images are
/// channels-last in here.
trait Coder: Send + Sync {
    /// Numbers of the vector that the code is read from.
    fn width(&self) -> usize;
    /// `[batch, …values]` to `[batch, width]`.
    fn encode(&self, x: &Tensor) -> Result<Tensor>;
    /// `[batch, latent]` to `[batch, …values]`.
    fn decode(&self, code: &Tensor) -> Result<Tensor>;
}

/// The network. Windows are `[batch, length, channels]`, images `[batch, colours, height, width]`.
struct Autoencoder {
    state: State,
    shape: DataShape,
    elbo: Elbo,
    score: Score,
    coder: Box<dyn Coder>,
    mean: Linear,
    log_variance: Linear,
}

/// What a forward pass computes on its way.
struct Forward {
    /// `[batch, latent]`.
    mean: Tensor,
    log_variance: Tensor,
    /// As the coder lays values out.
    reconstruction: Tensor,
}

impl Autoencoder {
    fn new(config: &Vae, shape: DataShape, device: &Device, random: &mut Random) -> Result<Self> {
        let mut builder = StateBuilder::new(device, random);
        let hidden = config.hidden();
        let coder: Box<dyn Coder> = match config.of {
            Of::Windows => Box::new(windows::Layers::new(
                &mut builder,
                [shape.length, shape.channels],
                &hidden,
                config.latent,
            )?),
            Of::Images => {
                let size = [shape.length, shape.width];
                Box::new(images::Convolutions::new(
                    &mut builder,
                    size,
                    shape.channels,
                    &hidden,
                    config.latent,
                )?)
            }
        };
        let mean = Linear::new(&mut builder, "mean", coder.width(), config.latent)?;
        let log_variance = Linear::new(&mut builder, "log_variance", coder.width(), config.latent)?;
        let elbo = Elbo {
            beta: config.beta,
            deviation: config.deviation,
        };
        Ok(Self {
            state: builder.finish(),
            shape,
            elbo,
            score: config.score,
            coder,
            mean,
            log_variance,
        })
    }

    /// Checks a batch and lays its values out for the coder.
    fn arrange(&self, inputs: &Tensor) -> Result<Tensor> {
        let DataShape {
            length,
            channels,
            width,
            ..
        } = self.shape;
        let fits = match inputs.dims() {
            [batch, rows, columns] => {
                *batch > 0 && width == 0 && (*rows, *columns) == (length, channels)
            }
            [batch, colours, rows, columns] => {
                *batch > 0 && (*colours, *rows, *columns) == (channels, length, width)
            }
            _ => false,
        };
        match width {
            _ if !fits && width == 0 => {
                bail!(
                    "the model takes windows of {length} rows and {channels} channels, not {:?}",
                    inputs.dims()
                )
            }
            _ if !fits => {
                bail!(
                    "the model takes images of {channels} colours, {width}x{length}, not {:?}",
                    inputs.dims()
                )
            }
            0 => inputs.contiguous(),
            _ => inputs.permute((0, 2, 3, 1))?.contiguous(),
        }
    }

    /// The way back from the coder's layout.
    fn restore(&self, values: &Tensor) -> Result<Tensor> {
        if self.shape.width == 0 {
            Ok(values.clone())
        } else {
            values.permute((0, 3, 1, 2))?.contiguous()
        }
    }

    /// In training the code is drawn, in evaluation it is its mean.
    fn forward(&self, x: &Tensor, mode: Mode, random: &mut Random) -> Result<Forward> {
        let encoded = self.coder.encode(x)?;
        let (mean, log_variance) = (
            self.mean.forward(&encoded)?,
            self.log_variance.forward(&encoded)?,
        );
        let code = match mode {
            Mode::Train => {
                let noise: Vec<f32> = (0..mean.elem_count())
                    .map(|_| random.normal() as f32)
                    .collect();
                let noise = Tensor::from_vec(noise, mean.shape(), mean.device())?;
                (&mean + ((&log_variance * 0.5)?.exp()? * noise)?)?
            }
            Mode::Evaluate => mean.clone(),
        };
        Ok(Forward {
            mean,
            log_variance,
            reconstruction: self.coder.decode(&code)?,
        })
    }

    fn evaluate(&self, inputs: &Tensor) -> Result<Forward> {
        // Nothing is drawn in evaluation.
        self.forward(
            &self.arrange(inputs)?,
            Mode::Evaluate,
            &mut Random::new(0, "unused"),
        )
    }
}

impl Network for Autoencoder {
    fn state(&self) -> &State {
        &self.state
    }

    fn loss(&self, batch: &Batch, mode: Mode, random: &mut Random) -> Result<Tensor> {
        let x = self.arrange(&batch.inputs)?;
        let Forward {
            mean,
            log_variance,
            reconstruction,
        } = self.forward(&x, mode, random)?;
        self.elbo.loss(&reconstruction, &x, &mean, &log_variance)
    }

    fn predict(&self, batch: &Batch) -> Result<Tensor> {
        self.restore(&self.evaluate(&batch.inputs)?.reconstruction)
    }

    fn errors(&self, batch: &Batch) -> Result<Tensor> {
        let Forward {
            mean,
            log_variance,
            reconstruction,
        } = self.evaluate(&batch.inputs)?;
        let errors = (self.restore(&reconstruction)? - &batch.inputs)?.sqr()?;
        match self.score {
            Score::Reconstruction => Ok(errors),
            Score::Bound => self.elbo.of_values(&errors, &mean, &log_variance),
        }
    }

    fn trace(&self, batch: &Batch, mode: Mode) -> Result<Vec<(String, Tensor)>> {
        let x = self.arrange(&batch.inputs)?;
        let Forward {
            mean,
            log_variance,
            reconstruction,
        } = self.forward(&x, mode, &mut Random::new(0, "trace"))?;
        Ok(vec![
            ("mean".to_owned(), mean),
            ("log_variance".to_owned(), log_variance),
            ("recon".to_owned(), self.restore(&reconstruction)?),
        ])
    }
}

#[cfg(test)]
mod tests;

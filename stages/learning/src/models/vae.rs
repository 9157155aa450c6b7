//! The variational autoencoder (Kingma and Welling, ICLR 2014) of whole windows, by layers of units, and of images, by
//! convolutions: what it reconstructs badly, or needs unlikely codes for, is unlike what it was trained on. Scores come
//! from the mean of the code, so nothing is drawn at scoring.

pub(crate) mod elbo;
mod images;
mod windows;

use candle_core::Tensor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::draws::Draws;
use super::{Architecture, Batch, Built, DataShape, Network, Of, Result, Task, named};
use contract::{Named, Random, Trouble};
use elbo::Elbo;
use numerics::linear::Linear;
use numerics::{Mode, State, StateBuilder};

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

contract::parameters! {
    /// A variational autoencoder with a Gaussian code.
    pub struct Vae {
        /// Windows of a series, or images.
        pub of: Of = Of::Windows,
        /// Numbers of the code.
        #[schemars(range(min = 1, max = 4096))]
        pub latent: usize = 16,
        /// Of windows: units of the encoder's layers, by default 128 and 64. Of images: channels of its convolutions, each
        /// of which halves height and width, by default 16, 32, 64 and 64. The decoder has the same in reverse.
        #[schemars(length(min = 1, max = 16), inner(range(min = 1, max = 65_536)))]
        pub hidden: Option<Vec<usize>> = None,
        /// The weight of the code's divergence from the standard normal distribution.
        #[schemars(range(min = 0.0))]
        pub beta: f64 = 1.0,
        /// The standard deviation with which values lie around their reconstruction: smaller, and details count more
        /// against the divergence.
        #[schemars(extend("exclusiveMinimum" = 0.0))]
        pub deviation: f64 = 1.0,
        /// What the anomaly score is.
        pub score: Score = Score::Reconstruction,
    }
}

impl Vae {
    fn hidden(&self) -> Vec<usize> {
        match (&self.hidden, self.of) {
            (Some(hidden), _) => hidden.clone(),
            (None, Of::Windows) => vec![128, 64],
            (None, Of::Images) => vec![16, 32, 64, 64],
        }
    }
}

impl Named for Vae {
    const NAME: &'static str = "vae";
    const DOC: &'static str = "A variational autoencoder of windows or images; the error of the reconstruction is the anomaly score";
    const EXAMPLE: &'static str = r#"{"latent": 12, "hidden": [48, 32], "deviation": 0.3}"#;
}

impl Architecture for Vae {
    fn tasks(&self) -> &'static [Task] {
        &[Task::Detect]
    }

    fn reads_images(&self) -> bool {
        self.of == Of::Images
    }

    fn citation(&self) -> &'static str {
        "Kingma, Welling: Auto-Encoding Variational Bayes. ICLR 2014. arXiv:1312.6114"
    }

    fn build(&self, shape: DataShape, builder: &mut StateBuilder<'_>) -> Built {
        let (own, given) = match (self.of, shape.width) {
            (Of::Windows, 0) | (Of::Images, 1..) => {
                return Ok(Box::new(self.network(shape, builder)?));
            }
            (Of::Windows, _) => ("windows", "images"),
            (Of::Images, _) => ("images", "windows"),
        };
        let message = format!("the autoencoder is for {own} and was given {given}");
        Err(Trouble::new(message).hint(format!("set the model's `of: {given}`")))
    }
}

impl Vae {
    fn network(&self, shape: DataShape, builder: &mut StateBuilder<'_>) -> Result<Autoencoder> {
        let (hidden, latent) = (self.hidden(), self.latent);
        let coder: Box<dyn Coder> = match self.of {
            Of::Windows => Box::new(windows::Layers::new(builder, shape, &hidden, latent)?),
            Of::Images => Box::new(images::Convolutions::new(builder, shape, &hidden, latent)?),
        };
        let elbo = Elbo {
            beta: self.beta,
            deviation: self.deviation,
        };
        Ok(Autoencoder {
            mean: Linear::new(builder, "mean", coder.width(), latent)?,
            log_variance: Linear::new(builder, "log_variance", coder.width(), latent)?,
            state: builder.finish(),
            shape,
            elbo,
            score: self.score,
            coder,
        })
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
    /// Checks a batch and lays its values out for the coder.
    fn arrange(&self, inputs: &Tensor) -> Result<Tensor> {
        if self.shape.width == 0 {
            self.shape.check_windows(inputs)?;
            return inputs.contiguous();
        }
        self.shape.check_images(inputs)?;
        inputs.permute((0, 2, 3, 1))?.contiguous()
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
        let mean = self.mean.forward(&encoded)?;
        let log_variance = self.log_variance.forward(&encoded)?;
        let code = match mode {
            Mode::Train => {
                // The reparameterisation: gradients reach mean and variance through the draw.
                let noise = Draws::Fresh.normal(mean.dims(), random, mean.device())?;
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
        let mut unused = Random::new(0, "unused");
        self.forward(&self.arrange(inputs)?, Mode::Evaluate, &mut unused)
    }
}

impl Network for Autoencoder {
    fn state(&self) -> &State {
        &self.state
    }

    fn loss(&self, batch: &Batch, mode: Mode, random: &mut Random) -> Result<Tensor> {
        let x = self.arrange(&batch.inputs)?;
        let found = self.forward(&x, mode, random)?;
        self.elbo
            .loss(&found.reconstruction, &x, &found.mean, &found.log_variance)
    }

    fn predict(&self, batch: &Batch) -> Result<Tensor> {
        self.restore(&self.evaluate(&batch.inputs)?.reconstruction)
    }

    fn errors(&self, batch: &Batch) -> Result<Tensor> {
        let found = self.evaluate(&batch.inputs)?;
        let errors = (self.restore(&found.reconstruction)? - &batch.inputs)?.sqr()?;
        match self.score {
            Score::Reconstruction => Ok(errors),
            Score::Bound => self
                .elbo
                .of_values(&errors, &found.mean, &found.log_variance),
        }
    }

    fn trace(&self, batch: &Batch, mode: Mode) -> Result<Vec<(String, Tensor)>> {
        let x = self.arrange(&batch.inputs)?;
        let found = self.forward(&x, mode, &mut Random::new(0, "trace"))?;
        Ok(named([
            ("mean", found.mean),
            ("log_variance", found.log_variance),
            ("recon", self.restore(&found.reconstruction)?),
        ]))
    }
}

#[cfg(test)]
mod tests;

//! The recurrent variational autoencoder of UykiZhao/Graduate (`models/omni_anomaly.py`), which calls itself OmniAnomaly:
//! one latent vector per window, from the last state of a recurrent encoder, and a prior that is learned.
//! OmniAnomaly as it was published, with a latent vector per row, is in `omni_anomaly.rs`.

use candle_core::{Device, Tensor};

use super::draws::{self, Draws};
use super::{Architecture, Batch, Built, DataShape, Form, Network, Result, Task, named};
use contract::{Named, Random};
use numerics::gru::Gru;
use numerics::linear::Linear;
use numerics::noise::add_noise;
use numerics::relu::relu;
use numerics::{Mode, State, StateBuilder};

/// Where logarithms of variances are cut off.
const LOG_VARIANCES: (f64, f64) = (-20.0, 5.0);

contract::parameters! {
    /// The recurrent variational autoencoder.
    pub struct OmniVae {
        /// Whether windows are scored by the mean of their latent vector (`paper`), or by one draw of it, as the program
        /// does (`reference`); here it is the same draw for all windows.
        pub form: Form = Form::Paper,
        /// Size of the encoder's state.
        #[schemars(range(min = 1, max = 4096))]
        pub state: usize = 128,
        /// Size of the latent vector.
        #[schemars(range(min = 1, max = 4096))]
        pub latent: usize = 64,
        /// Size of the hidden layers of prior and decoder.
        #[schemars(range(min = 1, max = 65536))]
        pub inner: usize = 256,
        /// Weight of the divergence of posterior from prior.
        #[schemars(range(min = 0.0))]
        pub beta: f64 = 1.0,
        /// Standard deviation of the noise that training adds to what the encoder sees.
        #[schemars(range(min = 0.0))]
        pub input_noise: f64 = 0.05,
    }
}

impl OmniVae {
    /// A network whose draws are given instead of drawn: those of the latent vector, `[batch, latent]`, and none added
    /// to the input.
    ///
    /// # Errors
    /// If a tensor operation fails.
    pub fn with_draws(
        &self,
        shape: DataShape,
        device: &Device,
        draws: Tensor,
    ) -> Result<Box<dyn Network>> {
        let config = Self {
            input_noise: 0.0,
            ..self.clone()
        };
        let mut random = Random::new(0, "init");
        let builder = &mut StateBuilder::new(device, &mut random);
        Ok(Box::new(config.network(
            shape,
            builder,
            Draws::Given(draws),
        )?))
    }

    fn network(
        &self,
        shape: DataShape,
        builder: &mut StateBuilder<'_>,
        draws: Draws,
    ) -> Result<Autoencoder> {
        let (state, latent, inner) = (self.state, self.latent, self.inner);
        let values = shape.length * shape.channels;
        Ok(Autoencoder {
            shape,
            config: self.clone(),
            draws,
            encoder: Gru::new(builder, "encoder.gru", shape.channels, state)?,
            posterior: Head::new(builder, "posterior", state, latent)?,
            hidden: Linear::new(builder, "fc_hidden", state, inner)?,
            prior: Head::new(builder, "prior", inner, latent)?,
            decoder: [
                Linear::new(builder, "decoder.0", latent, inner)?,
                Linear::new(builder, "decoder.2", inner, values)?,
            ],
            state: builder.finish(),
        })
    }
}

impl Named for OmniVae {
    const NAME: &'static str = "omni-vae";
    const DOC: &'static str = "Recurrent variational autoencoder with a learned prior; the squared error is the anomaly score";
    const EXAMPLE: &'static str = r#"{"state": 16, "latent": 8, "inner": 24, "beta": 0.1}"#;
}

impl Architecture for OmniVae {
    fn tasks(&self) -> &'static [Task] {
        &[Task::Detect]
    }

    fn build(&self, shape: DataShape, builder: &mut StateBuilder<'_>) -> Built {
        Ok(Box::new(self.network(shape, builder, Draws::Fresh)?))
    }
}

/// Mean and logarithm of the variance of a vector whose components are independent, `[batch, latent]` each.
struct Gaussian {
    mean: Tensor,
    log_variance: Tensor,
}

impl Gaussian {
    /// `mean + draws * exp(log_variance / 2)`.
    fn at(&self, draws: &Tensor) -> Result<Tensor> {
        &self.mean + (draws * (&self.log_variance * 0.5)?.exp()?)?
    }

    /// The divergence of this from `other` (Kullback and Leibler), `[batch]`.
    fn divergence(&self, other: &Self) -> Result<Tensor> {
        // ½ Σ (ln σ₂² - ln σ₁² + (σ₁² + (μ₁ - μ₂)²) / σ₂² - 1), this being 1.
        let spread = (self.log_variance.exp()? + (&self.mean - &other.mean)?.sqr()?)?;
        let ratio = (spread * other.log_variance.neg()?.exp()?)?;
        let terms = ((&other.log_variance - &self.log_variance)? + ratio)?;
        ((terms - 1.0)?.sum(1)? * 0.5)?.contiguous()
    }
}

/// Two linear layers that give a [`Gaussian`].
struct Head {
    mean: Linear,
    log_variance: Linear,
}

impl Head {
    fn new(
        builder: &mut StateBuilder<'_>,
        name: &str,
        input: usize,
        output: usize,
    ) -> Result<Self> {
        Ok(Self {
            mean: Linear::new(builder, &format!("{name}.fc_mean"), input, output)?,
            log_variance: Linear::new(builder, &format!("{name}.fc_logvar"), input, output)?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Gaussian> {
        let (low, high) = LOG_VARIANCES;
        Ok(Gaussian {
            mean: self.mean.forward(x)?,
            log_variance: self.log_variance.forward(x)?.clamp(low, high)?,
        })
    }
}

/// The network. Windows are `[batch, length, channels]`.
struct Autoencoder {
    state: State,
    shape: DataShape,
    config: OmniVae,
    draws: Draws,
    encoder: Gru,
    posterior: Head,
    hidden: Linear,
    prior: Head,
    decoder: [Linear; 2],
}

/// What the encoder says of a batch.
struct Encoded {
    states: Tensor,
    posterior: Gaussian,
    prior: Gaussian,
}

impl Autoencoder {
    fn encode(&self, x: &Tensor, mode: Mode) -> Result<Encoded> {
        self.shape.check_windows(x)?;
        let states = self.encoder.forward(x, None, mode)?;
        let last = states.narrow(1, self.shape.length - 1, 1)?;
        let last = last.squeeze(1)?.contiguous()?;
        let hidden = relu(&self.hidden.forward(&last)?)?;
        Ok(Encoded {
            states,
            posterior: self.posterior.forward(&last)?,
            prior: self.prior.forward(&hidden)?,
        })
    }

    /// `[batch, latent]` to `[batch, length, channels]`.
    fn decode(&self, z: &Tensor) -> Result<Tensor> {
        let [first, second] = &self.decoder;
        let rows = second.forward_wide(&relu(&first.forward(z)?)?)?;
        rows.reshape((z.dim(0)?, self.shape.length, self.shape.channels))
    }

    fn draw(&self, gaussian: &Gaussian, random: &mut Random) -> Result<Tensor> {
        let mean = &gaussian.mean;
        gaussian.at(&self.draws.normal(mean.dims(), random, mean.device())?)
    }

    /// The latent vectors by which windows are judged.
    fn judged(&self, posterior: &Gaussian) -> Result<Tensor> {
        if self.config.form == Form::Paper {
            return Ok(posterior.mean.clone());
        }
        let mean = &posterior.mean;
        let draws = match &self.draws {
            // One draw for all windows: a score must not depend on the batch that its window is in.
            Draws::Fresh => {
                let shape = [1, self.config.latent];
                Draws::Fresh.normal(&shape, &mut draws::scoring(), mean.device())?
            }
            Draws::Given(draws) => draws.clone(),
        };
        posterior.at(&draws.broadcast_as(mean.dims())?)
    }

    /// Squared error and divergence, each a mean as the loss takes it.
    fn terms(&self, batch: &Batch, mode: Mode, random: &mut Random) -> Result<(Tensor, Tensor)> {
        let x = &batch.inputs;
        let deviation = match mode {
            Mode::Train => self.config.input_noise,
            Mode::Evaluate => 0.0,
        };
        let encoded = self.encode(&add_noise(x, deviation, random)?, mode)?;
        let z = self.draw(&encoded.posterior, random)?;
        let error = (self.decode(&z)? - x)?.sqr()?.mean_all()?;
        let divergence = encoded.posterior.divergence(&encoded.prior)?;
        Ok((error, divergence.mean_all()?))
    }
}

impl Network for Autoencoder {
    fn state(&self) -> &State {
        &self.state
    }

    fn loss(&self, batch: &Batch, mode: Mode, random: &mut Random) -> Result<Tensor> {
        let (error, divergence) = self.terms(batch, mode, random)?;
        error + (divergence * self.config.beta)?
    }

    fn predict(&self, batch: &Batch) -> Result<Tensor> {
        let Encoded { posterior, .. } = self.encode(&batch.inputs, Mode::Evaluate)?;
        self.decode(&self.judged(&posterior)?)
    }

    fn trace(&self, batch: &Batch, mode: Mode) -> Result<Vec<(String, Tensor)>> {
        let encoded = self.encode(&batch.inputs, mode)?;
        let z = self.judged(&encoded.posterior)?;
        let recon = self.decode(&z)?;
        let squares = (&recon - &batch.inputs)?.sqr()?;
        let score = squares.narrow(1, self.shape.length - 1, 1)?.mean((1, 2))?;
        let divergence = encoded.posterior.divergence(&encoded.prior)?;
        Ok(named([
            ("encoder", encoded.states),
            ("posterior_mean", encoded.posterior.mean),
            ("posterior_logvar", encoded.posterior.log_variance),
            ("prior_mean", encoded.prior.mean),
            ("prior_logvar", encoded.prior.log_variance),
            ("z", z),
            ("recon", recon),
            ("score", score),
            ("kl_per_window", divergence),
        ]))
    }
}

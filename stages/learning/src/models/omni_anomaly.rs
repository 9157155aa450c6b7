//! OmniAnomaly (Su et al., "Robust Anomaly Detection for Multivariate Time Series through Stochastic Recurrent Neural
//! Network", KDD 2019): recurrent networks around a latent vector per row, which depends on the one before it. The same file
//! holds what the authors' program computes, which is not quite the paper.

pub(crate) mod connected;
pub(crate) mod flow;
mod prior;
mod recurrent;

use std::f64::consts::TAU;

use candle_core::{Device, Tensor};

use self::connected::Drawn;
use self::flow::PlanarFlow;
use self::prior::RandomWalk;
use self::recurrent::{Dense, Readout, Recurrent};
use super::draws::{self, Draws};
use super::{Architecture, Batch, Built, DataShape, Form, Network, Result, Task, named};
use contract::{Named, Random};
use numerics::{Mode, State, StateBuilder};

contract::parameters! {
    /// OmniAnomaly.
    pub struct OmniAnomaly {
        /// `paper`: the evidence lower bound as published, all networks learn, draws are independent. `reference`: the
        /// authors' program, in which the inference network keeps its random weights, the prior does not enter the loss,
        /// the posterior's density is taken at another place than its draws, and a batch shares its draws.
        pub form: Form = Form::Paper,
        /// Size of a latent vector.
        #[schemars(range(min = 1, max = 256))]
        pub latent: usize = 3,
        /// Units of each recurrent layer.
        #[schemars(range(min = 1, max = 8192))]
        pub state: usize = 500,
        /// Units of the linear layers after it.
        #[schemars(range(min = 1, max = 8192))]
        pub dense: usize = 500,
        /// Planar layers of the posterior's flow; 0 for a normal posterior.
        #[schemars(range(min = 0, max = 1024))]
        pub flows: usize = 20,
        /// What is added to every standard deviation.
        #[schemars(range(min = 0.0))]
        pub least_deviation: f64 = 1e-4,
        /// Draws of the latent vectors by which a window is scored. The score is the mean over draws of the negative
        /// logarithm of the probability; in form `reference` the latent vectors are averaged instead.
        #[schemars(range(min = 1, max = 4096))]
        pub samples: usize = 1,
    }
}

impl OmniAnomaly {
    /// A network whose draws are given instead of drawn, `[samples, length, latent]`; one sample serves a whole batch.
    ///
    /// # Errors
    /// If a tensor operation fails.
    pub fn with_draws(
        &self,
        shape: DataShape,
        device: &Device,
        draws: Tensor,
    ) -> Result<Box<dyn Network>> {
        let mut random = Random::new(0, "init");
        let builder = &mut StateBuilder::new(device, &mut random);
        Ok(Box::new(self.network(
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
    ) -> Result<Stochastic> {
        let (channels, latent, dense) = (shape.channels, self.latent, self.dense);
        let (z_mean, z_std) = ("vae/variational/z_mean", "vae/variational/z_std");
        let units = (self.state, dense);
        let (inference, generation) = ("q_z_given_x/rnn_q_z", "p_x_given_z/hidden/rnn_p_x");
        Ok(Stochastic {
            shape,
            config: self.clone(),
            draws,
            inference: Recurrent::new(builder, inference, channels, units)?,
            z_mean: Dense::new(builder, z_mean, dense + latent, latent)?,
            z_deviation: Dense::new(builder, z_std, dense + latent, latent)?,
            flow: PlanarFlow::new(builder, "posterior_flow", self.flows, latent)?,
            generation: Recurrent::new(builder, generation, latent, units)?,
            x_mean: Dense::new(builder, "p_x_given_z/x_mean", dense, channels)?,
            x_deviation: Dense::new(builder, "p_x_given_z/x_std", dense, channels)?,
            prior: RandomWalk::new(shape.length, builder.device())?,
            state: builder.finish(),
        })
    }
}

impl Named for OmniAnomaly {
    const NAME: &'static str = "omni-anomaly";
    const DOC: &'static str = "OmniAnomaly: stochastic recurrent network; the negative log-probability of reconstruction is the anomaly score";
    const EXAMPLE: &'static str = r#"{"latent": 6, "state": 24, "dense": 16, "flows": 2}"#;
}

impl Architecture for OmniAnomaly {
    fn tasks(&self) -> &'static [Task] {
        &[Task::Detect]
    }

    fn citation(&self) -> &'static str {
        "Su, Zhao, Niu, Liu, Sun, Pei: Robust Anomaly Detection for Multivariate Time Series through Stochastic Recurrent Neural Network. KDD 2019. doi:10.1145/3292500.3330672"
    }

    fn build(&self, shape: DataShape, builder: &mut StateBuilder<'_>) -> Built {
        Ok(Box::new(self.network(shape, builder, Draws::Fresh)?))
    }
}

/// `ln(1 + e^x)` without overflow.
fn softplus(x: &Tensor) -> Result<Tensor> {
    // max(x, 0) + ln(1 + e^-|x|): no exponent is positive.
    let size = x.abs()?;
    ((x + &size)? * 0.5)? + (size.neg()?.exp()? + 1.0)?.log()?
}

/// Independent normal distributions.
struct Normal {
    mean: Tensor,
    deviation: Tensor,
}

impl Normal {
    /// The logarithm of the density, component by component.
    fn log_density(&self, x: &Tensor) -> Result<Tensor> {
        let apart = ((x - &self.mean)? / &self.deviation)?.sqr()?;
        ((apart * -0.5)? - self.deviation.log()?)? - 0.5 * TAU.ln()
    }

    /// The first and the second half of the columns; the second after a softplus.
    fn halves(parameters: &Tensor, least: f64) -> Result<Self> {
        let (_, _, width) = parameters.dims3()?;
        let half = width / 2;
        let deviation = (softplus(&parameters.narrow(2, half, half)?.contiguous()?)? + least)?;
        Ok(Self {
            mean: parameters.narrow(2, 0, half)?.contiguous()?,
            deviation,
        })
    }
}

/// The network. Windows are `[batch, length, channels]`.
struct Stochastic {
    state: State,
    shape: DataShape,
    config: OmniAnomaly,
    draws: Draws,
    inference: Recurrent,
    z_mean: Dense,
    z_deviation: Dense,
    flow: PlanarFlow,
    generation: Recurrent,
    x_mean: Dense,
    x_deviation: Dense,
    prior: RandomWalk,
}

/// The latent vectors of a batch, `[batch, length, latent]`, and the logarithm of their density, `[batch, length]`.
struct Posterior {
    z: Tensor,
    log_density: Tensor,
}

/// The parts of the evidence lower bound, `[batch, length]` each, and what they come from.
struct Bound {
    z: Tensor,
    x: Normal,
    log_q: Tensor,
    log_px: Tensor,
    log_pz: Tensor,
}

impl Stochastic {
    fn is_reference(&self) -> bool {
        self.config.form == Form::Reference
    }

    /// The states of the inference network. The program disables their gradients, so none are prepared for there.
    fn inferred(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        self.shape.check_windows(x)?;
        if self.is_reference() {
            return Ok(self.inference.states(x, Mode::Evaluate)?.detach());
        }
        self.inference.states(x, mode)
    }

    /// Draws latent vectors and sends them through the flow; `draws` is `[batch, length, latent]`.
    fn posterior(&self, states: &Tensor, draws: &Tensor) -> Result<Posterior> {
        let (latent, dense) = (self.config.latent, self.config.dense);
        let both = Readout::beside(&[&self.z_mean, &self.z_deviation])?;
        let (drawn, log_density) = if self.is_reference() {
            let both = both.detach();
            let projected = self
                .inference
                .read_detached(states, &both.rows(0, dense)?)?;
            let drawn = self.draw(&projected, &both.kernel.narrow(0, dense, latent)?, draws)?;
            let density = self.misplaced_density(states, &both, &drawn.z)?;
            (drawn, density)
        } else {
            let projected = self.inference.read(states, &both.rows(0, dense)?)?;
            let drawn = self.draw(&projected, &both.kernel.narrow(0, dense, latent)?, draws)?;
            // Where z was drawn, (z - mean) / deviation is the draw.
            let constant = (((draws.sqr()? + TAU.ln())?).sum(2)? * -0.5)?;
            let density = (constant - drawn.deviation.log()?.sum(2)?)?;
            (drawn, density)
        };
        let (z, volume) = self.flow.forward(&drawn.z)?;
        Ok(Posterior {
            z,
            log_density: (log_density - volume)?,
        })
    }

    fn draw(&self, projected: &Tensor, kernel: &Tensor, draws: &Tensor) -> Result<Drawn> {
        connected::draw(projected, kernel, draws, self.config.least_deviation)
    }

    /// The density as the program takes it: of each vector under the distribution that the vector itself leads to, and
    /// with the rows of the kernels in the other order.
    fn misplaced_density(&self, states: &Tensor, both: &Readout, z: &Tensor) -> Result<Tensor> {
        let (latent, dense) = (self.config.latent, self.config.dense);
        let projected = self
            .inference
            .read_detached(states, &both.rows(latent, dense)?)?;
        let (batch, length, _) = z.dims3()?;
        let flat = z.contiguous()?.reshape((batch * length, latent))?;
        let from_z = flat.matmul(&both.kernel.narrow(0, 0, latent)?)?;
        let parameters = (projected + from_z.reshape((batch, length, 2 * latent))?)?;
        let normal = Normal::halves(&parameters, self.config.least_deviation)?;
        normal.log_density(z)?.sum(2)
    }

    /// `p(x | z)`.
    fn generated(&self, z: &Tensor, mode: Mode) -> Result<Normal> {
        let states = self.generation.states(z, mode)?;
        let readout = Readout::beside(&[&self.x_mean, &self.x_deviation])?;
        let parameters = self.generation.read(&states, &readout)?;
        Normal::halves(&parameters, self.config.least_deviation)
    }

    /// Draws for latent vectors, `[samples, length, latent]`, from the distribution that the form draws from.
    fn drawn(&self, samples: usize, random: &mut Random, device: &Device) -> Result<Tensor> {
        let shape = [samples, self.shape.length, self.config.latent];
        match self.config.form {
            Form::Reference => self.draws.truncated_normal(&shape, random, device),
            Form::Paper => self.draws.normal(&shape, random, device),
        }
    }

    fn bound(&self, x: &Tensor, mode: Mode, random: &mut Random) -> Result<Bound> {
        let states = self.inferred(x, mode)?;
        let batch = x.dim(0)?;
        // The program's batches share their draws.
        let samples = if self.is_reference() { 1 } else { batch };
        let draws = self.drawn(samples, random, x.device())?;
        let Posterior { z, log_density } = self.posterior(&states, &shared(&draws, batch)?)?;
        let normal = self.generated(&z, mode)?;
        Ok(Bound {
            log_q: log_density,
            log_px: normal.log_density(x)?.sum(2)?,
            log_pz: self.prior.log_likelihood(&z)?,
            z,
            x: normal,
        })
    }

    /// The latent vectors by which windows are scored, one tensor per sample.
    fn scoring_latents(&self, x: &Tensor) -> Result<Vec<Tensor>> {
        let states = self.inferred(x, Mode::Evaluate)?;
        let samples = self.config.samples;
        let draws = self.drawn(samples, &mut draws::scoring(), x.device())?;
        let mut latents = Vec::with_capacity(samples);
        for sample in 0..samples {
            let own = shared(&draws.narrow(0, sample, 1)?, x.dim(0)?)?;
            latents.push(self.posterior(&states, &own)?.z);
        }
        Ok(latents)
    }

    /// `p(x | z)` for every sample, or for their mean where the program takes it.
    fn scoring(&self, x: &Tensor) -> Result<Vec<Normal>> {
        let latents = self.scoring_latents(x)?;
        if self.is_reference() {
            return Ok(vec![self.generated(&mean(&latents)?, Mode::Evaluate)?]);
        }
        latents
            .iter()
            .map(|z| self.generated(z, Mode::Evaluate))
            .collect()
    }
}

/// Draws for a batch, of which each window has its own or all have the same.
fn shared(draws: &Tensor, batch: usize) -> Result<Tensor> {
    let (_, length, latent) = draws.dims3()?;
    draws.broadcast_as((batch, length, latent))?.contiguous()
}

/// The mean of tensors of one shape.
fn mean(tensors: &[Tensor]) -> Result<Tensor> {
    Tensor::stack(tensors, 0)?.mean(0)
}

/// Mean and deviation (unbiased; zeros for one sample) over samples, side by side.
fn mean_and_deviation(samples: &[Tensor]) -> Result<Tensor> {
    let stacked = Tensor::stack(samples, 0)?;
    let mean = stacked.mean(0)?;
    let squares = stacked.broadcast_sub(&mean)?.sqr()?.sum(0)?;
    let deviation = (squares / (samples.len() - 1).max(1) as f64)?.sqrt()?;
    Tensor::cat(&[mean, deviation], 2)
}

impl Network for Stochastic {
    fn state(&self) -> &State {
        &self.state
    }

    fn loss(&self, batch: &Batch, mode: Mode, random: &mut Random) -> Result<Tensor> {
        let parts = self.bound(&batch.inputs, mode, random)?;
        let mut bound = (parts.log_px - parts.log_q)?;
        if !self.is_reference() {
            bound = (bound + parts.log_pz)?;
        }
        bound.mean_all()?.neg()
    }

    fn predict(&self, batch: &Batch) -> Result<Tensor> {
        let normals = self.scoring(&batch.inputs)?;
        let means: Vec<Tensor> = normals.into_iter().map(|normal| normal.mean).collect();
        mean(&means)
    }

    fn errors(&self, batch: &Batch) -> Result<Tensor> {
        let x = &batch.inputs;
        let mut densities = Vec::with_capacity(self.config.samples);
        for normal in self.scoring(x)? {
            densities.push(normal.log_density(x)?);
        }
        mean(&densities)?.neg()
    }

    fn trace(&self, batch: &Batch, mode: Mode) -> Result<Vec<(String, Tensor)>> {
        let x = &batch.inputs;
        let mut traced = named([
            ("score", self.errors(batch)?.sum(2)?.neg()?),
            ("z_mean_std", mean_and_deviation(&self.scoring_latents(x)?)?),
        ]);
        // The parts of the bound take one sample per window.
        if self.config.samples == 1 {
            let bound = self.bound(x, mode, &mut draws::scoring())?;
            traced.extend(named([
                ("z", bound.z),
                ("log_q", bound.log_q),
                ("log_px", bound.log_px),
                ("log_pz", bound.log_pz),
                ("mean", bound.x.mean),
                ("std", bound.x.deviation),
                ("loss", self.loss(batch, mode, &mut draws::scoring())?),
            ]));
        }
        Ok(traced)
    }
}

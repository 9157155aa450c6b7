//! Anomaly Transformer (Xu, Wu, Wang and Long, "Anomaly Transformer: Time Series Anomaly Detection with Association
//! Discrepancy", ICLR 2022): what a row attends to is held against a prior that knows only how far away rows are.
//!
//! Training plays the two against each other (section 3.3): one phase moves the attention away from the prior, the other
//! the prior towards the attention. As in the authors' program, both are one step: the gradients of both losses add up.

pub(crate) mod association;

use candle_core::{D, Tensor};

use super::{Architecture, Batch, Built, DataShape, Form, Network, Result, Task};
use super::{checks, named, sum};
use association::{Association, Pull};
use contract::{Fault, Named, Random};
use numerics::attention::MultiHeadAttention;
use numerics::dropout::Dropout;
use numerics::encoder::{Embedding, EncoderBlock};
use numerics::layer_norm::LayerNorm;
use numerics::linear::Linear;
use numerics::loss::{mean, mean_squared_error};
use numerics::{Mode, State, StateBuilder};

contract::parameters! {
    /// The Anomaly Transformer.
    pub struct AnomalyTransformer {
        /// `paper` weighs errors by the mean discrepancy over layers (equation 3). `reference` takes their sum there, as the
        /// authors' program does, computes 3^s - 1 with the rounding it has, and carries its unused parameters.
        pub form: Form = Form::Paper,
        /// Values of a row inside.
        #[schemars(range(min = 1, max = 4096))]
        pub d_model: usize = 512,
        /// Heads of each attention; they share `d_model` evenly.
        #[schemars(range(min = 1, max = 256))]
        pub heads: usize = 8,
        /// Hidden values of the feed-forward layers.
        #[schemars(range(min = 1, max = 16384))]
        pub d_ff: usize = 512,
        /// Encoder layers, one after another.
        #[schemars(range(min = 1, max = 64))]
        pub layers: usize = 3,
        /// The rate at which values are dropped in training. The form `reference` knows 0 only.
        #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
        pub dropout: f64 = 0.0,
        /// Weight of the association discrepancy in the losses, λ in the paper.
        #[schemars(range(min = 0.0))]
        pub k: f64 = 3.0,
        /// Multiplies the discrepancy in the score: 1 in the paper's equation 6, 50 in the authors' program.
        #[schemars(range(min = 0.0))]
        pub temperature: f64 = 50.0,
    }
}

impl Named for AnomalyTransformer {
    const NAME: &'static str = "anomaly-transformer";
    const DOC: &'static str = "Anomaly Transformer; the error, weighted by how near attention is to a prior by distance, is the anomaly score";
    // Without the association the losses' sum is one function, whose slope can be compared with the gradient.
    const EXAMPLE: &'static str =
        r#"{"d_model": 32, "heads": 2, "d_ff": 32, "layers": 2, "k": 0.0}"#;
}

impl Architecture for AnomalyTransformer {
    fn tasks(&self) -> &'static [Task] {
        &[Task::Detect]
    }

    fn check(&self) -> Result<(), Fault> {
        checks::heads(self.heads, self.d_model)?;
        if self.form == Form::Reference && self.dropout != 0.0 {
            let reason = format!(
                "must be 0 in the form `reference`, as in the authors' program, not {}",
                self.dropout
            );
            return Err(Fault::new("dropout", reason));
        }
        Ok(())
    }

    fn citation(&self) -> &'static str {
        "Xu, Wu, Wang, Long: Anomaly Transformer: Time Series Anomaly Detection with Association Discrepancy. ICLR 2022. arXiv:2110.02642"
    }

    fn build(&self, shape: DataShape, builder: &mut StateBuilder<'_>) -> Built {
        Ok(Box::new(self.network(shape, builder)?))
    }
}

impl AnomalyTransformer {
    fn network(&self, shape: DataShape, builder: &mut StateBuilder<'_>) -> Result<Detector> {
        let (width, heads) = (self.d_model, self.heads);
        let embedding = Embedding::new(builder, "embedding", shape.length, shape.channels, width)?;
        let mut layers = Vec::with_capacity(self.layers);
        for index in 0..self.layers {
            let name = format!("encoder.attn_layers.{index}");
            if self.form == Form::Reference {
                // Declared by the reference and used by nothing.
                LayerNorm::new(builder, &format!("{name}.attention.norm"), width)?;
            }
            let attention = format!("{name}.attention");
            let sigma = format!("{name}.attention.sigma_projection");
            layers.push(Layer {
                attention: MultiHeadAttention::new(builder, &attention, width, heads)?,
                sigma: Linear::new(builder, &sigma, width, heads)?,
                block: EncoderBlock::new(builder, &name, width, self.d_ff)?,
            });
        }
        Ok(Detector {
            config: self.clone(),
            shape,
            embedding,
            layers,
            norm: LayerNorm::new(builder, "encoder.norm", width)?,
            projection: Linear::new(builder, "projection", width, shape.channels)?,
            state: builder.finish(),
        })
    }
}

/// An encoder layer.
#[derive(Clone, Debug)]
struct Layer {
    attention: MultiHeadAttention,
    /// The prior's width per head, before it is made positive.
    sigma: Linear,
    block: EncoderBlock,
}

/// The network. Windows are `[batch, length, channels]`; inside, `[batch, length, d_model]`.
struct Detector {
    config: AnomalyTransformer,
    shape: DataShape,
    state: State,
    embedding: Embedding,
    layers: Vec<Layer>,
    norm: LayerNorm,
    projection: Linear,
}

/// What a forward pass computes on its way.
struct Forward {
    reconstruction: Tensor,
    /// Of every layer: `[batch, length]`, the mean over heads of both divergences.
    discrepancies: Vec<Tensor>,
    /// Of every layer: its input projected, `[batch, length, 3 * d_model]`, and σ, `[batch, length, heads]`.
    associations: Vec<(Tensor, Tensor)>,
}

impl Detector {
    /// `pull` says which of the two sides of the association the gradient of a discrepancy reaches, and how.
    fn forward(
        &self,
        inputs: &Tensor,
        pull: Pull,
        mode: Mode,
        random: &mut Random,
    ) -> Result<Forward> {
        self.shape.check_windows(inputs)?;
        let mut draw = || Dropout::draw(self.config.dropout, mode, random);
        let mut x = draw().forward(&self.embedding.forward(inputs)?)?;
        let (mut discrepancies, mut associations) = (Vec::new(), Vec::new());
        for Layer {
            attention,
            sigma,
            block,
        } in &self.layers
        {
            // What both associations come from is kept, not they: those are length times length values per head.
            let projected = attention.project(&x)?;
            let sigma = positive(&sigma.forward(&x)?, self.config.form)?;
            let association = Association {
                heads: self.config.heads,
                dropout: draw(),
                pull,
            };
            let (found, discrepancy) = association.forward(&projected, &sigma)?;
            x = block.forward(&x, &attention.output.forward(&found)?, &mut draw)?;
            discrepancies.push(discrepancy);
            associations.push((projected, sigma));
        }
        let reconstruction = self.projection.forward(&self.norm.forward(&x)?)?;
        Ok(Forward {
            reconstruction,
            discrepancies,
            associations,
        })
    }

    fn evaluate(&self, batch: &Batch) -> Result<Forward> {
        // Nothing is drawn in evaluation.
        let mut unused = Random::new(0, "evaluation");
        self.forward(&batch.inputs, Pull::NONE, Mode::Evaluate, &mut unused)
    }

    /// `errors * softmax(-temperature * discrepancy)`, the softmax over the rows of a window (equation 6).
    fn score(&self, forward: &Forward, inputs: &Tensor) -> Result<Tensor> {
        let layers = match self.config.form {
            Form::Paper => self.config.layers as f64,
            Form::Reference => 1.0,
        };
        let sum = sum(&forward.discrepancies)?;
        let exponents = (sum * (-self.config.temperature / layers))?;
        let weights = candle_nn::ops::softmax(&exponents, D::Minus1)?.unsqueeze(2)?;
        let errors = (&forward.reconstruction - inputs)?.sqr()?;
        errors.broadcast_mul(&weights)
    }

    /// The loss of one phase: the reconstruction error, and `weight` times k times the mean discrepancy, through the sides
    /// that `pull` lets its gradient reach.
    fn objective(
        &self,
        batch: &Batch,
        weight: f64,
        pull: Pull,
        mode: Mode,
        random: &mut Random,
    ) -> Result<Tensor> {
        let forward = self.forward(&batch.inputs, pull, mode, random)?;
        let error = mean_squared_error(&forward.reconstruction, &batch.inputs)?;
        error + (self.discrepancy(&forward)? * (weight * self.config.k))?
    }

    /// The mean discrepancy over layers, windows and rows.
    fn discrepancy(&self, forward: &Forward) -> Result<Tensor> {
        mean(&sum(&forward.discrepancies)?)? / self.config.layers as f64
    }
}

/// `3^(sigmoid(5 s) + 1e-5) - 1`, from what the layer projects to σ.
fn positive(projected: &Tensor, form: Form) -> Result<Tensor> {
    let exponent = ((candle_nn::ops::sigmoid(&(projected * 5.0)?)? + 1e-5)? * 3.0_f64.ln())?;
    match form {
        // e^y - 1 = tanh(y / 2) (e^y + 1), which keeps all digits near 0.
        Form::Paper => (&exponent * 0.5)?.tanh()? * (exponent.exp()? + 1.0)?,
        Form::Reference => exponent.exp()? - 1.0,
    }
}

impl Network for Detector {
    fn state(&self) -> &State {
        &self.state
    }

    /// The sum of both phases' losses. In its value the associations cancel, in its gradient they do not: the first phase
    /// (weight -k) reaches the attention alone, the second (weight k) the prior alone.
    fn loss(&self, batch: &Batch, mode: Mode, random: &mut Random) -> Result<Tensor> {
        let both = Pull {
            series: -1.0,
            prior: 1.0,
        };
        let forward = self.forward(&batch.inputs, both, mode, random)?;
        let error = mean_squared_error(&forward.reconstruction, &batch.inputs)?;
        let discrepancy = (self.discrepancy(&forward)? * self.config.k)?;
        // The value is taken out again, the gradient stays.
        (error * 2.0)? + (&discrepancy - discrepancy.detach())?
    }

    fn predict(&self, batch: &Batch) -> Result<Tensor> {
        Ok(self.evaluate(batch)?.reconstruction)
    }

    fn errors(&self, batch: &Batch) -> Result<Tensor> {
        self.score(&self.evaluate(batch)?, &batch.inputs)
    }

    fn trace(&self, batch: &Batch, mode: Mode) -> Result<Vec<(String, Tensor)>> {
        let mut random = Random::new(0, "trace");
        let mut traced = named([
            (
                "loss",
                self.objective(batch, -1.0, Pull::SERIES, mode, &mut random)?,
            ),
            (
                "loss2",
                self.objective(batch, 1.0, Pull::PRIOR, mode, &mut random)?,
            ),
        ]);
        let forward = self.forward(&batch.inputs, Pull::NONE, mode, &mut random)?;
        for (index, (projected, sigma)) in forward.associations.iter().enumerate() {
            let series = numerics::attention::weights(projected, self.config.heads)?;
            traced.push((format!("series{index}"), series));
            traced.push((format!("prior{index}"), association::prior(sigma)?));
            // The reference has heads before rows.
            let sigma = sigma.transpose(1, 2)?.contiguous()?;
            traced.push((format!("sigma{index}"), sigma));
        }
        let energy = self.score(&forward, &batch.inputs)?.mean(D::Minus1)?;
        traced.extend(named([
            ("energy", energy),
            ("recon", forward.reconstruction),
        ]));
        Ok(traced)
    }
}

#[cfg(test)]
mod tests;

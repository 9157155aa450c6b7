//! Anomaly Transformer (Xu, Wu, Wang and Long, "Anomaly Transformer: Time Series Anomaly Detection with Association
//! Discrepancy", ICLR 2022): what a row attends to is held against a prior that knows only how far away rows are.
//!
//! Training plays the two against each other (section 3.3): one phase moves the attention away from the prior, the other
//! the prior towards the attention. As in the authors' program, both are one step: the gradients of both losses add up.

mod association;

use candle_core::{D, Device, Result, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Architecture, Batch, DataShape, Form, Network, Task};
use association::{Association, Pull};
use contract::{Fault, Named, Random, Trouble};
use numerics::attention::MultiHeadAttention;
use numerics::dropout::Dropout;
use numerics::encoder::{Embedding, EncoderBlock};
use numerics::layer_norm::LayerNorm;
use numerics::linear::Linear;
use numerics::loss::{mean, mean_squared_error};
use numerics::{Mode, State, StateBuilder};

/// The Anomaly Transformer.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AnomalyTransformer {
    /// `paper` weighs errors by the mean discrepancy over layers (equation 3). `reference` takes their sum there, as the
    /// authors' program does, computes 3^s - 1 with the rounding it has, and carries its unused parameters.
    pub form: Form,
    /// Values of a row inside.
    #[schemars(range(min = 1, max = 4096))]
    pub d_model: usize,
    /// Heads of each attention; they share `d_model` evenly.
    #[schemars(range(min = 1, max = 256))]
    pub heads: usize,
    /// Hidden values of the feed-forward layers.
    #[schemars(range(min = 1, max = 16384))]
    pub d_ff: usize,
    /// Encoder layers, one after another.
    #[schemars(range(min = 1, max = 64))]
    pub layers: usize,
    /// The rate at which values are dropped in training. The form `reference` knows 0 only.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
    pub dropout: f64,
    /// Weight of the association discrepancy in the losses, λ in the paper.
    #[schemars(range(min = 0.0))]
    pub k: f64,
    /// Multiplies the discrepancy in the score: 1 in the paper's equation 6, 50 in the authors' program.
    #[schemars(range(min = 0.0))]
    pub temperature: f64,
}

impl Default for AnomalyTransformer {
    fn default() -> Self {
        let (k, temperature) = (3.0, 50.0);
        Self {
            form: Form::Paper,
            d_model: 512,
            heads: 8,
            d_ff: 512,
            layers: 3,
            dropout: 0.0,
            k,
            temperature,
        }
    }
}

impl Named for AnomalyTransformer {
    const NAME: &'static str = "anomaly-transformer";
    const DOC: &'static str = "Anomaly Transformer; the error, weighted by how near attention is to a prior by distance, is the anomaly score";
    // Without the association the losses' sum is one function, whose slope can be compared with the gradient.
    const EXAMPLE: &'static str =
        r#"{"d_model": 32, "heads": 2, "d_ff": 32, "layers": 2, "k": 0.0}"#;
}

// Reference: Xu, Wu, Wang and Long, "Anomaly Transformer: Time Series Anomaly Detection with Association
// Discrepancy", ICLR 2022
impl Architecture for AnomalyTransformer {
    fn tasks(&self) -> &'static [Task] {
        &[Task::Detect]
    }

    fn check(&self) -> std::result::Result<(), Fault> {
        super::checks::heads(self.heads, self.d_model)?;
        if self.form == Form::Reference && self.dropout != 0.0 {
            let reason = format!(
                "must be 0 in the form `reference`, as in the authors' program, not {}",
                self.dropout
            );
            return Err(Fault::new("dropout", reason));
        }
        Ok(())
    }

    fn build(
        &self,
        shape: DataShape,
        device: &Device,
        random: &mut Random,
    ) -> std::result::Result<Box<dyn Network>, Trouble> {
        Ok(Box::new(Detector::new(self, shape, device, random)?))
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
    fn new(
        config: &AnomalyTransformer,
        shape: DataShape,
        device: &Device,
        random: &mut Random,
    ) -> Result<Self> {
        let AnomalyTransformer {
            d_model,
            d_ff,
            heads,
            ..
        } = *config;
        let mut builder = StateBuilder::new(device, random);
        let embedding = Embedding::new(
            &mut builder,
            "embedding",
            shape.length,
            shape.channels,
            d_model,
        )?;
        let mut layers = Vec::with_capacity(config.layers);
        for index in 0..config.layers {
            let name = format!("encoder.attn_layers.{index}");
            if config.form == Form::Reference {
                // Declared by the reference and used by nothing.
                LayerNorm::new(&mut builder, &format!("{name}.attention.norm"), d_model)?;
            }
            let attention = MultiHeadAttention::new(
                &mut builder,
                &format!("{name}.attention"),
                d_model,
                heads,
            )?;
            let sigma = Linear::new(
                &mut builder,
                &format!("{name}.attention.sigma_projection"),
                d_model,
                heads,
            )?;
            layers.push(Layer {
                attention,
                sigma,
                block: EncoderBlock::new(&mut builder, &name, d_model, d_ff)?,
            });
        }
        let norm = LayerNorm::new(&mut builder, "encoder.norm", d_model)?;
        let projection = Linear::new(&mut builder, "projection", d_model, shape.channels)?;
        Ok(Self {
            config: config.clone(),
            shape,
            state: builder.finish(),
            embedding,
            layers,
            norm,
            projection,
        })
    }

    /// `pull` says which of the two sides of the association the gradient of a discrepancy reaches, and how.
    fn forward(
        &self,
        inputs: &Tensor,
        pull: Pull,
        mode: Mode,
        random: &mut Random,
    ) -> Result<Forward> {
        super::checks::windows(self.shape, inputs)?;
        let mut draw = || Dropout::draw(self.config.dropout, mode, random);
        let mut x = draw().forward(&self.embedding.forward(inputs)?)?;
        let (mut discrepancies, mut associations) = (Vec::new(), Vec::new());
        for Layer {
            attention,
            sigma,
            block,
        } in &self.layers
        {
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
        self.forward(
            &batch.inputs,
            Pull::NONE,
            Mode::Evaluate,
            &mut Random::new(0, "evaluation"),
        )
    }

    /// `errors * softmax(-temperature * discrepancy)`, the softmax over the rows of a window (equation 6).
    fn score(&self, forward: &Forward, inputs: &Tensor) -> Result<Tensor> {
        let layers = match self.config.form {
            Form::Paper => self.config.layers as f64,
            Form::Reference => 1.0,
        };
        let sum = sum(&forward.discrepancies)?;
        let weights =
            candle_nn::ops::softmax(&(sum * (-self.config.temperature / layers))?, D::Minus1)?;
        (&forward.reconstruction - inputs)?
            .sqr()?
            .broadcast_mul(&weights.unsqueeze(2)?)
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

/// The sum of tensors, of which there is at least one.
fn sum(tensors: &[Tensor]) -> Result<Tensor> {
    let (first, rest) = tensors
        .split_first()
        .ok_or_else(|| candle_core::Error::Msg("no layers".to_owned()))?;
    rest.iter()
        .try_fold(first.clone(), |sum, tensor| sum + tensor)
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
        let mut named = Vec::new();
        for (name, weight, pull) in [("loss", -1.0, Pull::SERIES), ("loss2", 1.0, Pull::PRIOR)] {
            named.push((
                name.to_owned(),
                self.objective(batch, weight, pull, mode, &mut random)?,
            ));
        }
        let forward = self.forward(&batch.inputs, Pull::NONE, mode, &mut random)?;
        for (index, (projected, sigma)) in forward.associations.iter().enumerate() {
            named.push((
                format!("series{index}"),
                numerics::attention::weights(projected, self.config.heads)?,
            ));
            named.push((format!("prior{index}"), association::prior(sigma)?));
            named.push((
                format!("sigma{index}"),
                sigma.transpose(1, 2)?.contiguous()?,
            ));
        }
        let energy = self.score(&forward, &batch.inputs)?.mean(D::Minus1)?;
        named.extend([
            ("energy".to_owned(), energy),
            ("recon".to_owned(), forward.reconstruction),
        ]);
        Ok(named)
    }
}

#[cfg(test)]
mod tests;

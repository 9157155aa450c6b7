//! The Transformer reconstructor of UykiZhao/Graduate (`models/transformer.py`): an encoder whose output is turned back
//! into the window it has seen. Its protocol (thresholds, labels, splits) is not part of the model.

use candle_core::{D, Device, Result, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Architecture, Batch, DataShape, Form, Network, Task};
use contract::{Fault, Named, Random, Trouble};
use numerics::attention::MultiHeadAttention;
use numerics::dropout::Dropout;
use numerics::encoder::{Embedding, EncoderBlock};
use numerics::feed_forward::FeedForward;
use numerics::layer_norm::LayerNorm;
use numerics::linear::Linear;
use numerics::loss::{mean_squared_step, smooth_l1};
use numerics::noise::add_noise;
use numerics::{Mode, State, StateBuilder};

/// The share of the reconstruction error in the reference's score; the rest is the encoding's mean square.
const ERROR_SHARE: f64 = 0.7;

/// A Transformer encoder that reconstructs its window.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TransformerRecon {
    /// `paper` scores by the squared error. `reference` adds the mean square of the encoding, which a layer
    /// normalisation keeps almost constant: 0.7 of the one and 0.3 of the other.
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
    /// The rate at which values are dropped in training.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
    pub dropout: f64,
    /// Deviation of the noise that is added to windows in training.
    #[schemars(range(min = 0.0))]
    pub noise: f64,
    /// Weight of the mean squared step between encodings of neighbouring rows in the loss.
    #[schemars(range(min = 0.0))]
    pub smoothness: f64,
}

impl Default for TransformerRecon {
    fn default() -> Self {
        Self {
            form: Form::Paper,
            d_model: 128,
            heads: 4,
            d_ff: 256,
            layers: 2,
            dropout: 0.1,
            noise: 0.05,
            smoothness: 0.01,
        }
    }
}

impl Named for TransformerRecon {
    const NAME: &'static str = "transformer-recon";
    const DOC: &'static str = "A Transformer encoder that reconstructs its window; the squared error is the anomaly score";
    const EXAMPLE: &'static str =
        r#"{"d_model": 32, "heads": 2, "d_ff": 48, "dropout": 0.0, "noise": 0.0}"#;
}

// Reference: UykiZhao/Graduate, a program without a paper, after Vaswani et al., "Attention Is All You Need",
// NeurIPS 2017
impl Architecture for TransformerRecon {
    fn tasks(&self) -> &'static [Task] {
        &[Task::Detect]
    }

    fn check(&self) -> std::result::Result<(), Fault> {
        super::checks::heads(self.heads, self.d_model)
    }

    fn build(
        &self,
        shape: DataShape,
        device: &Device,
        random: &mut Random,
    ) -> std::result::Result<Box<dyn Network>, Trouble> {
        Ok(Box::new(Reconstructor::new(self, shape, device, random)?))
    }
}

/// An encoder layer.
#[derive(Clone, Debug)]
struct Layer {
    attention: MultiHeadAttention,
    block: EncoderBlock,
}

/// The network. Windows are `[batch, length, channels]`; inside, `[batch, length, d_model]`.
struct Reconstructor {
    config: TransformerRecon,
    shape: DataShape,
    state: State,
    embedding: Embedding,
    norm_embedding: LayerNorm,
    layers: Vec<Layer>,
    norm_encoding: LayerNorm,
    norm_head: LayerNorm,
    head: FeedForward,
}

/// What a forward pass computes on its way.
struct Forward {
    embedding: Tensor,
    encoded: Tensor,
    reconstruction: Tensor,
}

impl Reconstructor {
    fn new(
        config: &TransformerRecon,
        shape: DataShape,
        device: &Device,
        random: &mut Random,
    ) -> Result<Self> {
        let TransformerRecon {
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
        let norm_embedding = LayerNorm::new(&mut builder, "pre_norm", d_model)?;
        let mut layers = Vec::with_capacity(config.layers);
        for index in 0..config.layers {
            let name = format!("encoder.attn_layers.{index}");
            let attention = MultiHeadAttention::new(
                &mut builder,
                &format!("{name}.attention"),
                d_model,
                heads,
            )?;
            layers.push(Layer {
                attention,
                block: EncoderBlock::new(&mut builder, &name, d_model, d_ff)?,
            });
        }
        let norm_encoding = LayerNorm::new(&mut builder, "encoder.norm", d_model)?;
        let norm_head = LayerNorm::new(&mut builder, "reconstructor.0", d_model)?;
        let hidden = Linear::new(&mut builder, "reconstructor.1", d_model, d_ff)?;
        let head = FeedForward::new(
            hidden,
            Linear::new(&mut builder, "reconstructor.4", d_ff, shape.channels)?,
        )?;
        let state = builder.finish();
        let config = config.clone();
        Ok(Self {
            config,
            shape,
            state,
            embedding,
            norm_embedding,
            layers,
            norm_encoding,
            norm_head,
            head,
        })
    }

    fn forward(&self, inputs: &Tensor, mode: Mode, random: &mut Random) -> Result<Forward> {
        super::checks::windows(self.shape, inputs)?;
        let noisy = match mode {
            Mode::Train => add_noise(inputs, self.config.noise, random)?,
            Mode::Evaluate => inputs.clone(),
        };
        let mut draw = || Dropout::draw(self.config.dropout, mode, random);
        let embedding = self.embedding.forward(&noisy)?;
        let mut x = self.norm_embedding.forward(&draw().forward(&embedding)?)?;
        for Layer { attention, block } in &self.layers {
            let attended = attention.forward(&x, draw())?;
            x = block.forward(&x, &attended, &mut draw)?;
        }
        let encoded = self.norm_encoding.forward(&x)?;
        let reconstruction = self
            .head
            .forward(&self.norm_head.forward(&encoded)?, draw())?;
        Ok(Forward {
            embedding,
            encoded,
            reconstruction,
        })
    }

    fn evaluate(&self, batch: &Batch) -> Result<Forward> {
        // Nothing is drawn in evaluation.
        self.forward(
            &batch.inputs,
            Mode::Evaluate,
            &mut Random::new(0, "evaluation"),
        )
    }

    /// What every point adds to its score.
    fn score(&self, forward: &Forward, inputs: &Tensor) -> Result<Tensor> {
        let errors = (&forward.reconstruction - inputs)?.sqr()?;
        match self.config.form {
            Form::Paper => Ok(errors),
            Form::Reference => {
                let size = (forward.encoded.sqr()?.mean_keepdim(D::Minus1)? * (1.0 - ERROR_SHARE))?;
                (errors * ERROR_SHARE)?.broadcast_add(&size)
            }
        }
    }
}

/// Reconstruction and smoothness, not yet weighted.
fn losses(forward: &Forward, inputs: &Tensor) -> Result<[Tensor; 2]> {
    Ok([
        smooth_l1(&forward.reconstruction, inputs)?,
        mean_squared_step(&forward.encoded)?,
    ])
}

impl Network for Reconstructor {
    fn state(&self) -> &State {
        &self.state
    }

    fn loss(&self, batch: &Batch, mode: Mode, random: &mut Random) -> Result<Tensor> {
        let [reconstruction, steps] =
            losses(&self.forward(&batch.inputs, mode, random)?, &batch.inputs)?;
        reconstruction + (steps * self.config.smoothness)?
    }

    fn predict(&self, batch: &Batch) -> Result<Tensor> {
        Ok(self.evaluate(batch)?.reconstruction)
    }

    fn errors(&self, batch: &Batch) -> Result<Tensor> {
        self.score(&self.evaluate(batch)?, &batch.inputs)
    }

    fn trace(&self, batch: &Batch, mode: Mode) -> Result<Vec<(String, Tensor)>> {
        let forward = self.forward(&batch.inputs, mode, &mut Random::new(0, "trace"))?;
        let [reconstruction, steps] = losses(&forward, &batch.inputs)?;
        let scores = self
            .score(&forward, &batch.inputs)?
            .narrow(1, self.shape.length - 1, 1)?;
        let named = [
            ("recon", forward.reconstruction),
            ("encoded", forward.encoded),
            ("embedding", forward.embedding),
            ("score", scores.mean(D::Minus1)?.squeeze(1)?),
            ("loss_recon", reconstruction),
            ("loss_smooth", steps),
        ];
        Ok(named
            .into_iter()
            .map(|(name, tensor)| (name.to_owned(), tensor))
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::fault_of;

    fn network(config: &TransformerRecon) -> Reconstructor {
        Reconstructor::new(
            config,
            DataShape::detect(12, 3),
            &Device::Cpu,
            &mut Random::new(1, "init"),
        )
        .unwrap()
    }

    fn batch() -> Batch {
        let mut random = Random::new(2, "data");
        let values: Vec<f32> = (0..4 * 12 * 3).map(|_| random.normal() as f32).collect();
        Batch::of(Tensor::from_vec(values, (4, 12, 3), &Device::Cpu).unwrap())
    }

    fn small() -> TransformerRecon {
        TransformerRecon {
            d_model: 8,
            heads: 2,
            d_ff: 12,
            ..TransformerRecon::default()
        }
    }

    #[test]
    fn forms_differ_in_their_scores_alone() {
        let reference = network(&TransformerRecon {
            form: Form::Reference,
            ..small()
        });
        let paper = network(&small());
        let batch = batch();
        let flat = |tensor: Result<Tensor>| {
            tensor
                .unwrap()
                .flatten_all()
                .unwrap()
                .to_vec1::<f32>()
                .unwrap()
        };
        assert_eq!(flat(paper.predict(&batch)), flat(reference.predict(&batch)));
        let losses = [&paper, &reference].map(|network| {
            network
                .gradients(0, &batch, &mut Random::new(3, "n"))
                .unwrap()
                .0
        });
        assert_eq!(losses[0], losses[1]);
        let size = reference
            .evaluate(&batch)
            .unwrap()
            .encoded
            .sqr()
            .unwrap()
            .mean(D::Minus1)
            .unwrap();
        let sizes = flat(Ok(size));
        let scores = flat(paper.errors(&batch))
            .into_iter()
            .zip(flat(reference.errors(&batch)));
        for (index, (paper, reference)) in scores.enumerate() {
            assert!((0.7 * paper + 0.3 * sizes[index / 3] - reference).abs() < 1e-5);
        }
    }

    #[test]
    fn noise_and_dropout_are_for_training_only() {
        let (network, batch) = (network(&small()), batch());
        let loss = |mode, seed| {
            network
                .loss(&batch, mode, &mut Random::new(seed, "noise"))
                .unwrap()
                .to_scalar::<f32>()
                .unwrap()
        };
        assert_eq!(loss(Mode::Evaluate, 1), loss(Mode::Evaluate, 2));
        assert_eq!(loss(Mode::Train, 1), loss(Mode::Train, 1));
        assert_ne!(loss(Mode::Train, 1), loss(Mode::Train, 2));
    }

    #[test]
    fn impossible_sizes_are_named() {
        let fault = |config: TransformerRecon| fault_of(&config);
        let Fault { parameter, reason } = fault(TransformerRecon {
            heads: 3,
            ..small()
        });
        assert!(
            parameter == "heads" && reason.contains("d_model"),
            "{parameter} {reason}"
        );
        assert_eq!(
            fault(TransformerRecon {
                layers: 0,
                ..small()
            })
            .parameter,
            "layers"
        );
        assert_eq!(
            fault(TransformerRecon {
                dropout: 1.0,
                ..small()
            })
            .parameter,
            "dropout"
        );
        assert_eq!(
            fault(TransformerRecon {
                noise: -1.0,
                ..small()
            })
            .parameter,
            "noise"
        );
    }
}

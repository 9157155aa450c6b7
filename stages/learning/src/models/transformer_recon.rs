//! The Transformer reconstructor of UykiZhao/Graduate (`models/transformer.py`): an encoder whose output is turned back
//! into the window it has seen. Its protocol (thresholds, labels, splits) is not part of the model.

use candle_core::{D, Tensor};

use super::{Architecture, Batch, Built, DataShape, Form, Network, Result, Task, checks};
use contract::{Fault, Named, Random};
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

contract::parameters! {
    /// A Transformer encoder that reconstructs its window.
    pub struct TransformerRecon {
        /// `paper` scores by the squared error. `reference` adds the mean square of the encoding, which a layer
        /// normalisation keeps almost constant: 0.7 of the one and 0.3 of the other.
        pub form: Form = Form::Paper,
        /// Values of a row inside.
        #[schemars(range(min = 1, max = 4096))]
        pub d_model: usize = 128,
        /// Heads of each attention; they share `d_model` evenly.
        #[schemars(range(min = 1, max = 256))]
        pub heads: usize = 4,
        /// Hidden values of the feed-forward layers.
        #[schemars(range(min = 1, max = 16384))]
        pub d_ff: usize = 256,
        /// Encoder layers, one after another.
        #[schemars(range(min = 1, max = 64))]
        pub layers: usize = 2,
        /// The rate at which values are dropped in training.
        #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
        pub dropout: f64 = 0.1,
        /// Deviation of the noise that is added to windows in training.
        #[schemars(range(min = 0.0))]
        pub noise: f64 = 0.05,
        /// Weight of the mean squared step between encodings of neighbouring rows in the loss.
        #[schemars(range(min = 0.0))]
        pub smoothness: f64 = 0.01,
    }
}

impl Named for TransformerRecon {
    const NAME: &'static str = "transformer-recon";
    const DOC: &'static str = "A Transformer encoder that reconstructs its window; the squared error is the anomaly score";
    const EXAMPLE: &'static str =
        r#"{"d_model": 32, "heads": 2, "d_ff": 48, "dropout": 0.0, "noise": 0.0}"#;
}

impl Architecture for TransformerRecon {
    fn tasks(&self) -> &'static [Task] {
        &[Task::Detect]
    }

    fn check(&self) -> Result<(), Fault> {
        checks::heads(self.heads, self.d_model)
    }

    fn citation(&self) -> &'static str {
        "Vaswani, Shazeer, Parmar, Uszkoreit, Jones, Gomez, Kaiser, Polosukhin: Attention Is All You Need. NeurIPS 2017. arXiv:1706.03762"
    }

    fn build(&self, shape: DataShape, builder: &mut StateBuilder<'_>) -> Built {
        Ok(Box::new(self.network(shape, builder)?))
    }
}

impl TransformerRecon {
    fn network(&self, shape: DataShape, builder: &mut StateBuilder<'_>) -> Result<Reconstructor> {
        let width = self.d_model;
        let embedding = Embedding::new(builder, "embedding", shape.length, shape.channels, width)?;
        let norm_embedding = LayerNorm::new(builder, "pre_norm", width)?;
        let mut layers = Vec::with_capacity(self.layers);
        for index in 0..self.layers {
            let name = format!("encoder.attn_layers.{index}");
            let attention = format!("{name}.attention");
            layers.push(Layer {
                attention: MultiHeadAttention::new(builder, &attention, width, self.heads)?,
                block: EncoderBlock::new(builder, &name, width, self.d_ff)?,
            });
        }
        let norm_encoding = LayerNorm::new(builder, "encoder.norm", width)?;
        let norm_head = LayerNorm::new(builder, "reconstructor.0", width)?;
        let hidden = Linear::new(builder, "reconstructor.1", width, self.d_ff)?;
        let output = Linear::new(builder, "reconstructor.4", self.d_ff, shape.channels)?;
        Ok(Reconstructor {
            config: self.clone(),
            shape,
            state: builder.finish(),
            embedding,
            norm_embedding,
            layers,
            norm_encoding,
            norm_head,
            head: FeedForward::new(hidden, output)?,
        })
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
    fn forward(&self, inputs: &Tensor, mode: Mode, random: &mut Random) -> Result<Forward> {
        self.shape.check_windows(inputs)?;
        // The encoder sees noise; what it has to reconstruct is the window without it.
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
        let normalised = self.norm_head.forward(&encoded)?;
        let reconstruction = self.head.forward(&normalised, draw())?;
        Ok(Forward {
            embedding,
            encoded,
            reconstruction,
        })
    }

    fn evaluate(&self, batch: &Batch) -> Result<Forward> {
        // Nothing is drawn in evaluation.
        let mut unused = Random::new(0, "evaluation");
        self.forward(&batch.inputs, Mode::Evaluate, &mut unused)
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
        // The reference scores a window by its last row.
        let scores = self.score(&forward, &batch.inputs)?;
        let last = scores.narrow(1, self.shape.length - 1, 1)?;
        Ok(super::named([
            ("recon", forward.reconstruction),
            ("encoded", forward.encoded),
            ("embedding", forward.embedding),
            ("score", last.mean(D::Minus1)?.squeeze(1)?),
            ("loss_recon", reconstruction),
            ("loss_smooth", steps),
        ]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::{fault_of, on_cpu};
    use candle_core::Device;

    fn network(config: &TransformerRecon) -> Reconstructor {
        on_cpu(1, |builder| {
            config.network(DataShape::detect(12, 3), builder)
        })
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

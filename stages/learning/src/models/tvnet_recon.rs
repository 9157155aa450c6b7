//! The reconstructor of bishesh-droid/TVNet-Anomaly-Detection (`tasks/anomaly_detection.py`), after TVNet (Li, Li and
//! Yuan, "TVNet: A Novel Time Series Analysis Method Based on Dynamic Convolution and 3D-Variation", ICLR 2025).
//! Its protocol (thresholds, labels, splits) is not part of the model.

mod host;

use std::sync::{Mutex, TryLockError};

use candle_core::{D, Tensor};

use super::{Architecture, Batch, Built, DataShape, Network, Result, Task};
use super::{differentiate, exact_mean, named};
use contract::{Named, Random};
use host::HostEngine;
use numerics::batch_norm::BatchNorm;
use numerics::conv::Conv3x3;
use numerics::linear::Linear;
use numerics::{Gradients, Mode, State, StateBuilder};

contract::parameters! {
    /// TVNet that reconstructs its window.
    pub struct TvnetRecon {
        /// Rows of a patch; windows are padded with zeros at their end to a multiple of it.
        #[schemars(range(min = 1, max = 4096))]
        pub patch: usize = 8,
        /// Time-varying blocks, one after another.
        #[schemars(range(min = 1, max = 1024))]
        pub blocks: usize = 3,
        /// Inner channels; by default `min(max(2 * floor(log2(channels)), 32), 128)`.
        #[schemars(range(min = 1, max = 4096))]
        pub cm: Option<usize> = None,
    }
}

impl Named for TvnetRecon {
    const NAME: &'static str = "tvnet-recon";
    const DOC: &'static str =
        "TVNet that reconstructs its window; the squared error is the anomaly score";
}

impl Architecture for TvnetRecon {
    fn tasks(&self) -> &'static [Task] {
        &[Task::Detect]
    }

    fn citation(&self) -> &'static str {
        "Li, Li, Diao: TVNet: A Novel Time Series Analysis Method Based on Dynamic Convolution and 3D-Variation. ICLR 2025. arXiv:2503.07674"
    }

    fn build(&self, shape: DataShape, builder: &mut StateBuilder<'_>) -> Built {
        Ok(Box::new(self.network(shape, builder)?))
    }
}

impl TvnetRecon {
    fn network(&self, shape: DataShape, builder: &mut StateBuilder<'_>) -> Result<Reconstructor> {
        let outer = shape.channels;
        let inner = self.cm.unwrap_or(default_channels(outer));
        let embed = Linear::pointwise(builder, "embed.channel_embed", outer, inner)?;
        let mut blocks = Vec::with_capacity(self.blocks);
        for index in 0..self.blocks {
            blocks.push(Block::new(builder, &format!("blocks.{index}"), inner)?);
        }
        let reconstruct = Linear::pointwise(builder, "reconstruct_conv", inner, outer)?;
        let plane = (shape.length.div_ceil(self.patch), self.patch, inner);
        Ok(Reconstructor {
            state: builder.finish(),
            shape,
            plane,
            embed,
            host: Mutex::new(HostEngine::new(shape, plane, blocks.len())),
            blocks,
            reconstruct,
        })
    }
}

/// Inner channels by the reference's formula.
fn default_channels(channels: usize) -> usize {
    (2 * channels.max(1).ilog2() as usize).clamp(32, 128)
}

/// One block: a convolution over the plane of patches, its output weighted per channel and patch.
#[derive(Clone, Debug)]
struct Block {
    conv: Conv3x3,
    norm: BatchNorm,
    intra: Linear,
    intra_norm: BatchNorm,
    inter: Linear,
}

impl Block {
    fn new(builder: &mut StateBuilder<'_>, name: &str, channels: usize) -> Result<Self> {
        let [intra, intra_norm, inter] =
            ["fintra", "bn", "finter"].map(|part| format!("{name}.weight_gen.{part}"));
        Ok(Self {
            intra: Linear::pointwise(builder, &intra, channels, channels)?,
            intra_norm: BatchNorm::new(builder, &intra_norm, channels)?,
            inter: Linear::pointwise(builder, &inter, channels, channels)?,
            conv: Conv3x3::new(builder, &format!("{name}.conv2d"), channels, channels)?,
            norm: BatchNorm::new(builder, &format!("{name}.norm"), channels)?,
        })
    }

    /// `[batch, patches, patch, channels]` to the same shape, and the weights `[batch, patches, 1, channels]`.
    fn forward(&self, x: &Tensor, mode: Mode) -> Result<(Tensor, Tensor)> {
        let intra = self.intra.forward(&x.mean_keepdim(2)?)?;
        let intra = self.intra_norm.forward(&intra, mode)?.relu()?;
        let inter = self.inter.forward(&intra.mean_keepdim(1)?)?;
        // 1 + F_intra + F_inter: where nothing is generated, the convolution is a plain one.
        let weights = (intra.broadcast_add(&inter)? + 1.0)?;
        let convolved = self.norm.forward(&self.conv.forward(x)?, mode)?;
        let y = (convolved.broadcast_mul(&weights)?.relu()? + x)?;
        Ok((y, weights))
    }
}

/// The network. Windows are `[batch, length, channels]`; inside, `[batch, patches, patch, inner channels]`.
struct Reconstructor {
    state: State,
    shape: DataShape,
    /// Patches, rows of a patch, inner channels.
    plane: (usize, usize, usize),
    embed: Linear,
    blocks: Vec<Block>,
    reconstruct: Linear,
    /// Kernels and memory of the path on the CPU, kept between calls.
    host: Mutex<HostEngine>,
}

/// What a forward pass computes on its way.
struct Forward {
    embedded: Tensor,
    weights: Vec<Tensor>,
    last: Tensor,
    reconstruction: Tensor,
}

impl Reconstructor {
    /// The forward pass as a graph of tensor operations, on any device.
    fn forward(&self, x: &Tensor, mode: Mode) -> Result<Forward> {
        self.shape.check_windows(x)?;
        let (batch, length) = (x.dim(0)?, self.shape.length);
        let (patches, patch, inner) = self.plane;
        // The border is zero and not the embedding's bias: padding comes after it.
        let embedded = self.embed.forward(x)?;
        let padded = embedded.pad_with_zeros(1, 0, patches * patch - length)?;
        let embedded = padded.reshape((batch, patches, patch, inner))?;
        let (mut last, mut weights) = (embedded.clone(), Vec::new());
        for block in &self.blocks {
            let (y, block_weights) = block.forward(&last, mode)?;
            weights.push(block_weights);
            last = y;
        }
        let rows = last.reshape((batch, patches * patch, inner))?;
        let rows = rows.narrow(1, 0, length)?.contiguous()?;
        let reconstruction = self.reconstruct.forward(&rows)?;
        Ok(Forward {
            embedded,
            weights,
            last,
            reconstruction,
        })
    }

    fn on_host<T>(&self, work: impl FnOnce(&mut HostEngine) -> Result<T>) -> Result<T> {
        match self.host.try_lock() {
            Ok(mut host) => work(&mut host),
            // A panic in an earlier call leaves nothing behind that this one does not overwrite.
            Err(TryLockError::Poisoned(host)) => work(&mut host.into_inner()),
            // Waiting could be for ever: the thread that holds it may be below us, stealing work.
            Err(TryLockError::WouldBlock) => work(&mut HostEngine::new(
                self.shape,
                self.plane,
                self.blocks.len(),
            )),
        }
    }
}

impl Network for Reconstructor {
    fn state(&self) -> &State {
        &self.state
    }

    fn loss(&self, batch: &Batch, mode: Mode, _: &mut Random) -> Result<Tensor> {
        if self.state.device().is_cpu() && mode == Mode::Evaluate {
            let mean = exact_mean(&self.errors(batch)?)?;
            return Tensor::new(mean as f32, self.state.device());
        }
        let reconstruction = self.forward(&batch.inputs, mode)?.reconstruction;
        (reconstruction - &batch.inputs)?.sqr()?.mean_all()
    }

    fn gradients(&self, _: usize, batch: &Batch, random: &mut Random) -> Result<(f64, Gradients)> {
        if self.state.device().is_cpu() {
            self.shape.check_windows(&batch.inputs)?;
            return self.on_host(|host| host.gradients(self, &batch.inputs));
        }
        differentiate(&self.state, &self.loss(batch, Mode::Train, random)?)
    }

    fn predict(&self, batch: &Batch) -> Result<Tensor> {
        Ok(self.forward(&batch.inputs, Mode::Evaluate)?.reconstruction)
    }

    fn errors(&self, batch: &Batch) -> Result<Tensor> {
        if self.state.device().is_cpu() {
            self.shape.check_windows(&batch.inputs)?;
            return self.on_host(|host| host.errors(self, &batch.inputs));
        }
        (self.predict(batch)? - &batch.inputs)?.sqr()
    }

    fn trace(&self, batch: &Batch, mode: Mode) -> Result<Vec<(String, Tensor)>> {
        let forward = self.forward(&batch.inputs, mode)?;
        let errors = (&forward.reconstruction - &batch.inputs)?.sqr()?;
        let mut traced = named([
            ("recon", forward.reconstruction),
            ("embed", forward.embedded),
            ("last_block", forward.last),
            ("window_score", errors.mean(D::Minus1)?.mean(D::Minus1)?),
        ]);
        for (index, weights) in forward.weights.iter().enumerate() {
            traced.push((format!("alpha{index}"), weights.squeeze(2)?));
        }
        Ok(traced)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::{fault_of, on_cpu};
    use candle_core::Device;

    fn draws(count: usize, random: &mut Random) -> Vec<f32> {
        (0..count).map(|_| random.range(-1.5, 1.5) as f32).collect()
    }

    fn network(config: &TvnetRecon, shape: DataShape) -> Reconstructor {
        on_cpu(3, |builder| config.network(shape, builder)).unwrap()
    }

    /// The largest difference, relative to the largest value.
    fn difference(one: &Tensor, other: &Tensor) -> f32 {
        let scalar = |tensor: Result<Tensor>| tensor.unwrap().to_scalar::<f32>().unwrap();
        let largest = scalar(other.abs().unwrap().flatten_all().unwrap().max(0));
        scalar(
            (one - other)
                .unwrap()
                .abs()
                .unwrap()
                .flatten_all()
                .unwrap()
                .max(0),
        ) / largest.max(1e-12)
    }

    #[test]
    fn inner_channels_follow_the_formula() {
        let cases = [(1, 32), (38, 32), (1 << 17, 34), (1 << 20, 40)];
        assert!(
            cases
                .into_iter()
                .all(|(channels, expected)| default_channels(channels) == expected)
        );
    }

    #[test]
    fn both_paths_agree_for_odd_sizes() {
        let cases = [
            (3, 20, 5, 8, 2, Some(7)),
            (1, 9, 1, 4, 1, Some(33)),
            (21, 31, 3, 1, 3, None),
            (2, 5, 40, 8, 2, None),
        ];
        for (batch, length, channels, patch, blocks, cm) in cases {
            let shape = DataShape::detect(length, channels);
            let config = TvnetRecon { patch, blocks, cm };
            let (plain, fast) = (network(&config, shape), network(&config, shape));
            let mut random = Random::new(9, "data");
            let inputs = draws(batch * length * channels, &mut random);
            let inputs = Tensor::from_vec(inputs, (batch, length, channels), &Device::Cpu).unwrap();
            let batch = Batch::of(inputs);

            let loss = plain.loss(&batch, Mode::Train, &mut random).unwrap();
            let expected = Gradients::of(&plain.state, &loss).unwrap();
            let (found_loss, found) = fast.gradients(0, &batch, &mut random).unwrap();
            let loss = f64::from(loss.to_scalar::<f32>().unwrap());
            assert!(
                (found_loss / loss - 1.0).abs() < 1e-5,
                "{found_loss} {loss}"
            );
            let largest = expected.norm().unwrap() as f32;
            for (((name, _), found), expected) in
                fast.state.parameters().zip(&found.0).zip(&expected.0)
            {
                let (found, expected) = (found.as_ref().unwrap(), expected.as_ref().unwrap());
                let apart = (found - expected)
                    .unwrap()
                    .abs()
                    .unwrap()
                    .flatten_all()
                    .unwrap()
                    .max(0)
                    .unwrap();
                let apart = apart.to_scalar::<f32>().unwrap();
                assert!(
                    apart < 1e-5 * largest || difference(found, expected) < 1e-3,
                    "{name}: {apart} of {largest}"
                );
            }
            for ((name, found), (_, expected)) in fast.state.buffers().zip(plain.state.buffers()) {
                if name.ends_with("num_batches_tracked") {
                    assert_eq!(found.to_scalar::<i64>().unwrap(), 1);
                } else {
                    assert!(difference(found, expected) < 1e-5, "{name}");
                }
            }
            let forward = plain.forward(&batch.inputs, Mode::Evaluate).unwrap();
            let expected = (forward.reconstruction - &batch.inputs)
                .unwrap()
                .sqr()
                .unwrap();
            fast.state
                .set_data(&plain.state.to_data().unwrap())
                .unwrap();
            assert!(difference(&fast.errors(&batch).unwrap(), &expected) < 1e-5);
        }
    }

    #[test]
    fn impossible_sizes_are_named() {
        let config = TvnetRecon {
            patch: 0,
            ..TvnetRecon::default()
        };
        assert_eq!(fault_of(&config).parameter, "patch");
        let config = TvnetRecon {
            cm: Some(0),
            ..TvnetRecon::default()
        };
        assert_eq!(fault_of(&config).parameter, "cm");
    }
}

//! The reconstructor on the CPU: forward and backward by hand over chunks of the batch, memory kept between steps.
//! It computes what the tensor operations beside it compute; a test holds them together.

use std::ops::Range;

use candle_core::{Device, Result, Tensor};
use rayon::prelude::*;

use super::Reconstructor;
use crate::models::DataShape;
use numerics::batch_norm::{BatchNorm, Mode, Normaliser};
use numerics::chunks::chunks;
use numerics::conv::Plane;
use numerics::elementwise::{add, squared_error};
use numerics::host::with_slice;
use numerics::linear::{Linear, LinearKernel};
use numerics::moments::Moments;
use numerics::time_varying::{BlockChunk, BlockGradients, BlockKernel, NormSums, Scratch};
use numerics::{Gradients, Level};

/// Kernels and memory for one network.
pub(super) struct HostEngine {
    level: Level,
    shape: DataShape,
    plane: Plane,
    embed: LinearKernel,
    blocks: Vec<BlockKernel>,
    reconstruct: LinearKernel,
    training: Workspace,
    evaluation: Workspace,
}

/// Memory for batches of one size.
#[derive(Default)]
struct Workspace {
    batch: usize,
    chunks: Vec<Chunk>,
}

/// Some samples of a batch with all values that belong to them. `S` samples, `T` rows with padding, `C` inner channels.
struct Chunk {
    samples: Range<usize>,
    /// The input of every block and the output of the last, `[S, T, C]`. Evaluation needs only two of them.
    activations: Vec<Vec<f32>>,
    /// One per block; evaluation needs only one.
    blocks: Vec<BlockChunk>,
    scratch: Scratch,
    /// Of the activation at hand, `[S, T, C]`.
    gradient: Vec<f32>,
    /// `[S, length, channels]`.
    output: Vec<f32>,
    output_gradient: Vec<f32>,
    /// Sum of squared errors.
    error: f64,
    embed: LinearGradients,
    reconstruct: LinearGradients,
}

/// A chunk's share of the gradients of a linear layer.
struct LinearGradients {
    weight: Vec<f32>,
    bias: Vec<f32>,
}

impl LinearGradients {
    fn new(layer: (usize, usize)) -> Self {
        Self {
            weight: vec![0.0; layer.0 * layer.1],
            bias: vec![0.0; layer.1],
        }
    }

    fn clear(&mut self) {
        self.weight.fill(0.0);
        self.bias.fill(0.0);
    }
}

impl Chunk {
    fn new(
        samples: Range<usize>,
        shape: DataShape,
        plane: &Plane,
        blocks: usize,
        train: bool,
    ) -> Self {
        let count = samples.len();
        let (inner, outer) = (count * plane.len(), count * shape.length * shape.channels);
        let (activations, kept) = if train { (blocks + 1, blocks) } else { (2, 1) };
        Self {
            samples,
            activations: vec![vec![0.0; inner]; activations],
            blocks: (0..kept)
                .map(|_| BlockChunk::new(plane, count, train))
                .collect(),
            scratch: Scratch::new(plane, count),
            gradient: vec![0.0; if train { inner } else { 0 }],
            output: vec![0.0; outer],
            output_gradient: vec![0.0; outer],
            error: 0.0,
            embed: LinearGradients::new((shape.channels, plane.channels)),
            reconstruct: LinearGradients::new((plane.channels, shape.channels)),
        }
    }
}

impl Workspace {
    fn resize(
        &mut self,
        batch: usize,
        shape: DataShape,
        plane: &Plane,
        blocks: usize,
        train: bool,
    ) {
        if self.batch != batch {
            let new = |samples| Chunk::new(samples, shape, plane, blocks, train);
            self.chunks = chunks(batch).into_par_iter().map(new).collect();
            self.batch = batch;
        }
    }
}

impl HostEngine {
    /// `plane` is patches, patch and inner channels.
    pub fn new(shape: DataShape, plane: (usize, usize, usize), blocks: usize) -> Self {
        let level = Level::detect();
        let plane = Plane::new(plane.0, plane.1, plane.2);
        Self {
            level,
            shape,
            embed: LinearKernel::new(level, shape.channels, plane.channels),
            blocks: vec![BlockKernel::new(level, plane.channels); blocks],
            reconstruct: LinearKernel::new(level, plane.channels, shape.channels),
            plane,
            training: Workspace::default(),
            evaluation: Workspace::default(),
        }
    }

    /// Squared errors in evaluation mode, `[batch, length, channels]`.
    pub fn errors(&mut self, network: &Reconstructor, x: &Tensor) -> Result<Tensor> {
        self.load(network, Mode::Evaluate)?;
        let Self {
            level,
            shape,
            ref plane,
            ..
        } = *self;
        let mut workspace = std::mem::take(&mut self.evaluation);
        workspace.resize(x.dim(0)?, shape, plane, self.blocks.len(), false);
        let x = x.contiguous()?;
        with_slice(&x, |x| {
            workspace.chunks.par_iter_mut().for_each(|chunk| {
                let x = self.windows(x, chunk);
                self.embed(chunk, x);
                for (index, kernel) in self.blocks.iter().enumerate() {
                    let (from, to) = pair(&mut chunk.activations, index % 2);
                    let block = &mut chunk.blocks[0];
                    block.begin(kernel, plane, from, &mut chunk.scratch);
                    block.finish(kernel, plane, from, to, &mut chunk.scratch);
                }
                self.reconstruct(chunk, self.blocks.len() % 2);
                squared_error(level, &chunk.output, x, 1.0, &mut chunk.output_gradient);
                chunk
                    .output_gradient
                    .iter_mut()
                    .for_each(|difference| *difference *= *difference);
            });
        })?;
        let parts: Vec<&[f32]> = workspace
            .chunks
            .iter()
            .map(|chunk| chunk.output_gradient.as_slice())
            .collect();
        let errors = parts.concat();
        self.evaluation = workspace;
        Tensor::from_vec(errors, x.shape(), &Device::Cpu)
    }

    /// The training loss, all gradients, and the running statistics moved on.
    pub fn gradients(&mut self, network: &Reconstructor, x: &Tensor) -> Result<(f64, Gradients)> {
        self.load(network, Mode::Train)?;
        let mut workspace = std::mem::take(&mut self.training);
        workspace.resize(x.dim(0)?, self.shape, &self.plane, self.blocks.len(), true);
        let x = x.contiguous()?;
        let loss = with_slice(&x, |x| {
            self.forward(network, x, &mut workspace.chunks)?;
            self.backward(x, &mut workspace.chunks);
            Ok::<f64, candle_core::Error>(workspace.chunks.iter().map(|chunk| chunk.error).sum())
        })??;
        let gradients = self.collect(network, &workspace.chunks)?;
        self.training = workspace;
        Ok((loss / x.elem_count() as f64, gradients))
    }

    /// Takes the network's weights over into the kernels' layout.
    fn load(&mut self, network: &Reconstructor, mode: Mode) -> Result<()> {
        let train = mode == Mode::Train;
        load_linear(&mut self.embed, &network.embed, train)?;
        load_linear(&mut self.reconstruct, &network.reconstruct, train)?;
        self.blocks
            .par_iter_mut()
            .zip(&network.blocks)
            .try_for_each(|(kernel, block)| {
                with_pair(&block.conv.weight, &block.conv.bias, |weight, bias| {
                    kernel.conv.load(weight, bias, train)
                })?;
                load_linear(&mut kernel.intra, &block.intra, train)?;
                load_linear(&mut kernel.inter, &block.inter, train)?;
                if mode == Mode::Evaluate {
                    settle_running(&mut kernel.conv_norm, &block.norm)?;
                    settle_running(&mut kernel.intra_norm, &block.intra_norm)?;
                }
                Ok(())
            })
    }

    /// The windows of a chunk, `[S, length, channels]`.
    fn windows<'a>(&self, x: &'a [f32], chunk: &Chunk) -> &'a [f32] {
        let size = self.shape.length * self.shape.channels;
        &x[chunk.samples.start * size..chunk.samples.end * size]
    }

    /// Rows of a sample that are not padding, as floats.
    fn inner_rows(&self) -> usize {
        self.shape.length * self.plane.channels
    }

    fn embed(&self, chunk: &mut Chunk, x: &[f32]) {
        let windows = x.chunks_exact(self.shape.length * self.shape.channels);
        for (window, target) in windows.zip(chunk.activations[0].chunks_exact_mut(self.plane.len()))
        {
            let (rows, padding) = target.split_at_mut(self.inner_rows());
            self.embed.forward(chunk.scratch.starts(), window, rows);
            padding.fill(0.0);
        }
    }

    fn reconstruct(&self, chunk: &mut Chunk, from: usize) {
        let windows = chunk
            .output
            .chunks_exact_mut(self.shape.length * self.shape.channels);
        for (source, target) in chunk.activations[from]
            .chunks_exact(self.plane.len())
            .zip(windows)
        {
            self.reconstruct
                .forward(chunk.scratch.starts(), &source[..self.inner_rows()], target);
        }
    }

    fn forward(&mut self, network: &Reconstructor, x: &[f32], chunks: &mut [Chunk]) -> Result<()> {
        chunks.par_iter_mut().for_each(|chunk| {
            self.embed(chunk, self.windows(x, chunk));
            self.begin(chunk, 0);
        });
        for index in 0..self.blocks.len() {
            let block = &network.blocks[index];
            let kernel = &mut self.blocks[index];
            let moments = chunks.iter().map(|chunk| &chunk.blocks[index].conv_moments);
            settle_batch(&mut kernel.conv_norm, &block.norm, moments)?;
            let moments = chunks
                .iter()
                .map(|chunk| &chunk.blocks[index].intra_moments);
            settle_batch(&mut kernel.intra_norm, &block.intra_norm, moments)?;
            chunks.par_iter_mut().for_each(|chunk| {
                let (from, to) = chunk.activations.split_at_mut(index + 1);
                let block = &mut chunk.blocks[index];
                block.finish(
                    &self.blocks[index],
                    &self.plane,
                    &from[index],
                    &mut to[0],
                    &mut chunk.scratch,
                );
                if index + 1 < self.blocks.len() {
                    self.begin(chunk, index + 1);
                } else {
                    self.turn(chunk, self.windows(x, chunk), x.len());
                }
            });
        }
        Ok(())
    }

    fn begin(&self, chunk: &mut Chunk, index: usize) {
        let (block, x) = (&mut chunk.blocks[index], &chunk.activations[index]);
        block.begin(&self.blocks[index], &self.plane, x, &mut chunk.scratch);
        block.measure(self.level, &self.plane);
    }

    /// From the last activation to the loss, and back to the first half of the last block's backward.
    fn turn(&self, chunk: &mut Chunk, x: &[f32], total: usize) {
        let last = self.blocks.len();
        self.reconstruct(chunk, last);
        let scale = 2.0 / total as f32;
        chunk.error = squared_error(
            self.level,
            &chunk.output,
            x,
            scale,
            &mut chunk.output_gradient,
        );
        chunk.reconstruct.clear();
        let samples = chunk
            .output_gradient
            .chunks_exact(self.shape.length * self.shape.channels)
            .zip(chunk.activations[last].chunks_exact(self.plane.len()))
            .zip(chunk.gradient.chunks_exact_mut(self.plane.len()));
        for ((upstream, activation), gradient) in samples {
            let (rows, padding) = gradient.split_at_mut(self.inner_rows());
            let LinearGradients { weight, bias } = &mut chunk.reconstruct;
            let starts = chunk.scratch.starts();
            self.reconstruct.add_gradients(
                starts,
                &activation[..self.inner_rows()],
                upstream,
                weight,
                bias,
            );
            self.reconstruct.input_gradient(starts, upstream, rows);
            padding.fill(0.0);
        }
        chunk.blocks[last - 1].backward_begin(
            &self.blocks[last - 1],
            &self.plane,
            &chunk.gradient,
            &mut chunk.scratch,
        );
    }

    fn backward(&self, x: &[f32], chunks: &mut [Chunk]) {
        let plane = &self.plane;
        for index in (0..self.blocks.len()).rev() {
            let (conv, intra) = norm_sums(chunks, index);
            let count: usize = chunks.iter().map(|chunk| chunk.samples.len()).sum();
            let rows = (count * plane.height * plane.width) as f64;
            let (conv, intra) = (conv.means(rows), intra.means((count * plane.height) as f64));
            chunks.par_iter_mut().for_each(|chunk| {
                let (block, input) = (&mut chunk.blocks[index], &chunk.activations[index]);
                let means = (&conv, &intra);
                block.backward_finish(
                    &self.blocks[index],
                    plane,
                    input,
                    means,
                    &mut chunk.gradient,
                    &mut chunk.scratch,
                );
                if let Some(next) = index.checked_sub(1) {
                    let block = &mut chunk.blocks[next];
                    block.backward_begin(
                        &self.blocks[next],
                        plane,
                        &chunk.gradient,
                        &mut chunk.scratch,
                    );
                } else {
                    self.embed_backward(chunk, self.windows(x, chunk));
                }
            });
        }
    }

    fn embed_backward(&self, chunk: &mut Chunk, x: &[f32]) {
        chunk.embed.clear();
        let windows = x.chunks_exact(self.shape.length * self.shape.channels);
        for (window, gradient) in windows.zip(chunk.gradient.chunks_exact(self.plane.len())) {
            let LinearGradients { weight, bias } = &mut chunk.embed;
            let upstream = &gradient[..self.inner_rows()];
            self.embed
                .add_gradients(chunk.scratch.starts(), window, upstream, weight, bias);
        }
    }

    /// Adds the chunks' shares in their order, for all parameters in the order of the state.
    fn collect(&self, network: &Reconstructor, chunks: &[Chunk]) -> Result<Gradients> {
        let sum = |part: &dyn Fn(&Chunk) -> &[f32]| {
            let mut sum = part(&chunks[0]).to_vec();
            chunks[1..]
                .iter()
                .for_each(|chunk| add(self.level, part(chunk), &mut sum));
            sum
        };
        let linear = |part: &dyn Fn(&Chunk) -> &LinearGradients| {
            [
                sum(&|chunk| &part(chunk).weight),
                sum(&|chunk| &part(chunk).bias),
            ]
        };
        let blocks: Vec<Vec<Vec<f32>>> = (0..self.blocks.len())
            .into_par_iter()
            .map(|index| {
                let shares: Vec<&BlockGradients> = chunks
                    .iter()
                    .map(|chunk| &chunk.blocks[index].gradients)
                    .collect();
                self.collect_block(index, &shares)
            })
            .collect();
        let mut all: Vec<Vec<f32>> = linear(&|chunk| &chunk.embed).into();
        all.extend(blocks.into_iter().flatten());
        all.extend(linear(&|chunk| &chunk.reconstruct));
        let tensor = |(values, (_, parameter)): (Vec<f32>, (&str, &candle_core::Var))| {
            Tensor::from_vec(values, parameter.shape(), &Device::Cpu).map(Some)
        };
        Ok(Gradients(
            all.into_iter()
                .zip(network.state.parameters())
                .map(tensor)
                .collect::<Result<_>>()?,
        ))
    }

    /// The gradients of a block in the order in which `Block::new` declares them.
    fn collect_block(&self, index: usize, shares: &[&BlockGradients]) -> Vec<Vec<f32>> {
        let sum = |part: fn(&BlockGradients) -> &[f32]| {
            let mut sum = part(shares[0]).to_vec();
            shares[1..]
                .iter()
                .for_each(|share| add(self.level, part(share), &mut sum));
            sum
        };
        let norm = |part: fn(&BlockGradients) -> &NormSums| {
            let sums = merged(shares.iter().map(|share| part(share)));
            [sums.weight, sums.bias]
                .map(|sums| sums.into_iter().map(|sum| sum as f32).collect::<Vec<_>>())
        };
        let raw = sum(|share| &share.conv);
        let mut conv = vec![0.0; raw.len()];
        self.blocks[index]
            .conv
            .gather_weight_gradient(&raw, &mut conv);
        let mut all = vec![sum(|share| &share.intra), sum(|share| &share.intra_bias)];
        all.extend(norm(|share| &share.intra_norm));
        all.extend([
            sum(|share| &share.inter),
            sum(|share| &share.inter_bias),
            conv,
            sum(|share| &share.conv_bias),
        ]);
        all.extend(norm(|share| &share.conv_norm));
        all
    }
}

/// Two activations: the one that is read and the one that is written.
fn pair(activations: &mut [Vec<f32>], from: usize) -> (&[f32], &mut [f32]) {
    let (first, second) = activations.split_at_mut(1);
    if from == 0 {
        (&first[0], &mut second[0])
    } else {
        (&second[0], &mut first[0])
    }
}

fn with_pair(one: &Tensor, other: &Tensor, work: impl FnOnce(&[f32], &[f32])) -> Result<()> {
    with_slice(one, |one| with_slice(other, |other| work(one, other)))?
}

fn load_linear(kernel: &mut LinearKernel, layer: &Linear, backward: bool) -> Result<()> {
    with_pair(&layer.weight, &layer.bias, |weight, bias| {
        kernel.load(weight, bias, backward)
    })
}

/// Normalises by running statistics.
fn settle_running(normaliser: &mut Normaliser, norm: &BatchNorm) -> Result<()> {
    let (mean, variance) = (
        norm.running_mean.to_vec1::<f32>()?,
        norm.running_variance.to_vec1::<f32>()?,
    );
    let statistics = |channel: usize| (f64::from(mean[channel]), f64::from(variance[channel]));
    with_pair(&norm.weight, &norm.bias, |weight, bias| {
        normaliser.set(weight, bias, statistics)
    })
}

/// Normalises by the whole batch, and moves the running statistics.
fn settle_batch<'a>(
    normaliser: &mut Normaliser,
    norm: &BatchNorm,
    parts: impl Iterator<Item = &'a Moments>,
) -> Result<()> {
    let mut moments = Moments::new(norm.weight.elem_count());
    parts.for_each(|part| moments.merge(part));
    norm.check(moments.count as usize)?;
    norm.update_from(&moments)?;
    let statistics = |channel: usize| (moments.mean[channel], moments.variance(channel));
    with_pair(&norm.weight, &norm.bias, |weight, bias| {
        normaliser.set(weight, bias, statistics)
    })
}

fn merged<'a>(mut parts: impl Iterator<Item = &'a NormSums>) -> NormSums {
    let mut sum = parts
        .next()
        .map_or_else(|| NormSums::new(0), NormSums::clone);
    parts.for_each(|part| sum.merge(part));
    sum
}

fn norm_sums(chunks: &[Chunk], index: usize) -> (NormSums, NormSums) {
    let gradients = || chunks.iter().map(|chunk| &chunk.blocks[index].gradients);
    (
        merged(gradients().map(|share| &share.conv_norm)),
        merged(gradients().map(|share| &share.intra_norm)),
    )
}

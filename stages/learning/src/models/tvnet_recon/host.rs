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
use numerics::host::{with_slice, with_slices};
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
    /// Of the activation that backward has reached, `[S, T, C]`.
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
            // Zeroing all of it takes time, too.
            let parts = chunks(batch).into_par_iter();
            self.chunks = parts
                .map(|samples| Chunk::new(samples, shape, plane, blocks, train))
                .collect();
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
                for difference in &mut chunk.output_gradient {
                    *difference *= *difference;
                }
            });
        })?;
        let mut errors = Vec::with_capacity(x.elem_count());
        for chunk in &workspace.chunks {
            errors.extend_from_slice(&chunk.output_gradient);
        }
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
        let level = self.level;
        let blocks: Vec<Vec<Vec<f32>>> = (0..self.blocks.len())
            .into_par_iter()
            .map(|index| self.collect_block(index, &shares(chunks, index)))
            .collect();
        let mut all = vec![
            summed(level, chunks, |chunk| &chunk.embed.weight),
            summed(level, chunks, |chunk| &chunk.embed.bias),
        ];
        all.extend(blocks.into_iter().flatten());
        all.push(summed(level, chunks, |chunk| &chunk.reconstruct.weight));
        all.push(summed(level, chunks, |chunk| &chunk.reconstruct.bias));
        let mut gradients = Vec::with_capacity(all.len());
        for (values, (_, parameter)) in all.into_iter().zip(network.state.parameters()) {
            let gradient = Tensor::from_vec(values, parameter.shape(), &Device::Cpu)?;
            gradients.push(Some(gradient));
        }
        Ok(Gradients(gradients))
    }

    /// The gradients of a block in the order in which `Block::new` declares them.
    fn collect_block(&self, index: usize, shares: &[&BlockGradients]) -> Vec<Vec<f32>> {
        let level = self.level;
        let raw = summed(level, shares, |share| &share.conv);
        let mut conv = vec![0.0; raw.len()];
        let kernel = &self.blocks[index].conv;
        kernel.gather_weight_gradient(&raw, &mut conv);
        let intra_norm = merged(shares.iter().map(|share| &share.intra_norm));
        let conv_norm = merged(shares.iter().map(|share| &share.conv_norm));
        vec![
            summed(level, shares, |share| &share.intra),
            summed(level, shares, |share| &share.intra_bias),
            rounded(&intra_norm.weight),
            rounded(&intra_norm.bias),
            summed(level, shares, |share| &share.inter),
            summed(level, shares, |share| &share.inter_bias),
            conv,
            summed(level, shares, |share| &share.conv_bias),
            rounded(&conv_norm.weight),
            rounded(&conv_norm.bias),
        ]
    }
}

/// A part of the shares, added in their order: the sum must not depend on which thread was done first.
fn summed<T>(level: Level, shares: &[T], part: impl Fn(&T) -> &[f32]) -> Vec<f32> {
    let mut sum = part(&shares[0]).to_vec();
    for share in &shares[1..] {
        add(level, part(share), &mut sum);
    }
    sum
}

fn rounded(sums: &[f64]) -> Vec<f32> {
    sums.iter().map(|sum| *sum as f32).collect()
}

/// The chunks' shares of a block's gradients.
fn shares(chunks: &[Chunk], index: usize) -> Vec<&BlockGradients> {
    chunks
        .iter()
        .map(|chunk| &chunk.blocks[index].gradients)
        .collect()
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
    with_slices([one, other], |[one, other]| work(one, other))
}

fn load_linear(kernel: &mut LinearKernel, layer: &Linear, backward: bool) -> Result<()> {
    with_pair(&layer.weight, &layer.bias, |weight, bias| {
        kernel.load(weight, bias, backward)
    })
}

/// Normalises by running statistics.
fn settle_running(normaliser: &mut Normaliser, norm: &BatchNorm) -> Result<()> {
    let mean: Vec<f32> = norm.running_mean.to_vec1()?;
    let variance: Vec<f32> = norm.running_variance.to_vec1()?;
    with_pair(&norm.weight, &norm.bias, |weight, bias| {
        normaliser.set(weight, bias, |channel| {
            (f64::from(mean[channel]), f64::from(variance[channel]))
        });
    })
}

/// Normalises by the whole batch, and moves the running statistics.
fn settle_batch<'a>(
    normaliser: &mut Normaliser,
    norm: &BatchNorm,
    parts: impl Iterator<Item = &'a Moments>,
) -> Result<()> {
    let mut moments = Moments::new(norm.weight.elem_count());
    for part in parts {
        moments.merge(part);
    }
    norm.check(moments.count as usize)?;
    norm.update_from(&moments)?;
    with_pair(&norm.weight, &norm.bias, |weight, bias| {
        normaliser.set(weight, bias, |channel| {
            (moments.mean[channel], moments.variance(channel))
        });
    })
}

fn merged<'a>(mut parts: impl Iterator<Item = &'a NormSums>) -> NormSums {
    let Some(first) = parts.next() else {
        return NormSums::new(0);
    };
    let mut sum = first.clone();
    for part in parts {
        sum.merge(part);
    }
    sum
}

fn norm_sums(chunks: &[Chunk], index: usize) -> (NormSums, NormSums) {
    let shares = shares(chunks, index);
    (
        merged(shares.iter().map(|share| &share.conv_norm)),
        merged(shares.iter().map(|share| &share.intra_norm)),
    )
}

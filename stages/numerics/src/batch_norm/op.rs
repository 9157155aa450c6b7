//! Batch normalisation as an operation of Candle's graph on the CPU, its statistics kept for backward, with what often
//! follows it in the same pass: the addition of a residual, a ReLU.
//! On other devices the layer is composed of Candle's own operations instead.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::Normaliser;
use crate::chunks::{chunks, split_rows};
use crate::elementwise::{Lanes, lanes};
use crate::host::{floats, with_slice};
use crate::moments::Moments;
use crate::simd::{Level, vectorised};

/// Rows that are worked on together: few enough to stay in the cache and to be summed in 32 bits.
const BLOCK: usize = 128;

/// What the forward pass found out.
pub(super) struct Statistics {
    pub moments: Moments,
    normaliser: Normaliser,
}

/// `x`, `[…, channels]`, weight above bias, `[2, channels]`, and perhaps a residual of the shape of `x`, to that shape.
/// All are contiguous.
pub(super) struct BatchNormOp {
    pub channels: usize,
    pub relu: bool,
    /// Means and variances that are settled; otherwise the batch decides.
    pub running: Option<(Vec<f32>, Vec<f32>)>,
    /// Written by the forward pass.
    pub statistics: Arc<OnceLock<Statistics>>,
}

impl BatchNormOp {
    fn rows(&self, range: &Range<usize>) -> Range<usize> {
        range.start * self.channels..range.end * self.channels
    }

    fn measure(&self, x: &[f32]) -> Moments {
        let part = |range: Range<usize>| {
            let mut moments = Moments::new(self.channels);
            // Short blocks stay in the cache between the two passes over them.
            let blocks = x[self.rows(&range)].chunks(BLOCK * self.channels);
            blocks.for_each(|block| moments.add_rows(Level::detect(), block));
            moments
        };
        let parts: Vec<Moments> = chunks(x.len() / self.channels)
            .into_par_iter()
            .map(part)
            .collect();
        let mut moments = Moments::new(self.channels);
        parts.iter().for_each(|part| moments.merge(part));
        moments
    }

    fn settle(&self, x: &[f32], affine: &[f32]) -> Statistics {
        let (weight, bias) = affine.split_at(self.channels);
        let mut normaliser = Normaliser::default();
        let moments = match &self.running {
            Some((mean, variance)) => {
                normaliser.set(weight, bias, |channel| {
                    (f64::from(mean[channel]), f64::from(variance[channel]))
                });
                Moments::default()
            }
            None => {
                let moments = self.measure(x);
                normaliser.set(weight, bias, |channel| {
                    (moments.mean[channel], moments.variance(channel))
                });
                moments
            }
        };
        Statistics {
            moments,
            normaliser,
        }
    }

    /// The output, and what backward will need to know.
    pub fn apply(
        &self,
        x: &[f32],
        affine: &[f32],
        residual: Option<&[f32]>,
    ) -> (Vec<f32>, Statistics) {
        let statistics = self.settle(x, affine);
        let normaliser = &statistics.normaliser;
        let mut target = vec![0.0; x.len()];
        let parts = chunks(x.len() / self.channels);
        split_rows(&mut target, &parts, self.channels)
            .into_par_iter()
            .zip(&parts)
            .for_each(|(target, range)| {
                let x = &x[self.rows(range)];
                match (residual, self.relu) {
                    (Some(residual), _) => {
                        scale_shift_add(
                            Level::detect(),
                            x,
                            normaliser,
                            &residual[self.rows(range)],
                            self.relu,
                            target,
                        );
                    }
                    (None, true) => scale_shift_relu(Level::detect(), x, normaliser, target),
                    (None, false) => scale_and_shift(Level::detect(), x, normaliser, target),
                }
            });
        (target, statistics)
    }

    fn run(
        &self,
        x: (&CpuStorage, &Layout),
        affine: (&CpuStorage, &Layout),
        residual: Option<(&CpuStorage, &Layout)>,
    ) -> Result<(CpuStorage, Shape)> {
        let shape = x.1.shape().clone();
        let x = floats(x.0, x.1)?;
        let residual = residual
            .map(|(storage, layout)| floats(storage, layout))
            .transpose()?;
        if residual.is_some_and(|residual| residual.len() != x.len()) {
            bail!("a residual has another shape than what it is added to, {shape:?}")
        }
        let (target, statistics) = self.apply(x, floats(affine.0, affine.1)?, residual);
        if self.statistics.set(statistics).is_err() {
            bail!("a batch normalisation was applied twice")
        }
        Ok((CpuStorage::F32(target), shape))
    }

    /// The gradient behind the ReLU, and of it `Σ gradient` and `Σ gradient * normalised`, the chunks' shares added in
    /// their order.
    pub fn pass_relu(
        &self,
        Statistics { normaliser, .. }: &Statistics,
        x: &[f32],
        y: &[f32],
        gradient: &[f32],
    ) -> (Vec<f32>, [Vec<f64>; 2]) {
        let mut passed = vec![0.0; gradient.len()];
        let parts = chunks(x.len() / self.channels);
        let part = |(target, range): (&mut [f32], &Range<usize>)| {
            let mut sums = [vec![0.0; self.channels], vec![0.0; self.channels]];
            let rows = self.rows(range);
            let sources = [&x[rows.clone()], &y[rows.clone()], &gradient[rows]]
                .map(|rows| rows.chunks(BLOCK * self.channels));
            let [x, y, gradient] = sources;
            for (((x, y), gradient), target) in x
                .zip(y)
                .zip(gradient)
                .zip(target.chunks_mut(BLOCK * self.channels))
            {
                if self.relu {
                    pass_positive(Level::detect(), y, gradient, target);
                } else {
                    target.copy_from_slice(gradient);
                }
                // Sums in 32 bits over few rows, in 64 bits over many.
                let (mut bias, mut weight) = (vec![0.0; self.channels], vec![0.0; self.channels]);
                gradient_sums(
                    Level::detect(),
                    x,
                    normaliser,
                    target,
                    &mut bias,
                    &mut weight,
                );
                for (sum, part) in sums.iter_mut().zip([bias, weight]) {
                    sum.iter_mut()
                        .zip(part)
                        .for_each(|(sum, part)| *sum += f64::from(part));
                }
            }
            sums
        };
        let split = split_rows(&mut passed, &parts, self.channels);
        let shares: Vec<[Vec<f64>; 2]> = split.into_par_iter().zip(&parts).map(part).collect();
        let mut sums = [vec![0.0; self.channels], vec![0.0; self.channels]];
        for share in &shares {
            for (sum, share) in sums.iter_mut().zip(share) {
                sum.iter_mut()
                    .zip(share)
                    .for_each(|(sum, share)| *sum += share);
            }
        }
        (passed, sums)
    }

    /// The gradient in front of the normalisation, in place.
    pub fn input_gradient(
        &self,
        statistics: &Statistics,
        x: &[f32],
        sums: &[Vec<f64>; 2],
        gradient: &mut [f32],
    ) {
        let Statistics {
            moments,
            normaliser,
        } = statistics;
        let means = sums.each_ref().map(|sums| {
            sums.iter()
                .map(|sum| (sum / moments.count) as f32)
                .collect()
        });
        let parts = chunks(x.len() / self.channels);
        split_rows(gradient, &parts, self.channels)
            .into_par_iter()
            .zip(&parts)
            .for_each(|(gradient, range)| {
                if self.running.is_some() {
                    scale_rows(Level::detect(), &normaliser.scale, gradient);
                } else {
                    normalise_backward(
                        Level::detect(),
                        &x[self.rows(range)],
                        normaliser,
                        &means,
                        gradient,
                    );
                }
            });
    }

    /// The gradients of `x`, of the parameters, and of a residual if there is one.
    fn differentiate(
        &self,
        x: &Tensor,
        affine: &Tensor,
        residual: Option<&Tensor>,
        y: &Tensor,
        gradient: &Tensor,
    ) -> Result<[Option<Tensor>; 3]> {
        let Some(statistics) = self.statistics.get() else {
            bail!("a batch normalisation was differentiated before it was applied")
        };
        let gradient = gradient.contiguous()?;
        let (mut passed, sums) = with_slice(x, |x| {
            with_slice(y, |y| {
                with_slice(&gradient, |gradient| {
                    self.pass_relu(statistics, x, y, gradient)
                })
            })
        })???;
        let of_residual = match residual.filter(|residual| residual.track_op()) {
            Some(residual) => Some(Tensor::from_slice(&passed, residual.shape(), x.device())?),
            None => None,
        };
        let of_x = match x.track_op() {
            true => {
                with_slice(x, |x| {
                    self.input_gradient(statistics, x, &sums, &mut passed)
                })?;
                Some(Tensor::from_vec(passed, x.shape(), x.device())?)
            }
            false => None,
        };
        let [bias, weight] = sums;
        let values: Vec<f32> = weight
            .into_iter()
            .chain(bias)
            .map(|sum| sum as f32)
            .collect();
        Ok([
            of_x,
            Some(Tensor::from_vec(values, affine.shape(), x.device())?),
            of_residual,
        ])
    }
}

impl CustomOp2 for BatchNormOp {
    fn name(&self) -> &'static str {
        "batch-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        affine: &CpuStorage,
        affine_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.run((x, x_layout), (affine, affine_layout), None)
    }

    fn bwd(
        &self,
        x: &Tensor,
        affine: &Tensor,
        y: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let [x, affine, _] = self.differentiate(x, affine, None, y, gradient)?;
        Ok((x, affine))
    }
}

impl CustomOp3 for BatchNormOp {
    fn name(&self) -> &'static str {
        "batch-norm-add"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        affine: &CpuStorage,
        affine_layout: &Layout,
        residual: &CpuStorage,
        residual_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.run(
            (x, x_layout),
            (affine, affine_layout),
            Some((residual, residual_layout)),
        )
    }

    fn bwd(
        &self,
        x: &Tensor,
        affine: &Tensor,
        residual: &Tensor,
        y: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [x, affine, residual] = self.differentiate(x, affine, Some(residual), y, gradient)?;
        Ok((x, affine, residual))
    }
}

vectorised! {
    /// `max(x * scale + shift, 0)` over rows of channels.
    fn scale_shift_relu(x: &[f32], norm: &Normaliser, target: &mut [f32]) {
        let channels = norm.scale.len();
        for (x, target) in x.chunks_exact(channels).zip(target.chunks_exact_mut(channels)) {
            for block in lanes(channels) {
                let (scale, shift) = (Lanes::load(&norm.scale, block), Lanes::load(&norm.shift, block));
                (Lanes::load(x, block) * scale + shift).positive().store(target, block);
            }
        }
    }
}

vectorised! {
    /// `x * scale + shift + residual` over rows of channels, and its positive part if that is asked for.
    fn scale_shift_add(x: &[f32], norm: &Normaliser, residual: &[f32], relu: bool, target: &mut [f32]) {
        let channels = norm.scale.len();
        let rows = x.chunks_exact(channels).zip(residual.chunks_exact(channels));
        for ((x, residual), target) in rows.zip(target.chunks_exact_mut(channels)) {
            for block in lanes(channels) {
                let (scale, shift) = (Lanes::load(&norm.scale, block), Lanes::load(&norm.shift, block));
                let sum = Lanes::load(x, block) * scale + shift + Lanes::load(residual, block);
                let sum = if relu { sum.positive() } else { sum };
                sum.store(target, block);
            }
        }
    }
}

vectorised! {
    /// The gradient in front of a ReLU with output `y`.
    fn pass_positive(y: &[f32], gradient: &[f32], target: &mut [f32]) {
        for ((y, gradient), target) in y.iter().zip(gradient).zip(target.iter_mut()) {
            *target = if *y <= 0.0 { 0.0 } else { *gradient };
        }
    }
}

vectorised! {
    /// Multiplies every row of channels by `scale`.
    fn scale_rows(scale: &[f32], rows: &mut [f32]) {
        for row in rows.chunks_exact_mut(scale.len()) {
            for (value, scale) in row.iter_mut().zip(scale) {
                *value *= scale;
            }
        }
    }
}

vectorised! {
    /// `x * scale + shift` over rows of channels.
    fn scale_and_shift(x: &[f32], norm: &Normaliser, target: &mut [f32]) {
        let channels = norm.scale.len();
        for block in lanes(channels) {
            let (scale, shift) = (Lanes::load(&norm.scale, block), Lanes::load(&norm.shift, block));
            for (x, target) in x.chunks_exact(channels).zip(target.chunks_exact_mut(channels)) {
                (Lanes::load(x, block) * scale + shift).store(target, block);
            }
        }
    }
}

vectorised! {
    /// Adds `Σ gradient` to `bias` and `Σ gradient * normalised` to `weight`.
    fn gradient_sums(x: &[f32], norm: &Normaliser, gradient: &[f32], bias: &mut [f32], weight: &mut [f32]) {
        let channels = norm.mean.len();
        for block in lanes(channels) {
            let (mean, inverse) = (Lanes::load(&norm.mean, block), Lanes::load(&norm.inverse, block));
            let (mut bias_sum, mut weight_sum) = (Lanes::load(bias, block), Lanes::load(weight, block));
            for (x, gradient) in x.chunks_exact(channels).zip(gradient.chunks_exact(channels)) {
                let gradient = Lanes::load(gradient, block);
                bias_sum = bias_sum + gradient;
                weight_sum = weight_sum + gradient * ((Lanes::load(x, block) - mean) * inverse);
            }
            bias_sum.store(bias, block);
            weight_sum.store(weight, block);
        }
    }
}

vectorised! {
    /// The gradient in front of a normalisation by the batch, in place:
    /// `scale * (gradient - mean(gradient) - normalised * mean(gradient * normalised))`.
    pub fn normalise_backward(x: &[f32], norm: &Normaliser, means: &[Vec<f32>; 2], gradient: &mut [f32]) {
        let channels = norm.mean.len();
        for block in lanes(channels) {
            let (mean, inverse) = (Lanes::load(&norm.mean, block), Lanes::load(&norm.inverse, block));
            let scale = Lanes::load(&norm.scale, block);
            let (bias, weight) = (Lanes::load(&means[0], block), Lanes::load(&means[1], block));
            for (x, gradient) in x.chunks_exact(channels).zip(gradient.chunks_exact_mut(channels)) {
                let normalised = (Lanes::load(x, block) - mean) * inverse;
                let centred = Lanes::load(gradient, block) - bias - normalised * weight;
                (scale * centred).store(gradient, block);
            }
        }
    }
}

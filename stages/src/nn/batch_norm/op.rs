//! Batch normalisation by the batch as an operation of Candle's graph on the CPU, its statistics kept for backward.
//! On other devices the layer is composed of Candle's own operations instead.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::Normaliser;
use crate::nn::chunks::{chunks, split_rows};
use crate::nn::elementwise::{Lanes, lanes};
use crate::nn::host::{floats, with_slice};
use crate::nn::moments::Moments;
use crate::nn::simd::{Level, vectorised};

/// What the forward pass found out.
pub(super) struct Statistics {
    pub moments: Moments,
    normaliser: Normaliser,
}

/// `x`, `[…, channels]`, weight and bias, `[channels]`, to the shape of `x`. All are contiguous.
pub(super) struct BatchNormOp {
    pub channels: usize,
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
            x[self.rows(&range)].chunks(128 * self.channels).for_each(|block| moments.add_rows(Level::detect(), block));
            moments
        };
        let parts: Vec<Moments> = chunks(x.len() / self.channels).into_par_iter().map(part).collect();
        let mut moments = Moments::new(self.channels);
        parts.iter().for_each(|part| moments.merge(part));
        moments
    }

    /// `Σ gradient` and `Σ gradient * normalised`, the chunks' shares added in their order.
    fn sums(&self, normaliser: &Normaliser, x: &[f32], gradient: &[f32]) -> [Vec<f64>; 2] {
        let part = |range: Range<usize>| {
            let mut sums = [vec![0.0; self.channels], vec![0.0; self.channels]];
            let rows = self.rows(&range);
            // Sums in 32 bits over few rows, in 64 bits over many.
            let blocks = x[rows.clone()].chunks(128 * self.channels).zip(gradient[rows].chunks(128 * self.channels));
            for (x, gradient) in blocks {
                let (mut bias, mut weight) = (vec![0.0; self.channels], vec![0.0; self.channels]);
                gradient_sums(Level::detect(), x, normaliser, gradient, &mut bias, &mut weight);
                for (sum, part) in sums.iter_mut().zip([bias, weight]) {
                    sum.iter_mut().zip(part).for_each(|(sum, part)| *sum += f64::from(part));
                }
            }
            sums
        };
        let parts: Vec<[Vec<f64>; 2]> = chunks(x.len() / self.channels).into_par_iter().map(part).collect();
        let mut sums = [vec![0.0; self.channels], vec![0.0; self.channels]];
        for part in &parts {
            for (sum, part) in sums.iter_mut().zip(part) {
                sum.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
            }
        }
        sums
    }
}

impl CustomOp3 for BatchNormOp {
    fn name(&self) -> &'static str {
        "batch-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let x = floats(x, x_layout)?;
        let moments = self.measure(x);
        let mut normaliser = Normaliser::default();
        let statistics = |channel: usize| (moments.mean[channel], moments.variance(channel));
        normaliser.set(floats(weight, weight_layout)?, floats(bias, bias_layout)?, statistics);
        let mut target = vec![0.0; x.len()];
        let parts = chunks(x.len() / self.channels);
        split_rows(&mut target, &parts, self.channels).into_par_iter().zip(&parts).for_each(|(target, range)| {
            scale_and_shift(Level::detect(), &x[self.rows(range)], &normaliser, target);
        });
        if self.statistics.set(Statistics { moments, normaliser }).is_err() {
            bail!("a batch normalisation was applied twice")
        }
        Ok((CpuStorage::F32(target), x_layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let Some(Statistics { moments, normaliser }) = self.statistics.get() else {
            bail!("a batch normalisation was differentiated before it was applied")
        };
        let gradient = gradient.contiguous()?;
        let [bias, scale] = with_slice(x, |x| with_slice(&gradient, |gradient| self.sums(normaliser, x, gradient)))??;
        let means = [&bias, &scale].map(|sums| sums.iter().map(|sum| (sum / moments.count) as f32).collect());
        let x_gradient = match x.track_op() {
            true => {
                let mut target = with_slice(&gradient, <[f32]>::to_vec)?;
                let parts = chunks(target.len() / self.channels);
                with_slice(x, |x| {
                    let split = split_rows(&mut target, &parts, self.channels);
                    split.into_par_iter().zip(&parts).for_each(|(target, range)| {
                        normalise_backward(Level::detect(), &x[self.rows(range)], normaliser, &means, target);
                    });
                })?;
                Some(Tensor::from_vec(target, x.shape(), x.device())?)
            }
            false => None,
        };
        let parameter = |sums: Vec<f64>| {
            let values: Vec<f32> = sums.into_iter().map(|sum| sum as f32).collect();
            Tensor::from_vec(values, weight.shape(), x.device()).map(Some)
        };
        Ok((x_gradient, parameter(scale)?, parameter(bias)?))
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
    pub(crate) fn normalise_backward(x: &[f32], norm: &Normaliser, means: &[Vec<f32>; 2], gradient: &mut [f32]) {
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

//! Batch normalisation as an operation, with what often follows it in the same pass: the addition of a residual, a ReLU.
//! Its kernels keep the statistics for the backward pass.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use candle_core::{Device, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::{EPSILON, Normaliser, moments_on};
use crate::chunks::{chunks, each_part, split_rows};
use crate::elementwise::{Lanes, lanes};
use crate::host::with_slices;
use crate::moments::Moments;
#[cfg(feature = "cuda")]
use crate::operation::OnCuda;
use crate::operation::{Input, Kept, Operation};
use crate::simd::{Level, vectorised};

/// Rows that are worked on together: few enough to stay in the cache and to be summed in 32 bits.
const BLOCK: usize = 128;

/// What backward needs to know.
pub(crate) struct Statistics {
    moments: Moments,
    normaliser: Normaliser,
}

/// Where the means and unbiased variances of a batch, `[2, channels]`, can be found after the forward pass.
type OfBatch = Arc<OnceLock<Tensor>>;

/// `x`, `[…, channels]`, weight above bias, `[2, channels]`, and perhaps a residual of the shape of `x`, to that shape.
pub(crate) struct BatchNormOp {
    pub(super) channels: usize,
    pub(super) relu: bool,
    /// Means and variances that are settled, `[channels]` each; otherwise the batch decides.
    pub(super) running: Option<[Tensor; 2]>,
    /// Written by the forward pass, unless the statistics are settled.
    of_batch: OfBatch,
    statistics: OnceLock<Statistics>,
    /// On CUDA: means, inverse deviations, scales and shifts, `[4, channels]`.
    #[cfg_attr(
        not(feature = "cuda"),
        expect(dead_code, reason = "kernels on CUDA alone keep something")
    )]
    pub(super) kept: Kept,
}

impl BatchNormOp {
    pub fn new(
        channels: usize,
        relu: bool,
        running: Option<[Tensor; 2]>,
        of_batch: &OfBatch,
    ) -> Self {
        Self {
            channels,
            relu,
            running,
            of_batch: Arc::clone(of_batch),
            statistics: OnceLock::new(),
            kept: Kept::default(),
        }
    }

    fn composed(&self, x: &Tensor, affine: &Tensor, residual: Option<&Tensor>) -> Result<Tensor> {
        let rows = x.reshape((x.elem_count() / self.channels, self.channels))?;
        let normalised = match &self.running {
            None => self.composed_by_batch(&rows)?,
            Some([mean, variance]) => {
                let (mean, variance) = (mean.to_dtype(x.dtype())?, variance.to_dtype(x.dtype())?);
                rows.broadcast_sub(&mean)?
                    .broadcast_div(&(variance + EPSILON)?.sqrt()?)?
            }
        };
        let mut y = normalised
            .broadcast_mul(&affine.get(0)?)?
            .broadcast_add(&affine.get(1)?)?
            .reshape(x.dims())?;
        if let Some(residual) = residual {
            y = (y + residual)?;
        }
        if self.relu { y.relu() } else { Ok(y) }
    }

    fn composed_by_batch(&self, rows: &Tensor) -> Result<Tensor> {
        let count = rows.dim(0)? as f64;
        let mean = rows.mean_keepdim(0)?;
        let centred = rows.broadcast_sub(&mean)?;
        let variance = centred.sqr()?.mean_keepdim(0)?;
        let unbiased = (variance.detach() * (count / (count - 1.0)))?;
        self.note(Tensor::cat(&[mean.detach(), unbiased], 0)?)?;
        centred.broadcast_div(&(variance + EPSILON)?.sqrt()?)
    }

    pub(super) fn note(&self, of_batch: Tensor) -> Result<()> {
        if self.of_batch.set(of_batch).is_err() {
            bail!("a batch normalisation was applied twice")
        }
        Ok(())
    }

    fn rows(&self, range: &Range<usize>) -> Range<usize> {
        range.start * self.channels..range.end * self.channels
    }

    fn measure(&self, x: &[f32]) -> Moments {
        let parts: Vec<Moments> = chunks(x.len() / self.channels)
            .into_par_iter()
            .map(|range| {
                let mut moments = Moments::new(self.channels);
                // Short blocks stay in the cache between the two passes over them.
                for block in x[self.rows(&range)].chunks(BLOCK * self.channels) {
                    moments.add_rows(Level::detect(), block);
                }
                moments
            })
            .collect();
        let mut moments = Moments::new(self.channels);
        for part in &parts {
            moments.merge(part);
        }
        moments
    }

    fn settle(&self, x: &[f32], affine: &[f32]) -> Result<Statistics> {
        let (weight, bias) = affine.split_at(self.channels);
        let mut normaliser = Normaliser::default();
        let moments = match &self.running {
            Some(running) => {
                with_slices(running.each_ref(), |[mean, variance]| {
                    normaliser.set(weight, bias, |channel| {
                        (f64::from(mean[channel]), f64::from(variance[channel]))
                    });
                })?;
                Moments::default()
            }
            None => {
                let moments = self.measure(x);
                normaliser.set(weight, bias, |channel| {
                    (moments.mean[channel], moments.variance(channel))
                });
                self.note(moments_on(&moments, &Device::Cpu)?)?;
                moments
            }
        };
        Ok(Statistics {
            moments,
            normaliser,
        })
    }

    /// The output, and what backward will need to know.
    pub fn apply(
        &self,
        x: &[f32],
        affine: &[f32],
        residual: Option<&[f32]>,
    ) -> Result<(Vec<f32>, Statistics)> {
        let statistics = self.settle(x, affine)?;
        let norm = &statistics.normaliser;
        let mut target = vec![0.0; x.len()];
        let parts = chunks(x.len() / self.channels);
        each_part(&mut target, &parts, self.channels, |range, target| {
            let (rows, level) = (self.rows(&range), Level::detect());
            let x = &x[rows.clone()];
            match residual {
                Some(residual) => {
                    scale_shift_add(level, x, norm, &residual[rows], self.relu, target);
                }
                None if self.relu => scale_shift_relu(level, x, norm, target),
                None => scale_and_shift(level, x, norm, target),
            }
        });
        Ok((target, statistics))
    }

    fn run(
        &self,
        x: Input<'_>,
        affine: Input<'_>,
        residual: Option<Input<'_>>,
    ) -> Result<(Vec<f32>, Shape)> {
        if residual.is_some_and(|residual| residual.values.len() != x.values.len()) {
            bail!(
                "a residual has another shape than what it is added to, {:?}",
                x.dims
            )
        }
        let residual = residual.map(|residual| residual.values);
        let (target, statistics) = self.apply(x.values, affine.values, residual)?;
        if self.statistics.set(statistics).is_err() {
            bail!("a batch normalisation was applied twice")
        }
        Ok((target, x.dims.into()))
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
        let shares: Vec<[Vec<f64>; 2]> = split_rows(&mut passed, &parts, self.channels)
            .into_par_iter()
            .zip(&parts)
            .map(|(passed, range)| {
                let rows = self.rows(range);
                let (x, y, gradient) = (&x[rows.clone()], &y[rows.clone()], &gradient[rows]);
                self.pass_rows(normaliser, x, y, gradient, passed)
            })
            .collect();
        let mut sums = [vec![0.0; self.channels], vec![0.0; self.channels]];
        for share in &shares {
            for (sum, share) in sums.iter_mut().zip(share) {
                for (sum, share) in sum.iter_mut().zip(share) {
                    *sum += share;
                }
            }
        }
        (passed, sums)
    }

    /// The same for the rows of a chunk.
    fn pass_rows(
        &self,
        normaliser: &Normaliser,
        x: &[f32],
        y: &[f32],
        gradient: &[f32],
        passed: &mut [f32],
    ) -> [Vec<f64>; 2] {
        let (level, size) = (Level::detect(), BLOCK * self.channels);
        let mut sums = [vec![0.0; self.channels], vec![0.0; self.channels]];
        let sources = x
            .chunks(size)
            .zip(y.chunks(size))
            .zip(gradient.chunks(size));
        for (((x, y), gradient), passed) in sources.zip(passed.chunks_mut(size)) {
            if self.relu {
                pass_positive(level, y, gradient, passed);
            } else {
                passed.copy_from_slice(gradient);
            }
            // Sums in 32 bits over few rows, in 64 bits over many.
            let (mut bias, mut weight) = (vec![0.0; self.channels], vec![0.0; self.channels]);
            gradient_sums(level, x, normaliser, passed, &mut bias, &mut weight);
            for (sum, part) in sums.iter_mut().zip([bias, weight]) {
                for (sum, part) in sum.iter_mut().zip(part) {
                    *sum += f64::from(part);
                }
            }
        }
        sums
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
            let means = sums.iter().map(|sum| (sum / moments.count) as f32);
            means.collect()
        });
        let parts = chunks(x.len() / self.channels);
        each_part(gradient, &parts, self.channels, |range, gradient| {
            let level = Level::detect();
            if self.running.is_some() {
                scale_rows(level, &normaliser.scale, gradient);
            } else {
                let x = &x[self.rows(&range)];
                normalise_backward(level, x, normaliser, &means, gradient);
            }
        });
    }

    /// The gradients of `x`, of the parameters, and of a residual if there is one.
    fn differentiate(
        &self,
        x: Input<'_>,
        residual: Option<Input<'_>>,
        y: &[f32],
        gradient: &[f32],
    ) -> Result<[Option<Vec<f32>>; 3]> {
        let Some(statistics) = self.statistics.get() else {
            bail!("a batch normalisation was differentiated before it was applied")
        };
        let (mut passed, sums) = self.pass_relu(statistics, x.values, y, gradient);
        let [bias, weight] = &sums;
        let of_affine = weight.iter().chain(bias).map(|sum| *sum as f32).collect();
        // Before `passed` is turned into the gradient of `x`: in front of the addition, both are the same.
        let mut of_residual = None;
        if residual.is_some_and(|residual| residual.tracked) {
            of_residual = Some(passed.clone());
        }
        let mut of_x = None;
        if x.tracked {
            self.input_gradient(statistics, x.values, &sums, &mut passed);
            of_x = Some(passed);
        }
        Ok([of_x, Some(of_affine), of_residual])
    }
}

impl Operation<2> for BatchNormOp {
    const LABEL: &'static str = "batch-norm";

    #[cfg(feature = "cuda")]
    fn on_cuda(&self, _: [&[usize]; 2]) -> Option<&dyn OnCuda<2>> {
        Some(self)
    }

    fn compose(&self, [x, affine]: [&Tensor; 2]) -> Result<Tensor> {
        self.composed(x, affine, None)
    }

    fn forward(&self, [x, affine]: [Input<'_>; 2]) -> Result<(Vec<f32>, Shape)> {
        self.run(x, affine, None)
    }

    fn backward(
        &self,
        [x, _]: [Input<'_>; 2],
        y: &[f32],
        gradient: &[f32],
    ) -> Result<[Option<Vec<f32>>; 2]> {
        let [x, affine, _] = self.differentiate(x, None, y, gradient)?;
        Ok([x, affine])
    }
}

impl Operation<3> for BatchNormOp {
    const LABEL: &'static str = "batch-norm-add";

    #[cfg(feature = "cuda")]
    fn on_cuda(&self, _: [&[usize]; 3]) -> Option<&dyn OnCuda<3>> {
        Some(self)
    }

    fn compose(&self, [x, affine, residual]: [&Tensor; 3]) -> Result<Tensor> {
        self.composed(x, affine, Some(residual))
    }

    fn forward(&self, [x, affine, residual]: [Input<'_>; 3]) -> Result<(Vec<f32>, Shape)> {
        self.run(x, affine, Some(residual))
    }

    fn backward(
        &self,
        [x, _, residual]: [Input<'_>; 3],
        y: &[f32],
        gradient: &[f32],
    ) -> Result<[Option<Vec<f32>>; 3]> {
        self.differentiate(x, Some(residual), y, gradient)
    }
}

vectorised! {
    /// `max(x * scale + shift, 0)` over rows of channels.
    pub(crate) fn scale_shift_relu(x: &[f32], norm: &Normaliser, target: &mut [f32]) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::{Draw, Example, Examples};

    /// Every way to normalise a batch of these sizes.
    fn ways(draw: &mut Draw, relu: &[bool]) -> Vec<(BatchNormOp, [usize; 2])> {
        let mut ways = Vec::new();
        for (rows, channels) in [(4, 1), (5, 3), (300, 21)] {
            for relu in relu {
                let settled = [
                    draw.constant(&[channels]),
                    draw.between(0.1, 2.0, &[channels]).detach(),
                ];
                for running in [None, Some(settled)] {
                    let op = BatchNormOp::new(channels, *relu, running, &Arc::default());
                    ways.push((op, [rows, channels]));
                }
            }
        }
        ways
    }

    impl BatchNormOp {
        fn moved(self, device: &Device) -> Result<Self> {
            let Some([mean, variance]) = &self.running else {
                return Ok(self);
            };
            let running = Some([mean.to_device(device)?, variance.to_device(device)?]);
            Ok(Self { running, ..self })
        }
    }

    impl Examples<2> for BatchNormOp {
        const TOLERANCE: f32 = 1e-4;

        fn to_device(self, device: &Device) -> Result<Self> {
            self.moved(device)
        }

        fn examples(draw: &mut Draw) -> Vec<Example<Self, 2>> {
            let mut examples = Vec::new();
            for (operation, dims) in ways(draw, &[false, true]) {
                let inputs = [draw.variable(&dims), draw.variable(&[2, dims[1]])];
                examples.push(Example { operation, inputs });
            }
            examples
        }
    }

    impl Examples<3> for BatchNormOp {
        const TOLERANCE: f32 = 1e-4;

        fn to_device(self, device: &Device) -> Result<Self> {
            self.moved(device)
        }

        fn examples(draw: &mut Draw) -> Vec<Example<Self, 3>> {
            let mut examples = Vec::new();
            for (operation, dims) in ways(draw, &[true]) {
                let affine = draw.variable(&[2, dims[1]]);
                let inputs = [draw.variable(&dims), affine, draw.variable(&dims)];
                examples.push(Example { operation, inputs });
            }
            examples
        }
    }
}

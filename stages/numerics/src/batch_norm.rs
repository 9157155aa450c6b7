//! Batch normalisation over rows of channels, in training and in evaluation.
//! Activations that follow it belong to the model's own kernels.

mod host;
mod op;

use std::sync::{Arc, OnceLock};

use candle_core::{DType, Result, Tensor, Var, bail};

use super::initialise::Initial;
use super::moments::Moments;
use super::operation::{apply, has_kernels};
use super::state::StateBuilder;
pub use host::{NormGradients, NormTape};
pub(crate) use op::{normalise_backward, scale_shift_relu};

/// Added to variances, as in PyTorch.
const EPSILON: f64 = 1e-5;
/// The weight of a new batch in the running statistics, as in PyTorch.
pub const MOMENTUM: f64 = 0.1;

/// Whether a network learns or is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Normalise by the batch, and keep running statistics.
    Train,
    /// Normalise by the running statistics.
    Evaluate,
}

/// Parameters and running statistics, under PyTorch's names.
#[derive(Clone, Debug)]
pub struct BatchNorm {
    pub weight: Var,
    pub bias: Var,
    pub running_mean: Var,
    pub running_variance: Var,
    pub(crate) batches: Var,
}

impl BatchNorm {
    pub fn new(builder: &mut StateBuilder<'_>, name: &str, channels: usize) -> Result<Self> {
        Ok(Self {
            weight: builder.parameter(format!("{name}.weight"), &[channels], Initial::Ones)?,
            bias: builder.parameter(format!("{name}.bias"), &[channels], Initial::Zeros)?,
            running_mean: builder.buffer(
                format!("{name}.running_mean"),
                &[channels],
                Initial::Zeros,
            )?,
            running_variance: builder.buffer(
                format!("{name}.running_var"),
                &[channels],
                Initial::Ones,
            )?,
            batches: builder.counter(format!("{name}.num_batches_tracked"))?,
        })
    }

    /// Normalises `[…, channels]`. Training moves the running statistics.
    ///
    /// # Errors
    /// In training, if there is only one value per channel: its variance says nothing.
    pub fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        if !has_kernels(x) {
            return self.compose(x, mode);
        }
        self.apply(x, None, false, mode)
    }

    /// `max(normalised, 0)` in one pass.
    ///
    /// # Errors
    /// As [`Self::forward`].
    pub fn forward_relu(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        if !has_kernels(x) {
            return self.compose(x, mode)?.relu();
        }
        self.apply(x, None, true, mode)
    }

    /// `max(normalised + residual, 0)` in one pass; the residual has the shape of `x`.
    ///
    /// # Errors
    /// As [`Self::forward`], or if the shapes differ.
    pub fn forward_add_relu(&self, x: &Tensor, residual: &Tensor, mode: Mode) -> Result<Tensor> {
        if !has_kernels(x) {
            return (self.compose(x, mode)? + residual)?.relu();
        }
        self.apply(x, Some(residual), true, mode)
    }

    fn apply(
        &self,
        x: &Tensor,
        residual: Option<&Tensor>,
        relu: bool,
        mode: Mode,
    ) -> Result<Tensor> {
        let channels = self.weight.elem_count();
        let running = match mode {
            Mode::Train => {
                self.check(x.elem_count() / channels)?;
                None
            }
            Mode::Evaluate => Some((
                self.running_mean.to_vec1()?,
                self.running_variance.to_vec1()?,
            )),
        };
        let statistics = Arc::new(OnceLock::new());
        let op = op::BatchNormOp {
            channels,
            relu,
            running,
            statistics: Arc::clone(&statistics),
        };
        // Operations take three tensors at most, so weight and bias are one.
        let affine = Tensor::stack(&[self.weight.as_tensor(), self.bias.as_tensor()], 0)?;
        let y = match residual {
            Some(residual) => apply(op, [x, &affine, residual])?,
            None => apply(op, [x, &affine])?,
        };
        if let Some(found) = statistics.get().filter(|_| mode == Mode::Train) {
            self.update_from(&found.moments)?;
        }
        Ok(y)
    }

    /// The same with Candle's own operations, on any device.
    ///
    /// # Errors
    /// As [`Self::forward`].
    pub fn compose(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        let channels = self.weight.elem_count();
        let rows = x.reshape((x.elem_count() / channels, channels))?;
        let normalised = match mode {
            Mode::Train => self.by_batch(&rows)?,
            Mode::Evaluate => {
                let deviation = (self.running_variance.as_detached_tensor() + EPSILON)?.sqrt()?;
                rows.broadcast_sub(&self.running_mean.as_detached_tensor())?
                    .broadcast_div(&deviation)?
            }
        };
        normalised
            .broadcast_mul(&self.weight)?
            .broadcast_add(&self.bias)?
            .reshape(x.dims())
    }

    /// Refuses a batch whose statistics say nothing.
    pub fn check(&self, count: usize) -> Result<()> {
        if count < 2 {
            bail!("batch normalisation cannot train on a single value per channel");
        }
        Ok(())
    }

    fn by_batch(&self, rows: &Tensor) -> Result<Tensor> {
        let count = rows.dim(0)?;
        self.check(count)?;
        let mean = rows.mean_keepdim(0)?;
        let centred = rows.broadcast_sub(&mean)?;
        let variance = centred.sqr()?.mean_keepdim(0)?;
        let unbiased = (variance.detach() * (count as f64 / (count as f64 - 1.0)))?;
        self.update(&mean.detach().flatten_all()?, &unbiased.flatten_all()?)?;
        centred.broadcast_div(&(variance + EPSILON)?.sqrt()?)
    }

    /// Takes the statistics of a batch into the running ones.
    pub(crate) fn update(&self, mean: &Tensor, unbiased_variance: &Tensor) -> Result<()> {
        for (running, new) in [
            (&self.running_mean, mean),
            (&self.running_variance, unbiased_variance),
        ] {
            running
                .set(&((running.as_detached_tensor() * (1.0 - MOMENTUM))? + (new * MOMENTUM)?)?)?;
        }
        let batches: i64 = self.batches.to_scalar()?;
        self.batches
            .set(&Tensor::new(batches + 1, self.batches.device())?)
    }

    /// The same from moments on the host.
    pub fn update_from(&self, moments: &Moments) -> Result<()> {
        let channels = moments.mean.len();
        let device = self.running_mean.device();
        let mean = Tensor::from_slice(&moments.mean, channels, device)?.to_dtype(DType::F32)?;
        let variance: Vec<f32> = (0..channels)
            .map(|channel| moments.unbiased_variance(channel) as f32)
            .collect();
        self.update(&mean, &Tensor::from_vec(variance, channels, device)?)
    }
}

/// A normalisation with its statistics settled: `(x - mean) * inverse * weight + bias = x * scale + shift`.
#[derive(Clone, Debug, Default)]
pub struct Normaliser {
    pub(crate) mean: Vec<f32>,
    /// One over the standard deviation.
    pub(crate) inverse: Vec<f32>,
    pub(crate) scale: Vec<f32>,
    pub(crate) shift: Vec<f32>,
}

impl Normaliser {
    /// Settles on means and variances; `[channels]` each.
    pub fn set(&mut self, weight: &[f32], bias: &[f32], statistics: impl Fn(usize) -> (f64, f64)) {
        for values in [
            &mut self.mean,
            &mut self.inverse,
            &mut self.scale,
            &mut self.shift,
        ] {
            values.clear();
        }
        for (channel, (weight, bias)) in weight.iter().zip(bias).enumerate() {
            let (mean, variance) = statistics(channel);
            let inverse = 1.0 / (variance + EPSILON).sqrt();
            let scale = f64::from(*weight) * inverse;
            self.mean.push(mean as f32);
            self.inverse.push(inverse as f32);
            self.scale.push(scale as f32);
            self.shift.push((f64::from(*bias) - mean * scale) as f32);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;
    use contract::Random;

    #[test]
    fn training_normalises_and_running_statistics_follow() {
        let mut random = Random::new(1, "init");
        let mut builder = StateBuilder::new(&Device::Cpu, &mut random);
        let norm = BatchNorm::new(&mut builder, "norm", 2).unwrap();
        let x = Tensor::new(&[[1_f32, 10.0], [3.0, 10.0], [5.0, 40.0]], &Device::Cpu).unwrap();
        let y: Vec<Vec<f32>> = norm.forward(&x, Mode::Train).unwrap().to_vec2().unwrap();
        assert!((y[0][0] + 1.5_f32.sqrt()).abs() < 1e-4 && y[1][0].abs() < 1e-6);
        let mean: Vec<f32> = norm.running_mean.to_vec1().unwrap();
        let variance: Vec<f32> = norm.running_variance.to_vec1().unwrap();
        assert!((mean[0] - 0.3).abs() < 1e-6 && (mean[1] - 2.0).abs() < 1e-6);
        assert!(
            (variance[0] - (0.9 + 0.1 * 4.0)).abs() < 1e-5
                && (variance[1] - (0.9 + 0.1 * 300.0)).abs() < 1e-3
        );
        assert_eq!(norm.batches.to_scalar::<i64>().unwrap(), 1);
        assert!(
            norm.forward(&x.narrow(0, 0, 1).unwrap(), Mode::Train)
                .is_err()
        );
    }

    #[test]
    fn the_operations_agree_with_their_compositions() {
        let mut random = Random::new(4, "init");
        for (rows, channels) in [(2, 1), (5, 3), (300, 21)] {
            for (kind, mode) in [0, 1, 2]
                .into_iter()
                .flat_map(|kind| [(kind, Mode::Train), (kind, Mode::Evaluate)])
            {
                check_against_composition(rows, channels, kind, mode, &mut random);
            }
        }
    }

    /// Kinds: 0 plain, 1 with ReLU, 2 with residual and ReLU.
    fn check_against_composition(
        rows: usize,
        channels: usize,
        kind: usize,
        mode: Mode,
        random: &mut Random,
    ) {
        let norms = [(); 2].map(|()| {
            let mut builder = StateBuilder::new(&Device::Cpu, random);
            BatchNorm::new(&mut builder, "norm", channels).unwrap()
        });
        let mut draw = |count: usize| {
            (0..count)
                .map(|_| random.normal() as f32 + 0.7)
                .collect::<Vec<_>>()
        };
        let mut whole =
            || Var::from_vec(draw(rows * channels), (rows, channels), &Device::Cpu).unwrap();
        let (x, residual, upstream) = (whole(), whole(), whole().detach());
        let [weight, bias, mean, variance] = [(); 4].map(|()| draw(channels));
        for norm in &norms {
            let variance: Vec<f32> = variance.iter().map(|value| value.abs() + 0.1).collect();
            let targets = [
                &norm.weight,
                &norm.bias,
                &norm.running_mean,
                &norm.running_variance,
            ];
            for (target, values) in targets.into_iter().zip([&weight, &bias, &mean, &variance]) {
                target
                    .set(&Tensor::from_slice(values, channels, &Device::Cpu).unwrap())
                    .unwrap();
            }
        }
        let (by_op, composed) = match kind {
            0 => (norms[0].forward(&x, mode), norms[1].compose(&x, mode)),
            1 => (
                norms[0].forward_relu(&x, mode),
                norms[1].compose(&x, mode).unwrap().relu(),
            ),
            _ => {
                let sum = (norms[1].compose(&x, mode).unwrap() + residual.as_tensor()).unwrap();
                (norms[0].forward_add_relu(&x, &residual, mode), sum.relu())
            }
        };
        let (by_op, composed) = (by_op.unwrap(), composed.unwrap());
        let differentiate = |y: &Tensor| {
            (y * &upstream)
                .unwrap()
                .sum_all()
                .unwrap()
                .backward()
                .unwrap()
        };
        let (found, expected) = (differentiate(&by_op), differentiate(&composed));
        let mut pairs = vec![
            (&by_op, &composed),
            (found.get(&x).unwrap(), expected.get(&x).unwrap()),
            (
                found.get(&norms[0].weight).unwrap(),
                expected.get(&norms[1].weight).unwrap(),
            ),
            (
                found.get(&norms[0].bias).unwrap(),
                expected.get(&norms[1].bias).unwrap(),
            ),
            (
                norms[0].running_mean.as_tensor(),
                norms[1].running_mean.as_tensor(),
            ),
            (
                norms[0].running_variance.as_tensor(),
                norms[1].running_variance.as_tensor(),
            ),
        ];
        if kind == 2 {
            pairs.push((
                found.get(&residual).unwrap(),
                expected.get(&residual).unwrap(),
            ));
        }
        for (index, (found, expected)) in pairs.into_iter().enumerate() {
            let scalar = |tensor: Tensor| -> f32 {
                tensor
                    .abs()
                    .unwrap()
                    .flatten_all()
                    .unwrap()
                    .max(0)
                    .unwrap()
                    .to_scalar()
                    .unwrap()
            };
            let apart = scalar((found - expected).unwrap());
            let scale = scalar(expected.clone()).max(0.1);
            assert!(
                apart < 1e-4 * scale,
                "{rows} {channels} {kind} {mode:?} {index}: {apart}"
            );
        }
    }
}

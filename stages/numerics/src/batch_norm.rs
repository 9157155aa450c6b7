//! Batch normalisation over rows of channels, in training and in evaluation.
//! Activations that follow it belong to the model's own kernels.

#[cfg(feature = "cuda")]
mod cuda;
mod host;
pub(crate) mod op;

use std::sync::{Arc, OnceLock};

use candle_core::{Device, Result, Tensor, Var, bail};

use super::initialise::Initial;
use super::moments::Moments;
use super::operation::apply_packed;
use super::packed::Packed;
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
        self.apply(x, None, false, mode)
    }

    /// `max(normalised, 0)` in one pass.
    ///
    /// # Errors
    /// As [`Self::forward`].
    pub fn forward_relu(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        self.apply(x, None, true, mode)
    }

    /// `max(normalised + residual, 0)` in one pass; the residual has the shape of `x`.
    ///
    /// # Errors
    /// As [`Self::forward`], or if the shapes differ.
    pub fn forward_add_relu(&self, x: &Tensor, residual: &Tensor, mode: Mode) -> Result<Tensor> {
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
            Mode::Evaluate => Some([
                self.running_mean.as_detached_tensor(),
                self.running_variance.as_detached_tensor(),
            ]),
        };
        let of_batch = Arc::new(OnceLock::new());
        let op = op::BatchNormOp::new(channels, relu, running, &of_batch);
        let packed = Packed::new(&[&self.weight, &self.bias], (2, channels))?;
        let affine = packed.tensor();
        let y = match residual {
            Some(residual) => apply_packed(op, [x, affine, residual], &[&packed])?,
            None => apply_packed(op, [x, affine], &[&packed])?,
        };
        if let Some(of_batch) = of_batch.get() {
            self.update(of_batch)?;
        }
        Ok(y)
    }

    /// Refuses a batch whose statistics say nothing.
    pub fn check(&self, count: usize) -> Result<()> {
        if count < 2 {
            bail!("batch normalisation cannot train on a single value per channel");
        }
        Ok(())
    }

    /// Takes the means and unbiased variances of a batch, `[2, channels]`, into the running ones.
    pub(crate) fn update(&self, of_batch: &Tensor) -> Result<()> {
        #[cfg(feature = "cuda")]
        if of_batch.device().is_cuda() {
            return self.update_on_cuda(of_batch);
        }
        for (index, running) in [&self.running_mean, &self.running_variance]
            .into_iter()
            .enumerate()
        {
            let new = (of_batch.get(index)? * MOMENTUM)?;
            running.set(&((running.as_detached_tensor() * (1.0 - MOMENTUM))? + new)?)?;
        }
        self.batches
            .set(&(self.batches.as_detached_tensor() + 1.0)?)
    }

    /// The same from moments on the host.
    pub fn update_from(&self, moments: &Moments) -> Result<()> {
        self.update(&moments_on(moments, self.running_mean.device())?)
    }
}

/// Means and unbiased variances, `[2, channels]`, of 32-bit floats.
fn moments_on(moments: &Moments, device: &Device) -> Result<Tensor> {
    let channels = moments.mean.len();
    let mut values: Vec<f32> = moments.mean.iter().map(|mean| *mean as f32).collect();
    for channel in 0..channels {
        values.push(moments.unbiased_variance(channel) as f32);
    }
    Tensor::from_vec(values, (2, channels), device)
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
    use contract::Random;

    /// A GPU moves the running statistics as the CPU does, batch after batch.
    #[test]
    fn running_statistics_are_the_same_on_a_gpu() {
        let Ok(gpu) = crate::device(contract::Device::Cuda(0)) else {
            return;
        };
        let on = |device: &Device| {
            let mut random = Random::new(1, "init");
            let mut builder = StateBuilder::new(device, &mut random);
            let norm = BatchNorm::new(&mut builder, "norm", 3).unwrap();
            let mut draws = Random::new(2, "draws");
            for rows in [4, 300, 17] {
                let values: Vec<f32> = (0..rows * 3).map(|_| draws.normal() as f32).collect();
                let x = Tensor::from_vec(values, (rows, 3), device).unwrap();
                norm.forward(&x, Mode::Train).unwrap();
            }
            let mut all = vec![norm.batches.to_scalar::<i64>().unwrap() as f32];
            for running in [&norm.running_mean, &norm.running_variance] {
                all.extend(running.to_vec1::<f32>().unwrap());
            }
            all
        };
        for (one, other) in on(&Device::Cpu).iter().zip(on(&gpu)) {
            assert!((one - other).abs() < 1e-6, "{one} {other}");
        }
    }

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
}

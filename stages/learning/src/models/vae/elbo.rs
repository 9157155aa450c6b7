//! The evidence lower bound as a loss: how badly values are reconstructed, and how far codes are from the standard
//! normal distribution (Kingma and Welling, 2014, equation 10).

use std::sync::OnceLock;

use candle_core::{D, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use numerics::Level;
use numerics::chunks::{chunks, split_rows};
use numerics::elementwise::squared_error;
use numerics::host::with_slice;
use numerics::operation::{Input, Operation, apply};

/// How the two parts of the bound weigh.
#[derive(Clone, Copy, Debug)]
pub(super) struct Elbo {
    pub beta: f64,
    pub deviation: f64,
}

impl Elbo {
    /// The negative bound per value, without its constant: with `N` values in the batch,
    /// `[½ Σ (x - x̂)² / σ² + β ½ Σ (μ² + e^λ - λ - 1)] / N`.
    pub fn loss(
        &self,
        found: &Tensor,
        wanted: &Tensor,
        mean: &Tensor,
        log_variance: &Tensor,
    ) -> Result<Tensor> {
        let op = ElboOp {
            elbo: *self,
            wanted: wanted.contiguous()?,
            gradient: OnceLock::new(),
        };
        apply(op, [found, mean, log_variance])
    }

    /// What every value adds to the loss, from squared errors `[batch, …values]`: the mean over a sample is its loss.
    pub fn of_values(
        &self,
        errors: &Tensor,
        mean: &Tensor,
        log_variance: &Tensor,
    ) -> Result<Tensor> {
        let values = errors.elem_count() / errors.dim(0)?.max(1);
        let divergence =
            (((mean.sqr()? + log_variance.exp()?)? - log_variance)? - 1.0)?.sum(D::Minus1)?;
        let share = (divergence * (0.5 * self.beta / values as f64))?;
        let share = share.reshape([vec![errors.dim(0)?], vec![1; errors.rank() - 1]].concat())?;
        (errors * (0.5 / self.deviation.powi(2)))?.broadcast_add(&share)
    }
}

/// Reconstruction, mean and logarithmic variance to the loss.
pub(crate) struct ElboOp {
    elbo: Elbo,
    /// Contiguous.
    wanted: Tensor,
    /// Of the reconstruction, as the forward pass found it.
    gradient: OnceLock<Vec<f32>>,
}

impl ElboOp {
    /// `Σ (x - x̂)²`, and `(x̂ - x) * scale` for every value.
    fn errors(&self, found: &[f32], scale: f32) -> Result<(f64, Vec<f32>)> {
        with_slice(&self.wanted, |wanted| {
            let mut gradient = vec![0.0; found.len()];
            let parts = chunks(found.len());
            let targets = split_rows(&mut gradient, &parts, 1).into_par_iter();
            let sums: Vec<f64> = targets
                .zip(&parts)
                .map(|(gradient, range)| {
                    let (found, wanted) = (&found[range.clone()], &wanted[range.clone()]);
                    squared_error(Level::detect(), found, wanted, scale, gradient)
                })
                .collect();
            (sums.iter().sum(), gradient)
        })
    }
}

impl Operation<3> for ElboOp {
    const LABEL: &'static str = "elbo";

    fn compose(&self, [found, mean, log_variance]: [&Tensor; 3]) -> Result<Tensor> {
        let Elbo { beta, deviation } = self.elbo;
        let wanted = self.wanted.to_dtype(found.dtype())?;
        let errors = ((found - wanted)?.sqr()?.sum_all()? * (0.5 / deviation.powi(2)))?;
        let divergence =
            (((mean.sqr()? + log_variance.exp()?)? - log_variance)? - 1.0)?.sum_all()?;
        (errors + (divergence * (0.5 * beta))?)? / found.elem_count() as f64
    }

    fn forward(&self, [found, mean, log_variance]: [Input<'_>; 3]) -> Result<(Vec<f32>, Shape)> {
        let Elbo { beta, deviation } = self.elbo;
        let count = found.values.len() as f64;
        if self.wanted.elem_count() != found.values.len() {
            bail!("a reconstruction has another size than what it reconstructs")
        }
        let scale = 1.0 / (deviation * deviation * count);
        let (errors, gradient) = self.errors(found.values, scale as f32)?;
        let mut divergence = 0.0;
        for (mean, log_variance) in mean.values.iter().zip(log_variance.values) {
            let (mean, log_variance) = (f64::from(*mean), f64::from(*log_variance));
            divergence += mean * mean + log_variance.exp() - log_variance - 1.0;
        }
        if self.gradient.set(gradient).is_err() {
            bail!("a lower bound was applied twice")
        }
        let loss = 0.5 * (errors * scale + beta * divergence / count);
        Ok((vec![loss as f32], ().into()))
    }

    fn backward(
        &self,
        [found, mean, log_variance]: [Input<'_>; 3],
        _: &[f32],
        upstream: &[f32],
    ) -> Result<[Option<Vec<f32>>; 3]> {
        let Some(gradient) = self.gradient.get() else {
            bail!("a lower bound was differentiated before it was applied")
        };
        // The forward pass found the gradient of the loss itself; what the loss is used for multiplies it.
        let upstream = upstream[0];
        let share = f64::from(upstream) * self.elbo.beta / found.values.len() as f64;
        let (whole, half) = (share as f32, (0.5 * share) as f32);
        let of_found = gradient.iter().map(|gradient| gradient * upstream);
        let of_mean = mean.values.iter().map(|mean| mean * whole);
        let slopes = log_variance.values.iter().map(|value| value.exp() - 1.0);
        let of_log_variance = slopes.map(|slope| slope * half);
        Ok([
            Some(of_found.collect()),
            Some(of_mean.collect()),
            Some(of_log_variance.collect()),
        ])
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use numerics::conformance::{Draw, Example, Examples};

    impl Examples<3> for ElboOp {
        fn to_device(self, device: &Device) -> Result<Self> {
            let wanted = self.wanted.to_device(device)?;
            Ok(Self { wanted, ..self })
        }

        fn examples(draw: &mut Draw) -> Vec<Example<Self, 3>> {
            let mut example = |(rows, width, codes)| Example {
                operation: Self {
                    elbo: Elbo {
                        beta: 0.7,
                        deviation: 0.4,
                    },
                    wanted: draw.constant(&[rows, width]),
                    gradient: OnceLock::new(),
                },
                inputs: [
                    draw.variable(&[rows, width]),
                    draw.variable(&[rows, codes]),
                    draw.variable(&[rows, codes]),
                ],
            };
            [(1, 1, 1), (3, 37, 4), (20, 100, 16)]
                .map(&mut example)
                .into()
        }
    }
}

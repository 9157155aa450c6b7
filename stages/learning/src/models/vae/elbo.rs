//! The evidence lower bound as a loss: how badly values are reconstructed, and how far codes are from the standard
//! normal distribution (Kingma and Welling, 2014, equation 10).

use std::sync::{Arc, OnceLock};

use candle_core::{CpuStorage, CustomOp3, D, DType, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use crate::models::gradient_of;
use numerics::Level;
use numerics::chunks::{chunks, split_rows};
use numerics::elementwise::squared_error;
use numerics::host::{floats, with_slice};

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
        if found.device().is_cpu() && found.dtype() == DType::F32 {
            let op = ElboOp {
                elbo: *self,
                wanted: wanted.contiguous()?,
                gradient: Arc::default(),
            };
            let (mean, log_variance) = (mean.contiguous()?, log_variance.contiguous()?);
            return found.contiguous()?.apply_op3(&mean, &log_variance, op);
        }
        self.compose(found, wanted, mean, log_variance)
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

    fn compose(
        &self,
        found: &Tensor,
        wanted: &Tensor,
        mean: &Tensor,
        log_variance: &Tensor,
    ) -> Result<Tensor> {
        let errors = ((found - wanted)?.sqr()?.sum_all()? * (0.5 / self.deviation.powi(2)))?;
        let divergence =
            (((mean.sqr()? + log_variance.exp()?)? - log_variance)? - 1.0)?.sum_all()?;
        (errors + (divergence * (0.5 * self.beta))?)? / found.elem_count() as f64
    }
}

/// Reconstruction, mean and logarithmic variance to the loss. All are contiguous.
struct ElboOp {
    elbo: Elbo,
    wanted: Tensor,
    /// Of the reconstruction, as the forward pass found it.
    gradient: Arc<OnceLock<Vec<f32>>>,
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

impl CustomOp3 for ElboOp {
    fn name(&self) -> &'static str {
        "elbo"
    }

    fn cpu_fwd(
        &self,
        found: &CpuStorage,
        found_layout: &Layout,
        mean: &CpuStorage,
        mean_layout: &Layout,
        log_variance: &CpuStorage,
        log_variance_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let found = floats(found, found_layout)?;
        let Elbo { beta, deviation } = self.elbo;
        if self.wanted.elem_count() != found.len() {
            bail!("a reconstruction has another size than what it reconstructs")
        }
        let scale = 1.0 / (deviation * deviation * found.len() as f64);
        let (errors, gradient) = self.errors(found, scale as f32)?;
        let means = floats(mean, mean_layout)?;
        let mut divergence = 0.0;
        for (mean, log_variance) in means.iter().zip(floats(log_variance, log_variance_layout)?) {
            let (mean, log_variance) = (f64::from(*mean), f64::from(*log_variance));
            divergence += mean * mean + log_variance.exp() - log_variance - 1.0;
        }
        if self.gradient.set(gradient).is_err() {
            bail!("a lower bound was applied twice")
        }
        let loss = 0.5 * (errors * scale + beta * divergence / found.len() as f64);
        Ok((CpuStorage::F32(vec![loss as f32]), Shape::from(())))
    }

    fn bwd(
        &self,
        found: &Tensor,
        mean: &Tensor,
        log_variance: &Tensor,
        _: &Tensor,
        upstream: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let Some(gradient) = self.gradient.get() else {
            bail!("a lower bound was differentiated before it was applied")
        };
        // The forward pass found the gradient of the loss itself; what the loss is used for multiplies it.
        let upstream: f32 = upstream.to_scalar()?;
        let share = f64::from(upstream) * self.elbo.beta / found.elem_count() as f64;
        let of_found: Vec<f32> = gradient
            .iter()
            .map(|gradient| gradient * upstream)
            .collect();
        let of_mean = (mean * share)?;
        let of_log_variance = ((log_variance.exp()? - 1.0)? * (0.5 * share))?;
        Ok((
            gradient_of(found, of_found)?,
            Some(of_mean),
            Some(of_log_variance),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};
    use contract::Random;

    #[test]
    fn the_operation_agrees_with_its_composition() {
        let mut random = Random::new(1, "elbo");
        let mut draw = |rows: usize, columns: usize| {
            let values = (0..rows * columns)
                .map(|_| random.normal() as f32)
                .collect();
            Var::from_vec(values, (rows, columns), &Device::Cpu).unwrap()
        };
        let (found, wanted, mean, log_variance) =
            (draw(3, 37), draw(3, 37), draw(3, 4), draw(3, 4));
        let elbo = Elbo {
            beta: 0.7,
            deviation: 0.4,
        };
        let one = elbo.loss(&found, &wanted, &mean, &log_variance).unwrap();
        let other = elbo
            .compose(&found, &wanted.detach(), &mean, &log_variance)
            .unwrap();
        let scalar = |tensor: &Tensor| tensor.to_scalar::<f32>().unwrap();
        assert!((scalar(&one) / scalar(&other) - 1.0).abs() < 1e-5);
        let [one, other] = [one, other].map(|loss| (loss * 3.0).unwrap().backward().unwrap());
        for parameter in [&found, &mean, &log_variance] {
            let apart = (one.get(parameter).unwrap() - other.get(parameter).unwrap())
                .unwrap()
                .abs()
                .unwrap();
            assert!(scalar(&apart.flatten_all().unwrap().max(0).unwrap()) < 1e-5);
        }
    }
}

//! Stochastic variable connection (Su et al., section 3.3): each latent vector is drawn from a normal distribution whose
//! parameters depend on the one before it. One operation of Candle's graph on the CPU, composed elsewhere.

use candle_core::{CpuStorage, CustomOp3, DType, Layout, Result, Shape, Tensor};

use super::softplus;
use crate::models::{dot, gradient_of};
use numerics::host::{floats, with_slices};

/// The latent vectors of a batch, `[batch, length, latent]`, and the standard deviations that they were drawn with.
pub(super) struct Drawn {
    pub z: Tensor,
    pub deviation: Tensor,
}

/// Draws `z_t = mean + deviation * draws_t` with `(mean, s) = projected_t + z_{t-1} kernel` and
/// `deviation = softplus(s) + least`, from zeros on.
///
/// `projected` is `[batch, length, 2 * latent]`, `kernel` `[latent, 2 * latent]`, `draws` `[batch, length, latent]`.
pub(super) fn draw(
    projected: &Tensor,
    kernel: &Tensor,
    draws: &Tensor,
    least: f64,
) -> Result<Drawn> {
    let latent = kernel.dim(0)?;
    if projected.device().is_cpu() && projected.dtype() == DType::F32 {
        let op = Connected {
            latent,
            least: least as f32,
        };
        let both =
            projected
                .contiguous()?
                .apply_op3(&kernel.contiguous()?, &draws.contiguous()?, op)?;
        return Ok(Drawn {
            z: both.narrow(2, 0, latent)?,
            deviation: both.narrow(2, latent, latent)?,
        });
    }
    compose(projected, kernel, draws, least)
}

/// The same with Candle's own operations, on any device.
fn compose(projected: &Tensor, kernel: &Tensor, draws: &Tensor, least: f64) -> Result<Drawn> {
    let latent = kernel.dim(0)?;
    let (batch, length, _) = projected.dims3()?;
    let mut z = Tensor::zeros((batch, latent), projected.dtype(), projected.device())?;
    let (mut all, mut deviations) = (Vec::with_capacity(length), Vec::with_capacity(length));
    for time in 0..length {
        let (own, draws) = (projected.narrow(1, time, 1)?, draws.narrow(1, time, 1)?);
        let parameters = (own.squeeze(1)? + z.matmul(kernel)?)?;
        let deviation = (softplus(&parameters.narrow(1, latent, latent)?)? + least)?;
        z = (parameters.narrow(1, 0, latent)? + (&deviation * draws.squeeze(1)?)?)?;
        all.push(z.clone());
        deviations.push(deviation);
    }
    Ok(Drawn {
        z: Tensor::stack(&all, 1)?,
        deviation: Tensor::stack(&deviations, 1)?,
    })
}

/// Gives latent vectors and deviations side by side, `[batch, length, 2 * latent]`.
struct Connected {
    latent: usize,
    least: f32,
}

impl Connected {
    /// `projected + z kernel`, `[2 * latent]`.
    fn parameters(
        &self,
        projected: &[f32],
        kernel: &[f32],
        previous: Option<&[f32]>,
        target: &mut [f32],
    ) {
        target.copy_from_slice(projected);
        let Some(previous) = previous else { return };
        let rows = kernel.chunks_exact(2 * self.latent);
        for (z, row) in previous[..self.latent].iter().zip(rows) {
            for (target, weight) in target.iter_mut().zip(row) {
                *target += z * weight;
            }
        }
    }

    fn forward(&self, projected: &[f32], kernel: &[f32], draws: &[f32], length: usize) -> Vec<f32> {
        let width = 2 * self.latent;
        let mut both = vec![0.0; projected.len()];
        let mut parameters = vec![0.0; width];
        let rows = projected
            .chunks_exact(width)
            .zip(draws.chunks_exact(self.latent));
        for (index, (projected, draws)) in rows.enumerate() {
            let (before, after) = both.split_at_mut(index * width);
            let previous = (index % length > 0).then(|| &before[(index - 1) * width..]);
            self.parameters(projected, kernel, previous, &mut parameters);
            let (mean, spread) = parameters.split_at(self.latent);
            let (z, deviation) = after[..width].split_at_mut(self.latent);
            for unit in 0..self.latent {
                deviation[unit] = softplus_of(spread[unit]) + self.least;
                z[unit] = mean[unit] + deviation[unit] * draws[unit];
            }
        }
        both
    }

    /// The gradients of `projected` and `kernel`; `both` is what the forward pass gave.
    fn backward(
        &self,
        [projected, kernel, draws, both, gradient]: [&[f32]; 5],
        length: usize,
    ) -> [Vec<f32>; 2] {
        let (latent, width) = (self.latent, 2 * self.latent);
        let mut of_projected = vec![0.0; projected.len()];
        let mut of_kernel = vec![0.0; kernel.len()];
        let (mut parameters, mut carried) = (vec![0.0; width], vec![0.0; latent]);
        for index in (0..projected.len() / width).rev() {
            let row = index * width..(index + 1) * width;
            let previous = (index % length > 0).then(|| &both[row.start - width..row.start]);
            // From the last row of a window to its first: nothing is carried over from the next window.
            if index % length == length - 1 {
                carried.fill(0.0);
            }
            self.parameters(&projected[row.clone()], kernel, previous, &mut parameters);
            let (of_z, of_deviation) = gradient[row.clone()].split_at(latent);
            let own = &mut of_projected[row];
            for unit in 0..latent {
                let upstream = of_z[unit] + carried[unit];
                let spread = of_deviation[unit] + upstream * draws[index * latent + unit];
                own[unit] = upstream;
                // The slope of softplus is the logistic function.
                own[latent + unit] = spread / (1.0 + (-parameters[latent + unit]).exp());
            }
            let Some(previous) = previous else { continue };
            for unit in 0..latent {
                let weights = &kernel[unit * width..][..width];
                carried[unit] = dot(weights, own);
                for (sum, own) in of_kernel[unit * width..][..width].iter_mut().zip(&*own) {
                    *sum += previous[unit] * own;
                }
            }
        }
        [of_projected, of_kernel]
    }
}

/// `ln(1 + e^x)` without overflow.
fn softplus_of(x: f32) -> f32 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

impl CustomOp3 for Connected {
    fn name(&self) -> &'static str {
        "connected"
    }

    fn cpu_fwd(
        &self,
        projected: &CpuStorage,
        projected_layout: &Layout,
        kernel: &CpuStorage,
        kernel_layout: &Layout,
        draws: &CpuStorage,
        draws_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (_, length, _) = projected_layout.shape().dims3()?;
        let both = self.forward(
            floats(projected, projected_layout)?,
            floats(kernel, kernel_layout)?,
            floats(draws, draws_layout)?,
            length,
        );
        Ok((CpuStorage::F32(both), projected_layout.shape().clone()))
    }

    fn bwd(
        &self,
        projected: &Tensor,
        kernel: &Tensor,
        draws: &Tensor,
        both: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let gradient = gradient.contiguous()?;
        let length = projected.dim(1)?;
        let values = [projected, kernel, draws, both, &gradient];
        let [of_projected, of_kernel] =
            with_slices(values, |values| self.backward(values, length))?;
        Ok((
            gradient_of(projected, of_projected)?,
            gradient_of(kernel, of_kernel)?,
            None,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};
    use contract::Random;

    #[test]
    fn agrees_with_the_composed_way_forward_and_backward() {
        let mut random = Random::new(4, "connected");
        let mut var = |shape: &[usize]| {
            let values: Vec<f32> = (0..shape.iter().product())
                .map(|_| random.normal() as f32)
                .collect();
            Var::from_vec(values, shape, &Device::Cpu).unwrap()
        };
        let (batch, length, latent) = (3, 7, 2);
        let projected = var(&[batch, length, 2 * latent]);
        let kernel = var(&[latent, 2 * latent]);
        let draws = var(&[batch, length, latent]).as_tensor().detach();
        let weights = [var(&[batch, length, latent]), var(&[batch, length, latent])];
        let all = |drawn: Drawn| {
            let sum = ((&drawn.z * &*weights[0]).unwrap()
                + (&drawn.deviation * &*weights[1]).unwrap())
            .unwrap();
            let gradients = sum.sum_all().unwrap().backward().unwrap();
            let of = |var: &Var| gradients.get(var.as_tensor()).unwrap().clone();
            [drawn.z, drawn.deviation, of(&projected), of(&kernel)]
        };
        let found = all(draw(&projected, &kernel, &draws, 1e-4).unwrap());
        let expected = all(compose(&projected, &kernel, &draws, 1e-4).unwrap());
        for (found, expected) in found.iter().zip(&expected) {
            let values = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            for (found, expected) in values(found).iter().zip(values(expected)) {
                assert!(
                    (found - expected).abs() < 1e-5 * (1.0 + expected.abs()),
                    "{found} {expected}"
                );
            }
        }
    }
}

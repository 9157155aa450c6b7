//! Stochastic variable connection (Su et al., section 3.3): each latent vector is drawn from a normal distribution whose
//! parameters depend on the one before it.

use candle_core::{Result, Shape, Tensor};

use super::softplus;
use crate::models::dot;
use numerics::operation::{Input, Operation, apply};

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
    let both = apply(Connected { latent, least }, [projected, kernel, draws])?;
    Ok(Drawn {
        z: both.narrow(2, 0, latent)?,
        deviation: both.narrow(2, latent, latent)?,
    })
}

/// Gives latent vectors and deviations side by side, `[batch, length, 2 * latent]`.
pub(crate) struct Connected {
    latent: usize,
    least: f64,
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

    fn run(&self, projected: &[f32], kernel: &[f32], draws: &[f32], length: usize) -> Vec<f32> {
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
                deviation[unit] = softplus_of(spread[unit]) + self.least as f32;
                z[unit] = mean[unit] + deviation[unit] * draws[unit];
            }
        }
        both
    }

    /// The gradients of `projected` and `kernel`; `both` is what the forward pass gave.
    fn run_back(
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

impl Operation<3> for Connected {
    const LABEL: &'static str = "connected";

    fn compose(&self, [projected, kernel, draws]: [&Tensor; 3]) -> Result<Tensor> {
        let latent = self.latent;
        let (batch, length, _) = projected.dims3()?;
        let mut z = Tensor::zeros((batch, latent), projected.dtype(), projected.device())?;
        let mut rows = Vec::with_capacity(length);
        for time in 0..length {
            let (own, draws) = (projected.narrow(1, time, 1)?, draws.narrow(1, time, 1)?);
            let parameters = (own.squeeze(1)? + z.matmul(kernel)?)?;
            let deviation = (softplus(&parameters.narrow(1, latent, latent)?)? + self.least)?;
            z = (parameters.narrow(1, 0, latent)? + (&deviation * draws.squeeze(1)?)?)?;
            rows.push(Tensor::cat(&[&z, &deviation], 1)?);
        }
        Tensor::stack(&rows, 1)
    }

    fn forward(&self, inputs: [Input<'_>; 3]) -> Result<(Vec<f32>, Shape)> {
        let [projected, kernel, draws] = inputs.map(|input| input.values);
        let dims = inputs[0].dims;
        Ok((self.run(projected, kernel, draws, dims[1]), dims.into()))
    }

    fn backward(
        &self,
        inputs: [Input<'_>; 3],
        both: &[f32],
        gradient: &[f32],
    ) -> Result<[Option<Vec<f32>>; 3]> {
        let [projected, kernel, draws] = inputs.map(|input| input.values);
        let values = [projected, kernel, draws, both, gradient];
        let [of_projected, of_kernel] = self.run_back(values, inputs[0].dims[1]);
        Ok([Some(of_projected), Some(of_kernel), None])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use numerics::conformance::{Draw, Example, Examples};

    impl Examples<3> for Connected {
        fn examples(draw: &mut Draw) -> Vec<Example<Self, 3>> {
            let mut example = |(batch, length, latent)| Example {
                operation: Self {
                    latent,
                    least: 1e-4,
                },
                inputs: [
                    draw.variable(&[batch, length, 2 * latent]),
                    draw.between(-0.7, 0.7, &[latent, 2 * latent]),
                    draw.constant(&[batch, length, latent]),
                ],
            };
            [(1, 1, 1), (3, 7, 2), (5, 4, 9)].map(&mut example).into()
        }
    }
}

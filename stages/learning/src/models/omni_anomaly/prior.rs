//! The prior over latent vectors (Su et al., section 3.3): a linear Gaussian state space whose matrices are identities, that is
//! a random walk that is observed with noise. Its likelihood comes from the Kalman filter; nothing in it is learned.

use std::f64::consts::TAU;

use candle_core::{Device, Result, Tensor};

/// `s_0 ~ N(0, I)`, `s_{t+1} = s_t + N(0, I)`, observed as `s_t + N(0, I)`.
///
/// All variances are known beforehand, so what the filter says of a series is a product with a constant matrix.
#[derive(Clone, Debug)]
pub(super) struct RandomWalk {
    /// `[length, length]`: from a series to its innovations, in standard deviations.
    innovations: Tensor,
    /// `ln(2π variance) / 2` of each step, `[length]`.
    constants: Tensor,
}

impl RandomWalk {
    pub fn new(length: usize, device: &Device) -> Result<Self> {
        let mut innovations = vec![0.0_f32; length * length];
        let mut constants = Vec::with_capacity(length);
        // The weights of earlier values in the prediction of the next.
        let (mut prediction, mut variance) = (vec![0.0_f64; length], 1.0_f64);
        for time in 0..length {
            let spread = variance + 1.0;
            let scale = spread.sqrt();
            let row = &mut innovations[time * length..(time + 1) * length];
            for (weight, predicted) in row.iter_mut().zip(&prediction) {
                *weight = (-predicted / scale) as f32;
            }
            row[time] = (1.0 / scale) as f32;
            constants.push((0.5 * (TAU * spread).ln()) as f32);
            let gain = variance / spread;
            // The next prediction is this one, moved towards the value by the filter's gain.
            for weight in &mut prediction {
                *weight *= 1.0 - gain;
            }
            prediction[time] += gain;
            variance = variance * (1.0 - gain) + 1.0;
        }
        Ok(Self {
            innovations: Tensor::from_vec(innovations, (length, length), device)?,
            constants: Tensor::from_vec(constants, length, device)?,
        })
    }

    /// `ln p(z_t | z_<t)` of `[batch, length, latent]`, summed over components: `[batch, length]`.
    pub fn log_likelihood(&self, z: &Tensor) -> Result<Tensor> {
        let latent = z.dim(2)? as f64;
        let innovations = self.innovations.broadcast_matmul(&z.contiguous()?)?;
        (innovations.sqr()?.sum(2)? * -0.5)?.broadcast_sub(&(&self.constants * latent)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_the_joint_density_of_a_random_walk_seen_with_noise() {
        // Two values: variances 2 and 3, covariance 1; determinant 5, inverse [[3, -1], [-1, 2]] / 5.
        let (a, b) = (0.7_f64, -1.1_f64);
        let joint =
            -0.5 * (3.0 * a * a - 2.0 * a * b + 2.0 * b * b) / 5.0 - TAU.ln() - 0.5 * 5.0_f64.ln();
        let prior = RandomWalk::new(2, &Device::Cpu).unwrap();
        let z = Tensor::new(&[[[a as f32, 0.0], [b as f32, 0.0]]], &Device::Cpu).unwrap();
        let zeros = -TAU.ln() - 0.5 * 5.0_f64.ln();
        let found: f32 = prior
            .log_likelihood(&z)
            .unwrap()
            .sum_all()
            .unwrap()
            .to_scalar()
            .unwrap();
        assert!((f64::from(found) - joint - zeros).abs() < 1e-5, "{found}");
    }
}

//! Values that parameters and buffers start from, drawn from a seeded stream in the order of declaration.
//! The distributions are PyTorch's defaults; its stream of random numbers is not imitated.

use contract::Random;

/// How a tensor starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Initial {
    Zeros,
    Ones,
    Constant(f32),
    /// Normal with mean 0 and this standard deviation.
    Normal(f64),
    /// Uniform in ±1/√fan_in: weights and biases of linear and convolution layers.
    ///
    /// PyTorch writes it as `kaiming_uniform(a=√5)`, whose bound √(6 / ((1 + 5) · fan_in)) is the same.
    FanIn(usize),
    /// Normal with the variance 2/fan_out: convolutions in front of a ReLU (He et al., 2015, in the mode `fan_out`).
    KaimingNormal(usize),
    /// Uniform in ±√(6 / (fan_in + fan_out)) (Glorot and Bengio, AISTATS 2010): kernels of TensorFlow's layers.
    Glorot {
        fan_in: usize,
        fan_out: usize,
    },
}

impl Initial {
    pub fn draw(self, count: usize, random: &mut Random) -> Vec<f32> {
        match self {
            Self::Zeros => vec![0.0; count],
            Self::Ones => vec![1.0; count],
            Self::Constant(value) => vec![value; count],
            Self::KaimingNormal(fan_out) => {
                normal((2.0 / fan_out.max(1) as f64).sqrt(), count, random)
            }
            Self::Normal(deviation) => normal(deviation, count, random),
            Self::FanIn(fan_in) => uniform(1.0 / (fan_in.max(1) as f64).sqrt(), count, random),
            Self::Glorot { fan_in, fan_out } => uniform(
                (6.0 / (fan_in + fan_out).max(1) as f64).sqrt(),
                count,
                random,
            ),
        }
    }
}

fn uniform(bound: f64, count: usize, random: &mut Random) -> Vec<f32> {
    (0..count)
        .map(|_| random.range(-bound, bound) as f32)
        .collect()
}

fn normal(deviation: f64, count: usize, random: &mut Random) -> Vec<f32> {
    (0..count)
        .map(|_| (deviation * random.normal()) as f32)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fan_in_has_the_bounds_and_variance_of_the_uniform_distribution() {
        let draws = Initial::FanIn(25).draw(100_000, &mut Random::new(3, "init"));
        assert!(draws.iter().all(|draw| draw.abs() <= 0.2));
        let variance = draws.iter().map(|draw| f64::from(draw * draw)).sum::<f64>() / 1e5;
        assert!((variance - 0.04 / 3.0).abs() < 2e-4, "{variance}");
    }
}

//! Where a model's random draws come from: a generator, or a tensor that is given, so that its numbers can be compared with
//! those of another program.

use candle_core::{Device, Result, Tensor, bail};

use contract::Random;

/// The seed of the draws with which windows are scored, the same for every window of every batch.
const SCORING: u64 = 0;

/// Standard normal draws.
#[derive(Clone, Debug, Default)]
pub enum Draws {
    /// From the generator that is passed.
    #[default]
    Fresh,
    /// These, for every use.
    Given(Tensor),
}

impl Draws {
    /// A tensor of this shape. Given draws are repeated along axes where they have a length of one.
    ///
    /// # Errors
    /// If given draws have another shape.
    pub fn normal(&self, shape: &[usize], random: &mut Random, device: &Device) -> Result<Tensor> {
        self.draw(shape, device, || random.normal())
    }

    /// The same of a normal distribution that is cut off at two standard deviations.
    ///
    /// # Errors
    /// If given draws have another shape.
    pub fn truncated_normal(
        &self,
        shape: &[usize],
        random: &mut Random,
        device: &Device,
    ) -> Result<Tensor> {
        // By rejection, as TensorFlow does it.
        self.draw(shape, device, || {
            loop {
                let draw = random.normal();
                if draw.abs() < 2.0 {
                    break draw;
                }
            }
        })
    }

    fn draw(
        &self,
        shape: &[usize],
        device: &Device,
        mut draw: impl FnMut() -> f64,
    ) -> Result<Tensor> {
        match self {
            Self::Fresh => {
                let values: Vec<f32> = (0..shape.iter().product()).map(|_| draw() as f32).collect();
                numerics::upload(values, shape, device)
            }
            Self::Given(given) => match given.broadcast_as(shape) {
                Ok(repeated) => repeated.contiguous(),
                Err(_) => bail!("draws of {:?} for {shape:?} were given", given.dims()),
            },
        }
    }
}

/// The generator for scoring, always from its beginning.
pub fn scoring() -> Random {
    Random::new(SCORING, "scoring")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_have_the_moments_of_their_distributions() {
        let mut random = Random::new(1, "draws");
        let moments = |tensor: Tensor| {
            let values: Vec<f32> = tensor.to_vec1().unwrap();
            let mean =
                values.iter().map(|value| f64::from(*value)).sum::<f64>() / values.len() as f64;
            let square = values
                .iter()
                .map(|value| f64::from(*value).powi(2))
                .sum::<f64>()
                / values.len() as f64;
            (
                mean,
                square,
                values
                    .iter()
                    .fold(0.0_f32, |most, value| most.max(value.abs())),
            )
        };
        let (mean, square, _) = moments(
            Draws::Fresh
                .normal(&[100_000], &mut random, &Device::Cpu)
                .unwrap(),
        );
        assert!(
            mean.abs() < 0.02 && (square - 1.0).abs() < 0.02,
            "{mean} {square}"
        );
        let truncated = Draws::Fresh
            .truncated_normal(&[100_000], &mut random, &Device::Cpu)
            .unwrap();
        let (mean, square, most) = moments(truncated);
        // 1 - 2 · 2 φ(2) / (2 Φ(2) - 1)
        assert!(
            mean.abs() < 0.02 && (square - 0.7737).abs() < 0.01 && most < 2.0,
            "{mean} {square} {most}"
        );
    }

    #[test]
    fn given_draws_are_repeated_or_refused() {
        let given = Draws::Given(Tensor::new(&[[1_f32], [2.0]], &Device::Cpu).unwrap());
        let mut random = Random::new(1, "draws");
        let found = given.normal(&[2, 3], &mut random, &Device::Cpu).unwrap();
        assert_eq!(found.to_vec2::<f32>().unwrap(), [[1.0; 3], [2.0; 3]]);
        let error = given
            .normal(&[3, 3], &mut random, &Device::Cpu)
            .unwrap_err()
            .to_string();
        assert!(error.contains("[3, 3]"), "{error}");
    }
}

//! Anomaly attention (section 3.2 of the paper): self-attention whose weights, the series association, are compared with
//! a Gaussian of the distance between rows, the prior association. On the CPU both live in the cache only.

mod op;

use candle_core::{D, DType, Result, Tensor};

use numerics::attention::{combine, weights};
use numerics::dropout::Dropout;
use op::AssociationOp;

/// Added to probabilities before their logarithm is taken, as the authors' program does: far rows have none.
const EPSILON: f64 = 1e-4;

/// Which side of an association the gradient of its discrepancy reaches, and times what. The other side counts as
/// constant there (the paper's stop-gradient).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Pull {
    pub series: f64,
    pub prior: f64,
}

impl Pull {
    pub const NONE: Self = Self {
        series: 0.0,
        prior: 0.0,
    };
    pub const SERIES: Self = Self {
        series: 1.0,
        prior: 0.0,
    };
    pub const PRIOR: Self = Self {
        series: 0.0,
        prior: 1.0,
    };
}

/// One layer's attention.
#[derive(Clone, Copy, Debug)]
pub(super) struct Association {
    pub heads: usize,
    /// Of the attention weights, where values are combined; the discrepancy is that of the weights before it.
    pub dropout: Dropout,
    pub pull: Pull,
}

impl Association {
    /// From queries, keys and values side by side, `[batch, length, 3 * width]`, and σ, `[batch, length, heads]`: what the
    /// heads found, `[batch, length, width]`, and the discrepancy, `[batch, length]`.
    ///
    /// The discrepancy is the mean over heads of KL(series, prior) + KL(prior, series).
    pub fn forward(&self, projected: &Tensor, sigma: &Tensor) -> Result<(Tensor, Tensor)> {
        if projected.device().is_cpu() && projected.dtype() == DType::F32 {
            let (batch, length, triple) = projected.dims3()?;
            let width = triple / 3;
            let both = projected.apply_op2(&sigma.contiguous()?, AssociationOp(*self))?;
            let count = batch * length * width;
            return Ok((
                both.narrow(0, 0, count)?.reshape((batch, length, width))?,
                both.narrow(0, count, batch * length)?
                    .reshape((batch, length))?,
            ));
        }
        self.compose(projected, sigma)
    }

    /// The same with Candle's own operations, on any device.
    fn compose(&self, projected: &Tensor, sigma: &Tensor) -> Result<(Tensor, Tensor)> {
        let series = weights(projected, self.heads)?;
        let found = combine(
            &(&series * self.dropout.mask(&series)?)?,
            projected,
            self.heads,
        )?;
        let prior = prior(sigma)?;
        let prior = prior.broadcast_div(&prior.sum_keepdim(D::Minus1)?)?;
        let reached = discrepancy(&series, &prior.detach())?;
        let other = discrepancy(&series.detach(), &prior)?;
        // The value once, and the gradients of both sides: x - x.detach() is 0 with the gradient of x.
        let pulled = ((&reached - reached.detach())? * self.pull.series)?;
        let pulled = (pulled + ((&other - other.detach())? * self.pull.prior)?)?;
        Ok((found, (reached.detach() + pulled)?))
    }
}

/// Mean over heads of the sum over keys of (s - p) (ln(s + ε) - ln(p + ε)), which is both divergences: `[batch, length]`.
fn discrepancy(series: &Tensor, prior: &Tensor) -> Result<Tensor> {
    let logarithms = ((series + EPSILON)?.log()? - (prior + EPSILON)?.log()?)?;
    ((series - prior)? * logarithms)?.sum(D::Minus1)?.mean(1)
}

/// The Gaussian of the distance between rows, not yet normalised over keys: `[batch, heads, length, length]`, from σ,
/// `[batch, length, heads]`.
pub(super) fn prior(sigma: &Tensor) -> Result<Tensor> {
    let length = sigma.dim(1)?;
    let mut squares = Vec::with_capacity(length * length);
    for row in 0..length {
        for other in 0..length {
            let distance = row as f32 - other as f32;
            squares.push(distance * distance);
        }
    }
    let squares = Tensor::from_vec(squares, (1, 1, length, length), sigma.device())?;
    let squares = squares.to_dtype(sigma.dtype())?;
    let sigma = sigma.transpose(1, 2)?.unsqueeze(3)?;
    let exponent = squares.broadcast_div(&(sigma.sqr()? * 2.0)?)?.neg()?;
    exponent
        .exp()?
        .broadcast_div(&(sigma * std::f64::consts::TAU.sqrt())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};
    use contract::Random;
    use numerics::Mode;

    fn variable(shape: (usize, usize, usize), low: f64, high: f64, random: &mut Random) -> Var {
        let values: Vec<f32> = (0..shape.0 * shape.1 * shape.2)
            .map(|_| random.range(low, high) as f32)
            .collect();
        Var::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    fn apart(found: &Tensor, expected: &Tensor) -> f32 {
        assert_eq!(found.dims(), expected.dims());
        let scalar = |tensor: Tensor| {
            tensor
                .abs()
                .unwrap()
                .flatten_all()
                .unwrap()
                .max(0)
                .unwrap()
                .to_scalar::<f32>()
                .unwrap()
        };
        scalar((found - expected).unwrap()) / scalar(expected.clone()).max(1e-3)
    }

    #[test]
    fn the_operation_agrees_with_candle_forward_and_backward() {
        let mut random = Random::new(6, "association");
        for (batch, length, width, heads, rate, pull) in [
            (2, 5, 4, 2, 0.0, Pull::SERIES),
            (3, 9, 6, 3, 0.0, Pull::PRIOR),
            (
                17,
                20,
                8,
                1,
                0.0,
                Pull {
                    series: -1.0,
                    prior: 1.0,
                },
            ),
            (
                2,
                33,
                10,
                5,
                0.3,
                Pull {
                    series: -1.0,
                    prior: 1.0,
                },
            ),
            (
                1,
                1,
                2,
                1,
                0.0,
                Pull {
                    series: 1.0,
                    prior: 1.0,
                },
            ),
        ] {
            let projected = variable((batch, length, 3 * width), -1.5, 1.5, &mut random);
            let sigma = variable((batch, length, heads), 0.05, 2.0, &mut random);
            let upstream = variable((batch, length, width), -1.0, 1.0, &mut random);
            let weights = variable((1, batch, length), -1.0, 1.0, &mut random)
                .squeeze(0)
                .unwrap();
            let association = Association {
                heads,
                dropout: Dropout::draw(rate, Mode::Train, &mut random),
                pull,
            };
            let found = association.forward(&projected, &sigma).unwrap();
            let expected = association.compose(&projected, &sigma).unwrap();
            assert!(apart(&found.0, &expected.0) < 1e-5);
            assert!(apart(&found.1, &expected.1) < 1e-5);
            let differentiate = |(values, discrepancies): &(Tensor, Tensor)| {
                let sum = (values * upstream.as_tensor()).unwrap().sum_all().unwrap();
                let sum = (sum + (discrepancies * &weights).unwrap().sum_all().unwrap()).unwrap();
                let store = sum.backward().unwrap();
                // Candle leaves out what is multiplied by 0.
                let of = |variable: &Var| {
                    store
                        .get(variable)
                        .cloned()
                        .unwrap_or(variable.zeros_like().unwrap())
                };
                [&projected, &sigma].map(of)
            };
            for (found, expected) in differentiate(&found).iter().zip(differentiate(&expected)) {
                assert!(
                    apart(found, &expected) < 3e-5,
                    "{pull:?}: {}",
                    apart(found, &expected)
                );
            }
        }
    }

    #[test]
    fn a_prior_like_the_attention_has_no_discrepancy_and_tiny_widths_stay_finite() {
        // Equal queries attend evenly; a very wide prior is even too.
        let projected = Tensor::ones((1, 8, 12), DType::F32, &Device::Cpu).unwrap();
        let association = Association {
            heads: 2,
            dropout: Dropout::NONE,
            pull: Pull::SERIES,
        };
        let discrepancy = |width: f32| {
            let sigma = Tensor::full(width, (1, 8, 2), &Device::Cpu).unwrap();
            association
                .forward(&projected, &sigma)
                .unwrap()
                .1
                .flatten_all()
                .unwrap()
                .to_vec1::<f32>()
                .unwrap()
        };
        assert!(discrepancy(1e4).iter().all(|value| value.abs() < 1e-6));
        assert!(
            discrepancy(1.1e-5)
                .iter()
                .all(|value| value.is_finite() && *value > 1.0)
        );
    }
}

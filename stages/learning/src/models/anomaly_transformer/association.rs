//! Anomaly attention (section 3.2 of the paper): self-attention whose weights, the series association, are compared with
//! a Gaussian of the distance between rows, the prior association. On the CPU both live in the cache only.

pub(crate) mod op;

use candle_core::{D, Result, Tensor};

use numerics::dropout::Dropout;
use numerics::operation::apply;
use op::AssociationOp;

/// Added to probabilities before their logarithm is taken, as the authors' program does: far rows have none.
const EPSILON: f64 = 1e-4;

/// Which side of an association the gradient of its discrepancy reaches, and times what. The other side counts as
/// constant there (the paper's stop-gradient).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Pull {
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
pub(crate) struct Association {
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
        let (batch, length, triple) = projected.dims3()?;
        let width = triple / 3;
        let both = apply(AssociationOp(*self), [projected, sigma])?;
        let count = batch * length * width;
        Ok((
            both.narrow(0, 0, count)?.reshape((batch, length, width))?,
            both.narrow(0, count, batch * length)?
                .reshape((batch, length))?,
        ))
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
    use candle_core::{DType, Device};

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

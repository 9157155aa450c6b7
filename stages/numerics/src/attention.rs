//! Multi-head self-attention (Vaswani et al., "Attention Is All You Need", NeurIPS 2017), without masks.
//! Residuals and normalisation around it belong to models.

#[cfg(feature = "cuda")]
mod cuda;
pub mod head;
pub(crate) mod op;

use candle_core::{D, Result, Tensor, bail};

use super::dropout::Dropout;
use super::linear::{self, Linear};
use super::operation::apply;
use super::precision::matmul;
use super::state::StateBuilder;
use op::AttentionOp;

/// Projections of the input to queries, keys and values, and of what the heads found to the output.
#[derive(Clone, Debug)]
pub struct MultiHeadAttention {
    pub(crate) query: Linear,
    pub(crate) key: Linear,
    pub(crate) value: Linear,
    pub output: Linear,
    pub(crate) heads: usize,
}

impl MultiHeadAttention {
    /// A layer of `heads` heads over rows of `width` values; the parameters are called `NAME.query_projection` and so on.
    ///
    /// # Errors
    /// If the heads do not share the width evenly.
    pub fn new(
        builder: &mut StateBuilder<'_>,
        name: &str,
        width: usize,
        heads: usize,
    ) -> Result<Self> {
        if heads == 0 || !width.is_multiple_of(heads) {
            bail!("{heads} heads cannot share {width} values evenly")
        }
        let mut linear =
            |part: &str| Linear::new(builder, &format!("{name}.{part}_projection"), width, width);
        Ok(Self {
            query: linear("query")?,
            key: linear("key")?,
            value: linear("value")?,
            output: linear("out")?,
            heads,
        })
    }

    /// `x`, `[batch, length, width]`, to the same shape. `dropout` is that of the attention weights.
    ///
    /// # Errors
    /// If the last axis is not as wide as the layer.
    pub fn forward(&self, x: &Tensor, dropout: Dropout) -> Result<Tensor> {
        let projected = self.project(x)?;
        let heads = self.heads;
        let found = apply(AttentionOp { heads, dropout }, [&projected])?;
        self.output.forward(&found)
    }

    /// Queries, keys and values side by side, `[batch, length, 3 * width]`, by one product.
    ///
    /// # Errors
    /// If the last axis is not as wide as the layer.
    pub fn project(&self, x: &Tensor) -> Result<Tensor> {
        linear::forward_together(x, &[&self.query, &self.key, &self.value])
    }
}

/// One of the three parts of a projection, `[batch, heads, length, width / heads]`.
fn part(projected: &Tensor, index: usize, heads: usize) -> Result<Tensor> {
    let (batch, length, triple) = projected.dims3()?;
    let width = triple / 3;
    let part = projected.narrow(2, index * width, width)?;
    part.reshape((batch, length, heads, width / heads))?
        .transpose(1, 2)?
        .contiguous()
}

/// The attention of every row to every row, `[batch, heads, length, length]`, with Candle's own operations.
pub fn weights(projected: &Tensor, heads: usize) -> Result<Tensor> {
    let (query, key) = (part(projected, 0, heads)?, part(projected, 1, heads)?);
    let scale = 1.0 / (query.dim(3)? as f64).sqrt();
    candle_nn::ops::softmax(&(matmul(&query, &key.t()?)? * scale)?, D::Minus1)
}

/// The values of every row, weighted: `[batch, length, width]`, with Candle's own operations.
pub fn combine(weights: &Tensor, projected: &Tensor, heads: usize) -> Result<Tensor> {
    let (batch, length, triple) = projected.dims3()?;
    let found = matmul(weights, &part(projected, 2, heads)?)?;
    found
        .transpose(1, 2)?
        .contiguous()?
        .reshape((batch, length, triple / 3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;
    use contract::Random;

    #[test]
    fn heads_share_the_width_evenly() {
        let mut random = Random::new(4, "attention");
        let mut builder = StateBuilder::new(&Device::Cpu, &mut random);
        let error = MultiHeadAttention::new(&mut builder, "a", 6, 4).unwrap_err();
        let told = error.to_string();
        assert!(
            told.contains("4 heads") && told.contains("6 values"),
            "{told}"
        );
    }

    /// A projection of all three parts at once is that of each.
    #[test]
    fn parts_are_projected_side_by_side() {
        let mut random = Random::new(4, "attention");
        let mut builder = StateBuilder::new(&Device::Cpu, &mut random);
        let layer = MultiHeadAttention::new(&mut builder, "a", 6, 2).unwrap();
        let values: Vec<f32> = (0..60).map(|_| random.range(-1.5, 1.5) as f32).collect();
        let x = Tensor::from_vec(values, (2, 5, 6), &Device::Cpu).unwrap();
        let projected = layer.project(&x).unwrap();
        for (index, part) in [&layer.query, &layer.key, &layer.value].iter().enumerate() {
            let found = projected.narrow(2, 6 * index, 6).unwrap();
            let apart = (found - part.forward(&x).unwrap()).unwrap().abs().unwrap();
            assert!(apart.max_all().unwrap().to_scalar::<f32>().unwrap() < 1e-6);
        }
    }
}

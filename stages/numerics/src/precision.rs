//! The precision of products: 32 bits, or 16-bit operands whose products are added up in 32 bits.
//! It concerns what is composed of Candle's operations, as on a GPU; the CPU kernels know 32 bits alone.

use std::cell::Cell;

use candle_core::{DType, Result, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The format of the operands of matrix products and convolutions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// IEEE 754 single precision.
    #[default]
    F32,
    /// bfloat16: the range of single precision with 8 bits of mantissa. On CUDA only. Weights, their updates, sums and
    /// everything else that is not a product stay in single precision, so no scaling of losses is needed (Kalamkar et al., 2019).
    Bf16,
}

thread_local! {
    static CURRENT: Cell<Precision> = const { Cell::new(Precision::F32) };
}

/// Puts back what held before, also when the work panics.
struct Restore(Precision);

impl Drop for Restore {
    fn drop(&mut self) {
        CURRENT.set(self.0);
    }
}

impl Precision {
    /// What the calling thread's products have now.
    #[cfg(feature = "cuda")]
    pub(crate) fn current() -> Self {
        CURRENT.get()
    }

    /// Does `work` with products of this precision on the calling thread.
    pub fn during<R>(self, work: impl FnOnce() -> R) -> R {
        let _restore = Restore(CURRENT.replace(self));
        work()
    }
}

/// The matrix product in the precision that [`Precision::during`] has set, as a tensor of the left operand's type.
///
/// # Errors
/// If the shapes do not fit.
pub fn matmul(left: &Tensor, right: &Tensor) -> Result<Tensor> {
    if CURRENT.get() == Precision::F32 || left.dtype() != DType::F32 {
        return left.matmul(right);
    }
    left.to_dtype(DType::BF16)?
        .matmul(&right.to_dtype(DType::BF16)?)?
        .to_dtype(DType::F32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};
    use contract::Random;

    #[test]
    fn products_of_short_operands_are_near_and_have_gradients() {
        let mut random = Random::new(4, "precision");
        let mut draw = |shape: (usize, usize)| {
            let values: Vec<f32> = (0..shape.0 * shape.1)
                .map(|_| random.normal() as f32)
                .collect();
            Var::from_vec(values, shape, &Device::Cpu).unwrap()
        };
        let (left, right) = (draw((5, 64)), draw((64, 3)));
        let whole = matmul(&left, &right).unwrap();
        let short = Precision::Bf16.during(|| matmul(&left, &right)).unwrap();
        let apart = (&whole - &short)
            .unwrap()
            .abs()
            .unwrap()
            .max_all()
            .unwrap()
            .to_scalar::<f32>()
            .unwrap();
        // 64 products with a relative error of up to 2⁻⁸ each, and the result's own.
        assert!(apart > 1e-5 && apart < 0.25, "{apart}");
        assert_eq!(short.dtype(), DType::F32);
        let gradients = short.sum_all().unwrap().backward().unwrap();
        assert_eq!(gradients.get(&left).unwrap().dtype(), DType::F32);
        // The precision ends with the work.
        let again = matmul(&left, &right).unwrap();
        assert_eq!(
            again.to_vec2::<f32>().unwrap(),
            whole.to_vec2::<f32>().unwrap()
        );
    }
}

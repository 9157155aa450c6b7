//! Parameters side by side in one tensor, because Candle's graph allows an operation three tensors at most. Their gradients
//! come from one, of which each gets its part where it lies.

use candle_core::{Result, Shape, Tensor, Var, bail};

use super::gradients;
use super::host::with_slice;

/// Parameters as one tensor that goes into an operation.
#[derive(Clone, Debug)]
pub struct Packed {
    tensor: Tensor,
    /// What it is made of, if an operation's kernels may pass their gradients to them.
    parts: Vec<Tensor>,
    shape: Shape,
}

impl Packed {
    /// One after the other, as a tensor of this shape.
    ///
    /// # Errors
    /// If their values are not as many as the shape has, or a tensor operation fails.
    pub fn new(parts: &[&Tensor], shape: impl Into<Shape>) -> Result<Self> {
        let shape = shape.into();
        let count: usize = parts.iter().map(|part| part.elem_count()).sum();
        if count != shape.elem_count() {
            bail!("{count} values cannot be packed as {shape:?}")
        }
        let parts: Vec<Tensor> = parts.iter().map(|part| (*part).clone()).collect();
        let mut packed = Self {
            tensor: parts[0].clone(),
            parts,
            shape,
        };
        if packed.are_variables() {
            packed.tensor = packed.copied()?;
        } else {
            packed.tensor = packed.composed()?;
            packed.parts.clear();
        }
        Ok(packed)
    }

    pub fn tensor(&self) -> &Tensor {
        &self.tensor
    }

    /// Whether every part is a parameter itself.
    fn are_variables(&self) -> bool {
        let is_plain =
            |part: &Tensor| part.is_variable() && part.dtype() == candle_core::DType::F32;
        self.parts.iter().all(is_plain)
    }

    /// The same by Candle's operations, so that it is differentiated like any other tensor.
    pub(crate) fn composed(&self) -> Result<Tensor> {
        if self.parts.is_empty() {
            return Ok(self.tensor.clone());
        }
        let mut flat = Vec::with_capacity(self.parts.len());
        for part in &self.parts {
            flat.push(part.flatten_all()?);
        }
        Tensor::cat(&flat, 0)?.reshape(self.shape.clone())
    }

    /// A variable of its own, which is in nobody's state.
    fn copied(&self) -> Result<Tensor> {
        #[cfg(feature = "cuda")]
        if self.parts[0].device().is_cuda() {
            return crate::cuda::slots::pack(&self.parts, self.shape.clone());
        }
        let mut values = Vec::with_capacity(self.shape.elem_count());
        for part in &self.parts {
            with_slice(&part.contiguous()?, |part| values.extend_from_slice(part))?;
        }
        let copy = Var::from_vec(values, self.shape.clone(), self.parts[0].device())?;
        Ok(copy.into_inner())
    }

    /// Passes each part its share of the gradient; what is left goes through Candle's store.
    ///
    /// # Errors
    /// If the gradients are not asked for by [`crate::Slopes::of`].
    pub(crate) fn take(&self, gradient: Tensor) -> Result<Option<Tensor>> {
        if self.parts.is_empty() {
            return gradients::take(&self.tensor, gradient);
        }
        let (flat, mut start) = (gradient.flatten_all()?, 0);
        for part in &self.parts {
            let count = part.elem_count();
            let share = flat.narrow(0, start, count)?.reshape(part.shape())?;
            if gradients::take(part, share)?.is_some() {
                bail!("gradients of packed parameters are asked for by `Slopes::of`")
            }
            start += count;
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};

    #[test]
    fn parts_lie_side_by_side_and_others_are_composed() {
        let of = |values: &[f32]| Var::new(values, &Device::Cpu).unwrap();
        let (one, other) = (of(&[1.0, 2.0]), of(&[3.0]));
        let packed = Packed::new(&[&one, &other], 3).unwrap();
        assert_eq!(
            packed.tensor().to_vec1::<f32>().unwrap(),
            packed.composed().unwrap().to_vec1::<f32>().unwrap()
        );
        assert!(Packed::new(&[&one, &other], 4).is_err());
        // What is not a parameter is differentiated through.
        let twice = (one.as_tensor() * 2.0).unwrap();
        let packed = Packed::new(&[&twice, &other], (3, 1)).unwrap();
        let loss = packed.tensor().sum_all().unwrap();
        let store = loss.backward().unwrap();
        let gradient = store.get(&one).unwrap();
        assert_eq!(gradient.to_vec1::<f32>().unwrap(), [2.0, 2.0]);
        let wide = Var::zeros(2, DType::F64, &Device::Cpu).unwrap();
        let packed = Packed::new(&[&wide], 2).unwrap();
        assert_eq!(packed.tensor().dtype(), DType::F64);
    }
}

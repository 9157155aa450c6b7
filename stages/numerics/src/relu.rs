//! `max(x, 0)` in one pass, and its gradient in another; Candle's own compares, converts and multiplies in turn.

use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor};

use super::chunks::{chunks, fill_rows};
use super::host::{floats, with_slices};

/// `max(x, 0)` of every value; a NaN stays one. The gradient at 0 is 0, as in PyTorch.
///
/// # Errors
/// If a tensor operation fails.
pub fn relu(x: &Tensor) -> Result<Tensor> {
    if x.device().is_cpu() && x.dtype() == DType::F32 {
        return x.contiguous()?.apply_op1(ReluOp);
    }
    x.relu()
}

struct ReluOp;

impl CustomOp1 for ReluOp {
    fn name(&self) -> &'static str {
        "relu"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = floats(x, layout)?;
        let ([target], _) = fill_rows(&chunks(x.len()), [1], |range, [target]| {
            let values = target.iter_mut().zip(&x[range]);
            values.for_each(|(target, x)| *target = if *x > 0.0 || x.is_nan() { *x } else { 0.0 });
        });
        Ok((CpuStorage::F32(target), layout.shape().clone()))
    }

    fn bwd(&self, _: &Tensor, y: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let values = with_slices([y, &gradient.contiguous()?], |[y, gradient]| {
            let ([target], _) = fill_rows(&chunks(y.len()), [1], |range, [target]| {
                let values = target
                    .iter_mut()
                    .zip(y[range.clone()].iter().zip(&gradient[range]));
                values.for_each(|(target, (y, gradient))| {
                    *target = if *y > 0.0 { *gradient } else { 0.0 }
                });
            });
            target
        })?;
        Tensor::from_vec(values, y.shape(), y.device()).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    #[test]
    fn values_and_gradients_are_those_of_the_definition() {
        let x: Vec<f32> = (0..1003).map(|index| (index % 7) as f32 - 3.0).collect();
        let upstream: Vec<f32> = (0..1003).map(|index| index as f32).collect();
        let var = Var::new(&x[..], &Device::Cpu).unwrap();
        let y = relu(&var).unwrap();
        let expected: Vec<f32> = x.iter().map(|x| x.max(0.0)).collect();
        assert_eq!(y.to_vec1::<f32>().unwrap(), expected);
        let loss = (y * Tensor::new(&upstream[..], &Device::Cpu).unwrap())
            .unwrap()
            .sum_all()
            .unwrap();
        let found = loss
            .backward()
            .unwrap()
            .get(&var)
            .unwrap()
            .to_vec1::<f32>()
            .unwrap();
        let expected: Vec<f32> = x
            .iter()
            .zip(&upstream)
            .map(|(x, upstream)| if *x > 0.0 { *upstream } else { 0.0 })
            .collect();
        assert_eq!(found, expected);
        let nan = relu(&Tensor::new(&[f32::NAN, -1.0], &Device::Cpu).unwrap())
            .unwrap()
            .to_vec1::<f32>()
            .unwrap();
        assert!(nan[0].is_nan() && nan[1] == 0.0);
    }
}

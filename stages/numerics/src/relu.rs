//! `max(x, 0)` in one pass, and its gradient in another; Candle's own compares, converts and multiplies in turn.

#[cfg(feature = "cuda")]
mod cuda;

use candle_core::{Result, Shape, Tensor};

use super::chunks::{chunks, fill_rows};
#[cfg(feature = "cuda")]
use super::operation::OnCuda;
use super::operation::{Input, Operation, apply};

/// `max(x, 0)` of every value; a NaN stays one. The gradient at 0 is 0, as in PyTorch.
///
/// # Errors
/// If a tensor operation fails.
pub fn relu(x: &Tensor) -> Result<Tensor> {
    apply(ReluOp, [x])
}

pub(crate) struct ReluOp;

impl Operation<1> for ReluOp {
    const LABEL: &'static str = "relu";

    #[cfg(feature = "cuda")]
    fn on_cuda(&self, _: [&[usize]; 1]) -> Option<&dyn OnCuda<1>> {
        Some(self)
    }

    fn compose(&self, [x]: [&Tensor; 1]) -> Result<Tensor> {
        x.relu()
    }

    fn forward(&self, [x]: [Input<'_>; 1]) -> Result<(Vec<f32>, Shape)> {
        let ([target], _) = fill_rows(&chunks(x.values.len()), [1], |range, [target]| {
            for (target, x) in target.iter_mut().zip(&x.values[range]) {
                *target = if *x > 0.0 || x.is_nan() { *x } else { 0.0 };
            }
        });
        Ok((target, x.dims.into()))
    }

    fn backward(
        &self,
        _: [Input<'_>; 1],
        y: &[f32],
        gradient: &[f32],
    ) -> Result<[Option<Vec<f32>>; 1]> {
        let ([target], _) = fill_rows(&chunks(y.len()), [1], |range, [target]| {
            let sources = y[range.clone()].iter().zip(&gradient[range]);
            for (target, (y, gradient)) in target.iter_mut().zip(sources) {
                *target = if *y > 0.0 { *gradient } else { 0.0 };
            }
        });
        Ok([Some(target)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::{Draw, Example, Examples};
    use candle_core::{Device, Var};

    impl Examples<1> for ReluOp {
        fn examples(draw: &mut Draw) -> Vec<Example<Self, 1>> {
            let mut example = |dims: &[usize]| Example {
                operation: Self,
                inputs: [draw.variable(dims)],
            };
            vec![example(&[1]), example(&[5, 3]), example(&[1003])]
        }
    }

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

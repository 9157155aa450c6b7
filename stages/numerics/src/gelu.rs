//! The Gaussian error linear unit in its exact form, x · Φ(x) (Hendrycks and Gimpel, 2016).
//! The approximation by a hyperbolic tangent is not here.

#[cfg(feature = "cuda")]
mod cuda;

use candle_core::{Result, Shape, Tensor};

use super::chunks::{chunks, fill_rows};
use super::elementary::normal;
#[cfg(feature = "cuda")]
use super::operation::OnCuda;
use super::operation::{Input, Operation, apply};
use super::simd::{Level, vectorised};

/// x · Φ(x) of every value.
///
/// # Errors
/// If a tensor operation fails.
pub(crate) fn gelu(x: &Tensor) -> Result<Tensor> {
    apply(GeluOp, [x])
}

pub(crate) struct GeluOp;

impl Operation<1> for GeluOp {
    const LABEL: &'static str = "gelu";

    #[cfg(feature = "cuda")]
    fn on_cuda(&self, _: [&[usize]; 1]) -> Option<&dyn OnCuda<1>> {
        Some(self)
    }

    fn compose(&self, [x]: [&Tensor; 1]) -> Result<Tensor> {
        x.gelu_erf()
    }

    fn forward(&self, [x]: [Input<'_>; 1]) -> Result<(Vec<f32>, Shape)> {
        let ([target], _) = fill_rows(&chunks(x.values.len()), [1], |range, [target]| {
            gelu_forward(Level::detect(), &x.values[range], target);
        });
        Ok((target, x.dims.into()))
    }

    fn backward(
        &self,
        [x]: [Input<'_>; 1],
        _: &[f32],
        gradient: &[f32],
    ) -> Result<[Option<Vec<f32>>; 1]> {
        let ([target], _) = fill_rows(&chunks(x.values.len()), [1], |range, [target]| {
            target.copy_from_slice(&gradient[range.clone()]);
            gelu_backward(Level::detect(), &x.values[range], target);
        });
        Ok([Some(target)])
    }
}

vectorised! {
    /// `target = x · Φ(x)`.
    pub(crate) fn gelu_forward(x: &[f32], target: &mut [f32]) {
        for (target, x) in target.iter_mut().zip(x) {
            *target = x * normal(*x).0;
        }
    }
}

vectorised! {
    /// `gradient *= Φ(x) + x · φ(x)`, the slope of [`gelu_forward`].
    pub(crate) fn gelu_backward(x: &[f32], gradient: &mut [f32]) {
        for (gradient, x) in gradient.iter_mut().zip(x) {
            let (below, density) = normal(*x);
            *gradient *= below + x * density;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::{Draw, Example, Examples};
    use candle_core::{Device, Var};

    impl Examples<1> for GeluOp {
        fn examples(draw: &mut Draw) -> Vec<Example<Self, 1>> {
            let mut example = |dims: &[usize]| Example {
                operation: Self,
                inputs: [draw.variable(dims)],
            };
            vec![example(&[1]), example(&[5, 3]), example(&[1003])]
        }
    }

    #[test]
    fn values_and_slopes_are_those_of_the_definition_at_every_level() {
        let x: Vec<f32> = (-500..=500).map(|step| step as f32 * 0.013).collect();
        let value = |x: f64| 0.5 * x * libm::erfc(-x * std::f64::consts::FRAC_1_SQRT_2);
        let variable = Var::from_slice(&x, (7, 143), &Device::Cpu).unwrap();
        let y = gelu(&variable).unwrap();
        let gradients = y.sum_all().unwrap().backward().unwrap();
        let slopes: Vec<f32> = gradients
            .get(&variable)
            .unwrap()
            .flatten_all()
            .unwrap()
            .to_vec1()
            .unwrap();
        let y: Vec<f32> = y.flatten_all().unwrap().to_vec1().unwrap();
        for ((x, y), slope) in x.iter().zip(&y).zip(&slopes) {
            let x = f64::from(*x);
            assert!((f64::from(*y) - value(x)).abs() < 1e-6, "{x}: {y}");
            let expected = (value(x + 1e-5) - value(x - 1e-5)) / 2e-5;
            assert!(
                (f64::from(*slope) - expected).abs() < 2e-6,
                "{x}: {slope} {expected}"
            );
        }
        for level in Level::available() {
            let (mut values, mut gradient) = (vec![0.0; x.len()], vec![1.0; x.len()]);
            gelu_forward(level, &x, &mut values);
            gelu_backward(level, &x, &mut gradient);
            assert_eq!((values, gradient), (y.clone(), slopes.clone()), "{level:?}");
        }
    }
}

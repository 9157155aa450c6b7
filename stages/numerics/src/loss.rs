//! Losses between two tensors, and a penalty on steps, each as one operation with its slope.
//! Sums are taken in 64 bits and in one order.

#[cfg(feature = "cuda")]
mod cuda;

use candle_core::{Result, Shape, Tensor, bail};

use super::chunks::{chunks, fill_rows};
#[cfg(feature = "cuda")]
use super::operation::OnCuda;
use super::operation::{Input, Operation, apply};
use super::simd::{Level, vectorised};

/// What a difference costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// `d²`.
    Squared,
    /// `d² / 2` up to 1, and `|d| - 1/2` beyond it.
    Smooth,
}

/// The mean of squared differences, a scalar.
///
/// # Errors
/// If the shapes differ or are empty.
pub fn mean_squared_error(found: &Tensor, wanted: &Tensor) -> Result<Tensor> {
    pair(found, wanted, Kind::Squared)
}

/// The mean of `d² / 2` up to differences of 1 and `|d| - 1/2` beyond (Huber's loss, PyTorch's `SmoothL1Loss`), a scalar.
///
/// # Errors
/// If the shapes differ or are empty.
pub fn smooth_l1(found: &Tensor, wanted: &Tensor) -> Result<Tensor> {
    pair(found, wanted, Kind::Smooth)
}

fn pair(found: &Tensor, wanted: &Tensor, kind: Kind) -> Result<Tensor> {
    if found.dims() != wanted.dims() || found.elem_count() == 0 {
        bail!(
            "there is no loss between {:?} and {:?}",
            found.dims(),
            wanted.dims()
        )
    }
    apply(Pair(kind), [found, wanted])
}

/// The mean cost of the differences between two tensors of one shape.
pub(crate) struct Pair(Kind);

impl Pair {
    /// The slope of the costs with respect to `one`, times `scale`.
    fn slopes(&self, one: &[f32], other: &[f32], scale: f32) -> Vec<f32> {
        let smooth = self.0 == Kind::Smooth;
        let ([target], _) = fill_rows(&chunks(one.len()), [1], |range, [target]| {
            let (one, other) = (&one[range.clone()], &other[range]);
            slopes(Level::detect(), one, other, scale, smooth, target);
        });
        target
    }
}

impl Operation<2> for Pair {
    const LABEL: &'static str = "loss";

    #[cfg(feature = "cuda")]
    fn on_cuda(&self, _: [&[usize]; 2]) -> Option<&dyn OnCuda<2>> {
        Some(self)
    }

    fn compose(&self, [found, wanted]: [&Tensor; 2]) -> Result<Tensor> {
        let difference = (found - wanted)?;
        match self.0 {
            Kind::Squared => difference.sqr()?.mean_all(),
            Kind::Smooth => {
                let size = difference.abs()?;
                // |d| - 1/2 where the size is beyond 1: with c = min(|d|, 1) both cases are c (|d| - c / 2).
                let bounded = size.clamp(0.0, 1.0)?;
                (&bounded * (&size - (&bounded * 0.5)?)?)?.mean_all()
            }
        }
    }

    fn forward(&self, [found, wanted]: [Input<'_>; 2]) -> Result<(Vec<f32>, Shape)> {
        let smooth = self.0 == Kind::Smooth;
        let (_, sums) = fill_rows(&chunks(found.values.len()), [], |range, []| {
            let (found, wanted) = (&found.values[range.clone()], &wanted.values[range]);
            sum_costs(Level::detect(), found, wanted, smooth)
        });
        let mean = sums.iter().sum::<f64>() / found.values.len() as f64;
        Ok((vec![mean as f32], ().into()))
    }

    fn backward(
        &self,
        [found, wanted]: [Input<'_>; 2],
        _: &[f32],
        gradient: &[f32],
    ) -> Result<[Option<Vec<f32>>; 2]> {
        let scale = gradient[0] / found.values.len() as f32;
        let [mut of_found, mut of_wanted] = [None, None];
        if found.tracked {
            of_found = Some(self.slopes(found.values, wanted.values, scale));
        }
        if wanted.tracked {
            of_wanted = Some(self.slopes(wanted.values, found.values, scale));
        }
        Ok([of_found, of_wanted])
    }
}

vectorised! {
    /// Sixteen partial sums, added in their order.
    fn sum_costs(found: &[f32], wanted: &[f32], smooth: bool) -> f64 {
        let cost = |found: f32, wanted: f32| {
            let difference = found - wanted;
            if smooth {
                let size = difference.abs();
                let bounded = if size > 1.0 { 1.0 } else { size };
                bounded * (size - 0.5 * bounded)
            } else {
                difference * difference
            }
        };
        let mut sums = [0.0_f64; 16];
        for (found, wanted) in found.chunks_exact(16).zip(wanted.chunks_exact(16)) {
            for lane in 0..16 {
                sums[lane] += f64::from(cost(found[lane], wanted[lane]));
            }
        }
        for index in found.len() / 16 * 16..found.len() {
            sums[index % 16] += f64::from(cost(found[index], wanted[index]));
        }
        sums.iter().sum()
    }
}

vectorised! {
    /// The slope of the costs with respect to `found`, times `scale`.
    fn slopes(found: &[f32], wanted: &[f32], scale: f32, smooth: bool, target: &mut [f32]) {
        if smooth {
            for ((target, found), wanted) in target.iter_mut().zip(found).zip(wanted) {
                let difference = found - wanted;
                let bounded = if difference > 1.0 { 1.0 } else { difference };
                let bounded = if bounded < -1.0 { -1.0 } else { bounded };
                *target = scale * bounded;
            }
        } else {
            for ((target, found), wanted) in target.iter_mut().zip(found).zip(wanted) {
                *target = 2.0 * scale * (found - wanted);
            }
        }
    }
}

/// The mean of all values, a scalar.
///
/// # Errors
/// If there are none.
pub fn mean(x: &Tensor) -> Result<Tensor> {
    if x.elem_count() == 0 {
        bail!("there is no mean of no values")
    }
    apply(Mean, [x])
}

pub(crate) struct Mean;

impl Operation<1> for Mean {
    const LABEL: &'static str = "mean";

    #[cfg(feature = "cuda")]
    fn on_cuda(&self, _: [&[usize]; 1]) -> Option<&dyn OnCuda<1>> {
        Some(self)
    }

    fn compose(&self, [x]: [&Tensor; 1]) -> Result<Tensor> {
        x.mean_all()
    }

    fn forward(&self, [x]: [Input<'_>; 1]) -> Result<(Vec<f32>, Shape)> {
        let sum: f64 = x.values.iter().map(|value| f64::from(*value)).sum();
        Ok((vec![(sum / x.values.len() as f64) as f32], ().into()))
    }

    fn backward(
        &self,
        [x]: [Input<'_>; 1],
        _: &[f32],
        gradient: &[f32],
    ) -> Result<[Option<Vec<f32>>; 1]> {
        let count = x.values.len();
        Ok([Some(vec![gradient[0] / count as f32; count])])
    }
}

/// The mean of `(x[t + 1] - x[t])²` over `x`, `[batch, length, width]`: a penalty on restless sequences, a scalar.
/// It is 0 for a single row.
///
/// # Errors
/// If the tensor does not have three axes.
pub fn mean_squared_step(x: &Tensor) -> Result<Tensor> {
    x.dims3()?;
    apply(Steps, [x])
}

pub(crate) struct Steps;

impl Steps {
    /// Floats of a sample and of one of its rows, and the number of all steps' values, at least 1.
    fn sizes(dims: &[usize]) -> Result<(usize, usize, f64)> {
        let (batch, length, width) = Shape::from(dims).dims3()?;
        let count = (batch * length.saturating_sub(1) * width).max(1);
        Ok((length * width, width, count as f64))
    }
}

impl Operation<1> for Steps {
    const LABEL: &'static str = "mean-squared-step";

    #[cfg(feature = "cuda")]
    fn on_cuda(&self, _: [&[usize]; 1]) -> Option<&dyn OnCuda<1>> {
        Some(self)
    }

    fn compose(&self, [x]: [&Tensor; 1]) -> Result<Tensor> {
        let length = x.dim(1)?;
        if length < 2 {
            return x.zeros_like()?.sum_all();
        }
        (x.narrow(1, 1, length - 1)? - x.narrow(1, 0, length - 1)?)?
            .sqr()?
            .mean_all()
    }

    fn forward(&self, [x]: [Input<'_>; 1]) -> Result<(Vec<f32>, Shape)> {
        let (size, width, count) = Self::sizes(x.dims)?;
        let (_, sums) = fill_rows(&chunks(x.dims[0]), [], |samples, []| {
            let mut sum = 0.0;
            for sample in x.values[samples.start * size..samples.end * size].chunks_exact(size) {
                let (later, earlier) = (&sample[width..], &sample[..size - width]);
                sum += sum_costs(Level::detect(), later, earlier, false);
            }
            sum
        });
        let mean = sums.iter().sum::<f64>() / count;
        Ok((vec![mean as f32], ().into()))
    }

    fn backward(
        &self,
        [x]: [Input<'_>; 1],
        _: &[f32],
        gradient: &[f32],
    ) -> Result<[Option<Vec<f32>>; 1]> {
        let (size, width, count) = Self::sizes(x.dims)?;
        let scale = 2.0 * gradient[0] / count as f32;
        let ([target], _) = fill_rows(&chunks(x.dims[0]), [size], |samples, [target]| {
            let samples = x.values[samples.start * size..samples.end * size].chunks_exact(size);
            for (x, target) in samples.zip(target.chunks_exact_mut(size)) {
                step_slopes(Level::detect(), x, width, scale, target);
            }
        });
        Ok([Some(target)])
    }
}

vectorised! {
    /// Of one sample, whose target is still zero.
    fn step_slopes(x: &[f32], width: usize, scale: f32, target: &mut [f32]) {
        let rest = x.len() - width;
        for ((target, later), earlier) in target[width..].iter_mut().zip(&x[width..]).zip(&x[..rest]) {
            *target = scale * (later - earlier);
        }
        for ((target, later), earlier) in target[..rest].iter_mut().zip(&x[width..]).zip(&x[..rest]) {
            *target -= scale * (later - earlier);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::{Draw, Example, Examples};
    use candle_core::Device;

    impl Examples<2> for Pair {
        fn examples(draw: &mut Draw) -> Vec<Example<Self, 2>> {
            let mut examples = Vec::new();
            for kind in [Kind::Squared, Kind::Smooth] {
                for dims in [[1, 1, 1], [3, 7, 5], [2, 16, 16]] {
                    examples.push(Example {
                        operation: Self(kind),
                        inputs: [draw.variable(&dims), draw.variable(&dims)],
                    });
                }
            }
            examples
        }
    }

    impl Examples<1> for Mean {
        fn examples(draw: &mut Draw) -> Vec<Example<Self, 1>> {
            let mut example = |dims: &[usize]| Example {
                operation: Self,
                inputs: [draw.variable(dims)],
            };
            vec![example(&[1]), example(&[3, 5, 4]), example(&[1003])]
        }
    }

    impl Examples<1> for Steps {
        fn examples(draw: &mut Draw) -> Vec<Example<Self, 1>> {
            let mut example = |dims: &[usize]| Example {
                operation: Self,
                inputs: [draw.variable(dims)],
            };
            // A single row has no steps.
            vec![
                example(&[3, 1, 4]),
                example(&[3, 5, 4]),
                example(&[40, 2, 1]),
            ]
        }
    }

    #[test]
    fn a_smooth_loss_is_half_a_square_up_to_one_and_straight_beyond() {
        let tensor = |values: &[f32]| Tensor::new(values, &Device::Cpu).unwrap();
        let loss = smooth_l1(&tensor(&[0.5, 3.0]), &tensor(&[0.0, -1.0])).unwrap();
        assert_eq!(loss.to_scalar::<f32>().unwrap(), (0.125 + 3.5) / 2.0);
    }

    #[test]
    fn other_shapes_and_nothing_are_refused() {
        let zeros = |dims: &[usize]| Tensor::zeros(dims, candle_core::DType::F32, &Device::Cpu);
        let (wide, tall) = (zeros(&[2, 3]).unwrap(), zeros(&[3, 2]).unwrap());
        assert!(mean_squared_error(&wide, &tall).is_err());
        assert!(mean(&zeros(&[0, 2]).unwrap()).is_err());
    }
}

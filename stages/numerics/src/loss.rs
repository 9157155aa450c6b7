//! Losses between two tensors, and a penalty on steps, each as one operation with its slope.
//! Sums are taken in 64 bits and in one order.

use candle_core::{Result, Shape, Tensor, bail};

use super::chunks::{chunks, fill_rows};
use super::operation::{Input, Operation, apply, has_kernels};
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
    if has_kernels(found) {
        return apply(Pair(kind), [found, wanted]);
    }
    let difference = (found - wanted)?;
    match kind {
        Kind::Squared => difference.sqr()?.mean_all(),
        Kind::Smooth => {
            let size = difference.abs()?;
            // |d| - 1/2 where the size is beyond 1: with c = min(|d|, 1) both cases are c (|d| - c / 2).
            let bounded = size.clamp(0.0, 1.0)?;
            (&bounded * (&size - (&bounded * 0.5)?)?)?.mean_all()
        }
    }
}

struct Pair(Kind);

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
    const NAME: &'static str = "loss";

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
    if has_kernels(x) {
        return apply(Mean, [x]);
    }
    x.mean_all()
}

struct Mean;

impl Operation<1> for Mean {
    const NAME: &'static str = "mean";

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
    let (_, length, _) = x.dims3()?;
    if has_kernels(x) {
        return apply(Steps, [x]);
    }
    if length < 2 {
        return x.zeros_like()?.sum_all();
    }
    (x.narrow(1, 1, length - 1)? - x.narrow(1, 0, length - 1)?)?
        .sqr()?
        .mean_all()
}

struct Steps;

impl Steps {
    /// Floats of a sample and of one of its rows, and the number of all steps' values, at least 1.
    fn sizes(dims: &[usize]) -> Result<(usize, usize, f64)> {
        let (batch, length, width) = Shape::from(dims).dims3()?;
        let count = (batch * length.saturating_sub(1) * width).max(1);
        Ok((length * width, width, count as f64))
    }
}

impl Operation<1> for Steps {
    const NAME: &'static str = "mean-squared-step";

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
    use candle_core::{Device, Var};
    use contract::Random;

    fn variable(shape: (usize, usize, usize), seed: u64) -> Var {
        let mut random = Random::new(seed, "loss");
        let values: Vec<f32> = (0..shape.0 * shape.1 * shape.2)
            .map(|_| random.range(-2.0, 2.0) as f32)
            .collect();
        Var::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    fn check(found: &Tensor, expected: &Tensor, variables: &[&Var]) {
        let scalar = |tensor: &Tensor| tensor.to_scalar::<f32>().unwrap();
        assert!(
            (scalar(found) - scalar(expected)).abs() < 1e-6,
            "{found} {expected}"
        );
        let (found, expected) = ((found * 3.0).unwrap(), (expected * 3.0).unwrap());
        let (found, expected) = (found.backward().unwrap(), expected.backward().unwrap());
        for variable in variables {
            let (found, expected) = (
                found.get(variable).unwrap(),
                expected.get(variable).unwrap(),
            );
            let apart = (found - expected)
                .unwrap()
                .abs()
                .unwrap()
                .flatten_all()
                .unwrap()
                .max(0)
                .unwrap();
            assert!(scalar(&apart) < 1e-6, "{apart}");
        }
    }

    #[test]
    fn losses_and_slopes_are_those_of_their_definitions() {
        for shape in [(1, 1, 1), (3, 7, 5), (2, 16, 16)] {
            let (one, other) = (variable(shape, 1), variable(shape, 2));
            let difference = (one.as_tensor() - other.as_tensor()).unwrap();
            let found = mean_squared_error(&one, &other).unwrap();
            check(
                &found,
                &difference.sqr().unwrap().mean_all().unwrap(),
                &[&one, &other],
            );

            let size = difference.abs().unwrap();
            let near = (difference.sqr().unwrap() * 0.5).unwrap();
            let expected = size
                .lt(1.0)
                .unwrap()
                .where_cond(&near, &(&size - 0.5).unwrap())
                .unwrap();
            let found = smooth_l1(&one, &other).unwrap();
            check(&found, &expected.mean_all().unwrap(), &[&one, &other]);
        }
        assert!(smooth_l1(&variable((1, 2, 3), 1), &variable((1, 3, 2), 1)).is_err());
    }

    #[test]
    fn means_are_means() {
        let x = variable((3, 5, 4), 1);
        check(&mean(&x).unwrap(), &x.mean_all().unwrap(), &[&x]);
        assert!(mean(&x.narrow(0, 0, 0).unwrap()).is_err());
    }

    #[test]
    fn steps_are_those_between_neighbouring_rows() {
        let x = variable((3, 5, 4), 1);
        let steps = (x.narrow(1, 1, 4).unwrap() - x.narrow(1, 0, 4).unwrap()).unwrap();
        check(
            &mean_squared_step(&x).unwrap(),
            &steps.sqr().unwrap().mean_all().unwrap(),
            &[&x],
        );
        assert_eq!(
            mean_squared_step(&variable((3, 1, 4), 1))
                .unwrap()
                .to_scalar::<f32>()
                .unwrap(),
            0.0
        );
    }
}

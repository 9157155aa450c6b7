//! Losses between two tensors, and a penalty on steps, each as one operation with its slope.
//! Sums are taken in 64 bits and in one order.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, DType, Layout, Result, Shape, Tensor, bail};

use super::chunks::{chunks, fill_rows};
use super::host::{floats, with_slice, with_slices};
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
    if found.device().is_cpu() && found.dtype() == DType::F32 {
        return found
            .contiguous()?
            .apply_op2(&wanted.contiguous()?, Pair(kind));
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

impl CustomOp2 for Pair {
    fn name(&self) -> &'static str {
        "loss"
    }

    fn cpu_fwd(
        &self,
        found: &CpuStorage,
        found_layout: &Layout,
        wanted: &CpuStorage,
        wanted_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (found, wanted) = (floats(found, found_layout)?, floats(wanted, wanted_layout)?);
        let (_, sums) = fill_rows(&chunks(found.len()), [], |range, []| {
            sum_costs(
                Level::detect(),
                &found[range.clone()],
                &wanted[range],
                self.0 == Kind::Smooth,
            )
        });
        let mean = sums.iter().sum::<f64>() / found.len() as f64;
        Ok((CpuStorage::F32(vec![mean as f32]), Shape::from(())))
    }

    fn bwd(
        &self,
        found: &Tensor,
        wanted: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let scale = gradient.to_scalar::<f32>()? / found.elem_count() as f32;
        let differentiate = |one: &[f32], other: &[f32]| {
            let ([target], _) = fill_rows(&chunks(one.len()), [1], |range, [target]| {
                slopes(
                    Level::detect(),
                    &one[range.clone()],
                    &other[range],
                    scale,
                    self.0 == Kind::Smooth,
                    target,
                );
            });
            target
        };
        let of = |one: &Tensor, other: &Tensor| -> Result<Option<Tensor>> {
            if !one.track_op() {
                return Ok(None);
            }
            let values = with_slices([one, other], |[one, other]| differentiate(one, other))?;
            Tensor::from_vec(values, one.shape(), one.device()).map(Some)
        };
        Ok((of(found, wanted)?, of(wanted, found)?))
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
    if x.device().is_cpu() && x.dtype() == DType::F32 {
        return x.contiguous()?.apply_op1(Mean);
    }
    x.mean_all()
}

struct Mean;

impl CustomOp1 for Mean {
    fn name(&self) -> &'static str {
        "mean"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = floats(x, layout)?;
        let mean = x.iter().map(|value| f64::from(*value)).sum::<f64>() / x.len() as f64;
        Ok((CpuStorage::F32(vec![mean as f32]), Shape::from(())))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let share = gradient.to_scalar::<f32>()? / x.elem_count() as f32;
        Tensor::full(share, x.shape(), x.device()).map(Some)
    }
}

/// The mean of `(x[t + 1] - x[t])²` over `x`, `[batch, length, width]`: a penalty on restless sequences, a scalar.
/// It is 0 for a single row.
///
/// # Errors
/// If the tensor does not have three axes.
pub fn mean_squared_step(x: &Tensor) -> Result<Tensor> {
    let (_, length, _) = x.dims3()?;
    if x.device().is_cpu() && x.dtype() == DType::F32 {
        return x.contiguous()?.apply_op1(Steps);
    }
    if length < 2 {
        return x.zeros_like()?.sum_all();
    }
    (x.narrow(1, 1, length - 1)? - x.narrow(1, 0, length - 1)?)?
        .sqr()?
        .mean_all()
}

struct Steps;

/// The number of steps' values, at least 1, in a tensor of this shape.
fn step_count(shape: (usize, usize, usize)) -> f64 {
    (shape.0 * shape.1.saturating_sub(1) * shape.2).max(1) as f64
}

impl CustomOp1 for Steps {
    fn name(&self) -> &'static str {
        "mean-squared-step"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (batch, length, width) = layout.shape().dims3()?;
        let x = floats(x, layout)?;
        let sample = length * width;
        let (_, sums) = fill_rows(&chunks(batch), [], |samples, []| {
            let sum = |sample: &[f32]| match sample.len() - width {
                0 => 0.0,
                rest => sum_costs(Level::detect(), &sample[width..], &sample[..rest], false),
            };
            x[samples.start * sample..samples.end * sample]
                .chunks_exact(sample)
                .map(sum)
                .sum::<f64>()
        });
        let mean = sums.iter().sum::<f64>() / step_count((batch, length, width));
        Ok((CpuStorage::F32(vec![mean as f32]), Shape::from(())))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let (batch, length, width) = x.dims3()?;
        let scale = 2.0 * gradient.to_scalar::<f32>()? / step_count((batch, length, width)) as f32;
        let sample = length * width;
        let values = with_slice(x, |x| {
            let ([target], _) = fill_rows(&chunks(batch), [sample], |samples, [target]| {
                let x = &x[samples.start * sample..samples.end * sample];
                for (x, target) in x.chunks_exact(sample).zip(target.chunks_exact_mut(sample)) {
                    step_slopes(Level::detect(), x, width, scale, target);
                }
            });
            target
        })?;
        Tensor::from_vec(values, x.shape(), x.device()).map(Some)
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

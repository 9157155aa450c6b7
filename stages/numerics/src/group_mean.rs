//! Means over the rows of groups, as an operation of Candle's graph on the CPU with its backward pass: Candle's own sums over
//! any axis but the last are slow.

use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::chunks::{chunks, split_rows};
use super::elementwise::group_means;
use super::host::{floats, with_slice};
use super::simd::{Level, vectorised};

/// The mean over the last axis but one: `[…, group, columns]` to `[…, columns]`.
///
/// # Errors
/// If there are fewer than two axes, or the group is empty.
pub fn group_mean(x: &Tensor) -> Result<Tensor> {
    let rank = x.rank();
    if rank < 2 || x.elem_count() == 0 {
        candle_core::bail!("there are no groups of rows in {:?}", x.dims())
    }
    if x.device().is_cpu() && x.dtype() == DType::F32 {
        let op = GroupMean {
            group: x.dims()[rank - 2],
            columns: x.dims()[rank - 1],
        };
        return x.contiguous()?.apply_op1(op);
    }
    x.mean(rank - 2)
}

struct GroupMean {
    group: usize,
    columns: usize,
}

impl CustomOp1 for GroupMean {
    fn name(&self) -> &'static str {
        "group-mean"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (x, size) = (floats(x, layout)?, self.group * self.columns);
        let parts = chunks(x.len() / size);
        let mut target = vec![0.0; x.len() / self.group];
        split_rows(&mut target, &parts, self.columns)
            .into_par_iter()
            .zip(&parts)
            .for_each(|(target, part)| {
                group_means(
                    Level::detect(),
                    &x[part.start * size..part.end * size],
                    self.group,
                    self.columns,
                    target,
                );
            });
        let mut shape = layout.dims().to_vec();
        shape.remove(shape.len() - 2);
        Ok((CpuStorage::F32(target), shape.into()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let (gradient, size) = (gradient.contiguous()?, self.group * self.columns);
        let mut target = vec![0.0; x.elem_count()];
        with_slice(&gradient, |gradient| {
            let parts = chunks(gradient.len() / self.columns);
            split_rows(&mut target, &parts, size)
                .into_par_iter()
                .zip(&parts)
                .for_each(|(target, part)| {
                    let gradient = &gradient[part.start * self.columns..part.end * self.columns];
                    shares(Level::detect(), gradient, self.group, self.columns, target);
                });
        })?;
        Tensor::from_vec(target, x.shape(), x.device()).map(Some)
    }
}

vectorised! {
    /// Every row of a group gets its share of the gradient of their mean.
    fn shares(means: &[f32], group: usize, columns: usize, target: &mut [f32]) {
        let share = 1.0 / group as f32;
        for (mean, rows) in means.chunks_exact(columns).zip(target.chunks_exact_mut(group * columns)) {
            for row in rows.chunks_exact_mut(columns) {
                for (value, mean) in row.iter_mut().zip(mean) {
                    *value = mean * share;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};
    use contract::Random;

    #[test]
    fn agrees_with_candle_forward_and_backward() {
        let mut random = Random::new(4, "means");
        for shape in [vec![1, 1], vec![5, 3], vec![40, 7, 33], vec![2, 3, 4, 5]] {
            let mut draw = |shape: &[usize]| {
                let values: Vec<f32> = (0..shape.iter().product())
                    .map(|_| random.normal() as f32)
                    .collect();
                Var::from_vec(values, shape, &Device::Cpu).unwrap()
            };
            let x = draw(&shape);
            let (found, expected) = (group_mean(&x).unwrap(), x.mean(shape.len() - 2).unwrap());
            let upstream = draw(expected.dims());
            let slope = |y: &Tensor| {
                let store = (y * upstream.as_tensor())
                    .unwrap()
                    .sum_all()
                    .unwrap()
                    .backward()
                    .unwrap();
                store.get(&x).unwrap().clone()
            };
            for (found, expected) in [
                (found.clone(), expected.clone()),
                (slope(&found), slope(&expected)),
            ] {
                assert_eq!(found.dims(), expected.dims());
                let apart = (found - expected)
                    .unwrap()
                    .abs()
                    .unwrap()
                    .flatten_all()
                    .unwrap()
                    .max(0)
                    .unwrap();
                assert!(apart.to_scalar::<f32>().unwrap() < 1e-6);
            }
        }
        assert!(group_mean(&draw_nothing()).is_err());
    }

    fn draw_nothing() -> Tensor {
        Tensor::zeros((2, 0, 3), DType::F32, &Device::Cpu).unwrap()
    }
}

//! Means over the rows of groups, as an operation of Candle's graph on the CPU with its backward pass: Candle's own sums over
//! any axis but the last are slow.

use candle_core::{Result, Shape, Tensor};

use super::chunks::{chunks, fill_rows};
use super::elementwise::group_means;
use super::operation::{Input, Operation, apply, has_kernels};
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
    if has_kernels(x) {
        let op = GroupMean {
            group: x.dims()[rank - 2],
            columns: x.dims()[rank - 1],
        };
        return apply(op, [x]);
    }
    x.mean(rank - 2)
}

struct GroupMean {
    group: usize,
    columns: usize,
}

impl Operation<1> for GroupMean {
    const NAME: &'static str = "group-mean";

    fn forward(&self, [x]: [Input<'_>; 1]) -> Result<(Vec<f32>, Shape)> {
        let (group, columns) = (self.group, self.columns);
        let size = group * columns;
        let parts = chunks(x.values.len() / size);
        let ([target], _) = fill_rows(&parts, [columns], |range, [target]| {
            let x = &x.values[range.start * size..range.end * size];
            group_means(Level::detect(), x, group, columns, target);
        });
        let mut dims = x.dims.to_vec();
        dims.remove(dims.len() - 2);
        Ok((target, dims.into()))
    }

    fn backward(
        &self,
        _: [Input<'_>; 1],
        _: &[f32],
        gradient: &[f32],
    ) -> Result<[Option<Vec<f32>>; 1]> {
        let (group, columns) = (self.group, self.columns);
        let parts = chunks(gradient.len() / columns);
        let ([target], _) = fill_rows(&parts, [group * columns], |range, [target]| {
            let gradient = &gradient[range.start * columns..range.end * columns];
            shares(Level::detect(), gradient, group, columns, target);
        });
        Ok([Some(target)])
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
    use candle_core::{DType, Device, Var};
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

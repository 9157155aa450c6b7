//! Means over the rows of groups. Candle's own sums over any axis but the last are slow.

#[cfg(feature = "cuda")]
mod cuda;

use candle_core::{Result, Shape, Tensor};

use super::chunks::{chunks, fill_rows};
use super::elementwise::group_means;
#[cfg(feature = "cuda")]
use super::operation::OnCuda;
use super::operation::{Input, Operation, apply};
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
    let op = GroupMean {
        group: x.dims()[rank - 2],
        columns: x.dims()[rank - 1],
    };
    apply(op, [x])
}

/// `[…, group, columns]` to `[…, columns]`.
pub(crate) struct GroupMean {
    group: usize,
    columns: usize,
}

impl Operation<1> for GroupMean {
    const LABEL: &'static str = "group-mean";

    #[cfg(feature = "cuda")]
    fn on_cuda(&self, [x]: [&[usize]; 1]) -> Option<&dyn OnCuda<1>> {
        self.fits_cuda(x).then_some(self)
    }

    fn compose(&self, [x]: [&Tensor; 1]) -> Result<Tensor> {
        x.mean(x.rank() - 2)
    }

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
    use crate::conformance::{Draw, Example, Examples};
    use candle_core::{DType, Device};

    impl Examples<1> for GroupMean {
        fn examples(draw: &mut Draw) -> Vec<Example<Self, 1>> {
            let mut example = |dims: &[usize]| Example {
                operation: Self {
                    group: dims[dims.len() - 2],
                    columns: dims[dims.len() - 1],
                },
                inputs: [draw.variable(dims)],
            };
            vec![
                example(&[1, 1]),
                example(&[5, 3]),
                example(&[40, 7, 33]),
                example(&[2, 3, 4, 5]),
            ]
        }
    }

    #[test]
    fn empty_groups_are_refused() {
        let nothing = Tensor::zeros((2, 0, 3), DType::F32, &Device::Cpu).unwrap();
        assert!(group_mean(&nothing).is_err());
    }
}

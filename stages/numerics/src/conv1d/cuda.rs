//! The one-dimensional convolution on CUDA: a plane of one column.

use candle_core::{Result, Shape};

use super::op::Conv1dOp;
use crate::conv2d::Window2d;
use crate::cuda::{Buffer, Floats, Gpu, correlation::Correlation};
use crate::operation::{Input, OnCuda};

impl Conv1dOp {
    fn correlation(&self, x: &[usize]) -> Correlation {
        let sizes = self.sizes;
        Correlation {
            window: Window2d {
                kernel: [sizes.kernel, 1],
                stride: [sizes.stride, 1],
                ..Window2d::square(1)
            },
            is_circular: false,
            batch: x[0],
            plane: [x[1], 1],
            channels: sizes.input,
            map: [sizes.positions(x[1]), 1],
            outputs: sizes.output,
        }
    }
}

impl OnCuda<3> for Conv1dOp {
    fn forward_on(
        &self,
        gpu: Gpu<'_>,
        [x, weight, bias]: [Input<'_, Floats<'_>>; 3],
    ) -> Result<(Buffer, Shape)> {
        let correlation = self.correlation(x.dims);
        let (batch, rows) = (correlation.batch, correlation.map[0]);
        let target = gpu.rows_of(bias.values, batch * rows)?;
        correlation.forward(gpu, x.values, weight.values, target.floats(), true)?;
        Ok((target, (batch, rows, self.sizes.output).into()))
    }

    fn backward_on(
        &self,
        gpu: Gpu<'_>,
        [x, weight, bias]: [Input<'_, Floats<'_>>; 3],
        _: Floats<'_>,
        gradient: Floats<'_>,
    ) -> Result<[Option<Buffer>; 3]> {
        let correlation = self.correlation(x.dims);
        let of_x = match x.tracked {
            true => Some(correlation.adjoint(gpu, gradient, weight.values, None)?),
            false => None,
        };
        let of_weight = correlation.weight_gradient(gpu, x.values, gradient)?;
        let columns = self.sizes.output;
        let mut of_bias = None;
        if bias.tracked {
            of_bias = Some(gpu.column_sums(gradient, gradient.len() / columns, columns)?);
        }
        Ok([of_x, Some(of_weight), of_bias])
    }
}

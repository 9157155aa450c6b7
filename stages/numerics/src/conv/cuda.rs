//! The 3x3 convolution on CUDA.

use candle_core::{Result, Shape};

use super::op::Conv3x3Op;
use crate::conv2d::Window2d;
use crate::cuda::{Buffer, Floats, Gpu, correlation::Correlation};
use crate::operation::{Input, OnCuda};

impl Conv3x3Op {
    fn correlation(&self, x: &[usize]) -> Correlation {
        Correlation {
            window: Window2d::square(3).padding(1),
            is_circular: false,
            batch: x[0],
            plane: [x[1], x[2]],
            channels: self.input,
            map: [x[1], x[2]],
            outputs: self.output,
        }
    }
}

impl OnCuda<3> for Conv3x3Op {
    fn forward_on(
        &self,
        gpu: Gpu<'_>,
        [x, weight, bias]: [Input<'_, Floats<'_>>; 3],
    ) -> Result<(Buffer, Shape)> {
        let correlation = self.correlation(x.dims);
        let target = gpu.rows_of(bias.values, x.values.len() / self.input)?;
        correlation.forward(gpu, x.values, weight.values, target.floats(), true)?;
        Ok((target, x.with_last(self.output)))
    }

    fn backward_on(
        &self,
        gpu: Gpu<'_>,
        [x, weight, _]: [Input<'_, Floats<'_>>; 3],
        _: Floats<'_>,
        gradient: Floats<'_>,
    ) -> Result<[Option<Buffer>; 3]> {
        let correlation = self.correlation(x.dims);
        let of_x = match x.tracked {
            true => Some(correlation.adjoint(gpu, gradient, weight.values, None)?),
            false => None,
        };
        let of_weight = correlation.weight_gradient(gpu, x.values, gradient)?;
        let rows = gradient.len() / self.output;
        let of_bias = gpu.column_sums(gradient, rows, self.output)?;
        Ok([of_x, Some(of_weight), Some(of_bias)])
    }
}

//! The circular convolution on CUDA.

use candle_core::{Result, Shape};

use super::TAPS;
use super::op::CircularConvOp;
use crate::conv2d::Window2d;
use crate::cuda::{Buffer, Floats, Gpu, correlation::Correlation, with_floats};
use crate::operation::{Input, OnCuda};

impl CircularConvOp {
    fn correlation(&self, x: &[usize]) -> Correlation {
        Correlation {
            window: Window2d {
                kernel: [TAPS, 1],
                padding: [TAPS / 2, 0],
                ..Window2d::square(1)
            },
            is_circular: true,
            batch: x[0],
            plane: [x[1], 1],
            channels: self.input,
            map: [x[1], 1],
            outputs: self.output,
        }
    }
}

impl OnCuda<2> for CircularConvOp {
    fn forward_on(
        &self,
        gpu: Gpu<'_>,
        [x, weight]: [Input<'_, Floats<'_>>; 2],
    ) -> Result<(Buffer, Shape)> {
        let correlation = self.correlation(x.dims);
        let positions = self.positions.tensor(&gpu.device())?;
        let target = with_floats([&positions], |[positions]| {
            gpu.rows_of(positions, correlation.batch)
        })?;
        correlation.forward(gpu, x.values, weight.values, target.floats(), true)?;
        Ok((target, x.with_last(self.output)))
    }

    fn backward_on(
        &self,
        gpu: Gpu<'_>,
        [x, weight]: [Input<'_, Floats<'_>>; 2],
        _: Floats<'_>,
        gradient: Floats<'_>,
    ) -> Result<[Option<Buffer>; 2]> {
        let correlation = self.correlation(x.dims);
        let of_x = match x.tracked {
            true => Some(correlation.adjoint(gpu, gradient, weight.values, None)?),
            false => None,
        };
        let of_weight = correlation.weight_gradient(gpu, x.values, gradient)?;
        Ok([of_x, Some(of_weight)])
    }
}

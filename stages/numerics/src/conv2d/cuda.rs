//! Two-dimensional convolutions on CUDA, both ways.

use candle_core::{Result, Shape};

use super::op::{Conv2dOp, Way};
use crate::cuda::{Buffer, Floats, Gpu, correlation::Correlation};
use crate::operation::{Input, OnCuda};

impl Conv2dOp {
    fn correlation_on(&self, x: &[usize], weight: &[usize]) -> Result<Correlation> {
        let own = self.correlation(x, weight)?;
        Ok(Correlation {
            window: own.window,
            is_circular: false,
            batch: own.batch,
            plane: own.image.size,
            channels: own.image.channels,
            map: own.map.size,
            outputs: own.map.channels,
        })
    }

    fn run_on(
        &self,
        gpu: Gpu<'_>,
        x: Input<'_, Floats<'_>>,
        weight: Input<'_, Floats<'_>>,
        bias: Option<Floats<'_>>,
    ) -> Result<(Buffer, Shape)> {
        let correlation = self.correlation_on(x.dims, weight.dims)?;
        let batch = correlation.batch;
        let (values, [rows, columns], channels) = match self.way {
            Way::Convolve => {
                let (map, outputs) = (correlation.map, correlation.outputs);
                let places = batch * map[0] * map[1];
                let target = match bias {
                    Some(bias) => gpu.rows_of(bias, places)?,
                    None => gpu.buffer(places * outputs)?,
                };
                let (x, weight) = (x.values, weight.values);
                correlation.forward(gpu, x, weight, target.floats(), bias.is_some())?;
                (target, map, outputs)
            }
            Way::Transpose(_) => {
                let target = correlation.adjoint(gpu, x.values, weight.values, bias)?;
                (target, correlation.plane, correlation.channels)
            }
        };
        Ok((values, (batch, rows, columns, channels).into()))
    }

    fn differentiate_on(
        &self,
        gpu: Gpu<'_>,
        x: Input<'_, Floats<'_>>,
        weight: Input<'_, Floats<'_>>,
        gradient: Floats<'_>,
    ) -> Result<[Option<Buffer>; 2]> {
        let correlation = self.correlation_on(x.dims, weight.dims)?;
        let [mut of_x, mut of_weight] = [None, None];
        if x.tracked {
            of_x = Some(match self.way {
                Way::Convolve => correlation.adjoint(gpu, gradient, weight.values, None)?,
                Way::Transpose(_) => {
                    let target = gpu.buffer(x.values.len())?;
                    correlation.forward(gpu, gradient, weight.values, target.floats(), false)?;
                    target
                }
            });
        }
        if weight.tracked {
            of_weight = Some(match self.way {
                Way::Convolve => correlation.weight_gradient(gpu, x.values, gradient)?,
                Way::Transpose(_) => correlation.weight_gradient(gpu, gradient, x.values)?,
            });
        }
        Ok([of_x, of_weight])
    }
}

impl OnCuda<2> for Conv2dOp {
    fn forward_on(
        &self,
        gpu: Gpu<'_>,
        [x, weight]: [Input<'_, Floats<'_>>; 2],
    ) -> Result<(Buffer, Shape)> {
        self.run_on(gpu, x, weight, None)
    }

    fn backward_on(
        &self,
        gpu: Gpu<'_>,
        [x, weight]: [Input<'_, Floats<'_>>; 2],
        _: Floats<'_>,
        gradient: Floats<'_>,
    ) -> Result<[Option<Buffer>; 2]> {
        self.differentiate_on(gpu, x, weight, gradient)
    }
}

impl OnCuda<3> for Conv2dOp {
    fn forward_on(
        &self,
        gpu: Gpu<'_>,
        [x, weight, bias]: [Input<'_, Floats<'_>>; 3],
    ) -> Result<(Buffer, Shape)> {
        self.run_on(gpu, x, weight, Some(bias.values))
    }

    fn backward_on(
        &self,
        gpu: Gpu<'_>,
        [x, weight, bias]: [Input<'_, Floats<'_>>; 3],
        _: Floats<'_>,
        gradient: Floats<'_>,
    ) -> Result<[Option<Buffer>; 3]> {
        let [of_x, of_weight] = self.differentiate_on(gpu, x, weight, gradient)?;
        let columns = bias.values.len();
        let of_bias = gpu.column_sums(gradient, gradient.len() / columns, columns)?;
        Ok([of_x, of_weight, Some(of_bias)])
    }
}

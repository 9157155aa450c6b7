//! `max(x, 0)` on CUDA.

use candle_core::{Result, Shape};

use super::ReluOp;
use crate::cuda::{Buffer, Floats, Gpu, Kernel};
use crate::operation::{Input, OnCuda};

const FORWARD: Kernel = Kernel {
    module: "relu",
    name: "relu_forward",
};
const BACKWARD: Kernel = Kernel {
    module: "relu",
    name: "relu_backward",
};

impl OnCuda<1> for ReluOp {
    fn forward_on(&self, gpu: Gpu<'_>, [x]: [Input<'_, Floats<'_>>; 1]) -> Result<(Buffer, Shape)> {
        let (count, target) = (x.values.len(), gpu.buffer(x.values.len())?);
        gpu.each(FORWARD, count)
            .floats(x.values)
            .floats(target.floats())
            .int(count)
            .run()?;
        Ok((target, x.dims.into()))
    }

    fn backward_on(
        &self,
        gpu: Gpu<'_>,
        _: [Input<'_, Floats<'_>>; 1],
        y: Floats<'_>,
        gradient: Floats<'_>,
    ) -> Result<[Option<Buffer>; 1]> {
        let (count, target) = (y.len(), gpu.buffer(y.len())?);
        gpu.each(BACKWARD, count)
            .floats(y)
            .floats(gradient)
            .floats(target.floats())
            .int(count)
            .run()?;
        Ok([Some(target)])
    }
}

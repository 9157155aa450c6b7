//! The Gaussian error linear unit on CUDA.

use candle_core::{Result, Shape};

use super::GeluOp;
use crate::cuda::{Buffer, Floats, Gpu, Kernel};
use crate::operation::{Input, OnCuda};

const FORWARD: Kernel = Kernel {
    module: "gelu",
    name: "gelu_forward",
};
const BACKWARD: Kernel = Kernel {
    module: "gelu",
    name: "gelu_backward",
};

impl OnCuda<1> for GeluOp {
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
        [x]: [Input<'_, Floats<'_>>; 1],
        _: Floats<'_>,
        gradient: Floats<'_>,
    ) -> Result<[Option<Buffer>; 1]> {
        let (count, target) = (x.values.len(), gpu.buffer(x.values.len())?);
        gpu.each(BACKWARD, count)
            .floats(x.values)
            .floats(gradient)
            .floats(target.floats())
            .int(count)
            .run()?;
        Ok([Some(target)])
    }
}

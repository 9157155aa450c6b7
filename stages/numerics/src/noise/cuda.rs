//! Noise on CUDA.

use candle_core::{Result, Shape};

use super::{Noise, last};
use crate::cuda::{Buffer, Floats, Gpu, Kernel};
use crate::operation::{Input, OnCuda};

const KERNEL: Kernel = Kernel {
    module: "noise",
    name: "noise",
};

impl OnCuda<1> for Noise {
    fn forward_on(&self, gpu: Gpu<'_>, [x]: [Input<'_, Floats<'_>>; 1]) -> Result<(Buffer, Shape)> {
        let (width, target) = (last(x.dims), gpu.buffer(x.values.len())?);
        let rows = x.values.len() / width;
        gpu.each(KERNEL, rows * width.div_ceil(64) * 16)
            .floats(x.values)
            .floats(target.floats())
            .words(vec![self.key])
            .float(self.deviation)
            .int(rows)
            .int(width)
            .run()?;
        Ok((target, x.dims.into()))
    }

    fn backward_on(
        &self,
        gpu: Gpu<'_>,
        _: [Input<'_, Floats<'_>>; 1],
        _: Floats<'_>,
        gradient: Floats<'_>,
    ) -> Result<[Option<Buffer>; 1]> {
        Ok([Some(gpu.copy(gradient)?)])
    }
}

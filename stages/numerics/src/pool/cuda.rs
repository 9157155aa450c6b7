//! The maximum under a window on CUDA.

use candle_core::{Result, Shape};

use super::MaxPoolOp;
use crate::cuda::{Buffer, Floats, Gpu, Kernel, ints};
use crate::operation::{Input, OnCuda};

const FORWARD: Kernel = Kernel {
    module: "pool",
    name: "max_pool_forward",
};
const BACKWARD: Kernel = Kernel {
    module: "pool",
    name: "max_pool_backward",
};

impl MaxPoolOp {
    /// The struct `PoolSizes` of the kernels.
    fn words(&self, channels: usize) -> Vec<u64> {
        let ([height, width], [rows, columns]) = (self.plane, self.map);
        let window = &self.window;
        let taps = [window.kernel[1], window.taps()];
        let sizes = [height, width, channels, rows, columns, taps[0], taps[1]];
        let steps = [window.stride, window.padding, window.dilation].concat();
        ints(&[&sizes[..], &steps].concat())
    }
}

impl OnCuda<1> for MaxPoolOp {
    fn forward_on(&self, gpu: Gpu<'_>, [x]: [Input<'_, Floats<'_>>; 1]) -> Result<(Buffer, Shape)> {
        let (batch, _, _, channels) = Shape::from(x.dims).dims4()?;
        let [rows, columns] = self.map;
        let count = batch * rows * columns * channels;
        let (target, winners) = (gpu.buffer(count)?, gpu.buffer(count)?);
        gpu.each(FORWARD, count)
            .floats(x.values)
            .floats(target.floats())
            .floats(winners.floats())
            .words(self.words(channels))
            .int(count)
            .run()?;
        self.kept.keep(winners)?;
        Ok((target, (batch, rows, columns, channels).into()))
    }

    fn backward_on(
        &self,
        gpu: Gpu<'_>,
        [x]: [Input<'_, Floats<'_>>; 1],
        _: Floats<'_>,
        gradient: Floats<'_>,
    ) -> Result<[Option<Buffer>; 1]> {
        let (_, _, _, channels) = Shape::from(x.dims).dims4()?;
        let (count, target) = (x.values.len(), gpu.buffer(x.values.len())?);
        gpu.each(BACKWARD, count)
            .floats(self.kept.get()?.floats())
            .floats(gradient)
            .floats(target.floats())
            .words(self.words(channels))
            .int(count)
            .run()?;
        Ok([Some(target)])
    }
}

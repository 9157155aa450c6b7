//! Means of groups on CUDA.

use candle_core::{Result, Shape};

use super::GroupMean;
use crate::cuda::{Buffer, Floats, Gpu, Kernel};
use crate::operation::{Input, OnCuda};

const FORWARD: Kernel = Kernel {
    module: "group_mean",
    name: "group_mean_forward",
};
const BACKWARD: Kernel = Kernel {
    module: "group_mean",
    name: "group_mean_backward",
};

/// The most groups that a grid's second axis has room for.
const MOST: usize = 65_535;

impl GroupMean {
    pub(super) fn fits_cuda(&self, dims: &[usize]) -> bool {
        dims.iter().product::<usize>() <= MOST * self.group * self.columns
    }
}

impl OnCuda<1> for GroupMean {
    fn forward_on(&self, gpu: Gpu<'_>, [x]: [Input<'_, Floats<'_>>; 1]) -> Result<(Buffer, Shape)> {
        let groups = x.values.len() / (self.group * self.columns);
        let target = gpu.buffer(groups * self.columns)?;
        gpu.launch(FORWARD, (self.columns.div_ceil(32), groups), 256)
            .floats(x.values)
            .floats(target.floats())
            .int(self.group)
            .int(self.columns)
            .run()?;
        let mut dims = x.dims.to_vec();
        dims.remove(dims.len() - 2);
        Ok((target, dims.into()))
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
            .floats(gradient)
            .floats(target.floats())
            .int(count)
            .int(self.group)
            .int(self.columns)
            .run()?;
        Ok([Some(target)])
    }
}

//! Dropout on CUDA.

use candle_core::{Result, Shape};

use super::{Dropout, last};
use crate::cuda::{Buffer, Floats, Gpu, Kernel};
use crate::operation::{Input, OnCuda};

const KERNEL: Kernel = Kernel {
    module: "dropout",
    name: "dropout",
};

impl Dropout {
    /// The struct `Drop` of `philox.cuh`.
    pub fn words(self) -> Vec<u64> {
        let (dropped, kept) = (u64::from(self.dropped), u64::from(self.kept().to_bits()));
        vec![self.key, dropped | kept << 32]
    }

    /// Rows of `width` values, with values dropped.
    ///
    /// # Errors
    /// If the device refuses.
    pub(crate) fn apply_on(self, gpu: Gpu<'_>, x: Floats<'_>, width: usize) -> Result<Buffer> {
        let (rows, target) = (x.len() / width, gpu.buffer(x.len())?);
        gpu.each(KERNEL, rows * width.div_ceil(128) * 16)
            .floats(x)
            .floats(target.floats())
            .words(self.words())
            .int(rows)
            .int(width)
            .run()?;
        Ok(target)
    }
}

impl OnCuda<1> for Dropout {
    fn forward_on(&self, gpu: Gpu<'_>, [x]: [Input<'_, Floats<'_>>; 1]) -> Result<(Buffer, Shape)> {
        Ok((self.apply_on(gpu, x.values, last(x.dims))?, x.dims.into()))
    }

    fn backward_on(
        &self,
        gpu: Gpu<'_>,
        [x]: [Input<'_, Floats<'_>>; 1],
        _: Floats<'_>,
        gradient: Floats<'_>,
    ) -> Result<[Option<Buffer>; 1]> {
        Ok([Some(self.apply_on(gpu, gradient, last(x.dims))?)])
    }
}

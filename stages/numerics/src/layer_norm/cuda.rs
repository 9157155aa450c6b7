//! Layer normalisation on CUDA: a warp has a row, whose values stay in its registers.

use candle_core::{Result, Shape};

use super::op::LayerNormOp;
use crate::cuda::{Buffer, Floats, Gpu, Kernel};
use crate::operation::{Input, OnCuda};

/// The longest row that there are kernels for.
pub(super) const MOST: usize = 1024;

/// Rows that a block works on together.
const WARPS: usize = 8;

impl LayerNormOp {
    /// The kernels that have just enough registers for a row.
    fn kernels(&self) -> [Kernel; 2] {
        let [forward, backward] = match self.size {
            ..=32 => ["layer_norm_forward_1", "layer_norm_backward_1"],
            33..=128 => ["layer_norm_forward_4", "layer_norm_backward_4"],
            129..=512 => ["layer_norm_forward_16", "layer_norm_backward_16"],
            _ => ["layer_norm_forward_32", "layer_norm_backward_32"],
        };
        [forward, backward].map(|name| Kernel {
            module: "layer_norm",
            name,
        })
    }

    fn forward_rows(
        &self,
        gpu: Gpu<'_>,
        x: Floats<'_>,
        branch: Option<Floats<'_>>,
        parameters: Floats<'_>,
    ) -> Result<Buffer> {
        let (rows, target) = (x.len() / self.size, gpu.buffer(x.len())?);
        gpu.launch(self.kernels()[0], rows.div_ceil(WARPS), WARPS * 32)
            .floats(x)
            .optional(branch)
            .words(self.dropout.words())
            .floats(parameters)
            .floats(target.floats())
            .int(rows)
            .int(self.size)
            .float(self.epsilon as f32)
            .run()?;
        Ok(target)
    }

    /// The gradients of the sum, of the branch if something of it was dropped, and of the parameters.
    fn backward_rows(
        &self,
        gpu: Gpu<'_>,
        x: Floats<'_>,
        branch: Option<Floats<'_>>,
        parameters: Floats<'_>,
        gradient: Floats<'_>,
    ) -> Result<(Buffer, Option<Buffer>, Buffer)> {
        let (rows, size) = (x.len() / self.size, self.size);
        // A block adds up several rows' shares of the parameters' gradients.
        let blocks = rows.div_ceil(WARPS * 8).clamp(1, 512);
        let (of_sum, shares) = (gpu.buffer(x.len())?, gpu.buffer(blocks * 2 * size)?);
        let of_branch = match branch.is_some() && !self.dropout.is_none() {
            true => Some(gpu.buffer(x.len())?),
            false => None,
        };
        gpu.launch(self.kernels()[1], blocks, WARPS * 32)
            .shared(WARPS * 2 * size * size_of::<f32>())
            .floats(x)
            .optional(branch)
            .words(self.dropout.words())
            .floats(parameters)
            .floats(gradient)
            .floats(of_sum.floats())
            .optional(of_branch.as_ref().map(Buffer::floats))
            .floats(shares.floats())
            .int(rows)
            .int(size)
            .float(self.epsilon as f32)
            .run()?;
        let of_parameters = match blocks {
            1 => shares,
            _ => gpu.sum_shares(&shares, blocks, 2 * size)?,
        };
        Ok((of_sum, of_branch, of_parameters))
    }
}

impl OnCuda<2> for LayerNormOp {
    fn forward_on(
        &self,
        gpu: Gpu<'_>,
        [x, parameters]: [Input<'_, Floats<'_>>; 2],
    ) -> Result<(Buffer, Shape)> {
        let target = self.forward_rows(gpu, x.values, None, parameters.values)?;
        Ok((target, x.dims.into()))
    }

    fn backward_on(
        &self,
        gpu: Gpu<'_>,
        [x, parameters]: [Input<'_, Floats<'_>>; 2],
        _: Floats<'_>,
        gradient: Floats<'_>,
    ) -> Result<[Option<Buffer>; 2]> {
        let (of_x, _, of_parameters) =
            self.backward_rows(gpu, x.values, None, parameters.values, gradient)?;
        Ok([Some(of_x), Some(of_parameters)])
    }
}

impl OnCuda<3> for LayerNormOp {
    fn forward_on(
        &self,
        gpu: Gpu<'_>,
        [x, branch, parameters]: [Input<'_, Floats<'_>>; 3],
    ) -> Result<(Buffer, Shape)> {
        let target = self.forward_rows(gpu, x.values, Some(branch.values), parameters.values)?;
        Ok((target, x.dims.into()))
    }

    fn backward_on(
        &self,
        gpu: Gpu<'_>,
        [x, branch, parameters]: [Input<'_, Floats<'_>>; 3],
        _: Floats<'_>,
        gradient: Floats<'_>,
    ) -> Result<[Option<Buffer>; 3]> {
        let (of_x, of_branch, of_parameters) = self.backward_rows(
            gpu,
            x.values,
            Some(branch.values),
            parameters.values,
            gradient,
        )?;
        Ok([Some(of_x), of_branch, Some(of_parameters)])
    }
}

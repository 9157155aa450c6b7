//! Batch normalisation on CUDA: sums over rows in two stages, then one pass.

use candle_core::{Result, Shape, Tensor, bail};

use super::op::BatchNormOp;
use super::{BatchNorm, EPSILON, MOMENTUM};
use crate::cuda::{Buffer, Floats, Gpu, Kernel, address_of_integers, with_floats};
use crate::operation::{Input, OnCuda};

/// Threads of a block that sums rows of 32 columns.
const THREADS: usize = 256;

const fn kernel(name: &'static str) -> Kernel {
    let module = "batch_norm";
    Kernel { module, name }
}

/// Groups of rows that are summed on their own; few rows are one.
fn groups(rows: usize) -> usize {
    rows.div_ceil(256).clamp(1, 64)
}

impl BatchNormOp {
    /// Means, inverse deviations, scales and shifts, `[4, channels]`.
    fn settle_on(&self, gpu: Gpu<'_>, x: Floats<'_>, affine: Floats<'_>) -> Result<Buffer> {
        let (channels, rows) = (self.channels, x.len() / self.channels);
        let (settled, blocks) = (gpu.buffer(4 * channels)?, channels.div_ceil(128));
        if let Some([mean, variance]) = &self.running {
            with_floats([mean, variance], |[mean, variance]| {
                gpu.launch(kernel("settle_by_running"), blocks, 128)
                    .floats(mean)
                    .floats(variance)
                    .floats(affine)
                    .floats(settled.floats())
                    .int(channels)
                    .float(EPSILON as f32)
                    .run()
            })?;
            return Ok(settled);
        }
        let groups = groups(rows);
        let (shares, of_batch) = (
            gpu.buffer(2 * groups * 2 * channels)?,
            gpu.buffer(2 * channels)?,
        );
        let grid = (channels.div_ceil(32), groups);
        gpu.launch(kernel("moment_shares"), grid, THREADS)
            .floats(x)
            .floats(shares.floats())
            .int(rows)
            .int(channels)
            .run()?;
        gpu.launch(kernel("settle_by_batch"), blocks, 128)
            .floats(shares.floats())
            .floats(affine)
            .floats(settled.floats())
            .floats(of_batch.floats())
            .int(groups)
            .int(rows)
            .int(channels)
            .float(EPSILON as f32)
            .run()?;
        self.note(of_batch.into_tensor((2, channels)))?;
        Ok(settled)
    }

    fn run_on(
        &self,
        gpu: Gpu<'_>,
        x: Input<'_, Floats<'_>>,
        affine: Floats<'_>,
        residual: Option<Floats<'_>>,
    ) -> Result<(Buffer, Shape)> {
        let count = x.values.len();
        if residual.is_some_and(|residual| residual.len() != count) {
            bail!(
                "a residual has another shape than what it is added to, {:?}",
                x.dims
            )
        }
        let settled = self.settle_on(gpu, x.values, affine)?;
        let target = gpu.buffer(count)?;
        gpu.each(kernel("normalise"), count)
            .floats(x.values)
            .floats(settled.floats())
            .optional(residual)
            .floats(target.floats())
            .int(count)
            .int(self.channels)
            .int(usize::from(self.relu))
            .run()?;
        self.kept.keep(settled)?;
        Ok((target, x.dims.into()))
    }

    /// The gradients of `x`, of the parameters, and of a residual if there is one.
    fn differentiate_on(
        &self,
        gpu: Gpu<'_>,
        x: Input<'_, Floats<'_>>,
        residual: Option<Input<'_, Floats<'_>>>,
        y: Floats<'_>,
        gradient: Floats<'_>,
    ) -> Result<[Option<Buffer>; 3]> {
        let (settled, channels) = (self.kept.get()?, self.channels);
        let (count, rows) = (x.values.len(), x.values.len() / channels);
        let groups = groups(rows);
        let passed = match residual.is_some_and(|residual| residual.tracked) {
            true => Some(gpu.buffer(count)?),
            false => None,
        };
        let (shares, of_affine) = (
            gpu.buffer(2 * groups * 2 * channels)?,
            gpu.buffer(2 * channels)?,
        );
        let grid = (channels.div_ceil(32), groups);
        gpu.launch(kernel("slope_shares"), grid, THREADS)
            .floats(x.values)
            .floats(settled.floats())
            .floats(y)
            .floats(gradient)
            .optional(passed.as_ref().map(Buffer::floats))
            .floats(shares.floats())
            .int(rows)
            .int(channels)
            .int(usize::from(self.relu))
            .run()?;
        gpu.launch(kernel("sum_slopes"), channels.div_ceil(128), 128)
            .floats(shares.floats())
            .floats(of_affine.floats())
            .int(groups)
            .int(channels)
            .run()?;
        let mut of_x = None;
        if x.tracked {
            let target = gpu.buffer(count)?;
            gpu.each(kernel("normalise_backward"), count)
                .floats(x.values)
                .floats(settled.floats())
                .floats(y)
                .floats(gradient)
                .floats(of_affine.floats())
                .floats(target.floats())
                .int(rows)
                .int(channels)
                .int(usize::from(self.relu))
                .int(usize::from(self.running.is_some()))
                .run()?;
            of_x = Some(target);
        }
        Ok([of_x, Some(of_affine), passed])
    }
}

impl OnCuda<2> for BatchNormOp {
    fn forward_on(
        &self,
        gpu: Gpu<'_>,
        [x, affine]: [Input<'_, Floats<'_>>; 2],
    ) -> Result<(Buffer, Shape)> {
        self.run_on(gpu, x, affine.values, None)
    }

    fn backward_on(
        &self,
        gpu: Gpu<'_>,
        [x, _]: [Input<'_, Floats<'_>>; 2],
        y: Floats<'_>,
        gradient: Floats<'_>,
    ) -> Result<[Option<Buffer>; 2]> {
        let [x, affine, _] = self.differentiate_on(gpu, x, None, y, gradient)?;
        Ok([x, affine])
    }
}

impl OnCuda<3> for BatchNormOp {
    fn forward_on(
        &self,
        gpu: Gpu<'_>,
        [x, affine, residual]: [Input<'_, Floats<'_>>; 3],
    ) -> Result<(Buffer, Shape)> {
        self.run_on(gpu, x, affine.values, Some(residual.values))
    }

    fn backward_on(
        &self,
        gpu: Gpu<'_>,
        [x, _, residual]: [Input<'_, Floats<'_>>; 3],
        y: Floats<'_>,
        gradient: Floats<'_>,
    ) -> Result<[Option<Buffer>; 3]> {
        self.differentiate_on(gpu, x, Some(residual), y, gradient)
    }
}

impl BatchNorm {
    /// Takes the statistics of a batch, `[2, channels]`, into the running ones, in place.
    pub(super) fn update_on_cuda(&self, of_batch: &Tensor) -> Result<()> {
        let gpu = Gpu::of(of_batch)?;
        let (mean, variance) = (&self.running_mean, &self.running_variance);
        let batches = address_of_integers(&self.batches)?;
        with_floats([mean, variance, of_batch], |[mean, variance, of_batch]| {
            let channels = mean.len();
            gpu.launch(kernel("move_running"), channels.div_ceil(128), 128)
                .floats(mean)
                .floats(variance)
                .words(vec![batches])
                .floats(of_batch)
                .int(channels)
                .float(MOMENTUM as f32)
                .run()
        })
    }
}

//! Means and their slopes on CUDA.

use candle_core::{Result, Shape};

use super::{Kind, Mean, Pair, Steps};
use crate::cuda::{Buffer, Floats, Gpu, Kernel, Launch};
use crate::operation::{Input, OnCuda};

const fn kernel(name: &'static str) -> Kernel {
    let module = "loss";
    Kernel { module, name }
}

/// A mean, from the shares that a kernel writes: each block's is a float of 64 bits.
fn mean_of<'a>(
    gpu: Gpu<'a>,
    name: &'static str,
    count: usize,
    divisor: f64,
    given: impl FnOnce(Launch<'a>, Floats<'_>) -> Launch<'a>,
) -> Result<(Buffer, Shape)> {
    let blocks = count.div_ceil(1024).clamp(1, 512);
    let (shares, target) = (gpu.buffer(2 * blocks)?, gpu.buffer(1)?);
    given(gpu.launch(kernel(name), blocks, 256), shares.floats()).run()?;
    gpu.launch(kernel("mean_of_shares"), 1, 256)
        .floats(shares.floats())
        .floats(target.floats())
        .int(blocks)
        .float(divisor as f32)
        .run()?;
    Ok((target, ().into()))
}

impl Pair {
    fn slopes_on(
        &self,
        gpu: Gpu<'_>,
        one: Floats<'_>,
        other: Floats<'_>,
        gradient: Floats<'_>,
    ) -> Result<Buffer> {
        let target = gpu.buffer(one.len())?;
        gpu.each(kernel("pair_slopes"), one.len())
            .floats(one)
            .floats(other)
            .floats(gradient)
            .floats(target.floats())
            .int(one.len())
            .int(usize::from(self.0 == Kind::Smooth))
            .run()?;
        Ok(target)
    }
}

impl OnCuda<2> for Pair {
    fn forward_on(
        &self,
        gpu: Gpu<'_>,
        [found, wanted]: [Input<'_, Floats<'_>>; 2],
    ) -> Result<(Buffer, Shape)> {
        let count = found.values.len();
        mean_of(gpu, "pair_shares", count, count as f64, |launch, shares| {
            launch
                .floats(found.values)
                .floats(wanted.values)
                .floats(shares)
                .int(count)
                .int(usize::from(self.0 == Kind::Smooth))
        })
    }

    fn backward_on(
        &self,
        gpu: Gpu<'_>,
        [found, wanted]: [Input<'_, Floats<'_>>; 2],
        _: Floats<'_>,
        gradient: Floats<'_>,
    ) -> Result<[Option<Buffer>; 2]> {
        let (one, other) = (found.values, wanted.values);
        let mut gradients = [None, None];
        if found.tracked {
            gradients[0] = Some(self.slopes_on(gpu, one, other, gradient)?);
        }
        if wanted.tracked {
            gradients[1] = Some(self.slopes_on(gpu, other, one, gradient)?);
        }
        Ok(gradients)
    }
}

impl OnCuda<1> for Mean {
    fn forward_on(&self, gpu: Gpu<'_>, [x]: [Input<'_, Floats<'_>>; 1]) -> Result<(Buffer, Shape)> {
        let count = x.values.len();
        mean_of(
            gpu,
            "value_shares",
            count,
            count as f64,
            |launch, shares| launch.floats(x.values).floats(shares).int(count),
        )
    }

    fn backward_on(
        &self,
        gpu: Gpu<'_>,
        [x]: [Input<'_, Floats<'_>>; 1],
        _: Floats<'_>,
        gradient: Floats<'_>,
    ) -> Result<[Option<Buffer>; 1]> {
        let (count, target) = (x.values.len(), gpu.buffer(x.values.len())?);
        gpu.each(kernel("share_out"), count)
            .floats(gradient)
            .floats(target.floats())
            .int(count)
            .run()?;
        Ok([Some(target)])
    }
}

impl OnCuda<1> for Steps {
    fn forward_on(&self, gpu: Gpu<'_>, [x]: [Input<'_, Floats<'_>>; 1]) -> Result<(Buffer, Shape)> {
        let (size, width, divisor) = Self::sizes(x.dims)?;
        let count = x.values.len();
        mean_of(gpu, "step_shares", count, divisor, |launch, shares| {
            let launch = launch.floats(x.values).floats(shares);
            launch.int(count).int(size).int(width)
        })
    }

    fn backward_on(
        &self,
        gpu: Gpu<'_>,
        [x]: [Input<'_, Floats<'_>>; 1],
        _: Floats<'_>,
        gradient: Floats<'_>,
    ) -> Result<[Option<Buffer>; 1]> {
        let (size, width, divisor) = Self::sizes(x.dims)?;
        let (count, target) = (x.values.len(), gpu.buffer(x.values.len())?);
        gpu.each(kernel("step_slopes"), count)
            .floats(x.values)
            .floats(gradient)
            .floats(target.floats())
            .int(count)
            .int(size)
            .int(width)
            .float(divisor as f32)
            .run()?;
        Ok([Some(target)])
    }
}

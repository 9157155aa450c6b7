//! Attention on CUDA: a block has a head of a sample, and what is as large as the weights never leaves it.

use candle_core::{Result, Shape};

use super::head::Sizes;
use super::op::AttentionOp;
use crate::cuda::{Buffer, Floats, Gpu, Kernel, MOST_SHARED};
use crate::operation::{Input, OnCuda};

/// Warps of a block, and rows of queries that a warp works on.
const WARPS: usize = 8;
const ROWS: usize = 4;

/// Values that lie between the rows of a head in shared memory, so that their banks differ.
const PADDING: usize = 4;

/// Depths of heads that there are kernels for, and their names: forward and backward, for windows of up to 32 and 128 rows.
const KERNELS: [(usize, [[&str; 2]; 2]); 3] = [
    (
        16,
        [
            ["attention_forward_16_1", "attention_forward_16_4"],
            ["attention_backward_16_1", "attention_backward_16_4"],
        ],
    ),
    (
        32,
        [
            ["attention_forward_32_1", "attention_forward_32_4"],
            ["attention_backward_32_1", "attention_backward_32_4"],
        ],
    ),
    (
        64,
        [
            ["attention_forward_64_1", "attention_forward_64_4"],
            ["attention_backward_64_1", "attention_backward_64_4"],
        ],
    ),
];

/// A kernel and the shared memory of its blocks, in bytes.
type Chosen = (Kernel, usize);

/// The kernels for an attention of these sizes, forward and backward, if there are some.
fn kernels(sizes: Sizes) -> Option<[Chosen; 2]> {
    let length = sizes.length;
    let mut kernels = KERNELS.iter();
    let (depth, names) = kernels.find(|(depth, _)| sizes.head() <= *depth)?;
    let row = depth + PADDING;
    let floats = [
        (3 * row + WARPS * ROWS) * length,
        (4 * row + 2 * length) * length,
    ];
    let bytes = floats.map(|floats| floats * size_of::<f32>());
    if length > 128 || bytes[1] > MOST_SHARED {
        return None;
    }
    let chosen = |way: usize| {
        let kernel = Kernel {
            module: "attention",
            name: names[way][usize::from(length > 32)],
        };
        (kernel, bytes[way])
    };
    Some([chosen(0), chosen(1)])
}

/// The struct `AttentionSizes` of the kernels.
fn words(sizes: Sizes) -> Vec<u64> {
    let depth = sizes.head() as u64;
    let scale = 1.0 / (sizes.head() as f32).sqrt();
    vec![
        sizes.length as u64 | (sizes.heads as u64) << 32,
        depth | u64::from(scale.to_bits()) << 32,
    ]
}

impl AttentionOp {
    pub(super) fn fits_cuda(&self, dims: &[usize]) -> bool {
        self.sizes(dims)
            .is_ok_and(|(_, sizes)| kernels(sizes).is_some())
    }

    fn launch(
        &self,
        gpu: Gpu<'_>,
        dims: &[usize],
        way: usize,
        floats: [Floats<'_>; 3],
    ) -> Result<()> {
        let (batch, sizes) = self.sizes(dims)?;
        let Some(kernels) = kernels(sizes) else {
            candle_core::bail!("there is no kernel for an attention of these sizes")
        };
        let (kernel, shared) = kernels[way];
        let [projected, gradient, target] = floats;
        let mut launch = gpu
            .launch(kernel, batch * sizes.heads, WARPS * 32)
            .shared(shared)
            .floats(projected)
            .words(self.dropout.words());
        if way == 1 {
            launch = launch.floats(gradient);
        }
        launch.floats(target).words(words(sizes)).run()
    }
}

impl OnCuda<1> for AttentionOp {
    fn forward_on(&self, gpu: Gpu<'_>, [x]: [Input<'_, Floats<'_>>; 1]) -> Result<(Buffer, Shape)> {
        let (batch, sizes) = self.sizes(x.dims)?;
        let target = gpu.buffer(batch * sizes.length * sizes.width)?;
        let floats = [x.values, Floats::NONE, target.floats()];
        self.launch(gpu, x.dims, 0, floats)?;
        Ok((target, (batch, sizes.length, sizes.width).into()))
    }

    fn backward_on(
        &self,
        gpu: Gpu<'_>,
        [x]: [Input<'_, Floats<'_>>; 1],
        _: Floats<'_>,
        gradient: Floats<'_>,
    ) -> Result<[Option<Buffer>; 1]> {
        let target = gpu.buffer(x.values.len())?;
        let floats = [x.values, gradient, target.floats()];
        self.launch(gpu, x.dims, 1, floats)?;
        Ok([Some(target)])
    }
}

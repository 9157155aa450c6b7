//! An optimiser's step on CUDA: many parameters in one launch.

use candle_core::{Result, Shape, Tensor};

use super::{Floats, Gpu, Kernel, with_floats};

/// Parameters in one launch, and values that a block works on: as in `slots.cuh`.
const SLOTS: usize = 64;
const CHUNK: usize = 2048;

/// What a rule's kernel is, and its constants in this step.
pub struct Launched {
    pub kernel: Kernel,
    pub constants: Vec<f32>,
}

/// A parameter, its gradient, and what the optimiser remembers of it, on the device.
pub(crate) struct Slot<'a> {
    pub values: Tensor,
    pub gradient: Tensor,
    pub memory: &'a [Tensor],
}

/// Where the values of a slot are, and how many.
struct Place {
    addresses: [u64; 4],
    count: usize,
}

/// Launches a kernel over slots, group by group.
fn launch(gpu: Gpu<'_>, kernel: Kernel, places: &[Place], constants: Option<&[u64]>) -> Result<()> {
    for group in places.chunks(SLOTS) {
        let mut words = Vec::with_capacity(SLOTS * 5);
        let mut blocks = 0;
        for place in group {
            words.extend(place.addresses);
            words.push(place.count as u64 | (blocks as u64) << 32);
            blocks += place.count.div_ceil(CHUNK);
        }
        words.resize(SLOTS * 5, 0);
        if blocks == 0 {
            continue;
        }
        let mut launch = gpu.launch(kernel, blocks, 256).words(words);
        if let Some(constants) = constants {
            launch = launch.words(constants.to_vec());
        }
        launch.run()?;
    }
    Ok(())
}

/// Moves all parameters, in place.
///
/// # Errors
/// If the device refuses.
pub(crate) fn step(launched: &Launched, slots: &[Slot<'_>]) -> Result<()> {
    let Some(first) = slots.first() else {
        return Ok(());
    };
    let mut places = Vec::with_capacity(slots.len());
    for slot in slots {
        let memory = [
            &slot.memory[0],
            slot.memory.last().unwrap_or(&slot.memory[0]),
        ];
        let tensors = [&slot.values, &slot.gradient, memory[0], memory[1]];
        places.push(Place {
            addresses: with_floats(tensors, |floats| Ok(floats.map(Floats::address)))?,
            count: slot.values.elem_count(),
        });
    }
    let mut constants = Vec::new();
    for pair in launched.constants.chunks(2) {
        let second = pair.get(1).map_or(0, |second| second.to_bits());
        constants.push(u64::from(pair[0].to_bits()) | u64::from(second) << 32);
    }
    let gpu = Gpu::of(&first.values)?;
    launch(gpu, launched.kernel, &places, Some(&constants))
}

/// A variable of this shape that holds all these, one after the other.
///
/// # Errors
/// If the device refuses.
pub(crate) fn pack(parts: &[Tensor], shape: Shape) -> Result<Tensor> {
    const KERNEL: Kernel = Kernel {
        module: "pack",
        name: "pack",
    };
    let gpu = Gpu::of(&parts[0])?;
    let packed = gpu.buffer(shape.elem_count())?;
    let (mut places, mut start) = (Vec::with_capacity(parts.len()), 0);
    for part in parts {
        let (part, count) = (part.contiguous()?, part.elem_count());
        let target = packed.floats().range(start..start + count).address();
        places.push(Place {
            addresses: with_floats([&part], |[part]| Ok([target, part.address(), 0, 0]))?,
            count,
        });
        start += count;
    }
    launch(gpu, KERNEL, &places, None)?;
    Ok(packed.into_variable(shape))
}

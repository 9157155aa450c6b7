//! An optimiser's step on CUDA: many parameters in one launch.

use candle_core::{Result, Tensor};

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

/// Moves all parameters, in place.
///
/// # Errors
/// If the device refuses.
pub(crate) fn step(launched: &Launched, slots: &[Slot<'_>]) -> Result<()> {
    let Some(first) = slots.first() else {
        return Ok(());
    };
    let gpu = Gpu::of(&first.values)?;
    for group in slots.chunks(SLOTS) {
        let mut words = Vec::with_capacity(SLOTS * 5);
        let mut blocks = 0;
        for slot in group {
            let count = slot.values.elem_count();
            let memory = [
                &slot.memory[0],
                slot.memory.last().unwrap_or(&slot.memory[0]),
            ];
            let tensors = [&slot.values, &slot.gradient, memory[0], memory[1]];
            with_floats(tensors, |floats| {
                words.extend(floats.map(Floats::address));
                Ok(())
            })?;
            words.push(count as u64 | (blocks as u64) << 32);
            blocks += count.div_ceil(CHUNK);
        }
        words.resize(SLOTS * 5, 0);
        if blocks == 0 {
            continue;
        }
        let mut constants = Vec::new();
        for pair in launched.constants.chunks(2) {
            let second = pair.get(1).map_or(0, |second| second.to_bits());
            constants.push(u64::from(pair[0].to_bits()) | u64::from(second) << 32);
        }
        gpu.launch(launched.kernel, blocks, 256)
            .words(words)
            .words(constants)
            .run()?;
    }
    Ok(())
}

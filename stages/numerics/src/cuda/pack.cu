// Tensors side by side in one.
#include "slots.cuh"

// `values` is where a tensor goes, `gradient` where it is.
extern "C" __global__ void __launch_bounds__(256) pack(const __grid_constant__ Slots all) {
    const Slot &slot = slot_of_block(all);
    for (int at = first_of(slot); at < end_of(slot); at += blockDim.x) slot.values[at] = slot.gradient[at];
}

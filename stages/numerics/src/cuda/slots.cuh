// Many parameters in one launch: their places are passed by value, so that nothing is uploaded.
#pragma once

#define SLOTS 64
// Values that a block works on.
#define CHUNK 2048

// A parameter, its gradient, and what the optimiser remembers of it. slots.rs has the same.
struct Slot {
    float *values;
    const float *gradient;
    float *memory[2];
    int count;
    int first_block;
};

struct Slots {
    Slot slots[SLOTS];
};

// The parameter that this block works on.
__device__ __forceinline__ const Slot &slot_of_block(const Slots &all) {
    int low = 0, high = SLOTS;
    while (high - low > 1) {
        int middle = (low + high) / 2;
        // Beyond the last parameter there are zeros.
        bool is_later = all.slots[middle].count == 0 || all.slots[middle].first_block > (int)blockIdx.x;
        if (is_later) high = middle;
        else low = middle;
    }
    return all.slots[low];
}

// The values of the parameter that this thread has: from `first_of` on, every `blockDim.x`-th below `end_of`.
__device__ __forceinline__ int first_of(const Slot &slot) {
    return ((int)blockIdx.x - slot.first_block) * CHUNK + (int)threadIdx.x;
}

__device__ __forceinline__ int end_of(const Slot &slot) {
    return min(slot.count, ((int)blockIdx.x - slot.first_block + 1) * CHUNK);
}

// What kernels share.
#pragma once
#include <stdint.h>

#define EVERYONE 0xffffffffu

// The sum over a warp, the same in every lane: additions in a fixed tree, so the bits are always the same.
__device__ __forceinline__ float warp_sum(float value) {
#pragma unroll
    for (int with = 16; with > 0; with >>= 1) value += __shfl_xor_sync(EVERYONE, value, with);
    return value;
}

// The largest of a warp's values, in every lane.
__device__ __forceinline__ float warp_max(float value) {
#pragma unroll
    for (int with = 16; with > 0; with >>= 1) value = fmaxf(value, __shfl_xor_sync(EVERYONE, value, with));
    return value;
}

// The sum over a block of at most 1,024 threads, the same in every thread. `shares` has room for 32 values; all threads
// take part.
__device__ __forceinline__ float block_sum(float value, float *shares) {
    int warp = threadIdx.x / 32, warps = (blockDim.x + 31) / 32;
    value = warp_sum(value);
    if (threadIdx.x % 32 == 0) shares[warp] = value;
    __syncthreads();
    float sum = 0.0f;
    for (int other = 0; other < warps; other++) sum += shares[other];
    __syncthreads();
    return sum;
}

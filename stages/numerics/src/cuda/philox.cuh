// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011), as philox.rs has it: random bits as a
// function of a key and a counter. What is drawn for a value follows from its row and column, so no kernel keeps a mask.
#pragma once
#include "common.cuh"

#define FOR_DROPOUT 0u
#define FOR_NOISE 1u

__device__ __forceinline__ uint4 philox(uint4 counter, uint2 key) {
#pragma unroll
    for (int round = 0; round < 10; round++) {
        unsigned high0 = __umulhi(0xd2511f53u, counter.x), low0 = 0xd2511f53u * counter.x;
        unsigned high1 = __umulhi(0xcd9e8d57u, counter.z), low1 = 0xcd9e8d57u * counter.z;
        counter = make_uint4(high1 ^ counter.y ^ key.x, low1, high0 ^ counter.w ^ key.y, low0);
        key.x += 0x9e3779b9u;
        key.y += 0xbb67ae85u;
    }
    return counter;
}

// The bits of a counter of a row, for an application with this key.
__device__ __forceinline__ uint4 bits_of(uint2 key, unsigned purpose, uint64_t row, unsigned counter) {
    return philox(make_uint4(counter, purpose, (unsigned)row, (unsigned)(row >> 32)), key);
}

// One application of dropout: how many of 65,536 draws drop a value, and what is kept is multiplied by. None are dropped:
// values pass unchanged. Dropout in dropout.rs is the same.
struct Drop {
    uint2 key;
    unsigned dropped;
    float kept;
};

// The bits that decide about a column of a row, and about all others of its block of 128 that are a multiple of 16 apart.
__device__ __forceinline__ uint4 drop_bits(const Drop &drop, uint64_t row, int column) {
    return bits_of(drop.key, FOR_DROPOUT, row, (unsigned)(column >> 7) * 16u + (column & 15u));
}

// The factor of a column, from the bits of its counter.
__device__ __forceinline__ float factor_of(const Drop &drop, uint4 bits, int column) {
    int place = (column >> 5) & 3;
    unsigned word = place < 2 ? (place == 0 ? bits.x : bits.y) : (place == 2 ? bits.z : bits.w);
    unsigned draw = column & 16 ? word >> 16 : word & 0xffffu;
    return draw < drop.dropped ? 0.0f : drop.kept;
}

// The factor of one value alone.
__device__ __forceinline__ float drop_factor(const Drop &drop, uint64_t row, int column) {
    return drop.dropped == 0 ? 1.0f : factor_of(drop, drop_bits(drop, row, column), column);
}

// y = x + deviation * N(0, 1) over rows of `width` floats (Box and Muller, 1958), to the bit what noise.rs gives: every
// operation is rounded on its own.
#include "../cuda/elementary.cuh"
#include "../cuda/philox.cuh"

// Sine and cosine of 2π · angle / 2³²: the octant is read off the bits, the rest lies within ±π/4 of a multiple of π/2.
__device__ __forceinline__ float2 sine_cosine(unsigned angle) {
    unsigned quarter = (angle + 0x20000000u) >> 30;
    float rest = __fmul_rn((float)(int)(angle - (quarter << 30)), 1.4629181e-9f);
    float square = __fmul_rn(rest, rest);
    float sine = __fadd_rn(__fmul_rn(square, 2.7557319e-6f), -1.984127e-4f);
    sine = __fadd_rn(__fmul_rn(sine, square), 8.3333333e-3f);
    sine = __fadd_rn(__fmul_rn(sine, square), -0.16666667f);
    sine = __fadd_rn(rest, __fmul_rn(__fmul_rn(rest, square), sine));
    float cosine = __fadd_rn(__fmul_rn(square, 2.4801587e-5f), -1.3888889e-3f);
    cosine = __fadd_rn(__fmul_rn(cosine, square), 4.1666668e-2f);
    cosine = __fadd_rn(__fmul_rn(cosine, square), -0.5f);
    cosine = __fadd_rn(1.0f, __fmul_rn(square, cosine));
    float s = quarter & 1u ? cosine : sine, c = quarter & 1u ? sine : cosine;
    return make_float2(quarter & 2u ? -s : s, (quarter + 1u) & 2u ? -c : c);
}

__device__ __forceinline__ float2 normal_pair(unsigned radius_bits, unsigned angle_bits) {
    // 24 bits in (0, 1], whose logarithm is finite.
    float uniform = __fmul_rn((float)((radius_bits >> 8) + 1u), 5.9604645e-8f);
    float radius = __fsqrt_rn(__fmul_rn(-2.0f, own_ln(uniform)));
    float2 found = sine_cosine(angle_bits);
    return make_float2(__fmul_rn(radius, found.y), __fmul_rn(radius, found.x));
}

extern "C" __global__ void __launch_bounds__(256) noise(const float *__restrict__ x, float *__restrict__ y, const uint2 key,
                                                        const float deviation, const int rows, const int width) {
    // A thread has a counter: up to four columns of a row.
    int counters = (width + 63) / 64 * 16;
    uint64_t number = blockIdx.x * (uint64_t)blockDim.x + threadIdx.x;
    uint64_t row = number / counters;
    if (row >= rows) return;
    int counter = (int)(number % counters), first = counter / 16 * 64 + counter % 16;
    uint4 bits = bits_of(key, FOR_NOISE, row, (unsigned)counter);
    float2 one = normal_pair(bits.x, bits.y), other = normal_pair(bits.z, bits.w);
    float draws[4] = {one.x, one.y, other.x, other.y};
#pragma unroll
    for (int place = 0; place < 4; place++) {
        int column = first + 16 * place;
        if (column < width) {
            uint64_t at = row * width + column;
            y[at] = __fadd_rn(x[at], __fmul_rn(deviation, draws[place]));
        }
    }
}

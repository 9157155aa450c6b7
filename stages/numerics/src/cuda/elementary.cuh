// exp, ln and the normal distribution as elementary.rs has them, to the bit: every operation is rounded on its own, which
// these intrinsics say to nvcc.
#pragma once
#include "common.cuh"

__device__ __forceinline__ float own_exp(float x) {
    const float limit = 87.0f, rounder = 12582912.0f;
    float bounded = x > limit ? limit : x;
    bounded = bounded < -limit ? -limit : bounded;
    float rounded = __fadd_rn(__fmul_rn(bounded, 1.44269504088896340736f), rounder);
    float power = __fsub_rn(rounded, rounder);
    float rest = __fsub_rn(__fsub_rn(bounded, __fmul_rn(power, 0.6933594f)), __fmul_rn(power, -2.1219444e-4f));
    float series = 1.0f / 5040.0f;
    const float coefficients[7] = {1.0f / 720.0f, 1.0f / 120.0f, 1.0f / 24.0f, 1.0f / 6.0f, 0.5f, 1.0f, 1.0f};
#pragma unroll
    for (int index = 0; index < 7; index++) series = __fadd_rn(__fmul_rn(series, rest), coefficients[index]);
    float scale = __uint_as_float((__float_as_uint(rounded) - __float_as_uint(rounder) + 127u) << 23);
    return x < -limit ? 0.0f : __fmul_rn(series, scale);
}

__device__ __forceinline__ float own_ln(float x) {
    int bits = __float_as_int(x);
    int exponent = (bits - 0x3f3504f3) >> 23;
    float mantissa = __int_as_float(bits - (int)((unsigned)exponent << 23));
    float ratio = __fdiv_rn(__fsub_rn(mantissa, 1.0f), __fadd_rn(mantissa, 1.0f));
    float square = __fmul_rn(ratio, ratio);
    float series = 2.0f / 9.0f;
    const float coefficients[3] = {2.0f / 7.0f, 2.0f / 5.0f, 2.0f / 3.0f};
#pragma unroll
    for (int index = 0; index < 3; index++) series = __fadd_rn(__fmul_rn(series, square), coefficients[index]);
    float power = (float)exponent;
    float small = __fadd_rn(__fmul_rn(__fmul_rn(ratio, square), series), __fmul_rn(power, -2.1219444e-4f));
    return __fadd_rn(__fadd_rn(__fadd_rn(ratio, ratio), small), __fmul_rn(power, 0.6933594f));
}

// The probability of a value below x, and the density at x.
__device__ __forceinline__ float2 own_normal(float x) {
    const float tail_terms[10] = {0.0325181f,   -0.16104592f, 0.2960373f, -0.19821191f, -0.038275845f,
                                  0.024399623f, 0.06967616f,  0.1399957f, 0.16734193f,  0.16756491f};
    float bell = own_exp(__fmul_rn(__fmul_rn(-0.5f, x), x));
    float place = __fdiv_rn(1.0f, __fadd_rn(1.0f, __fmul_rn(0.42f, fabsf(x))));
    float series = 0.0f;
#pragma unroll
    for (int index = 0; index < 10; index++) series = __fadd_rn(__fmul_rn(series, place), tail_terms[index]);
    float tail = __fmul_rn(bell, __fmul_rn(series, place));
    return make_float2(x < 0.0f ? tail : __fsub_rn(1.0f, tail), __fmul_rn(0.3989423f, bell));
}

__device__ __forceinline__ float own_sigmoid(float x) { return __fdiv_rn(1.0f, __fadd_rn(1.0f, own_exp(-x))); }

// tanh through the exponential of the smaller side; near 0 by its series.
__device__ __forceinline__ float own_tanh(float x) {
    float size = fabsf(x);
    float folded = own_exp(__fmul_rn(-2.0f, size));
    float large = __fdiv_rn(__fsub_rn(1.0f, folded), __fadd_rn(1.0f, folded));
    float square = __fmul_rn(x, x);
    float series = __fadd_rn(__fmul_rn(square, 0.13333334f), -0.33333334f);
    float small = __fadd_rn(size, __fmul_rn(__fmul_rn(size, square), series));
    return copysignf(size < 0.1f ? small : large, x);
}

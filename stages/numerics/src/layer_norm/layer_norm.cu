// y = normalise(x + dropout(branch)) * weight + bias over rows of `width` floats, and its gradients. A warp has a row;
// nothing is kept between forward and backward but x and branch.
#include "../cuda/philox.cuh"

#define WARPS 8

// This lane's values of the row that is normalised: x + dropout(branch), and 0 beyond the row's end.
template <int PER_LANE>
__device__ __forceinline__ void load_row(const float *__restrict__ x, const float *__restrict__ branch, const Drop &drop,
                                         uint64_t row, int width, int lane, float (&values)[PER_LANE]) {
    uint4 bits = make_uint4(0u, 0u, 0u, 0u);
#pragma unroll
    for (int part = 0; part < PER_LANE; part++) {
        int column = part * 32 + lane;
        float value = 0.0f;
        if (branch && drop.dropped && part % 4 == 0) bits = drop_bits(drop, row, column);
        if (column < width) {
            uint64_t at = row * width + column;
            value = x[at];
            if (branch) value += drop.dropped ? branch[at] * factor_of(drop, bits, column) : branch[at];
        }
        values[part] = value;
    }
}

// Mean and 1 / √(variance + ε).
template <int PER_LANE>
__device__ __forceinline__ float2 statistics(const float (&values)[PER_LANE], int width, int lane, float epsilon) {
    float sum = 0.0f;
#pragma unroll
    for (int part = 0; part < PER_LANE; part++) sum += values[part];
    float mean = warp_sum(sum) / (float)width, squares = 0.0f;
#pragma unroll
    for (int part = 0; part < PER_LANE; part++) {
        float apart = part * 32 + lane < width ? values[part] - mean : 0.0f;
        squares += apart * apart;
    }
    return make_float2(mean, 1.0f / sqrtf(warp_sum(squares) / (float)width + epsilon));
}

template <int PER_LANE>
__device__ void forward(const float *x, const float *branch, const Drop &drop, const float *parameters, float *y, int rows,
                        int width, float epsilon) {
    const float *weight = parameters, *bias = parameters + width;
    int lane = threadIdx.x & 31;
    for (int row = blockIdx.x * WARPS + (threadIdx.x >> 5); row < rows; row += gridDim.x * WARPS) {
        float values[PER_LANE];
        load_row<PER_LANE>(x, branch, drop, row, width, lane, values);
        float2 found = statistics<PER_LANE>(values, width, lane, epsilon);
#pragma unroll
        for (int part = 0; part < PER_LANE; part++) {
            int column = part * 32 + lane;
            if (column < width)
                y[(uint64_t)row * width + column] = (values[part] - found.x) * found.y * weight[column] + bias[column];
        }
    }
}

// The gradient of the sum, of the branch if something of it was dropped, and this block's share of those of weight and bias:
// `shares` is [blocks, 2 * width].
template <int PER_LANE>
__device__ void backward(const float *x, const float *branch, const Drop &drop, const float *weight, const float *gradient,
                         float *of_sum, float *of_branch, float *shares, int rows, int width, float epsilon) {
    extern __shared__ float sums[]; // [WARPS, 2, width]
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    float of_weight[PER_LANE], of_bias[PER_LANE];
#pragma unroll
    for (int part = 0; part < PER_LANE; part++) of_weight[part] = of_bias[part] = 0.0f;
    for (int row = blockIdx.x * WARPS + warp; row < rows; row += gridDim.x * WARPS) {
        float values[PER_LANE], inner[PER_LANE];
        load_row<PER_LANE>(x, branch, drop, row, width, lane, values);
        float2 found = statistics<PER_LANE>(values, width, lane, epsilon);
        float plain = 0.0f, weighted = 0.0f;
#pragma unroll
        for (int part = 0; part < PER_LANE; part++) {
            int column = part * 32 + lane;
            bool inside = column < width;
            float upstream = inside ? gradient[(uint64_t)row * width + column] : 0.0f;
            values[part] = inside ? (values[part] - found.x) * found.y : 0.0f;
            of_weight[part] += upstream * values[part];
            of_bias[part] += upstream;
            inner[part] = inside ? upstream * weight[column] : 0.0f;
            plain += inner[part];
            weighted += inner[part] * values[part];
        }
        plain = warp_sum(plain) / (float)width;
        weighted = warp_sum(weighted) / (float)width;
#pragma unroll
        for (int part = 0; part < PER_LANE; part++) {
            int column = part * 32 + lane;
            if (column >= width) continue;
            uint64_t at = (uint64_t)row * width + column;
            float slope = found.y * (inner[part] - plain - values[part] * weighted);
            of_sum[at] = slope;
            if (of_branch) of_branch[at] = slope * drop_factor(drop, row, column);
        }
    }
#pragma unroll
    for (int part = 0; part < PER_LANE; part++) {
        int column = part * 32 + lane;
        if (column >= width) continue;
        sums[(warp * 2) * width + column] = of_weight[part];
        sums[(warp * 2 + 1) * width + column] = of_bias[part];
    }
    __syncthreads();
    for (int index = threadIdx.x; index < 2 * width; index += WARPS * 32) {
        float sum = 0.0f;
        for (int from = 0; from < WARPS; from++) sum += sums[from * 2 * width + index];
        shares[(uint64_t)blockIdx.x * 2 * width + index] = sum;
    }
}

#define FOR_WIDTH(PER_LANE)                                                                                                \
    extern "C" __global__ void __launch_bounds__(WARPS * 32)                                                               \
        layer_norm_forward_##PER_LANE(const float *x, const float *branch, const Drop drop, const float *parameters,       \
                                      float *y, const int rows, const int width, const float epsilon) {                    \
        forward<PER_LANE>(x, branch, drop, parameters, y, rows, width, epsilon);                                           \
    }                                                                                                                      \
    extern "C" __global__ void __launch_bounds__(WARPS * 32)                                                               \
        layer_norm_backward_##PER_LANE(const float *x, const float *branch, const Drop drop, const float *parameters,      \
                                       const float *gradient, float *of_sum, float *of_branch, float *shares,              \
                                       const int rows, const int width, const float epsilon) {                             \
        backward<PER_LANE>(x, branch, drop, parameters, gradient, of_sum, of_branch, shares, rows, width, epsilon);        \
    }

// Rows of up to 32 * PER_LANE.
FOR_WIDTH(1)
FOR_WIDTH(4)
FOR_WIDTH(16)
FOR_WIDTH(32)

// Self-attention of short windows, a block per sample and head, forward and backward. `projected` is
// [batch, length, 3 * heads * depth]: queries, keys and values side by side. Nothing of the size of the weights leaves a
// multiprocessor: backward computes them again. A warp works on ROWS rows of queries at once, so that what it reads of
// keys and values serves all of them. Heads are padded with zeros to DEPTH values.
//
// Rows of weights are numbered by sample, head and row, for their dropout.
#include "../cuda/philox.cuh"

#define WARPS 8
#define ROWS 4
#define STRIDE (DEPTH + 4) // of rows in shared memory: 16-byte reads of 32 rows fall on different banks

struct AttentionSizes {
    int length, heads, depth;
    float scale;
};

// A head's part of the projection, or of a gradient, to shared memory.
template <int DEPTH>
__device__ __forceinline__ void load_head(const float *__restrict__ from, int row_stride, int length, int depth, float *to) {
    for (int index = threadIdx.x; index < length * DEPTH; index += WARPS * 32) {
        int row = index / DEPTH, column = index % DEPTH;
        to[row * STRIDE + column] = column < depth ? from[(size_t)row * row_stride + column] : 0.0f;
    }
}

// products[r][k] = left[first + r] . right[lane + 32 k], for rows inside.
template <int DEPTH, int KEYS>
__device__ __forceinline__ void row_products(const float *left, const float *right, int first, int length, int lane,
                                             float (&products)[ROWS][KEYS]) {
#pragma unroll
    for (int row = 0; row < ROWS; row++)
#pragma unroll
        for (int part = 0; part < KEYS; part++) products[row][part] = 0.0f;
#pragma unroll 4
    for (int column = 0; column < DEPTH; column += 4) {
        float4 own[ROWS];
#pragma unroll
        for (int row = 0; row < ROWS; row++)
            own[row] = *reinterpret_cast<const float4 *>(left + min(first + row, length - 1) * STRIDE + column);
#pragma unroll
        for (int part = 0; part < KEYS; part++) {
            int key = min(lane + 32 * part, length - 1);
            float4 other = *reinterpret_cast<const float4 *>(right + key * STRIDE + column);
#pragma unroll
            for (int row = 0; row < ROWS; row++)
                products[row][part] += own[row].x * other.x + own[row].y * other.y + own[row].z * other.z + own[row].w * other.w;
        }
    }
}

template <int KEYS>
__device__ __forceinline__ void softmax_row(float (&weights)[KEYS], int length, int lane, float scale) {
    float most = -INFINITY;
#pragma unroll
    for (int part = 0; part < KEYS; part++) {
        weights[part] = lane + 32 * part < length ? weights[part] * scale : -INFINITY;
        most = fmaxf(most, weights[part]);
    }
    most = warp_max(most);
    float sum = 0.0f;
#pragma unroll
    for (int part = 0; part < KEYS; part++) {
        weights[part] = __expf(weights[part] - most);
        sum += weights[part];
    }
    sum = 1.0f / warp_sum(sum);
#pragma unroll
    for (int part = 0; part < KEYS; part++) weights[part] *= sum;
}

// target[r][c] = sum over j of weights[r][j] * values[j][lane + 32 c]
template <int DEPTH>
__device__ __forceinline__ void weigh(const float *weights, int weight_stride, const float *values, int length, int lane,
                                      float (&target)[ROWS][(DEPTH + 31) / 32]) {
#pragma unroll
    for (int row = 0; row < ROWS; row++)
#pragma unroll
        for (int part = 0; part < (DEPTH + 31) / 32; part++) target[row][part] = 0.0f;
    for (int key = 0; key < length; key++) {
        float value[(DEPTH + 31) / 32];
#pragma unroll
        for (int part = 0; part < (DEPTH + 31) / 32; part++)
            value[part] = DEPTH >= 32 || lane < DEPTH ? values[key * STRIDE + lane + 32 * part] : 0.0f;
#pragma unroll
        for (int row = 0; row < ROWS; row++) {
            float weight = weights[row * weight_stride + key];
#pragma unroll
            for (int part = 0; part < (DEPTH + 31) / 32; part++) target[row][part] += weight * value[part];
        }
    }
}

template <int DEPTH, int KEYS>
__device__ void attention_forward(const float *projected, const Drop drop, float *found, const AttentionSizes sizes) {
    extern __shared__ float room[];
    int length = sizes.length, depth = sizes.depth, width = sizes.heads * depth, lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    int sample = blockIdx.x / sizes.heads, head = blockIdx.x % sizes.heads;
    float *queries = room, *keys = queries + length * STRIDE, *values = keys + length * STRIDE;
    float *weights = values + length * STRIDE + warp * ROWS * length; // this warp's, [ROWS, length]
    const float *base = projected + (size_t)sample * length * 3 * width + head * depth;
    load_head<DEPTH>(base, 3 * width, length, depth, queries);
    load_head<DEPTH>(base + width, 3 * width, length, depth, keys);
    load_head<DEPTH>(base + 2 * width, 3 * width, length, depth, values);
    __syncthreads();
    for (int first = warp * ROWS; first < length; first += WARPS * ROWS) {
        float products[ROWS][KEYS];
        row_products<DEPTH, KEYS>(queries, keys, first, length, lane, products);
        __syncwarp();
#pragma unroll
        for (int row = 0; row < ROWS; row++) {
            softmax_row<KEYS>(products[row], length, lane, sizes.scale);
            uint4 bits = make_uint4(0u, 0u, 0u, 0u);
            if (drop.dropped) bits = drop_bits(drop, (uint64_t)blockIdx.x * length + first + row, lane);
#pragma unroll
            for (int part = 0; part < KEYS; part++) {
                int key = lane + 32 * part;
                if (key >= length) continue;
                float factor = drop.dropped ? factor_of(drop, bits, key) : 1.0f;
                weights[row * length + key] = products[row][part] * factor;
            }
        }
        __syncwarp();
        float sums[ROWS][(DEPTH + 31) / 32];
        weigh<DEPTH>(weights, length, values, length, lane, sums);
#pragma unroll
        for (int row = 0; row < ROWS; row++) {
            if (first + row >= length) continue;
#pragma unroll
            for (int part = 0; part < (DEPTH + 31) / 32; part++)
                if (lane + 32 * part < depth)
                    found[((size_t)sample * length + first + row) * width + head * depth + lane + 32 * part] = sums[row][part];
        }
    }
}

// target[j][:] = sum over i of matrix[i][j] * rows[i][:], written to global memory; a warp has ROWS rows of the target.
template <int DEPTH>
__device__ __forceinline__ void transposed(const float *matrix, const float *rows, int length, int depth, int lane, int warp,
                                           float *target, int target_stride) {
    for (int first = warp * ROWS; first < length; first += WARPS * ROWS) {
        float sums[ROWS][(DEPTH + 31) / 32];
#pragma unroll
        for (int row = 0; row < ROWS; row++)
#pragma unroll
            for (int part = 0; part < (DEPTH + 31) / 32; part++) sums[row][part] = 0.0f;
        for (int from = 0; from < length; from++) {
            float value[(DEPTH + 31) / 32];
#pragma unroll
            for (int part = 0; part < (DEPTH + 31) / 32; part++)
                value[part] = DEPTH >= 32 || lane < DEPTH ? rows[from * STRIDE + lane + 32 * part] : 0.0f;
#pragma unroll
            for (int row = 0; row < ROWS; row++) {
                float weight = matrix[from * length + min(first + row, length - 1)];
#pragma unroll
                for (int part = 0; part < (DEPTH + 31) / 32; part++) sums[row][part] += weight * value[part];
            }
        }
#pragma unroll
        for (int row = 0; row < ROWS; row++) {
            if (first + row >= length) continue;
#pragma unroll
            for (int part = 0; part < (DEPTH + 31) / 32; part++)
                if (lane + 32 * part < depth) target[(size_t)(first + row) * target_stride + lane + 32 * part] = sums[row][part];
        }
    }
}

template <int DEPTH, int KEYS>
__device__ void attention_backward(const float *projected, const Drop drop, const float *gradient, float *of_projected,
                                   const AttentionSizes sizes) {
    extern __shared__ float room[];
    int length = sizes.length, depth = sizes.depth, width = sizes.heads * depth, lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    int sample = blockIdx.x / sizes.heads, head = blockIdx.x % sizes.heads;
    int head_size = length * STRIDE;
    float *queries = room, *keys = queries + head_size, *values = keys + head_size, *upstream = values + head_size;
    float *weights = upstream + head_size, *slopes = weights + length * length; // [length, length] each
    size_t offset = (size_t)sample * length * 3 * width + head * depth;
    load_head<DEPTH>(projected + offset, 3 * width, length, depth, queries);
    load_head<DEPTH>(projected + offset + width, 3 * width, length, depth, keys);
    load_head<DEPTH>(projected + offset + 2 * width, 3 * width, length, depth, values);
    load_head<DEPTH>(gradient + (size_t)sample * length * width + head * depth, width, length, depth, upstream);
    __syncthreads();
    for (int first = warp * ROWS; first < length; first += WARPS * ROWS) {
        float products[ROWS][KEYS], reached[ROWS][KEYS];
        row_products<DEPTH, KEYS>(queries, keys, first, length, lane, products);
        row_products<DEPTH, KEYS>(upstream, values, first, length, lane, reached);
#pragma unroll
        for (int row = 0; row < ROWS; row++) {
            softmax_row<KEYS>(products[row], length, lane, sizes.scale);
            uint4 bits = make_uint4(0u, 0u, 0u, 0u);
            if (drop.dropped) bits = drop_bits(drop, (uint64_t)blockIdx.x * length + first + row, lane);
            float sum = 0.0f, factors[KEYS];
#pragma unroll
            for (int part = 0; part < KEYS; part++) {
                int key = lane + 32 * part;
                factors[part] = key >= length ? 0.0f : drop.dropped ? factor_of(drop, bits, key) : 1.0f;
                reached[row][part] *= factors[part];
                sum += key < length ? products[row][part] * reached[row][part] : 0.0f;
            }
            sum = warp_sum(sum);
#pragma unroll
            for (int part = 0; part < KEYS; part++) {
                int key = lane + 32 * part;
                if (key >= length || first + row >= length) continue;
                weights[(first + row) * length + key] = products[row][part] * factors[part];
                slopes[(first + row) * length + key] = products[row][part] * (reached[row][part] - sum) * sizes.scale;
            }
        }
    }
    __syncthreads();
    float *target = of_projected + offset;
    transposed<DEPTH>(weights, upstream, length, depth, lane, warp, target + 2 * width, 3 * width); // of values
    transposed<DEPTH>(slopes, queries, length, depth, lane, warp, target + width, 3 * width);       // of keys
    for (int first = warp * ROWS; first < length; first += WARPS * ROWS) {                    // of queries
        float sums[ROWS][(DEPTH + 31) / 32];
        // Rows beyond the end read other rows' slopes and are not written.
        const float *rows = slopes + min(first, max(length - ROWS, 0)) * length;
        int back = first - min(first, max(length - ROWS, 0));
        weigh<DEPTH>(rows, length, keys, length, lane, sums);
#pragma unroll
        for (int row = 0; row < ROWS; row++) {
            if (row < back || first - back + row >= length) continue;
#pragma unroll
            for (int part = 0; part < (DEPTH + 31) / 32; part++)
                if (lane + 32 * part < depth) target[(size_t)(first - back + row) * 3 * width + lane + 32 * part] = sums[row][part];
        }
    }
}

// Shared memory: forward (3 * STRIDE + WARPS * ROWS) * length floats, backward (4 * STRIDE + 2 * length) * length.
#define FOR_DEPTH(DEPTH_, KEYS)                                                                                               \
    extern "C" __global__ void __launch_bounds__(WARPS * 32)                                                                  \
        attention_forward_##DEPTH_##_##KEYS(const float *projected, const Drop drop, float *found, const AttentionSizes sizes) { \
        attention_forward<DEPTH_, KEYS>(projected, drop, found, sizes);                                                       \
    }                                                                                                                         \
    extern "C" __global__ void __launch_bounds__(WARPS * 32)                                                                  \
        attention_backward_##DEPTH_##_##KEYS(const float *projected, const Drop drop, const float *gradient,                  \
                                             float *of_projected, const AttentionSizes sizes) {                               \
        attention_backward<DEPTH_, KEYS>(projected, drop, gradient, of_projected, sizes);                                     \
    }

// Windows of up to 32 * KEYS rows.
FOR_DEPTH(16, 1)
FOR_DEPTH(16, 4)
FOR_DEPTH(32, 1)
FOR_DEPTH(32, 4)
FOR_DEPTH(64, 1)
FOR_DEPTH(64, 4)

// Gated recurrent units over sequences, in both forms.
//
// The form of PyTorch: r, z = σ(W x + b + U h + c), n = tanh(W x + b + r (U h + c)), h' = n + z (h - n).
//
// `products` is W x, [batch, time, 3 * hidden], gates r, z, n; `kept` is [batch, time, 5 * hidden]: forward leaves
// n, r, z, the n part of U h + c, and the state before the step; backward turns the first four into the gradients in
// front of n, r, z and of the n part of the product with the state. In this order [r, z, n of the product with the
// state] is one stretch, so that the gradients of all weights are plain matrix products with a row stride.
#include "../cuda/elementary.cuh"

#define KEPT 5

struct GruSizes {
    int batch, time, hidden;
};

// One unit at one step; what is kept goes to `kept`, at the unit's place of the step's row, parts `hidden` apart.
__device__ __forceinline__ float gru_unit(const float *input, const float *input_bias, const float *state_product,
                                          int state_stride, float previous, float *kept, int unit, int hidden) {
    float r = own_sigmoid(input[unit] + input_bias[unit] + state_product[0]);
    float z = own_sigmoid(input[hidden + unit] + input_bias[hidden + unit] + state_product[state_stride]);
    float inner = state_product[2 * state_stride];
    float n = own_tanh(input[2 * hidden + unit] + input_bias[2 * hidden + unit] + r * inner);
    kept[unit] = n;
    kept[hidden + unit] = r;
    kept[2 * hidden + unit] = z;
    kept[3 * hidden + unit] = inner;
    kept[4 * hidden + unit] = previous;
    return n + z * (previous - n);
}

// Back through a unit: what reaches the state before the step directly. `kept` becomes the gradients.
__device__ __forceinline__ float gru_unit_backward(float gradient, float *kept, int unit, int hidden) {
    float n = kept[unit], r = kept[hidden + unit], z = kept[2 * hidden + unit], inner = kept[3 * hidden + unit];
    float previous = kept[4 * hidden + unit];
    float of_n = gradient * (1.0f - z) * (1.0f - n * n);
    kept[unit] = of_n;
    kept[hidden + unit] = of_n * inner * r * (1.0f - r);
    kept[2 * hidden + unit] = gradient * (previous - n) * z * (1.0f - z);
    kept[3 * hidden + unit] = of_n * r;
    return gradient * z;
}

// One step, for states that are too large for one multiprocessor. `product` is U h, [batch, 3 * hidden], `state_bias` c.
// States are [batch, time, hidden].
extern "C" __global__ void __launch_bounds__(256)
    gru_step_forward(const float *products, const float *input_bias, const float *product, const float *state_bias,
                     const float *initial, float *states, float *kept, const GruSizes sizes, const int time) {
    int hidden = sizes.hidden, index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= sizes.batch * hidden) return;
    int sample = index / hidden, unit = index % hidden;
    size_t row = (size_t)sample * sizes.time + time;
    float previous = time ? states[(row - 1) * hidden + unit] : initial[index];
    float with_bias[3];
#pragma unroll
    for (int gate = 0; gate < 3; gate++)
        with_bias[gate] = product[((size_t)sample * 3 + gate) * hidden + unit] + state_bias[gate * hidden + unit];
    states[row * hidden + unit] = gru_unit(products + row * 3 * hidden, input_bias, with_bias, 1, previous,
                                           kept + row * KEPT * hidden, unit, hidden);
}

// `carried`, [batch, hidden], comes with what later steps say of the states after this one, and leaves with what reaches the
// states before it directly; the product with U is added afterwards.
extern "C" __global__ void __launch_bounds__(256)
    gru_step_backward(const float *upstream, float *kept, float *carried, const GruSizes sizes, const int time) {
    int hidden = sizes.hidden, index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= sizes.batch * hidden) return;
    int sample = index / hidden, unit = index % hidden;
    size_t row = (size_t)sample * sizes.time + time;
    float gradient = (time + 1 < sizes.time ? carried[index] : 0.0f) + upstream[row * hidden + unit];
    carried[index] = gru_unit_backward(gradient, kept + row * KEPT * hidden, unit, hidden);
}

// A whole sequence in one launch, for states of up to 128. A block has SAMPLES samples for all steps and U in its registers: a thread holds a row of it (forward) or a third of
// a column (backward). Blocks know nothing of each other, so nothing waits for the whole device.

template <int MOST, int SAMPLES>
__device__ void sequence_forward(const float *products, const float *input_bias, const float *weight,
                                 const float *state_bias, const float *initial, float *states, float *kept,
                                 const GruSizes sizes) {
    __shared__ __align__(16) float state[SAMPLES][MOST];
    __shared__ float product[SAMPLES][3 * MOST];
    int hidden = sizes.hidden, first = blockIdx.x * SAMPLES, own = threadIdx.x;
    bool works = own < 3 * hidden;
    float row[MOST];
#pragma unroll
    for (int column = 0; column < MOST; column++)
        row[column] = works && column < hidden ? weight[(size_t)own * hidden + column] : 0.0f;
    float bias = works ? state_bias[own] : 0.0f;
    for (int index = own; index < SAMPLES * MOST; index += blockDim.x) {
        int sample = first + index / MOST, unit = index % MOST;
        bool inside = sample < sizes.batch && unit < hidden;
        state[index / MOST][unit] = inside ? initial[(size_t)sample * hidden + unit] : 0.0f;
    }
    __syncthreads();
    for (int time = 0; time < sizes.time; time++) {
        float sums[SAMPLES][2];
#pragma unroll
        for (int sample = 0; sample < SAMPLES; sample++) sums[sample][0] = bias, sums[sample][1] = 0.0f;
#pragma unroll
        for (int column = 0; column < MOST; column += 4) {
#pragma unroll
            for (int sample = 0; sample < SAMPLES; sample++) {
                float4 four = *reinterpret_cast<const float4 *>(&state[sample][column]);
                sums[sample][0] += row[column] * four.x;
                sums[sample][1] += row[column + 1] * four.y;
                sums[sample][0] += row[column + 2] * four.z;
                sums[sample][1] += row[column + 3] * four.w;
            }
        }
        if (works) {
#pragma unroll
            for (int sample = 0; sample < SAMPLES; sample++) product[sample][own] = sums[sample][0] + sums[sample][1];
        }
        __syncthreads();
        for (int index = own; index < SAMPLES * hidden; index += blockDim.x) {
            int local = index / hidden, unit = index % hidden, sample = first + local;
            if (sample >= sizes.batch) continue;
            size_t at = (size_t)sample * sizes.time + time;
            float next = gru_unit(products + at * 3 * hidden, input_bias, &product[local][unit], hidden, state[local][unit],
                                  kept + at * KEPT * hidden, unit, hidden);
            state[local][unit] = next;
            states[at * hidden + unit] = next;
        }
        __syncthreads();
    }
}

template <int MOST, int SAMPLES>
__device__ void sequence_backward(const float *upstream, const float *weight, float *kept, float *of_initial,
                                  const GruSizes sizes) {
    __shared__ __align__(16) float inner[SAMPLES][3][MOST];
    __shared__ float shares[3][SAMPLES][MOST];
    int hidden = sizes.hidden, first = blockIdx.x * SAMPLES, own = threadIdx.x;
    int gate = own / hidden, column = own % hidden;
    bool works = gate < 3;
    float part[MOST];
#pragma unroll
    for (int row = 0; row < MOST; row++)
        part[row] = works && row < hidden ? weight[((size_t)gate * hidden + row) * hidden + column] : 0.0f;
    for (int index = own; index < SAMPLES * 3 * MOST; index += blockDim.x) {
        (&inner[0][0][0])[index] = 0.0f;
        (&shares[0][0][0])[index] = 0.0f;
    }
    // What reaches the states before a step directly, kept by the thread that has the unit.
    float direct[(SAMPLES + 2) / 3 + 1];
#pragma unroll
    for (int turn = 0; turn < (SAMPLES + 2) / 3 + 1; turn++) direct[turn] = 0.0f;
    __syncthreads();
    for (int time = sizes.time - 1; time >= 0; time--) {
#pragma unroll
        for (int turn = 0; turn < (SAMPLES + 2) / 3 + 1; turn++) {
            int index = own + turn * blockDim.x, local = index / hidden, unit = index % hidden, sample = first + local;
            if (local >= SAMPLES || sample >= sizes.batch) continue;
            size_t at = (size_t)sample * sizes.time + time;
            float carried = direct[turn] + shares[0][local][unit] + shares[1][local][unit] + shares[2][local][unit];
            float *row = kept + at * KEPT * hidden;
            direct[turn] = gru_unit_backward(upstream[at * hidden + unit] + carried, row, unit, hidden);
#pragma unroll
            for (int gate = 0; gate < 3; gate++) inner[local][gate][unit] = row[(gate + 1) * hidden + unit];
        }
        __syncthreads();
        if (works) {
            float sums[SAMPLES][2];
#pragma unroll
            for (int sample = 0; sample < SAMPLES; sample++) sums[sample][0] = sums[sample][1] = 0.0f;
#pragma unroll
            for (int row = 0; row < MOST; row += 4) {
#pragma unroll
                for (int sample = 0; sample < SAMPLES; sample++) {
                    float4 four = *reinterpret_cast<const float4 *>(&inner[sample][gate][row]);
                    sums[sample][0] += part[row] * four.x;
                    sums[sample][1] += part[row + 1] * four.y;
                    sums[sample][0] += part[row + 2] * four.z;
                    sums[sample][1] += part[row + 3] * four.w;
                }
            }
#pragma unroll
            for (int sample = 0; sample < SAMPLES; sample++) shares[gate][sample][column] = sums[sample][0] + sums[sample][1];
        }
        __syncthreads();
    }
#pragma unroll
    for (int turn = 0; turn < (SAMPLES + 2) / 3 + 1; turn++) {
        int index = own + turn * blockDim.x, local = index / hidden, unit = index % hidden, sample = first + local;
        if (local >= SAMPLES || sample >= sizes.batch) continue;
        of_initial[(size_t)sample * hidden + unit] =
            direct[turn] + shares[0][local][unit] + shares[1][local][unit] + shares[2][local][unit];
    }
}

// Blocks of 3 * hidden threads, rounded up to warps.
#define FOR_SIZE(MOST, SAMPLES)                                                                                        \
    extern "C" __global__ void __launch_bounds__(3 * MOST, 1)                                                          \
        gru_forward_##MOST##_##SAMPLES(const float *products, const float *input_bias, const float *weight,            \
                                       const float *state_bias, const float *initial, float *states, float *kept,      \
                                       const GruSizes sizes) {                                                         \
        sequence_forward<MOST, SAMPLES>(products, input_bias, weight, state_bias, initial, states, kept, sizes);       \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(3 * MOST, 1)                                                          \
        gru_backward_##MOST##_##SAMPLES(const float *upstream, const float *weight, float *kept, float *of_initial,    \
                                        const GruSizes sizes) {                                                        \
        sequence_backward<MOST, SAMPLES>(upstream, weight, kept, of_initial, sizes);                                   \
    }

FOR_SIZE(32, 1)
FOR_SIZE(64, 1)
FOR_SIZE(128, 1)
FOR_SIZE(128, 2)

// The form that was published, and TensorFlow's: r, u = σ([x, h] G + g), c = tanh([x, r h] C + d), h' = c + u (h - c).
// `from_input` are the products with x, [batch, time, 2 * hidden] and [batch, time, hidden]; `kept` is
// [batch, time, 5 * hidden]: r, u, c, r h and the state before the step; backward turns the first three into the gradients
// in front of them.

// The gates and the reset state, from h G, [batch, 2 * hidden].
extern "C" __global__ void __launch_bounds__(256)
    before_gates_forward(const float *from_input, const float *product, const float *bias, const float *initial,
                         const float *states, float *kept, const GruSizes sizes, const int time) {
    int hidden = sizes.hidden, index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= sizes.batch * hidden) return;
    int sample = index / hidden, unit = index % hidden;
    size_t row = (size_t)sample * sizes.time + time;
    float previous = time ? states[(row - 1) * hidden + unit] : initial[index];
    const float *own = from_input + row * 2 * hidden, *added = product + (size_t)sample * 2 * hidden;
    float r = own_sigmoid(own[unit] + added[unit] + bias[unit]);
    float *left = kept + row * KEPT * hidden;
    left[unit] = r;
    left[hidden + unit] = own_sigmoid(own[hidden + unit] + added[hidden + unit] + bias[hidden + unit]);
    left[3 * hidden + unit] = r * previous;
    left[4 * hidden + unit] = previous;
}

// The candidate and the next state, from (r h) C, [batch, hidden].
extern "C" __global__ void __launch_bounds__(256)
    before_state_forward(const float *from_input, const float *product, const float *bias, float *states, float *kept,
                         const GruSizes sizes, const int time) {
    int hidden = sizes.hidden, index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= sizes.batch * hidden) return;
    int sample = index / hidden, unit = index % hidden;
    size_t row = (size_t)sample * sizes.time + time;
    float *left = kept + row * KEPT * hidden;
    float c = own_tanh(from_input[row * hidden + unit] + product[index] + bias[unit]);
    left[2 * hidden + unit] = c;
    states[row * hidden + unit] = c + left[hidden + unit] * (left[4 * hidden + unit] - c);
}

// The gradients in front of u and c; `carried` is what reaches the states after the step, and leaves with what reaches the
// states before it directly.
extern "C" __global__ void __launch_bounds__(256)
    before_state_backward(const float *upstream, float *kept, float *carried, const GruSizes sizes, const int time) {
    int hidden = sizes.hidden, index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= sizes.batch * hidden) return;
    int sample = index / hidden, unit = index % hidden;
    size_t row = (size_t)sample * sizes.time + time;
    float *left = kept + row * KEPT * hidden;
    float gradient = (time + 1 < sizes.time ? carried[index] : 0.0f) + upstream[row * hidden + unit];
    float u = left[hidden + unit], c = left[2 * hidden + unit], previous = left[4 * hidden + unit];
    left[hidden + unit] = gradient * (previous - c) * u * (1.0f - u);
    left[2 * hidden + unit] = gradient * (1.0f - u) * (1.0f - c * c);
    carried[index] = gradient * u;
}

// The gradient in front of r, from that of the reset state, [batch, hidden].
extern "C" __global__ void __launch_bounds__(256)
    before_gates_backward(const float *of_reset, float *kept, float *carried, const GruSizes sizes, const int time) {
    int hidden = sizes.hidden, index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= sizes.batch * hidden) return;
    int sample = index / hidden, unit = index % hidden;
    float *left = kept + ((size_t)sample * sizes.time + time) * KEPT * hidden;
    float r = left[unit];
    left[unit] = of_reset[index] * left[4 * hidden + unit] * r * (1.0f - r);
    carried[index] += of_reset[index] * r;
}

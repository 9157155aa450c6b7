// What lies between the two products of a feed-forward layer.
#include "../cuda/elementary.cuh"
#include "../cuda/philox.cuh"

// y = dropout(gelu(x + bias)) over rows of `width` values.
extern "C" __global__ void __launch_bounds__(256)
    hide(const float *__restrict__ x, const float *__restrict__ bias, const Drop drop, float *__restrict__ y, const int rows,
         const int width) {
    // A thread has a counter of dropout: up to eight columns of a row.
    int counters = (width + 127) / 128 * 16;
    uint64_t number = blockIdx.x * (uint64_t)blockDim.x + threadIdx.x;
    uint64_t row = number / counters;
    if (row >= rows) return;
    int counter = (int)(number % counters), first = counter / 16 * 128 + counter % 16;
    uint4 bits = drop_bits(drop, row, first);
    for (int column = first; column < min(width, first + 128); column += 16) {
        float before = x[row * width + column] + bias[column];
        float factor = drop.dropped ? factor_of(drop, bits, column) : 1.0f;
        y[row * width + column] = before * own_normal(before).x * factor;
    }
}

// The gradient of x from that of y, in place.
extern "C" __global__ void __launch_bounds__(256)
    hide_backward(const float *__restrict__ x, const float *__restrict__ bias, const Drop drop, float *__restrict__ gradient,
                  const int rows, const int width) {
    int counters = (width + 127) / 128 * 16;
    uint64_t number = blockIdx.x * (uint64_t)blockDim.x + threadIdx.x;
    uint64_t row = number / counters;
    if (row >= rows) return;
    int counter = (int)(number % counters), first = counter / 16 * 128 + counter % 16;
    uint4 bits = drop_bits(drop, row, first);
    for (int column = first; column < min(width, first + 128); column += 16) {
        uint64_t at = row * width + column;
        float before = x[at] + bias[column], factor = drop.dropped ? factor_of(drop, bits, column) : 1.0f;
        float2 found = own_normal(before);
        gradient[at] *= factor * (found.x + before * found.y);
    }
}

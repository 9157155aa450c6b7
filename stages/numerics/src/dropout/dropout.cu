// y = x * factors over rows of `width` floats, forward and backward alike.
#include "../cuda/philox.cuh"

extern "C" __global__ void __launch_bounds__(256)
    dropout(const float *__restrict__ x, float *__restrict__ y, const Drop drop, const int rows, const int width) {
    // A thread has a counter: up to eight columns of a row.
    int counters = (width + 127) / 128 * 16;
    uint64_t number = blockIdx.x * (uint64_t)blockDim.x + threadIdx.x;
    uint64_t row = number / counters;
    if (row >= rows) return;
    int counter = (int)(number % counters), first = counter / 16 * 128 + counter % 16;
    uint4 bits = drop_bits(drop, row, first);
    for (int column = first; column < min(width, first + 128); column += 16)
        y[row * width + column] = x[row * width + column] * factor_of(drop, bits, column);
}

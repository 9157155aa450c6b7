// Sums over the rows of a matrix, in a fixed tree.
#include "common.cuh"

#define ROWS 8

// A block has 32 columns and every gridDim.y-th group of rows; `shares` is [gridDim.y, columns].
extern "C" __global__ void __launch_bounds__(32 * ROWS)
    column_shares(const float *__restrict__ x, float *__restrict__ shares, const int rows, const int columns) {
    __shared__ float sums[ROWS][33];
    int lane = threadIdx.x % 32, own = threadIdx.x / 32, column = blockIdx.x * 32 + lane;
    float sum = 0.0f;
    if (column < columns)
        for (int row = blockIdx.y * ROWS + own; row < rows; row += gridDim.y * ROWS) sum += x[(uint64_t)row * columns + column];
    sums[own][lane] = sum;
    __syncthreads();
    if (own != 0 || column >= columns) return;
    for (int other = 1; other < ROWS; other++) sum += sums[other][lane];
    shares[(uint64_t)blockIdx.y * columns + column] = sum;
}

// The sum of shares in their order, in 64 bits: [blocks, columns] to [columns].
extern "C" __global__ void __launch_bounds__(256)
    sum_shares(const float *__restrict__ shares, float *__restrict__ target, const int blocks, const int columns) {
    int column = blockIdx.x * blockDim.x + threadIdx.x;
    if (column >= columns) return;
    double sum = 0.0;
    for (int block = 0; block < blocks; block++) sum += (double)shares[(uint64_t)block * columns + column];
    target[column] = (float)sum;
}

// Every row of y is the bias.
extern "C" __global__ void __launch_bounds__(256)
    fill_rows(const float *__restrict__ bias, float *__restrict__ y, const int count, const int columns) {
    int at = blockIdx.x * blockDim.x + threadIdx.x;
    if (at < count) y[at] = bias[at % columns];
}

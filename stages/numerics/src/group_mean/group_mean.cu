// Means over the rows of groups, [groups, size, columns] to [groups, columns], and the shares of their gradients.
#include "../cuda/common.cuh"

// A block has 32 columns of a group: eight threads each, which are added in their order.
extern "C" __global__ void __launch_bounds__(256)
    group_mean_forward(const float *__restrict__ x, float *__restrict__ y, const int size, const int columns) {
    __shared__ float sums[8][33];
    int lane = threadIdx.x % 32, own = threadIdx.x / 32, column = blockIdx.x * 32 + lane;
    float sum = 0.0f;
    if (column < columns)
        for (int row = own; row < size; row += 8) sum += x[((uint64_t)blockIdx.y * size + row) * columns + column];
    sums[own][lane] = sum;
    __syncthreads();
    if (own != 0 || column >= columns) return;
    for (int other = 1; other < 8; other++) sum += sums[other][lane];
    y[(uint64_t)blockIdx.y * columns + column] = sum / (float)size;
}

extern "C" __global__ void __launch_bounds__(256)
    group_mean_backward(const float *__restrict__ gradient, float *__restrict__ target, const int count, const int size,
                        const int columns) {
    int at = blockIdx.x * blockDim.x + threadIdx.x;
    if (at < count) target[at] = gradient[at / (size * columns) * columns + at % columns] * (1.0f / (float)size);
}

// Means over all values and the slopes of what they are means of; loss.rs says which. Sums are taken in 64 bits, in a tree
// that follows from the number of values.
#include "../cuda/common.cuh"

#define THREADS 256

// The sum over a block, in its first thread.
__device__ __forceinline__ double block_total(double value) {
    __shared__ double shares[THREADS];
    shares[threadIdx.x] = value;
    for (int with = THREADS / 2; with > 0; with >>= 1) {
        __syncthreads();
        if (threadIdx.x < with) shares[threadIdx.x] += shares[threadIdx.x + with];
    }
    return shares[0];
}

__device__ __forceinline__ float cost(float difference, int is_smooth) {
    if (!is_smooth) return difference * difference;
    float size = fabsf(difference), bounded = size > 1.0f ? 1.0f : size;
    return bounded * (size - 0.5f * bounded);
}

// The sum of the costs of `one - other`, a share for each block.
extern "C" __global__ void __launch_bounds__(THREADS) pair_shares(const float *__restrict__ one, const float *__restrict__ other,
                                                                  double *__restrict__ shares, const int count, const int is_smooth) {
    double sum = 0.0;
    for (int at = blockIdx.x * THREADS + threadIdx.x; at < count; at += gridDim.x * THREADS)
        sum += (double)cost(one[at] - other[at], is_smooth);
    sum = block_total(sum);
    if (threadIdx.x == 0) shares[blockIdx.x] = sum;
}

extern "C" __global__ void __launch_bounds__(THREADS)
    value_shares(const float *__restrict__ x, double *__restrict__ shares, const int count) {
    double sum = 0.0;
    for (int at = blockIdx.x * THREADS + threadIdx.x; at < count; at += gridDim.x * THREADS) sum += (double)x[at];
    sum = block_total(sum);
    if (threadIdx.x == 0) shares[blockIdx.x] = sum;
}

// Of the squared steps from row to row of x, [batch, length, width].
extern "C" __global__ void __launch_bounds__(THREADS)
    step_shares(const float *__restrict__ x, double *__restrict__ shares, const int count, const int size, const int width) {
    double sum = 0.0;
    for (int at = blockIdx.x * THREADS + threadIdx.x; at < count; at += gridDim.x * THREADS) {
        if (at % size + width >= size) continue;
        float step = x[at + width] - x[at];
        sum += (double)(step * step);
    }
    sum = block_total(sum);
    if (threadIdx.x == 0) shares[blockIdx.x] = sum;
}

// One block: the sum of the shares over a divisor.
extern "C" __global__ void __launch_bounds__(THREADS)
    mean_of_shares(const double *__restrict__ shares, float *__restrict__ target, const int blocks, const float divisor) {
    double sum = 0.0;
    for (int block = threadIdx.x; block < blocks; block += THREADS) sum += shares[block];
    sum = block_total(sum);
    if (threadIdx.x == 0) *target = (float)(sum / (double)divisor);
}

extern "C" __global__ void __launch_bounds__(256)
    pair_slopes(const float *__restrict__ one, const float *__restrict__ other, const float *__restrict__ gradient,
                float *__restrict__ target, const int count, const int is_smooth) {
    int at = blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= count) return;
    float scale = *gradient / (float)count, difference = one[at] - other[at];
    if (is_smooth) target[at] = scale * fmaxf(-1.0f, fminf(1.0f, difference));
    else target[at] = 2.0f * scale * difference;
}

extern "C" __global__ void __launch_bounds__(256)
    share_out(const float *__restrict__ gradient, float *__restrict__ target, const int count) {
    int at = blockIdx.x * blockDim.x + threadIdx.x;
    if (at < count) target[at] = *gradient / (float)count;
}

extern "C" __global__ void __launch_bounds__(256)
    step_slopes(const float *__restrict__ x, const float *__restrict__ gradient, float *__restrict__ target, const int count,
                const int size, const int width, const float divisor) {
    int at = blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= count) return;
    float slope = 0.0f;
    if (at % size + width < size) slope -= x[at + width] - x[at];
    if (at % size >= width) slope += x[at] - x[at - width];
    target[at] = 2.0f * *gradient / divisor * slope;
}

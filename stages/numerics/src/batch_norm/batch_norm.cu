// Batch normalisation of rows of channels, with what often follows it in the same pass: the addition of a residual, a ReLU.
// Sums are taken in 64 bits and in a fixed tree.
#include "../cuda/common.cuh"

#define ROWS 8
#define THREADS (32 * ROWS)

// The sums over a block's rows of two values, in its first 32 threads, for 32 columns.
__device__ __forceinline__ double2 block_sums(double one, double other) {
    __shared__ double sums[2][ROWS][32];
    int lane = threadIdx.x % 32, own = threadIdx.x / 32;
    sums[0][own][lane] = one;
    sums[1][own][lane] = other;
    __syncthreads();
    if (own == 0)
        for (int from = 1; from < ROWS; from++) {
            one += sums[0][from][lane];
            other += sums[1][from][lane];
        }
    return make_double2(one, other);
}

// Σ x and Σ x² of every column; a block has 32 columns and every gridDim.y-th group of rows. `shares` is [gridDim.y, 2, columns].
extern "C" __global__ void __launch_bounds__(THREADS)
    moment_shares(const float *__restrict__ x, double *__restrict__ shares, const int rows, const int columns) {
    int column = blockIdx.x * 32 + threadIdx.x % 32;
    double sum = 0.0, squares = 0.0;
    if (column < columns)
        for (int row = blockIdx.y * ROWS + threadIdx.x / 32; row < rows; row += gridDim.y * ROWS) {
            double value = (double)x[(uint64_t)row * columns + column];
            sum += value;
            squares += value * value;
        }
    double2 found = block_sums(sum, squares);
    if (threadIdx.x >= 32 || column >= columns) return;
    shares[(uint64_t)(2 * blockIdx.y) * columns + column] = found.x;
    shares[(uint64_t)(2 * blockIdx.y + 1) * columns + column] = found.y;
}

// What a normalisation settles on, [4, columns]: mean, 1 / deviation, scale and shift.
__device__ __forceinline__ void settle_on(double mean, double variance, float weight, float bias, float epsilon,
                                          float *settled, int column, int columns) {
    double inverse = 1.0 / sqrt(variance + (double)epsilon), scale = (double)weight * inverse;
    settled[column] = (float)mean;
    settled[columns + column] = (float)inverse;
    settled[2 * columns + column] = (float)scale;
    settled[3 * columns + column] = (float)((double)bias - mean * scale);
}

// From the batch: `of_batch` gets mean and unbiased variance, [2, columns].
extern "C" __global__ void __launch_bounds__(128)
    settle_by_batch(const double *__restrict__ shares, const float *__restrict__ affine, float *__restrict__ settled,
                    float *__restrict__ of_batch, const int groups, const int rows, const int columns, const float epsilon) {
    int column = blockIdx.x * blockDim.x + threadIdx.x;
    if (column >= columns) return;
    double sum = 0.0, squares = 0.0;
    for (int group = 0; group < groups; group++) {
        sum += shares[(uint64_t)(2 * group) * columns + column];
        squares += shares[(uint64_t)(2 * group + 1) * columns + column];
    }
    double mean = sum / rows, variance = squares / rows - mean * mean;
    variance = variance < 0.0 ? 0.0 : variance;
    settle_on(mean, variance, affine[column], affine[columns + column], epsilon, settled, column, columns);
    of_batch[column] = (float)mean;
    of_batch[columns + column] = (float)(variance * rows / (rows - 1.0));
}

extern "C" __global__ void __launch_bounds__(128)
    settle_by_running(const float *__restrict__ mean, const float *__restrict__ variance, const float *__restrict__ affine,
                      float *__restrict__ settled, const int columns, const float epsilon) {
    int column = blockIdx.x * blockDim.x + threadIdx.x;
    if (column >= columns) return;
    settle_on((double)mean[column], (double)variance[column], affine[column], affine[columns + column], epsilon, settled,
              column, columns);
}

extern "C" __global__ void __launch_bounds__(256)
    normalise(const float *__restrict__ x, const float *__restrict__ settled, const float *__restrict__ residual,
              float *__restrict__ y, const int count, const int columns, const int has_relu) {
    int at = blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= count) return;
    int column = at % columns;
    float value = x[at] * settled[2 * columns + column] + settled[3 * columns + column];
    if (residual) value += residual[at];
    y[at] = has_relu && value <= 0.0f ? 0.0f : value;
}

// The gradient behind the ReLU to `passed`, if it is wanted, and the shares of Σ gradient and Σ gradient * normalised.
extern "C" __global__ void __launch_bounds__(THREADS)
    slope_shares(const float *__restrict__ x, const float *__restrict__ settled, const float *__restrict__ y,
                 const float *__restrict__ gradient, float *__restrict__ passed, double *__restrict__ shares, const int rows,
                 const int columns, const int has_relu) {
    int column = blockIdx.x * 32 + threadIdx.x % 32;
    double plain = 0.0, weighted = 0.0;
    if (column < columns) {
        float mean = settled[column], inverse = settled[columns + column];
        for (int row = blockIdx.y * ROWS + threadIdx.x / 32; row < rows; row += gridDim.y * ROWS) {
            uint64_t at = (uint64_t)row * columns + column;
            float slope = has_relu && !(y[at] > 0.0f) ? 0.0f : gradient[at];
            if (passed) passed[at] = slope;
            plain += (double)slope;
            weighted += (double)(slope * ((x[at] - mean) * inverse));
        }
    }
    double2 found = block_sums(plain, weighted);
    if (threadIdx.x >= 32 || column >= columns) return;
    shares[(uint64_t)(2 * blockIdx.y) * columns + column] = found.x;
    shares[(uint64_t)(2 * blockIdx.y + 1) * columns + column] = found.y;
}

// The gradients of weight and bias, [2, columns].
extern "C" __global__ void __launch_bounds__(128)
    sum_slopes(const double *__restrict__ shares, float *__restrict__ of_affine, const int groups, const int columns) {
    int column = blockIdx.x * blockDim.x + threadIdx.x;
    if (column >= columns) return;
    double plain = 0.0, weighted = 0.0;
    for (int group = 0; group < groups; group++) {
        plain += shares[(uint64_t)(2 * group) * columns + column];
        weighted += shares[(uint64_t)(2 * group + 1) * columns + column];
    }
    of_affine[column] = (float)weighted;
    of_affine[columns + column] = (float)plain;
}

// The gradient in front of the normalisation. Running statistics do not depend on x.
extern "C" __global__ void __launch_bounds__(256)
    normalise_backward(const float *__restrict__ x, const float *__restrict__ settled, const float *__restrict__ y,
                       const float *__restrict__ gradient, const float *__restrict__ of_affine, float *__restrict__ target,
                       const int rows, const int columns, const int has_relu, const int is_settled) {
    int at = blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= rows * columns) return;
    int column = at % columns;
    float slope = has_relu && !(y[at] > 0.0f) ? 0.0f : gradient[at];
    if (!is_settled) {
        float normalised = (x[at] - settled[column]) * settled[columns + column];
        float weighted = of_affine[column] / (float)rows, plain = of_affine[columns + column] / (float)rows;
        slope -= plain + normalised * weighted;
    }
    target[at] = slope * settled[2 * columns + column];
}

// running = running * (1 - momentum) + new * momentum for mean and variance, and one batch more.
extern "C" __global__ void __launch_bounds__(128)
    move_running(float *__restrict__ mean, float *__restrict__ variance, long long *__restrict__ batches,
                 const float *__restrict__ of_batch, const int columns, const float momentum) {
    int column = blockIdx.x * blockDim.x + threadIdx.x;
    if (column == 0) *batches += 1;
    if (column >= columns) return;
    mean[column] = mean[column] * (1.0f - momentum) + of_batch[column] * momentum;
    variance[column] = variance[column] * (1.0f - momentum) + of_batch[columns + column] * momentum;
}

// The maximum under a window over channels-last planes; pool.rs says the rule.
#include "../cuda/common.cuh"

// pool/cuda.rs has the same.
struct PoolSizes {
    int height, width, channels, rows, columns, taps_across, taps;
    int stride[2], padding[2], dilation[2];
};

// The largest values, and which tap of the window each is; among equals the first one. A NaN wins as well.
extern "C" __global__ void __launch_bounds__(256)
    max_pool_forward(const float *__restrict__ x, float *__restrict__ y, float *__restrict__ winners, const PoolSizes sizes,
                     const int count) {
    int at = blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= count) return;
    int channel = at % sizes.channels, place = at / sizes.channels;
    int column = place % sizes.columns, row = place / sizes.columns % sizes.rows, sample = place / sizes.columns / sizes.rows;
    float largest = -INFINITY;
    int winner = 0;
    for (int tap = 0; tap < sizes.taps; tap++) {
        int down = row * sizes.stride[0] + tap / sizes.taps_across * sizes.dilation[0] - sizes.padding[0];
        int across = column * sizes.stride[1] + tap % sizes.taps_across * sizes.dilation[1] - sizes.padding[1];
        if (down < 0 || across < 0 || down >= sizes.height || across >= sizes.width) continue;
        float value = x[(((uint64_t)sample * sizes.height + down) * sizes.width + across) * sizes.channels + channel];
        if (value > largest || isnan(value)) {
            largest = value;
            winner = tap;
        }
    }
    y[at] = largest;
    winners[at] = (float)winner;
}

// Every value gathers the gradients of the windows that it won, in the order of the taps.
extern "C" __global__ void __launch_bounds__(256)
    max_pool_backward(const float *__restrict__ winners, const float *__restrict__ gradient, float *__restrict__ target,
                      const PoolSizes sizes, const int count) {
    int at = blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= count) return;
    int channel = at % sizes.channels, place = at / sizes.channels;
    int across = place % sizes.width, down = place / sizes.width % sizes.height, sample = place / sizes.width / sizes.height;
    float sum = 0.0f;
    for (int tap = 0; tap < sizes.taps; tap++) {
        int row = down + sizes.padding[0] - tap / sizes.taps_across * sizes.dilation[0];
        int column = across + sizes.padding[1] - tap % sizes.taps_across * sizes.dilation[1];
        if (row < 0 || column < 0 || row % sizes.stride[0] != 0 || column % sizes.stride[1] != 0) continue;
        row /= sizes.stride[0];
        column /= sizes.stride[1];
        if (row >= sizes.rows || column >= sizes.columns) continue;
        uint64_t from = (((uint64_t)sample * sizes.rows + row) * sizes.columns + column) * sizes.channels + channel;
        if ((int)winners[from] == tap) sum += gradient[from];
    }
    target[at] = sum;
}

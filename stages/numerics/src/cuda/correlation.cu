// What lies under a window at all of its places, for convolutions as matrix products, and back.
#include "common.cuh"

// correlation.rs has the same.
struct Geometry {
    int height, width, channels, rows, columns, taps_down, taps_across;
    int stride[2], padding[2], dilation[2];
    // Whether the first axis is a circle: its padding holds what is at the other end.
    int is_circular;
};

// x, [batch, height, width, channels], to [batch, rows, columns, channels, taps]: the order of PyTorch's weights.
extern "C" __global__ void __launch_bounds__(256)
    gather(const float *__restrict__ x, float *__restrict__ patches, const Geometry sizes, const int count) {
    int at = blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= count) return;
    int taps = sizes.taps_down * sizes.taps_across;
    int tap = at % taps, channel = at / taps % sizes.channels, place = at / taps / sizes.channels;
    int column = place % sizes.columns, row = place / sizes.columns % sizes.rows, sample = place / sizes.columns / sizes.rows;
    int down = row * sizes.stride[0] + tap / sizes.taps_across * sizes.dilation[0] - sizes.padding[0];
    int across = column * sizes.stride[1] + tap % sizes.taps_across * sizes.dilation[1] - sizes.padding[1];
    if (sizes.is_circular) down = (down + sizes.height) % sizes.height;
    bool inside = down >= 0 && across >= 0 && down < sizes.height && across < sizes.width;
    patches[at] = inside ? x[(((uint64_t)sample * sizes.height + down) * sizes.width + across) * sizes.channels + channel] : 0.0f;
}

// The sum of all patches at their places, and a bias if there is one; every value gathers its own, in the order of the taps.
extern "C" __global__ void __launch_bounds__(256)
    scatter(const float *__restrict__ patches, const float *__restrict__ bias, float *__restrict__ x, const Geometry sizes,
            const int count) {
    int at = blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= count) return;
    int channel = at % sizes.channels, place = at / sizes.channels;
    int across = place % sizes.width, down = place / sizes.width % sizes.height, sample = place / sizes.width / sizes.height;
    int taps = sizes.taps_down * sizes.taps_across;
    float sum = bias ? bias[channel] : 0.0f;
    for (int tap = 0; tap < taps; tap++) {
        int column = across + sizes.padding[1] - tap % sizes.taps_across * sizes.dilation[1];
        if (column < 0 || column % sizes.stride[1] != 0 || column / sizes.stride[1] >= sizes.columns) continue;
        int row = down + sizes.padding[0] - tap / sizes.taps_across * sizes.dilation[0];
        if (sizes.is_circular) row = (row + sizes.height) % sizes.height;
        if (row < 0 || row % sizes.stride[0] != 0 || row / sizes.stride[0] >= sizes.rows) continue;
        uint64_t from = ((uint64_t)sample * sizes.rows + row / sizes.stride[0]) * sizes.columns + column / sizes.stride[1];
        sum += patches[(from * sizes.channels + channel) * taps + tap];
    }
    x[at] = sum;
}

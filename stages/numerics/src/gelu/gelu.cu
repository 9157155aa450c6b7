// x · Φ(x) and its slope; gelu.rs says the rule.
#include "../cuda/elementary.cuh"

extern "C" __global__ void __launch_bounds__(256) gelu_forward(const float *__restrict__ x, float *__restrict__ y, const int count) {
    int at = blockIdx.x * blockDim.x + threadIdx.x;
    if (at < count) y[at] = x[at] * own_normal(x[at]).x;
}

extern "C" __global__ void __launch_bounds__(256)
    gelu_backward(const float *__restrict__ x, const float *__restrict__ gradient, float *__restrict__ target, const int count) {
    int at = blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= count) return;
    float2 found = own_normal(x[at]);
    target[at] = gradient[at] * (found.x + x[at] * found.y);
}

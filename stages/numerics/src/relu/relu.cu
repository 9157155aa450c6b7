// max(x, 0) and its slope; relu.rs says the rule.

extern "C" __global__ void __launch_bounds__(256) relu_forward(const float *__restrict__ x, float *__restrict__ y, const int count) {
    int at = blockIdx.x * blockDim.x + threadIdx.x;
    // A NaN stays one.
    if (at < count) y[at] = x[at] <= 0.0f ? 0.0f : x[at];
}

extern "C" __global__ void __launch_bounds__(256)
    relu_backward(const float *__restrict__ y, const float *__restrict__ gradient, float *__restrict__ target, const int count) {
    int at = blockIdx.x * blockDim.x + threadIdx.x;
    if (at < count) target[at] = y[at] > 0.0f ? gradient[at] : 0.0f;
}

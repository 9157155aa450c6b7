// Adam and AdamW; adam.rs says the rule.
#include "../cuda/slots.cuh"

// The numbers of one step. `Step` in adam.rs is the same.
struct Step {
    float beta1, beta2, epsilon, size, root, keep, penalty;
};

extern "C" __global__ void __launch_bounds__(256) adam(const __grid_constant__ Slots all, const Step step) {
    const Slot &slot = slot_of_block(all);
    for (int at = first_of(slot); at < end_of(slot); at += blockDim.x) {
        float value = slot.values[at], first = slot.memory[0][at], second = slot.memory[1][at];
        float gradient = slot.gradient[at] + step.penalty * value;
        first += (gradient - first) * (1.0f - step.beta1);
        second = second * step.beta2 + (1.0f - step.beta2) * (gradient * gradient);
        slot.memory[0][at] = first;
        slot.memory[1][at] = second;
        slot.values[at] = value * step.keep - step.size * (first / (sqrtf(second) / step.root + step.epsilon));
    }
}

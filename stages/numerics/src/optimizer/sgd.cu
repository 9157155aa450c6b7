// Stochastic gradient descent; sgd.rs says the rule.
#include "../cuda/slots.cuh"

// `constants` in sgd.rs is the same.
struct Step {
    float rate, momentum, penalty, is_nesterov;
};

extern "C" __global__ void __launch_bounds__(256) sgd(const __grid_constant__ Slots all, const Step step) {
    const Slot &slot = slot_of_block(all);
    for (int at = first_of(slot); at < end_of(slot); at += blockDim.x) {
        float value = slot.values[at];
        float gradient = slot.gradient[at] + step.penalty * value;
        float direction = slot.memory[0][at] * step.momentum + gradient;
        slot.memory[0][at] = direction;
        slot.values[at] = value - step.rate * (step.is_nesterov != 0.0f ? gradient + step.momentum * direction : direction);
    }
}

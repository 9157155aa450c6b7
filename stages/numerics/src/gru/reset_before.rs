//! The unit as it was published (Cho et al., EMNLP 2014) and as TensorFlow 1 computes it: the reset gate acts on the state.
//! `r, u = σ([x, h] G + g)`, `c = tanh([x, r h] C + d)`, `h' = c + u (h - c)`.

use candle_core::{Result, Tensor};
use candle_nn::ops::sigmoid;

use super::cell::{Cell, Direction, Sample, Scratch, Sizes, Step, parts, walk};
use crate::elementwise::{Lanes, add_rows, lanes};
use crate::precision::matmul;
use crate::product::{Panels, Rows, Start, accumulate_outer, multiply, starts};
use crate::simd::{Level, vectorised};

/// Packed are the kernels of the gates, `[input + hidden, 2 * hidden]`, and of the candidate, `[input + hidden, hidden]`, and
/// the biases of both.
///
/// Kept of a sample are the gates, `[time, 2 * hidden]`, the candidates and the reset states, `[time, hidden]` each;
/// backward turns the first two into the gradients in front of them.
pub(crate) struct ResetBefore {
    level: Level,
    sizes: Sizes,
    forward: Option<Forward>,
    /// Of the gates and of the candidate.
    to_state: Option<[Panels; 2]>,
    to_input: Option<[Panels; 2]>,
}

struct Forward {
    from_input: Panels,
    gates_from_state: Panels,
    candidate_from_state: Panels,
    bias: Vec<f32>,
}

/// Where the parts of what a sample keeps begin: gates, candidates, reset states.
fn offsets(sizes: Sizes) -> [usize; 3] {
    [
        0,
        2 * sizes.time * sizes.hidden,
        3 * sizes.time * sizes.hidden,
    ]
}

/// Views of what one sample keeps of one step.
fn at_step(kept: &mut [f32], sizes: Sizes, time: usize) -> [&mut [f32]; 3] {
    let hidden = sizes.hidden;
    let [_, candidates, resets] = offsets(sizes);
    let (gates, rest) = kept.split_at_mut(candidates);
    let (candidate, reset) = rest.split_at_mut(resets - candidates);
    let row = time * hidden..(time + 1) * hidden;
    [
        &mut gates[2 * row.start..2 * row.end],
        &mut candidate[row.clone()],
        &mut reset[row],
    ]
}

impl Forward {
    fn new(level: Level, sizes: Sizes, packed: &[f32]) -> Self {
        let Sizes { input, hidden, .. } = sizes;
        let (gates, rest) = packed.split_at((input + hidden) * 2 * hidden);
        let (candidate, bias) = rest.split_at((input + hidden) * hidden);
        let mut from_input = Panels::new(level, 1, input, 3 * hidden);
        from_input.fill_in_parallel(|_, from, to| match to.checked_sub(2 * hidden) {
            None => gates[from * 2 * hidden + to],
            Some(to) => candidate[from * hidden + to],
        });
        let mut gates_from_state = Panels::new(level, 1, hidden, 2 * hidden);
        gates_from_state.fill_in_parallel(|_, from, to| gates[(input + from) * 2 * hidden + to]);
        let mut candidate_from_state = Panels::new(level, 1, hidden, hidden);
        candidate_from_state
            .fill_in_parallel(|_, from, to| candidate[(input + from) * hidden + to]);
        Self {
            from_input,
            gates_from_state,
            candidate_from_state,
            bias: bias.to_vec(),
        }
    }
}

/// The transposed kernels, `count` rows from `first` on: of the gates and of the candidate.
fn transposed(
    level: Level,
    sizes: Sizes,
    packed: &[f32],
    first: usize,
    count: usize,
) -> [Panels; 2] {
    let Sizes { input, hidden, .. } = sizes;
    let (gates, candidate) = packed.split_at((input + hidden) * 2 * hidden);
    [(gates, 2 * hidden), (candidate, hidden)].map(|(kernel, width)| {
        let mut panels = Panels::new(level, 1, width, count);
        panels.fill_in_parallel(|_, to, from| kernel[(first + from) * width + to]);
        panels
    })
}

impl ResetBefore {
    /// Adds `Σ rowᵀ · right row` over the rows of `right`; those of `rows` are `depth` wide.
    fn add_outer(
        &self,
        rows: &[f32],
        depth: usize,
        right: &[f32],
        columns: usize,
        sums: &mut [f32],
    ) {
        let starts = starts(0, depth, right.len() / columns);
        let rows = Rows::new(rows, &starts);
        accumulate_outer(self.level, rows, depth, right, columns, sums);
    }
}

impl Cell for ResetBefore {
    fn packed(input: usize, hidden: usize) -> usize {
        3 * hidden * (input + hidden + 1)
    }

    fn compose(sizes: Sizes, x: &Tensor, packed: &Tensor, initial: &Tensor) -> Result<Tensor> {
        let Sizes { input, hidden, .. } = sizes;
        let rows = input + hidden;
        let [for_gates, for_candidate, gates_bias, candidate_bias] = parts(
            packed,
            [
                [rows, 2 * hidden],
                [rows, hidden],
                [1, 2 * hidden],
                [1, hidden],
            ],
        )?;
        walk(x, initial, sizes, |x, state| {
            let gates = matmul(&Tensor::cat(&[x, state], 1)?, &for_gates)?;
            let gates = sigmoid(&gates.broadcast_add(&gates_bias)?)?;
            let reset = (gates.narrow(1, 0, hidden)? * state)?;
            let update = gates.narrow(1, hidden, hidden)?;
            let candidate = matmul(&Tensor::cat(&[x, &reset], 1)?, &for_candidate)?;
            let candidate = candidate.broadcast_add(&candidate_bias)?.tanh()?;
            &candidate + (update * (state - &candidate)?)?
        })
    }

    fn new(level: Level, sizes: Sizes, packed: &[f32], direction: Direction) -> Self {
        let Sizes { input, hidden, .. } = sizes;
        let mut cell = Self {
            level,
            sizes,
            forward: None,
            to_state: None,
            to_input: None,
        };
        if direction == Direction::Forward {
            cell.forward = Some(Forward::new(level, sizes, packed));
        } else {
            cell.to_state = Some(transposed(level, sizes, packed, input, hidden));
        }
        if direction == Direction::Backward {
            cell.to_input = Some(transposed(level, sizes, packed, 0, input));
        }
        cell
    }

    fn forward(&self, step: Step<'_>, kept: &mut [f32], scratch: &mut Scratch) {
        let (sizes, hidden) = (self.sizes, self.sizes.hidden);
        let Some(kernel) = &self.forward else { return };
        let samples = scratch.next.len() / hidden;
        let (bias, input) = (Start::Bias(&kernel.bias), &mut scratch.input);
        multiply(step.x, &kernel.from_input, bias, input);
        let state = &mut scratch.state[..samples * 2 * hidden];
        multiply(step.previous, &kernel.gates_from_state, Start::Zeros, state);
        for (sample, kept) in kept.chunks_exact_mut(sizes.kept()).enumerate() {
            let input = &input[sample * 3 * hidden..][..3 * hidden];
            let state = &state[sample * 2 * hidden..][..2 * hidden];
            let [gates, _, reset] = at_step(kept, sizes, step.time);
            let previous = step.previous_row(sample, hidden);
            gates_forward(self.level, input, state, previous, gates, reset);
        }
        let first = offsets(sizes)[2] + step.time * hidden;
        let starts = starts(first, sizes.kept(), samples);
        let (resets, between) = (Rows::new(kept, &starts), &mut scratch.between);
        multiply(resets, &kernel.candidate_from_state, Start::Zeros, between);
        for (sample, kept) in kept.chunks_exact_mut(sizes.kept()).enumerate() {
            let row = sample * hidden..(sample + 1) * hidden;
            let [gates, candidate, _] = at_step(kept, sizes, step.time);
            state_forward(
                self.level,
                // Behind the products of both gates.
                &input[3 * row.start + 2 * hidden..3 * row.end],
                &between[row.clone()],
                &gates[hidden..],
                step.previous_row(sample, hidden),
                candidate,
                &mut scratch.next[row],
            );
        }
    }

    fn backward(
        &self,
        step: Step<'_>,
        kept: &mut [f32],
        gradient: &mut [f32],
        scratch: &mut Scratch,
    ) {
        let (sizes, hidden) = (self.sizes, self.sizes.hidden);
        let Some([gates_to_state, candidate_to_state]) = &self.to_state else {
            return;
        };
        let samples = gradient.len() / hidden;
        // The update gate is replaced by its gradient at once, the reset gate only when its own is known.
        for (sample, kept) in kept.chunks_exact_mut(sizes.kept()).enumerate() {
            let gradient = &mut gradient[sample * hidden..][..hidden];
            let [gates, candidate, _] = at_step(kept, sizes, step.time);
            let (previous, update) = (step.previous_row(sample, hidden), &mut gates[hidden..]);
            state_backward(self.level, previous, update, candidate, gradient);
        }
        let first = offsets(sizes)[1] + step.time * hidden;
        let rows = starts(first, sizes.kept(), samples);
        let (candidates, between) = (Rows::new(kept, &rows), &mut scratch.between);
        multiply(candidates, candidate_to_state, Start::Zeros, between);
        for (sample, kept) in kept.chunks_exact_mut(sizes.kept()).enumerate() {
            let row = sample * hidden..(sample + 1) * hidden;
            let (upstream, gradient) = (&between[row.clone()], &mut gradient[row]);
            let [gates, ..] = at_step(kept, sizes, step.time);
            let (previous, reset) = (step.previous_row(sample, hidden), &mut gates[..hidden]);
            reset_backward(self.level, previous, upstream, reset, gradient);
        }
        let rows = starts(step.time * 2 * hidden, sizes.kept(), samples);
        let gates = Rows::new(kept, &rows);
        multiply(gates, gates_to_state, Start::Target, gradient);
    }

    fn input_gradient(&self, kept: &[f32], target: &mut [f32]) {
        let Sizes { time, hidden, .. } = self.sizes;
        let Some([gates, candidate]) = &self.to_input else {
            return;
        };
        let rows = starts(0, 2 * hidden, time);
        multiply(Rows::new(kept, &rows), gates, Start::Zeros, target);
        let rows = starts(offsets(self.sizes)[1], hidden, time);
        multiply(Rows::new(kept, &rows), candidate, Start::Target, target);
    }

    fn add_weight_gradient(&self, sample: Sample<'_>, packed: &mut [f32]) {
        let Sizes {
            time,
            input,
            hidden,
            ..
        } = self.sizes;
        let [_, candidates, resets] = offsets(self.sizes);
        let (gates, candidate) = (&sample.kept[..candidates], &sample.kept[candidates..resets]);
        let (gates_kernel, rest) = packed.split_at_mut((input + hidden) * 2 * hidden);
        let (candidate_kernel, bias) = rest.split_at_mut((input + hidden) * hidden);
        let (gates_input, gates_state) = gates_kernel.split_at_mut(input * 2 * hidden);
        let (candidate_input, candidate_state) = candidate_kernel.split_at_mut(input * hidden);
        self.add_outer(sample.x, input, gates, 2 * hidden, gates_input);
        self.add_outer(sample.x, input, candidate, hidden, candidate_input);
        let (first, later) = gates.split_at(2 * hidden);
        self.add_outer(sample.states, hidden, later, 2 * hidden, gates_state);
        if let Some(initial) = sample.initial {
            self.add_outer(initial, hidden, first, 2 * hidden, gates_state);
        }
        let reset = &sample.kept[resets..resets + time * hidden];
        self.add_outer(reset, hidden, candidate, hidden, candidate_state);
        let (gates_bias, candidate_bias) = bias.split_at_mut(2 * hidden);
        add_rows(self.level, gates, gates_bias);
        add_rows(self.level, candidate, candidate_bias);
    }
}

vectorised! {
    /// One row: both gates, `[2 * hidden]`, and the state behind the reset gate.
    fn gates_forward(input: &[f32], state: &[f32], previous: &[f32], gates: &mut [f32], reset: &mut [f32]) {
        let hidden = reset.len();
        for gate in 0..2 {
            let part = gate * hidden..(gate + 1) * hidden;
            let (input, state, target) = (&input[part.clone()], &state[part.clone()], &mut gates[part]);
            for span in lanes(hidden) {
                let value = (Lanes::load(input, span) + Lanes::load(state, span)).sigmoid();
                value.store(target, span);
                if gate == 0 {
                    (value * Lanes::load(previous, span)).store(reset, span);
                }
            }
        }
    }
}

vectorised! {
    /// One row: candidate and next state.
    fn state_forward(
        input: &[f32],
        state: &[f32],
        update: &[f32],
        previous: &[f32],
        candidate: &mut [f32],
        next: &mut [f32],
    ) {
        for span in lanes(next.len()) {
            let value = (Lanes::load(input, span) + Lanes::load(state, span)).tanh();
            value.store(candidate, span);
            let next_value = value + Lanes::load(update, span) * (Lanes::load(previous, span) - value);
            next_value.store(next, span);
        }
    }
}

vectorised! {
    /// One row: update gate and candidate become the gradients in front of them, `gradient` what goes straight back.
    fn state_backward(previous: &[f32], update: &mut [f32], candidate: &mut [f32], gradient: &mut [f32]) {
        let one = Lanes::splat(1.0);
        for span in lanes(gradient.len()) {
            let upstream = Lanes::load(gradient, span);
            let (gate, value) = (Lanes::load(update, span), Lanes::load(candidate, span));
            let difference = Lanes::load(previous, span) - value;
            (upstream * difference * gate * (one - gate)).store(update, span);
            (upstream * (one - gate) * (one - value * value)).store(candidate, span);
            (upstream * gate).store(gradient, span);
        }
    }
}

vectorised! {
    /// One row: from the gradient of the reset state to that in front of the reset gate and to `gradient`.
    fn reset_backward(previous: &[f32], upstream: &[f32], reset: &mut [f32], gradient: &mut [f32]) {
        let one = Lanes::splat(1.0);
        for span in lanes(gradient.len()) {
            let (upstream, gate) = (Lanes::load(upstream, span), Lanes::load(reset, span));
            (upstream * Lanes::load(previous, span) * gate * (one - gate)).store(reset, span);
            (Lanes::load(gradient, span) + upstream * gate).store(gradient, span);
        }
    }
}

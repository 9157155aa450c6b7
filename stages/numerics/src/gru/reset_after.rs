//! The unit as PyTorch and cuDNN compute it: the reset gate acts on the product with the state.
//! `r, z = σ(W x + b + U h + c)`, `n = tanh(W x + b + r (U h + c))`, `h' = n + z (h - n)`.

use candle_core::{D, Result, Tensor};
use candle_nn::ops::sigmoid;

use super::cell::{Cell, Direction, KEPT, Sample, Scratch, Sizes, Step, parts, walk};
use crate::elementwise::{Lanes, add, add_rows, lanes};
use crate::precision::matmul;
use crate::product::{Panels, Rows, Start, accumulate_outer, multiply, starts};
use crate::simd::{Level, vectorised};

/// Packed are `weight_ih`, `[3 * hidden, input]`, `weight_hh`, `[3 * hidden, hidden]`, and both biases, gates r, z, n.
///
/// Kept of every step are r, z, n and `U h + c` of n; backward turns them into the gradients in front of r, z, n and of
/// the last.
pub(crate) struct ResetAfter {
    level: Level,
    sizes: Sizes,
    from_input: Option<Panels>,
    from_state: Option<Panels>,
    input_bias: Vec<f32>,
    state_bias: Vec<f32>,
    to_state: Option<Panels>,
    to_input: Option<Panels>,
}

/// Splits packed weights into those of input and state, and their biases.
fn unpack(input: usize, hidden: usize, packed: &[f32]) -> [&[f32]; 4] {
    let (from_input, rest) = packed.split_at(3 * hidden * input);
    let (from_state, rest) = rest.split_at(3 * hidden * hidden);
    let (input_bias, state_bias) = rest.split_at(3 * hidden);
    [from_input, from_state, input_bias, state_bias]
}

/// A weight, `[3 * hidden, width]`, for products with rows of `width`.
fn ahead(level: Level, hidden: usize, weight: &[f32], width: usize) -> Panels {
    let mut panels = Panels::new(level, 1, width, 3 * hidden);
    panels.fill_in_parallel(|_, from, to| weight[to * width + from]);
    panels
}

/// The same weight for products with the gradients of all gates, which give rows of `width`.
fn back(level: Level, hidden: usize, weight: &[f32], width: usize) -> Panels {
    let mut panels = Panels::new(level, 3, hidden, width);
    panels.fill_in_parallel(|gate, to, from| weight[(gate * hidden + to) * width + from]);
    panels
}

impl Cell for ResetAfter {
    fn packed(input: usize, hidden: usize) -> usize {
        3 * hidden * (input + hidden + 2)
    }

    fn compose(sizes: Sizes, x: &Tensor, packed: &Tensor, initial: &Tensor) -> Result<Tensor> {
        let Sizes {
            batch,
            time,
            input,
            hidden,
        } = sizes;
        let triple = 3 * hidden;
        let [from_input, from_state, input_bias, state_bias] = parts(
            packed,
            [[triple, input], [triple, hidden], [1, triple], [1, triple]],
        )?;
        let rows = x.reshape((batch * time, input))?;
        let input = matmul(&rows, &from_input.t()?)?.broadcast_add(&input_bias)?;
        let input = input.reshape((batch, time, triple))?;
        let from_state = from_state.t()?;
        walk(&input, initial, sizes, |input, state| {
            let product = matmul(state, &from_state)?.broadcast_add(&state_bias)?;
            let part = |of: &Tensor, gate: usize| of.narrow(D::Minus1, gate * hidden, hidden);
            let reset = sigmoid(&(part(input, 0)? + part(&product, 0)?)?)?;
            let update = sigmoid(&(part(input, 1)? + part(&product, 1)?)?)?;
            let candidate = (part(input, 2)? + (reset * part(&product, 2)?)?)?.tanh()?;
            &candidate + (update * (state - &candidate)?)?
        })
    }

    fn new(level: Level, sizes: Sizes, packed: &[f32], direction: Direction) -> Self {
        let Sizes { input, hidden, .. } = sizes;
        let [from_input, from_state, input_bias, state_bias] = unpack(input, hidden, packed);
        let mut cell = Self {
            level,
            sizes,
            from_input: None,
            from_state: None,
            input_bias: input_bias.to_vec(),
            state_bias: state_bias.to_vec(),
            to_state: None,
            to_input: None,
        };
        if direction == Direction::Forward {
            cell.from_input = Some(ahead(level, hidden, from_input, input));
            cell.from_state = Some(ahead(level, hidden, from_state, hidden));
        } else {
            cell.to_state = Some(back(level, hidden, from_state, hidden));
        }
        if direction == Direction::Backward {
            cell.to_input = Some(back(level, hidden, from_input, input));
        }
        cell
    }

    fn forward(&self, step: Step<'_>, kept: &mut [f32], scratch: &mut Scratch) {
        let (hidden, size) = (self.sizes.hidden, self.sizes.kept());
        let (Some(from_input), Some(from_state)) = (&self.from_input, &self.from_state) else {
            return;
        };
        let Scratch {
            input, state, next, ..
        } = scratch;
        multiply(step.x, from_input, Start::Bias(&self.input_bias), input);
        multiply(
            step.previous,
            from_state,
            Start::Bias(&self.state_bias),
            state,
        );
        for (sample, next) in next.chunks_exact_mut(hidden).enumerate() {
            let products = 3 * sample * hidden..3 * (sample + 1) * hidden;
            let (input, state) = (&input[products.clone()], &state[products]);
            let kept = &mut kept[sample * size + step.time * KEPT * hidden..][..KEPT * hidden];
            let previous = step.previous_row(sample, hidden);
            step_forward(self.level, input, state, previous, kept, next);
        }
    }

    fn backward(&self, step: Step<'_>, kept: &mut [f32], gradient: &mut [f32], _: &mut Scratch) {
        let (hidden, size) = (self.sizes.hidden, self.sizes.kept());
        let Some(panels) = &self.to_state else { return };
        let starts = starts(step.time * KEPT * hidden, size, gradient.len() / hidden);
        for (sample, gradient) in gradient.chunks_exact_mut(hidden).enumerate() {
            let kept = &mut kept[starts[sample]..][..KEPT * hidden];
            let previous = step.previous_row(sample, hidden);
            step_backward(self.level, previous, kept, gradient);
        }
        let rows = Rows {
            values: kept,
            starts: &starts,
            taps: &[0, hidden, 3 * hidden],
        };
        multiply(rows, panels, Start::Target, gradient);
    }

    fn input_gradient(&self, kept: &[f32], target: &mut [f32]) {
        let Sizes { time, hidden, .. } = self.sizes;
        let Some(panels) = &self.to_input else { return };
        let starts = starts(0, KEPT * hidden, time);
        let rows = Rows {
            values: kept,
            starts: &starts,
            taps: &[0, hidden, 2 * hidden],
        };
        multiply(rows, panels, Start::Zeros, target);
    }

    fn add_weight_gradient(&self, sample: Sample<'_>, packed: &mut [f32]) {
        let Sizes {
            time,
            input,
            hidden,
            ..
        } = self.sizes;
        let (from_input, rest) = packed.split_at_mut(3 * hidden * input);
        let (from_state, rest) = rest.split_at_mut(3 * hidden * hidden);
        let (input_bias, state_bias) = rest.split_at_mut(3 * hidden);
        let starts = starts(0, KEPT * hidden, time);
        let rows = Rows {
            values: sample.kept,
            starts: &starts,
            taps: &[0, hidden, 2 * hidden],
        };
        accumulate_outer(self.level, rows, hidden, sample.x, input, from_input);
        // The state before a step is the initial one or that of the step before, and no initial state means zeros.
        let (first, later) = starts.split_at(1);
        let rows = Rows {
            values: sample.kept,
            starts: later,
            taps: &[0, hidden, 3 * hidden],
        };
        let earlier = &sample.states[..(time - 1) * hidden];
        accumulate_outer(self.level, rows, hidden, earlier, hidden, from_state);
        if let Some(initial) = sample.initial {
            let rows = Rows {
                starts: first,
                ..rows
            };
            accumulate_outer(self.level, rows, hidden, initial, hidden, from_state);
        }
        let mut sums = vec![0.0; KEPT * hidden];
        add_rows(self.level, sample.kept, &mut sums);
        for (bias, taps) in [(input_bias, [0, 1, 2]), (state_bias, [0, 1, 3])] {
            for (bias, tap) in bias.chunks_exact_mut(hidden).zip(taps) {
                add(self.level, &sums[tap * hidden..][..hidden], bias);
            }
        }
    }
}

vectorised! {
    /// One row: `input` and `state` are the products, `[3 * hidden]`, `kept` is `[4 * hidden]`.
    fn step_forward(input: &[f32], state: &[f32], previous: &[f32], kept: &mut [f32], next: &mut [f32]) {
        let hidden = next.len();
        let part = |values: &[f32], gate: usize, span| Lanes::load(&values[gate * hidden..(gate + 1) * hidden], span);
        for span in lanes(hidden) {
            let reset = (part(input, 0, span) + part(state, 0, span)).sigmoid();
            let update = (part(input, 1, span) + part(state, 1, span)).sigmoid();
            let inner = part(state, 2, span);
            let candidate = (part(input, 2, span) + reset * inner).tanh();
            let state = candidate + update * (Lanes::load(previous, span) - candidate);
            for (gate, value) in [reset, update, candidate, inner].into_iter().enumerate() {
                value.store(&mut kept[gate * hidden..(gate + 1) * hidden], span);
            }
            state.store(next, span);
        }
    }
}

vectorised! {
    /// One row; `gradient` becomes that part of the previous state's which does not go through the product.
    fn step_backward(previous: &[f32], kept: &mut [f32], gradient: &mut [f32]) {
        let hidden = gradient.len();
        let one = Lanes::splat(1.0);
        for span in lanes(hidden) {
            let part = |gate: usize| Lanes::load(&kept[gate * hidden..(gate + 1) * hidden], span);
            let (reset, update, candidate, inner) = (part(0), part(1), part(2), part(3));
            let upstream = Lanes::load(gradient, span);
            let before_candidate = upstream * (one - update) * (one - candidate * candidate);
            let before_update = upstream * (Lanes::load(previous, span) - candidate) * update * (one - update);
            let before_reset = before_candidate * inner * reset * (one - reset);
            let gradients = [before_reset, before_update, before_candidate, before_candidate * reset];
            for (gate, value) in gradients.into_iter().enumerate() {
                value.store(&mut kept[gate * hidden..(gate + 1) * hidden], span);
            }
            (upstream * update).store(gradient, span);
        }
    }
}

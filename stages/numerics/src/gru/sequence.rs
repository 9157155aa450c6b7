//! A unit's walk through time, forward and back, over chunks of the batch.
//! Sums over the batch are made per chunk and added in their order, so bits do not depend on the number of threads.

use std::ops::Range;

use rayon::prelude::*;

use super::cell::{Cell, Direction, Sample, Scratch, Sizes, Step};
use crate::chunks::{CHUNKS, cut, each_part, split_rows, sum_shares};
use crate::elementwise::add;
use crate::product::{Rows, starts};
use crate::simd::Level;

/// Weights that no longer fit beside the rest into a core's cache, in floats.
const MANY_WEIGHTS: usize = 1 << 17;

/// Chunks of the batch. Every chunk reads all weights at every step, so where those are many, chunks are large.
fn parts(sizes: Sizes) -> Vec<Range<usize>> {
    let weights = 3 * sizes.hidden * (sizes.input + sizes.hidden);
    let least = if weights > MANY_WEIGHTS { 12 } else { 8 };
    cut(sizes.batch, (sizes.batch / least).clamp(1, CHUNKS))
}

/// What a sequence is computed from.
#[derive(Clone, Copy)]
pub(super) struct Sequence<'a> {
    pub sizes: Sizes,
    /// `[batch, time, input]`.
    pub x: &'a [f32],
    /// Weights and biases, one after another.
    pub packed: &'a [f32],
    /// `[batch, hidden]`.
    pub initial: &'a [f32],
}

/// The gradients of everything that goes into a sequence.
pub(super) struct SequenceGradients {
    pub x: Option<Vec<f32>>,
    pub packed: Vec<f32>,
    pub initial: Vec<f32>,
}

/// One chunk's share of a sequence.
struct Part<'a> {
    sizes: Sizes,
    samples: usize,
    x: &'a [f32],
    initial: &'a [f32],
    x_starts: Vec<usize>,
    state_starts: Vec<usize>,
    initial_starts: Vec<usize>,
}

impl<'a> Part<'a> {
    fn new(sequence: Sequence<'a>, range: &Range<usize>) -> Self {
        let sizes = sequence.sizes;
        let Sizes {
            time,
            input,
            hidden,
            ..
        } = sizes;
        let samples = range.len();
        Self {
            sizes,
            samples,
            x: &sequence.x[range.start * time * input..range.end * time * input],
            initial: &sequence.initial[range.start * hidden..range.end * hidden],
            x_starts: starts(0, time * input, samples),
            state_starts: starts(0, time * hidden, samples),
            initial_starts: starts(0, hidden, samples),
        }
    }

    /// Calls `work` with every step in turn; `states` is the chunk's, as far as the step before.
    fn step<T>(&mut self, time: usize, states: &[f32], work: impl FnOnce(Step<'_>) -> T) -> T {
        let Sizes { input, hidden, .. } = self.sizes;
        for (sample, start) in self.x_starts.iter_mut().enumerate() {
            *start = (sample * self.sizes.time + time) * input;
        }
        let previous = match time.checked_sub(1) {
            None => Rows::new(self.initial, &self.initial_starts),
            Some(earlier) => {
                for (sample, start) in self.state_starts.iter_mut().enumerate() {
                    *start = (sample * self.sizes.time + earlier) * hidden;
                }
                Rows::new(states, &self.state_starts)
            }
        };
        work(Step {
            time,
            x: Rows::new(self.x, &self.x_starts),
            previous,
        })
    }

    fn forward<C: Cell>(&mut self, cell: &C, states: &mut [f32], kept: &mut [f32]) {
        let Sizes { time, hidden, .. } = self.sizes;
        let mut scratch = Scratch::new(self.samples, self.sizes);
        for now in 0..time {
            self.step(now, states, |step| cell.forward(step, kept, &mut scratch));
            let targets = states.chunks_exact_mut(time * hidden);
            for (next, target) in scratch.next.chunks_exact(hidden).zip(targets) {
                target[now * hidden..(now + 1) * hidden].copy_from_slice(next);
            }
        }
    }

    /// Walks back; `carried` ends as the gradient of the initial state. Gives the share of the weights' gradient.
    fn backward<C: Cell>(
        &mut self,
        cell: &C,
        states: &[f32],
        gradient: &[f32],
        kept: &mut [f32],
        carried: &mut [f32],
        x_gradient: Option<&mut [f32]>,
    ) -> Vec<f32> {
        let sizes = self.sizes;
        let Sizes {
            time,
            input,
            hidden,
            ..
        } = sizes;
        let mut scratch = Scratch::new(self.samples, sizes);
        for now in (0..time).rev() {
            // A state acts through the output and through the step after it.
            let own = gradient.chunks_exact(time * hidden);
            for (own, carried) in own.zip(carried.chunks_exact_mut(hidden)) {
                let own = &own[now * hidden..(now + 1) * hidden];
                add(Level::detect(), own, carried);
            }
            self.step(now, states, |step| {
                cell.backward(step, kept, carried, &mut scratch)
            });
        }
        if let Some(target) = x_gradient {
            let samples = kept.chunks_exact(sizes.kept());
            for (kept, target) in samples.zip(target.chunks_exact_mut(time * input)) {
                cell.input_gradient(kept, target);
            }
        }
        let mut packed = vec![0.0; C::packed(input, hidden)];
        for sample in 0..self.samples {
            let initial = &self.initial[sample * hidden..][..hidden];
            let sample = Sample {
                x: &self.x[sample * time * input..][..time * input],
                initial: initial.iter().any(|value| *value != 0.0).then_some(initial),
                states: &states[sample * time * hidden..][..time * hidden],
                kept: &kept[sample * sizes.kept()..][..sizes.kept()],
            };
            cell.add_weight_gradient(sample, &mut packed);
        }
        packed
    }
}

/// All states, `[batch, time, hidden]`. `kept` is `[batch, time, 4 * hidden]` for [`backward`], or empty.
pub(super) fn forward<C: Cell>(sequence: Sequence<'_>, kept: &mut [f32]) -> Vec<f32> {
    let sizes = sequence.sizes;
    let cell = C::new(Level::detect(), sizes, sequence.packed, Direction::Forward);
    let width = sizes.time * sizes.hidden;
    let mut states = vec![0.0; sizes.batch * width];
    let parts = parts(sizes);
    if kept.is_empty() {
        each_part(&mut states, &parts, width, |range, states| {
            let mut kept = vec![0.0; range.len() * sizes.kept()];
            Part::new(sequence, &range).forward(&cell, states, &mut kept);
        });
        return states;
    }
    split_rows(&mut states, &parts, width)
        .into_par_iter()
        .zip(split_rows(kept, &parts, sizes.kept()))
        .zip(&parts)
        .for_each(|((states, kept), range)| {
            Part::new(sequence, range).forward(&cell, states, kept);
        });
    states
}

/// From the gradient of all states to those of what they were computed from. `kept` is used up.
pub(super) fn backward<C: Cell>(
    sequence: Sequence<'_>,
    states: &[f32],
    gradient: &[f32],
    kept: &mut [f32],
    of_input: bool,
) -> SequenceGradients {
    let sizes = sequence.sizes;
    let Sizes {
        batch,
        time,
        input,
        hidden,
    } = sizes;
    let direction = if of_input {
        Direction::Backward
    } else {
        Direction::BackwardToState
    };
    let cell = C::new(Level::detect(), sizes, sequence.packed, direction);
    let parts = parts(sizes);
    let mut x = of_input.then(|| vec![0.0; batch * time * input]);
    let mut x_parts: Vec<Option<&mut [f32]>> = Vec::with_capacity(parts.len());
    if let Some(x) = &mut x {
        x_parts.extend(split_rows(x, &parts, time * input).into_iter().map(Some));
    }
    x_parts.resize_with(parts.len(), || None);
    let mut initial = vec![0.0; batch * hidden];
    let shares: Vec<Vec<f32>> = split_rows(&mut initial, &parts, hidden)
        .into_par_iter()
        .zip(split_rows(kept, &parts, sizes.kept()))
        .zip(x_parts)
        .zip(&parts)
        .map(|(((carried, kept), x), range)| {
            let rows = range.start * time * hidden..range.end * time * hidden;
            let (states, gradient) = (&states[rows.clone()], &gradient[rows]);
            Part::new(sequence, range).backward(&cell, states, gradient, kept, carried, x)
        })
        .collect();
    SequenceGradients {
        x,
        packed: sum_shares(shares, C::packed(input, hidden)),
        initial,
    }
}

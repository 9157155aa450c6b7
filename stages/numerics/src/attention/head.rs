//! One head's attention within one sample on the CPU, forward and backward by hand, on one thread.
//!
//! A sample is `[length, 3 * width]`: queries, keys and values side by side. Attention weights are `[length, length]`
//! and stay in the cache; they are computed again for the backward pass, which costs less than keeping them.

use crate::elementary::exp;
use crate::elementwise::{Lanes, lanes};
use crate::product::{Panels, Rows, Start, accumulate_outer, multiply, multiply_scattered, starts};
use crate::simd::{Level, vectorised};

/// Sizes of an attention.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    pub length: usize,
    pub width: usize,
    pub heads: usize,
}

impl Sizes {
    /// Values of a row that belong to one head.
    pub(crate) fn head(self) -> usize {
        self.width / self.heads
    }
}

/// Memory and packed operands of one head at a time, kept from head to head.
pub struct HeadKernel {
    level: Level,
    sizes: Sizes,
    /// Where rows of `[length, 3 * width]` start, of `[length, width]`, of `[length, length]` and of `[length, head]`.
    sample_rows: Vec<usize>,
    width_rows: Vec<usize>,
    square_rows: Vec<usize>,
    head_rows: Vec<usize>,
    /// Keys or values as `[head, length]`, and as `[length, head]`.
    across: Panels,
    down: Panels,
    /// `[length, head]`.
    part: Vec<f32>,
    result: Vec<f32>,
}

/// Which third of a sample's row is meant.
#[derive(Clone, Copy, Debug)]
enum Third {
    Query,
    Key,
    Value,
}

impl HeadKernel {
    pub fn new(level: Level, sizes: Sizes) -> Self {
        let (length, head) = (sizes.length, sizes.head());
        Self {
            level,
            sizes,
            sample_rows: starts(0, 3 * sizes.width, length),
            width_rows: starts(0, sizes.width, length),
            square_rows: starts(0, length, length),
            head_rows: starts(0, head, length),
            across: Panels::new(level, 1, head, length),
            down: Panels::new(level, 1, length, head),
            part: vec![0.0; length * head],
            result: vec![0.0; length * head],
        }
    }

    /// The first place of a head's part of a row.
    fn column(&self, third: Third, head: usize) -> usize {
        third as usize * self.sizes.width + head * self.sizes.head()
    }

    fn pack_across(&mut self, sample: &[f32], third: Third, head: usize) {
        let (row, column) = (3 * self.sizes.width, self.column(third, head));
        self.across
            .fill(|_, value, index| sample[index * row + column + value]);
    }

    fn pack_down(&mut self, sample: &[f32], third: Third, head: usize) {
        let (row, column) = (3 * self.sizes.width, self.column(third, head));
        self.down
            .fill(|_, index, value| sample[index * row + column + value]);
    }

    /// `weights = softmax(Q Kᵀ / √head)`.
    pub fn weights(&mut self, sample: &[f32], head: usize, weights: &mut [f32]) {
        self.pack_across(sample, Third::Key, head);
        let queries = &sample[self.column(Third::Query, head)..];
        let rows = Rows::new(queries, &self.sample_rows);
        multiply(rows, &self.across, Start::Zeros, weights);
        softmax_rows(self.level, self.sizes.length, self.scale(), weights);
    }

    fn scale(&self) -> f32 {
        1.0 / (self.sizes.head() as f32).sqrt()
    }

    /// Writes the head's part of every row of `target`, `[length, width]`: `weights · V`.
    pub fn combine(&mut self, sample: &[f32], head: usize, weights: &[f32], target: &mut [f32]) {
        let size = self.sizes.head();
        self.pack_down(sample, Third::Value, head);
        let rows = Rows::new(weights, &self.square_rows);
        let target = &mut target[head * size..];
        multiply_scattered(rows, &self.down, Start::Zeros, &self.width_rows, target);
    }

    /// The gradient of values, written into its third of `target`, `[length, 3 * width]`, and that of the weights that
    /// combined them, written into `slopes`; `gradient` is `[length, width]`.
    pub fn combine_backward(
        &mut self,
        sample: &[f32],
        head: usize,
        weights: &[f32],
        gradient: &[f32],
        slopes: &mut [f32],
        target: &mut [f32],
    ) {
        let (length, size) = (self.sizes.length, self.sizes.head());
        let width = self.sizes.width;
        gather(gradient, width, head * size, size, &mut self.part);
        self.result.fill(0.0);
        let rows = Rows::new(weights, &self.square_rows);
        accumulate_outer(self.level, rows, length, &self.part, size, &mut self.result);
        let column = self.column(Third::Value, head);
        scatter(&self.result, size, column, 3 * width, target);
        self.pack_across(sample, Third::Value, head);
        let rows = Rows::new(&self.part, &self.head_rows);
        multiply(rows, &self.across, Start::Zeros, slopes);
    }

    /// The gradients of queries and keys, written into their thirds of `target`, from those of the softmax's output,
    /// `slopes`, which is overwritten.
    pub fn weights_backward(
        &mut self,
        sample: &[f32],
        head: usize,
        weights: &[f32],
        slopes: &mut [f32],
        target: &mut [f32],
    ) {
        let (length, size, row) = (self.sizes.length, self.sizes.head(), 3 * self.sizes.width);
        softmax_rows_backward(self.level, length, self.scale(), weights, slopes);
        self.pack_down(sample, Third::Key, head);
        let rows = Rows::new(slopes, &self.square_rows);
        let column = self.column(Third::Query, head);
        let queries = &mut target[column..];
        multiply_scattered(rows, &self.down, Start::Zeros, &self.sample_rows, queries);
        gather(sample, row, column, size, &mut self.part);
        self.result.fill(0.0);
        accumulate_outer(self.level, rows, length, &self.part, size, &mut self.result);
        let column = self.column(Third::Key, head);
        scatter(&self.result, size, column, row, target);
    }
}

/// Copies `size` values of every row of `width` into a dense matrix.
fn gather(source: &[f32], width: usize, column: usize, size: usize, dense: &mut [f32]) {
    for (source, dense) in source.chunks_exact(width).zip(dense.chunks_exact_mut(size)) {
        dense.copy_from_slice(&source[column..column + size]);
    }
}

/// Copies the rows of a dense matrix into `size` values of every row of `width`.
fn scatter(dense: &[f32], size: usize, column: usize, width: usize, target: &mut [f32]) {
    for (dense, target) in dense.chunks_exact(size).zip(target.chunks_exact_mut(width)) {
        target[column..column + size].copy_from_slice(dense);
    }
}

vectorised! {
    /// `softmax(scale * row)` of every row, in place.
    fn softmax_rows(length: usize, scale: f32, rows: &mut [f32]) {
        for row in rows.chunks_exact_mut(length) {
            let mut largest = Lanes::splat(f32::NEG_INFINITY);
            for span in lanes(length) {
                largest = largest.larger(Lanes::load_or(row, span, f32::NEG_INFINITY));
            }
            // Without the largest value, no exponential overflows and their sum is at least 1.
            let shift = largest.largest() * scale;
            for value in row.iter_mut() {
                *value = exp(*value * scale - shift);
            }
            let mut sum = Lanes::splat(0.0);
            for span in lanes(length) {
                sum = sum + Lanes::load(row, span);
            }
            let share = 1.0 / sum.sum();
            for value in row.iter_mut() {
                *value *= share;
            }
        }
    }
}

vectorised! {
    /// `scale * weights * (slopes - Σ slopes * weights)` of every row, in place of the slopes.
    fn softmax_rows_backward(length: usize, scale: f32, weights: &[f32], slopes: &mut [f32]) {
        for (weights, slopes) in weights.chunks_exact(length).zip(slopes.chunks_exact_mut(length)) {
            let mut sum = Lanes::splat(0.0);
            for span in lanes(length) {
                sum = sum + Lanes::load(weights, span) * Lanes::load(slopes, span);
            }
            let mean = sum.sum();
            for (slope, weight) in slopes.iter_mut().zip(weights) {
                *slope = scale * weight * (*slope - mean);
            }
        }
    }
}

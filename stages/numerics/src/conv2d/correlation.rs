//! The three products behind every convolution, over batches of channels-last planes: image to map, map to image (its
//! adjoint), and image with map to weights. Values are gathered per task into memory of the thread, weights are packed
//! once per call, and no result depends on how the work was split.

use std::ops::Range;

use rayon::prelude::*;

use super::patches::{
    Grid, Position, Scratch, Strips, bands, can_stay, factors, with_patches, with_scratch,
};
use super::window::Window2d;
use crate::chunks::cut;
use crate::elementwise::add;
use crate::product::{Panels, Rows, Start, accumulate_outer, multiply, multiply_scattered};
use crate::simd::Level;

/// Rows of products in whose number every tile of every level fits.
const TILE: usize = 12;
/// Rows that a weight gradient adds up before it looks at its sums again: what stays in the second cache.
const BLOCK: usize = 512;

/// A window between planes of two kinds: the image that it slides over, and the map with a position for each of its
/// places. Weights are `[map channels, image channels, kernel height, kernel width]`.
#[derive(Clone, Copy, Debug)]
pub struct Correlation {
    pub(crate) level: Level,
    pub(crate) window: Window2d,
    pub(crate) batch: usize,
    pub(crate) image: Grid,
    pub map: Grid,
}

/// Image positions that see the same taps of a strided window, as `(position + padding) mod stride`.
struct Phase {
    panels: Panels,
    /// Rows and columns of each tap, counted back from the first map position.
    taps: Vec<[usize; 2]>,
}

impl Correlation {
    /// Maps, `[batch, map]`, of images, `[batch, image]`.
    pub fn forward(&self, images: &[f32], weight: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
        let (depth, channels, taps) = (self.image.channels, self.map.channels, self.window.taps());
        let (stretches, length) = factors(&self.window, depth);
        let mut panels = Panels::new(self.level, stretches, length, channels);
        // A stretch may span several taps: their values lie side by side in the image, but not in the weights.
        panels.fill_in_parallel(|stretch, index, column| {
            let row = stretch * length + index;
            weight[(column * depth + row % depth) * taps + row / depth]
        });
        let start = bias.map_or(Start::Zeros, Start::Bias);
        let count = self.batch * self.map.positions();
        let mut maps = vec![0.0; count * channels];
        let size = task_size(count);
        maps.par_chunks_mut(size * channels)
            .enumerate()
            .for_each(|(task, target)| {
                let places = task * size..task * size + target.len() / channels;
                let (source, places) = ((images, self.image), (self.map.size, places));
                with_patches(&self.window, source, places, 0..depth, |rows| {
                    multiply(rows, &panels, start, target);
                });
            });
        maps
    }

    /// Images, `[batch, image]`, to which every map position adds its value times the weights under its window.
    pub fn adjoint(&self, maps: &[f32], weight: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
        let mut images = vec![0.0; self.batch * self.image.positions() * self.image.channels];
        let start = bias.map_or(Start::Zeros, Start::Bias);
        self.adjoint_from(maps, weight, start, &mut images);
        images
    }

    /// The same added to what `images` hold.
    pub fn add_adjoint(&self, maps: &[f32], weight: &[f32], images: &mut [f32]) {
        self.adjoint_from(maps, weight, Start::Target, images);
    }

    fn adjoint_from(&self, maps: &[f32], weight: &[f32], start: Start<'_>, images: &mut [f32]) {
        let channels = self.image.channels;
        let phases = self.phases(weight);
        // A phase has its share of the rows of a task only.
        let size = task_size(self.batch * self.image.positions()) * phases.len().min(4);
        images
            .par_chunks_mut(size * channels)
            .enumerate()
            .for_each(|(task, target)| {
                let positions = task * size..task * size + target.len() / channels;
                with_scratch(|scratch| {
                    self.adjoint_part(&phases, maps, start, positions, scratch, target)
                });
            });
    }

    /// The phases in the order of `row * horizontal stride + column`.
    fn phases(&self, weight: &[f32]) -> Vec<Phase> {
        let [down, right] = self.window.stride;
        let mut phases = Vec::with_capacity(down * right);
        for row in 0..down {
            for column in 0..right {
                phases.push(self.phase([row, column], weight));
            }
        }
        phases
    }

    fn phase(&self, phase: [usize; 2], weight: &[f32]) -> Phase {
        let (depth, channels, all) = (self.map.channels, self.image.channels, self.window.taps());
        let (rows, columns) = (self.seen(0, phase[0]), self.seen(1, phase[1]));
        let (mut numbers, mut taps) = (Vec::new(), Vec::new());
        for (row, rows_back) in &rows {
            for (column, columns_back) in &columns {
                numbers.push(row * self.window.kernel[1] + column);
                taps.push([*rows_back, *columns_back]);
            }
        }
        let mut panels = Panels::new(self.level, numbers.len(), depth, channels);
        if !numbers.is_empty() {
            panels.fill_in_parallel(|tap, from, to| {
                weight[(from * channels + to) * all + numbers[tap]]
            });
        }
        Phase { panels, taps }
    }

    /// The taps along an axis that a phase sees, each with how many map positions it lies back.
    fn seen(&self, axis: usize, phase: usize) -> Vec<(usize, usize)> {
        let (dilation, stride) = (self.window.dilation[axis], self.window.stride[axis]);
        let mut seen = Vec::new();
        // Backwards, so that a stretch of a copy is read from its start to its end.
        for tap in (0..self.window.kernel[axis]).rev() {
            let place = tap * dilation;
            if place % stride == phase {
                seen.push((tap, (place - phase) / stride));
            }
        }
        seen
    }

    fn adjoint_part(
        &self,
        phases: &[Phase],
        maps: &[f32],
        start: Start<'_>,
        positions: Range<usize>,
        scratch: &mut Scratch,
        target: &mut [f32],
    ) {
        let Window2d {
            stride, padding, ..
        } = self.window;
        if can_stay(&self.window, self.map.channels) && stride == [1; 2] {
            let depth = self.map.channels;
            scratch.starts.clear();
            scratch
                .starts
                .extend(positions.map(|position| position * depth));
            let rows = Rows::new(maps, &scratch.starts);
            return multiply(rows, &phases[0].panels, start, target);
        }
        // Map positions before the one that the first tap sees.
        let back = [0, 1].map(|axis| self.window.reach(axis) / stride[axis]);
        let columns =
            -(back[1] as isize)..((self.image.size[1] - 1 + padding[1]) / stride[1] + 1) as isize;
        let strips = Strips {
            source: maps,
            grid: self.map,
            channels: 0..self.map.channels,
            columns,
        };
        let Scratch {
            values,
            phases: lists,
            ..
        } = scratch;
        values.clear();
        lists.resize_with(phases.len().max(lists.len()), Default::default);
        for (starts, places) in lists.iter_mut() {
            starts.clear();
            places.clear();
        }
        let mut position = Position::of(positions.start, self.image.size);
        let mut done = 0;
        for (sample, rows) in bands(&positions, self.image.size) {
            let first = (rows.start + padding[0]) / stride[0];
            let end = (rows.end - 1 + padding[0]) / stride[0] + 1;
            let base = strips.append(
                sample,
                first as isize - back[0] as isize..end as isize,
                values,
            );
            while done < positions.len() && position.sample == sample {
                let [row, column] = [position.row + padding[0], position.column + padding[1]];
                let (starts, places) = &mut lists[row % stride[0] * stride[1] + column % stride[1]];
                let (row, column) = (row / stride[0] - first, column / stride[1]);
                starts.push(base + row * strips.row() + column * strips.pitch());
                places.push(done * self.image.channels);
                position = position.next(self.image.size);
                done += 1;
            }
        }
        for (phase, (starts, places)) in phases.iter().zip(lists.iter()) {
            let mut taps = Vec::with_capacity(phase.taps.len());
            for [row, column] in &phase.taps {
                taps.push((back[0] - row) * strips.row() + (back[1] - column) * strips.pitch());
            }
            if !taps.is_empty() {
                let rows = Rows {
                    values,
                    starts,
                    taps: &taps,
                };
                multiply_scattered(rows, &phase.panels, start, places, target);
            } else if let Start::Bias(bias) = start {
                // No tap ever sees these positions; without a bias they keep what they hold.
                for place in places {
                    target[*place..*place + bias.len()].copy_from_slice(bias);
                }
            }
        }
    }

    /// The gradient of the weights, in their layout, from images and the gradient of their maps.
    pub fn weight_gradient(&self, images: &[f32], maps: &[f32]) -> Vec<f32> {
        let (depth, channels) = (self.image.channels, self.map.channels);
        let (parts, slices) = split(depth, self.window.taps() * channels);
        let count = self.batch * self.map.positions();
        let parts = cut(count, parts.min(count));
        let eights = depth.div_ceil(8);
        let mut slices = cut(eights, slices.min(eights));
        for slice in &mut slices {
            *slice = slice.start * 8..depth.min(slice.end * 8);
        }
        let mut shares: Vec<Vec<f32>> = (0..parts.len() * slices.len())
            .into_par_iter()
            .map(|task| {
                let (part, slice) = (&parts[task / slices.len()], &slices[task % slices.len()]);
                self.weight_share(images, maps, part.clone(), slice.clone())
            })
            .collect();
        let rest = shares.split_off(slices.len());
        shares.par_iter_mut().enumerate().for_each(|(slice, sum)| {
            for share in rest.iter().skip(slice).step_by(slices.len()) {
                add(self.level, share, sum);
            }
        });
        drop(rest);
        self.in_layout(&slices, &shares)
    }

    /// `[stretches, length, map channels]` for some channels of the image, summed over some places.
    fn weight_share(
        &self,
        images: &[f32],
        maps: &[f32],
        places: Range<usize>,
        slice: Range<usize>,
    ) -> Vec<f32> {
        let channels = self.map.channels;
        let (stretches, length) = factors(&self.window, slice.len());
        let mut sums = vec![0.0; stretches * length * channels];
        for start in places.clone().step_by(BLOCK) {
            let block = start..places.end.min(start + BLOCK);
            let right = &maps[block.start * channels..block.end * channels];
            let (source, places) = ((images, self.image), (self.map.size, block));
            with_patches(&self.window, source, places, slice.clone(), |rows| {
                accumulate_outer(self.level, rows, length, right, channels, &mut sums);
            });
        }
        sums
    }

    /// Brings `[taps, slice, map channels]` of every slice into the layout of the weights.
    fn in_layout(&self, slices: &[Range<usize>], sums: &[Vec<f32>]) -> Vec<f32> {
        // As many channels as a line of the cache holds are moved together.
        const LINE: usize = 16;
        let (depth, channels, taps) = (self.image.channels, self.map.channels, self.window.taps());
        let mut weight = vec![0.0; channels * depth * taps];
        weight
            .par_chunks_mut(LINE * depth * taps)
            .enumerate()
            .for_each(|(block, target)| {
                let count = target.len() / (depth * taps);
                for (slice, sums) in slices.iter().zip(sums) {
                    for (index, row) in sums.chunks_exact(channels).enumerate() {
                        let (tap, from) = (index / slice.len(), slice.start + index % slice.len());
                        let row = &row[block * LINE..block * LINE + count];
                        for (to, value) in row.iter().enumerate() {
                            target[(to * depth + from) * taps + tap] = *value;
                        }
                    }
                }
            });
        weight
    }
}

/// Rows of products per task: enough tasks for many threads, enough rows for whole tiles. Bits do not depend on it.
fn task_size(count: usize) -> usize {
    (count / 32).clamp(2 * TILE, 16 * TILE).div_ceil(TILE) * TILE
}

/// Into how many parts of the places, and slices of the image's channels, a weight gradient is split. Every part has
/// its own sums, of which wide layers cannot afford many.
fn split(depth: usize, width: usize) -> (usize, usize) {
    let parts = match depth * width {
        0..=65_536 => 16,
        65_537..=262_144 => 4,
        _ => 1,
    };
    (parts, (16 / parts).min(depth.div_ceil(8)))
}

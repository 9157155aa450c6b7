//! The three products behind every convolution, over batches of channels-last planes: image to map, map to image (its
//! adjoint), and image with map to weights. Values are gathered per task into memory of the thread, weights are packed
//! once per call, and no result depends on how the work was split.

use std::ops::Range;

use rayon::prelude::*;

use super::patches::{
    Grid, Position, Scratch, Strips, bands, can_stay, factors, pitch, with_patches, with_scratch,
};
use super::window::Window2d;
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
    pub level: Level,
    pub window: Window2d,
    pub batch: usize,
    pub image: Grid,
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
        panels.fill_in_parallel(|stretch, index, column| {
            let row = stretch * length + index;
            weight[(column * depth + row % depth) * taps + row / depth]
        });
        let zeros = vec![0.0; if bias.is_some() { 0 } else { channels }];
        let start = Start::Bias(bias.unwrap_or(&zeros));
        let count = self.batch * self.map.positions();
        let mut maps = vec![0.0; count * channels];
        let size = task_size(count);
        maps.par_chunks_mut(size * channels)
            .enumerate()
            .for_each(|(task, target)| {
                let places = task * size..task * size + target.len() / channels;
                let source = (images, self.image);
                with_patches(
                    &self.window,
                    source,
                    (self.map.size, places),
                    0..depth,
                    |rows| {
                        multiply(rows, &panels, start, target);
                    },
                );
            });
        maps
    }

    /// Images, `[batch, image]`, to which every map position adds its value times the weights under its window.
    pub fn adjoint(&self, maps: &[f32], weight: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
        let channels = self.image.channels;
        let zeros = vec![0.0; if bias.is_some() { 0 } else { channels }];
        let mut images = vec![0.0; self.batch * self.image.positions() * channels];
        self.adjoint_from(
            maps,
            weight,
            Start::Bias(bias.unwrap_or(&zeros)),
            &mut images,
        );
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
        let Window2d {
            kernel,
            stride,
            dilation,
            ..
        } = self.window;
        let (depth, channels, all) = (self.map.channels, self.image.channels, self.window.taps());
        let along = |axis: usize, phase: usize| -> Vec<(usize, usize)> {
            let places = (0..kernel[axis]).map(|tap| (tap, tap * dilation[axis]));
            let seen = places.filter(|(_, place)| place % stride[axis] == phase);
            // Backwards, so that a stretch of a copy is read from its start to its end.
            seen.map(|(tap, place)| (tap, (place - phase) / stride[axis]))
                .rev()
                .collect()
        };
        let phase = |index: usize| {
            let (rows, columns) = (along(0, index / stride[1]), along(1, index % stride[1]));
            let pairs = || {
                rows.iter()
                    .flat_map(|row| columns.iter().map(move |column| (row, column)))
            };
            let numbers: Vec<usize> = pairs()
                .map(|(row, column)| row.0 * kernel[1] + column.0)
                .collect();
            let mut panels = Panels::new(self.level, numbers.len(), depth, channels);
            if !numbers.is_empty() {
                panels.fill_in_parallel(|tap, from, to| {
                    weight[(from * channels + to) * all + numbers[tap]]
                });
            }
            Phase {
                panels,
                taps: pairs().map(|(row, column)| [row.1, column.1]).collect(),
            }
        };
        (0..stride[0] * stride[1]).map(phase).collect()
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
            let rows = Rows {
                values: maps,
                starts: &scratch.starts,
                taps: &[0],
            };
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
        lists.iter_mut().for_each(|(starts, places)| {
            starts.clear();
            places.clear();
        });
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
            let place = |[row, column]: &[usize; 2]| {
                (back[0] - row) * strips.row() + (back[1] - column) * pitch(self.map.channels)
            };
            let taps: Vec<usize> = phase.taps.iter().map(place).collect();
            if !taps.is_empty() {
                let rows = Rows {
                    values,
                    starts,
                    taps: &taps,
                };
                multiply_scattered(rows, &phase.panels, start, places, target);
            } else if let Start::Bias(bias) = start {
                places
                    .iter()
                    .for_each(|place| target[*place..place + bias.len()].copy_from_slice(bias));
            }
        }
    }

    /// The gradient of the weights, in their layout, from images and the gradient of their maps.
    pub fn weight_gradient(&self, images: &[f32], maps: &[f32]) -> Vec<f32> {
        let (depth, channels) = (self.image.channels, self.map.channels);
        let (parts, slices) = split(depth, self.window.taps() * channels);
        let count = self.batch * self.map.positions();
        let parts = ranges(count, parts);
        let slices: Vec<Range<usize>> = ranges(depth.div_ceil(8), slices)
            .iter()
            .map(|eights| eights.start * 8..depth.min(eights.end * 8))
            .collect();
        let share = |task: usize| {
            let (part, slice) = (&parts[task / slices.len()], &slices[task % slices.len()]);
            self.weight_share(images, maps, part.clone(), slice.clone())
        };
        let shares: Vec<Vec<f32>> = (0..parts.len() * slices.len())
            .into_par_iter()
            .map(share)
            .collect();
        let (first, rest) = shares.split_at(slices.len());
        let sums: Vec<Vec<f32>> = first
            .par_iter()
            .enumerate()
            .map(|(slice, sum)| {
                let mut sum = sum.clone();
                rest.iter()
                    .skip(slice)
                    .step_by(slices.len())
                    .for_each(|share| add(self.level, share, &mut sum));
                sum
            })
            .collect();
        drop(shares);
        self.in_layout(&slices, &sums)
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
            let source = (images, self.image);
            with_patches(
                &self.window,
                source,
                (self.map.size, block),
                slice.clone(),
                |rows| {
                    accumulate_outer(self.level, rows, length, right, channels, &mut sums);
                },
            );
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
/// sums of its own, of which wide layers cannot afford many.
fn split(depth: usize, width: usize) -> (usize, usize) {
    let parts = match depth * width {
        0..=65_536 => 16,
        65_537..=262_144 => 4,
        _ => 1,
    };
    (parts, (16 / parts).min(depth.div_ceil(8)))
}

/// Consecutive ranges that cover `0..count`, at most `parts` of them, none empty, sizes differing by at most one.
fn ranges(count: usize, parts: usize) -> Vec<Range<usize>> {
    let parts = parts.min(count);
    (0..parts)
        .map(|part| part * count / parts..(part + 1) * count / parts)
        .collect()
}

//! Products of rows with packed weights: the one kernel below linear layers and convolutions.
//! It runs on one thread; splitting work over threads, and in which order partial sums meet, is up to the layers.

use std::ops::Range;

use rayon::prelude::*;

use super::simd::{Instructions, Lanes, Level, Portable};

/// Weights of a product, packed into panels of two vectors' width: `taps * depth` rows by `columns`, zero-filled.
///
/// A row of the left side is `taps` stretches of `depth` consecutive floats: one stretch for a linear layer, one per
/// kernel position for a convolution, which thus needs no copy of overlapping patches.
#[derive(Clone, Debug)]
pub struct Panels {
    level: Level,
    taps: usize,
    depth: usize,
    columns: usize,
    /// `[panel, tap, depth, 2 * width]`.
    data: Vec<f32>,
}

impl Panels {
    /// Panels of this size, still zero.
    pub fn new(level: Level, taps: usize, depth: usize, columns: usize) -> Self {
        let panels = columns.div_ceil(2 * level.width());
        Self {
            level,
            taps,
            depth,
            columns,
            data: vec![0.0; panels * taps * depth * 2 * level.width()],
        }
    }

    /// Sets every weight; `weight(tap, row, column)` is asked for it.
    pub fn fill(&mut self, weight: impl Fn(usize, usize, usize) -> f32) {
        let (depth, columns, width) = (self.depth, self.columns, 2 * self.level.width());
        for (panel, block) in self
            .data
            .chunks_exact_mut(self.taps * depth * width)
            .enumerate()
        {
            fill_panel(block, panel, depth, columns, width, &weight);
        }
    }

    /// The same with a task for every panel, which pays for large layers.
    pub(crate) fn fill_in_parallel(&mut self, weight: impl Fn(usize, usize, usize) -> f32 + Sync) {
        let (depth, columns, width) = (self.depth, self.columns, 2 * self.level.width());
        self.data
            .par_chunks_exact_mut(self.taps * depth * width)
            .enumerate()
            .for_each(|(panel, block)| {
                fill_panel(block, panel, depth, columns, width, &weight);
            });
    }
}

#[inline]
fn fill_panel(
    block: &mut [f32],
    panel: usize,
    depth: usize,
    columns: usize,
    width: usize,
    weight: &impl Fn(usize, usize, usize) -> f32,
) {
    let first = panel * width;
    let count = width.min(columns - first);
    for (row, target) in block.chunks_exact_mut(width).enumerate() {
        let (tap, row) = (row / depth, row % depth);
        for (column, value) in target[..count].iter_mut().enumerate() {
            *value = weight(tap, row, first + column);
        }
    }
}

/// What a product starts from.
#[derive(Clone, Copy, Debug)]
pub enum Start<'a> {
    /// One value per column.
    Bias(&'a [f32]),
    Zeros,
    /// What the target already holds.
    Target,
}

/// The rows of a product's left side, as places in a slice of floats.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    pub values: &'a [f32],
    /// Where each row starts.
    pub starts: &'a [usize],
    /// Where each tap's stretch starts, relative to the row.
    pub taps: &'a [usize],
}

impl<'a> Rows<'a> {
    /// Rows of one stretch each.
    pub fn new(values: &'a [f32], starts: &'a [usize]) -> Self {
        Self {
            values,
            starts,
            taps: &[0],
        }
    }

    fn check(&self, depth: usize) {
        let last_start = self.starts.iter().max().copied().unwrap_or(0);
        let last_tap = self.taps.iter().max().copied().unwrap_or(0);
        let end = last_start + last_tap + depth;
        assert!(
            self.starts.is_empty() || end <= self.values.len(),
            "rows end at {end} of {}",
            self.values.len()
        );
    }
}

/// The starts of `count` rows that are `width` apart, beginning at `first`.
pub(crate) fn starts(first: usize, width: usize, count: usize) -> Vec<usize> {
    (0..count).map(|row| first + row * width).collect()
}

/// `target[row, column] = start + Σ rows[row, tap, k] * panels[tap, k, column]`; `target` is `[rows, columns]`.
pub fn multiply(rows: Rows<'_>, panels: &Panels, start: Start<'_>, target: &mut [f32]) {
    assert_eq!(target.len(), rows.starts.len() * panels.columns);
    multiply_to(rows, panels, start, |row| row * panels.columns, target);
}

/// The same with the target's rows anywhere in `target`: row `i` starts at `places[i]`.
pub(crate) fn multiply_scattered(
    rows: Rows<'_>,
    panels: &Panels,
    start: Start<'_>,
    places: &[usize],
    target: &mut [f32],
) {
    assert_eq!(rows.starts.len(), places.len());
    let end = places.iter().max().map_or(0, |last| last + panels.columns);
    assert!(end <= target.len(), "rows end at {end} of {}", target.len());
    multiply_to(rows, panels, start, |row| places[row], target);
}

/// `place` says where a row of the target starts; it has been checked.
fn multiply_to(
    rows: Rows<'_>,
    panels: &Panels,
    start: Start<'_>,
    place: impl Fn(usize) -> usize,
    target: &mut [f32],
) {
    rows.check(panels.depth);
    assert_eq!(rows.taps.len(), panels.taps);
    if let Start::Bias(bias) = start {
        assert_eq!(bias.len(), panels.columns);
    }
    // SAFETY: the sizes were checked above, and this machine has the instructions of every level that exists.
    unsafe {
        match panels.level.instructions() {
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx512 => x86::multiply_avx512(rows, panels, start, place, target),
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx2 => x86::multiply_avx2(rows, panels, start, place, target),
            _ => multiply_at::<Portable, 4>(rows, panels, start, place, target),
        }
    }
}

/// `sums[tap, i, column] += Σ_row rows[row, tap, i] * right[row, column]`: the weight gradient of [`multiply`].
///
/// `right` is `[rows, columns]` and `sums` is `[taps, depth, columns]`.
pub fn accumulate_outer(
    level: Level,
    rows: Rows<'_>,
    depth: usize,
    right: &[f32],
    columns: usize,
    sums: &mut [f32],
) {
    rows.check(depth);
    assert_eq!(right.len(), rows.starts.len() * columns);
    assert_eq!(sums.len(), rows.taps.len() * depth * columns);
    if rows.starts.is_empty() {
        return;
    }
    // SAFETY: as in `multiply`.
    unsafe {
        match level.instructions() {
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx512 => x86::outer_avx512(rows, depth, right, columns, sums),
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx2 => x86::outer_avx2(rows, depth, right, columns, sums),
            _ => outer_at::<Portable, 4>(rows, depth, right, columns, sums),
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Panels, Rows, Start, multiply_at, outer_at};
    use crate::simd::{Avx2, Avx512};

    // Twelve rows by two vectors fill 24 of 32 registers; six by two fill 12 of 16.
    #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
    pub(super) unsafe fn multiply_avx512(
        rows: Rows<'_>,
        panels: &Panels,
        start: Start<'_>,
        place: impl Fn(usize) -> usize,
        target: &mut [f32],
    ) {
        unsafe { multiply_at::<Avx512, 12>(rows, panels, start, place, target) }
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn multiply_avx2(
        rows: Rows<'_>,
        panels: &Panels,
        start: Start<'_>,
        place: impl Fn(usize) -> usize,
        target: &mut [f32],
    ) {
        unsafe { multiply_at::<Avx2, 6>(rows, panels, start, place, target) }
    }

    #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
    pub(super) unsafe fn outer_avx512(
        rows: Rows<'_>,
        depth: usize,
        right: &[f32],
        columns: usize,
        sums: &mut [f32],
    ) {
        unsafe { outer_at::<Avx512, 8>(rows, depth, right, columns, sums) }
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn outer_avx2(
        rows: Rows<'_>,
        depth: usize,
        right: &[f32],
        columns: usize,
        sums: &mut [f32],
    ) {
        unsafe { outer_at::<Avx2, 4>(rows, depth, right, columns, sums) }
    }
}

/// Two vectors as an array that partial panels go through. Sixteen lanes are the most there are.
type Edge = [f32; 32];

#[inline(always)]
unsafe fn load_pair<L: Lanes>(source: &[f32]) -> [L; 2] {
    if source.len() >= 2 * L::WIDTH {
        return unsafe {
            [
                L::load(source.as_ptr()),
                L::load(source.as_ptr().add(L::WIDTH)),
            ]
        };
    }
    let mut edge: Edge = [0.0; 32];
    edge[..source.len()].copy_from_slice(source);
    unsafe { [L::load(edge.as_ptr()), L::load(edge.as_ptr().add(L::WIDTH))] }
}

#[inline(always)]
unsafe fn store_pair<L: Lanes>(pair: [L; 2], target: &mut [f32]) {
    if target.len() >= 2 * L::WIDTH {
        unsafe {
            pair[0].store(target.as_mut_ptr());
            pair[1].store(target.as_mut_ptr().add(L::WIDTH));
        }
        return;
    }
    let mut edge: Edge = [0.0; 32];
    unsafe {
        pair[0].store(edge.as_mut_ptr());
        pair[1].store(edge.as_mut_ptr().add(L::WIDTH));
    }
    target.copy_from_slice(&edge[..target.len()]);
}

/// Longer rows are multiplied in blocks of [`BLOCK`] values, so that a block of a panel stays in the first-level cache.
/// The order of every sum, and so every bit, is the same with and without.
const LONG: usize = 256;
const BLOCK: usize = 128;

/// At most `MOST` rows at a time against one panel, in tiles of nearly equal size.
#[inline(always)]
unsafe fn multiply_at<L: Lanes, const MOST: usize>(
    rows: Rows<'_>,
    panels: &Panels,
    start: Start<'_>,
    place: impl Fn(usize) -> usize,
    target: &mut [f32],
) {
    let (count, width) = (rows.starts.len(), 2 * L::WIDTH);
    let tiles = count.div_ceil(MOST);
    for (panel, weights) in panels
        .data
        .chunks_exact(panels.taps * panels.depth * width)
        .enumerate()
    {
        let columns = panel * width..panels.columns.min((panel + 1) * width);
        for (from, depth) in depth_blocks(panels) {
            let start = if from == 0 { start } else { Start::Target };
            let weights = weights[from * width..].as_ptr();
            for tile in 0..tiles {
                let tile = tile * count / tiles..(tile + 1) * count / tiles;
                let tile = Tile {
                    first: tile.start,
                    count: tile.len(),
                    columns: columns.clone(),
                    from,
                    depth,
                };
                macro_rules! of_size {
                    ($($size:literal)*) => {
                        match tile.count {
                            $($size if $size <= MOST => unsafe {
                                multiply_tile::<L, $size>(rows, weights, start, &tile, &place, target);
                            },)*
                            _ => {}
                        }
                    };
                }
                of_size!(1 2 3 4 5 6 7 8 9 10 11 12);
            }
        }
    }
}

/// Where the blocks of a row's stretch start, and how long they are. Several stretches are never cut.
#[inline(always)]
fn depth_blocks(panels: &Panels) -> impl Iterator<Item = (usize, usize)> {
    let depth = panels.depth;
    let block = if panels.taps == 1 && depth > LONG {
        BLOCK
    } else {
        depth.max(1)
    };
    (0..depth.max(1))
        .step_by(block)
        .map(move |from| (from, block.min(depth - from)))
}

/// A part of a product: some rows, some columns, and `depth` values of each stretch of the rows.
struct Tile {
    first: usize,
    count: usize,
    columns: Range<usize>,
    from: usize,
    depth: usize,
}

impl Tile {
    /// Where the tile's part of a row lies in the target.
    #[inline(always)]
    fn places(&self, row: usize, place: &impl Fn(usize) -> usize) -> Range<usize> {
        let start = place(self.first + row);
        start + self.columns.start..start + self.columns.end
    }
}

/// `R` rows against the columns of one panel.
#[inline(always)]
unsafe fn multiply_tile<L: Lanes, const R: usize>(
    rows: Rows<'_>,
    weights: *const f32,
    start: Start<'_>,
    tile: &Tile,
    place: &impl Fn(usize) -> usize,
    target: &mut [f32],
) {
    let mut bases = [rows.values.as_ptr(); R];
    for (base, start) in bases
        .iter_mut()
        .zip(&rows.starts[tile.first..tile.first + R])
    {
        *base = unsafe { rows.values.as_ptr().add(*start + tile.from) };
    }
    let mut sums = [[unsafe { L::splat(0.0) }; 2]; R];
    for (row, sum) in sums.iter_mut().enumerate() {
        *sum = match start {
            Start::Bias(bias) => unsafe { load_pair(&bias[tile.columns.clone()]) },
            Start::Zeros => *sum,
            Start::Target => unsafe { load_pair(&target[tile.places(row, place)]) },
        };
    }
    let sums = unsafe { add_products(sums, bases, rows.taps, tile.depth, weights) };
    for (row, pair) in sums.iter().enumerate() {
        unsafe { store_pair(*pair, &mut target[tile.places(row, place)]) };
    }
}

/// The loop that everything else is there for. Its sums stay in registers, which is why nothing here indexes them by
/// anything but constants.
#[inline(always)]
unsafe fn add_products<L: Lanes, const R: usize>(
    mut sums: [[L; 2]; R],
    bases: [*const f32; R],
    taps: &[usize],
    depth: usize,
    mut weight: *const f32,
) -> [[L; 2]; R] {
    for tap in taps {
        for k in 0..depth {
            unsafe {
                let (left, right) = (L::load(weight), L::load(weight.add(L::WIDTH)));
                weight = weight.add(2 * L::WIDTH);
                for row in 0..R {
                    let value = L::splat(*bases[row].add(tap + k));
                    sums[row][0] = sums[row][0].add_product(value, left);
                    sums[row][1] = sums[row][1].add_product(value, right);
                }
            }
        }
    }
    sums
}

/// `R` values of every left row against two vectors of the right row, summed over all rows in order.
#[inline(always)]
unsafe fn outer_at<L: Lanes, const R: usize>(
    rows: Rows<'_>,
    depth: usize,
    right: &[f32],
    columns: usize,
    sums: &mut [f32],
) {
    let width = 2 * L::WIDTH;
    for first in (0..columns).step_by(width) {
        let used = width.min(columns - first);
        for (tap, offset) in rows.taps.iter().enumerate() {
            for tile in (0..depth).step_by(R) {
                let valid = R.min(depth - tile);
                let mut places = [0; R];
                for (row, place) in places.iter_mut().enumerate() {
                    *place = offset + tile + row.min(valid - 1);
                }
                let right = &right[first..];
                let tile_sums: [[L; 2]; R] = if used == width {
                    let load = |index: usize| unsafe {
                        let at = right.as_ptr().add(index * columns);
                        [L::load(at), L::load(at.add(L::WIDTH))]
                    };
                    unsafe { add_outer(rows, places, load) }
                } else {
                    let load = |index: usize| unsafe {
                        load_pair(&right[index * columns..index * columns + used])
                    };
                    unsafe { add_outer(rows, places, load) }
                };
                for (row, pair) in tile_sums.iter().enumerate().take(valid) {
                    let at = (tap * depth + tile + row) * columns + first;
                    let mut added: Edge = [0.0; 32];
                    unsafe { store_pair(*pair, &mut added[..width]) };
                    for (sum, value) in sums[at..at + used].iter_mut().zip(&added) {
                        *sum += value;
                    }
                }
            }
        }
    }
}

/// The loop below [`outer_at`], with its sums in registers.
#[inline(always)]
unsafe fn add_outer<L: Lanes, const R: usize>(
    rows: Rows<'_>,
    places: [usize; R],
    right: impl Fn(usize) -> [L; 2],
) -> [[L; 2]; R] {
    let mut sums = [[unsafe { L::splat(0.0) }; 2]; R];
    for (index, start) in rows.starts.iter().enumerate() {
        let pair = right(index);
        unsafe {
            let base = rows.values.as_ptr().add(*start);
            for row in 0..R {
                let value = L::splat(*base.add(places[row]));
                sums[row][0] = sums[row][0].add_product(value, pair[0]);
                sums[row][1] = sums[row][1].add_product(value, pair[1]);
            }
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::Random;

    fn draws(count: usize, random: &mut Random) -> Vec<f32> {
        (0..count).map(|_| random.range(-1.0, 1.0) as f32).collect()
    }

    #[test]
    fn every_level_agrees_with_plain_sums_for_odd_sizes() {
        let mut random = Random::new(1, "product");
        for (count, taps, depth, columns) in [
            (1, 1, 1, 1),
            (7, 2, 5, 3),
            (13, 3, 4, 33),
            (25, 1, 9, 70),
            (5, 1, 300, 3),
        ] {
            let offsets: Vec<usize> = (0..taps).map(|tap| tap * 2).collect();
            let starts: Vec<usize> = (0..count).map(|row| row * 3).collect();
            let values = draws(count * 3 + taps * 2 + depth, &mut random);
            let weights = draws(taps * depth * columns, &mut random);
            let bias = draws(columns, &mut random);
            let right = draws(count * columns, &mut random);
            let left = |row: usize, tap: usize, k: usize| {
                f64::from(values[starts[row] + offsets[tap] + k])
            };
            let rows = Rows {
                values: &values,
                starts: &starts,
                taps: &offsets,
            };
            for level in Level::available() {
                let mut panels = Panels::new(level, taps, depth, columns);
                panels.fill(|tap, k, column| weights[(tap * depth + k) * columns + column]);
                let mut target = vec![f32::NAN; count * columns];
                multiply(rows, &panels, Start::Bias(&bias), &mut target);
                let mut sums = vec![1.0; weights.len()];
                accumulate_outer(level, rows, depth, &right, columns, &mut sums);
                for row in 0..count {
                    for column in 0..columns {
                        let mut expected = f64::from(bias[column]);
                        for tap in 0..taps {
                            for k in 0..depth {
                                let weight =
                                    f64::from(weights[(tap * depth + k) * columns + column]);
                                expected += left(row, tap, k) * weight;
                            }
                        }
                        let found = f64::from(target[row * columns + column]);
                        let allowed = 1e-6 * (10 + taps * depth) as f64;
                        assert!(
                            (found - expected).abs() < allowed,
                            "{level:?} {row} {column}: {found} {expected}"
                        );
                    }
                }
                for (index, sum) in sums.iter().enumerate() {
                    let (tap, k, column) = (
                        index / columns / depth,
                        index / columns % depth,
                        index % columns,
                    );
                    let terms = (0..count)
                        .map(|row| left(row, tap, k) * f64::from(right[row * columns + column]));
                    let expected = 1.0 + terms.sum::<f64>();
                    assert!(
                        (f64::from(*sum) - expected).abs() < 1e-5,
                        "{level:?} {index}: {sum} {expected}"
                    );
                }
                let before = target.clone();
                multiply(rows, &panels, Start::Target, &mut target);
                let change = |i: usize| f64::from(target[i] - 2.0 * before[i] + bias[i % columns]);
                assert!((0..target.len()).all(|i| change(i).abs() < 1e-5));
            }
        }
    }
}

//! Where products find their values: parts of channels-last planes, copied with a border of zeros where the window
//! reaches beyond them, and left in place where it does not.

use std::cell::RefCell;
use std::ops::Range;

use super::window::Window2d;
use crate::product::{Rows, starts};

/// Height, width and channels of a plane, stored `[height, width, channels]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    pub size: [usize; 2],
    pub channels: usize,
}

impl Grid {
    /// Positions of the plane.
    pub fn positions(&self) -> usize {
        self.size[0] * self.size[1]
    }
}

/// Floats between neighbouring columns of a copy. Rows of products that lie a multiple of 4 KiB apart share one set of
/// the first cache, which holds fewer lines than a tile has rows.
fn pitch(channels: usize) -> usize {
    if channels.is_multiple_of(256) {
        channels + 16
    } else {
        channels
    }
}

/// Whether rows of products may be read where they are.
pub(super) fn can_stay(window: &Window2d, channels: usize) -> bool {
    window.kernel == [1; 2] && window.padding == [0; 2] && !channels.is_multiple_of(1024)
}

/// Memory of a thread that is used again and again.
#[derive(Default)]
pub(super) struct Scratch {
    pub(crate) values: Vec<f32>,
    pub(crate) starts: Vec<usize>,
    /// Starts and places in the target, per phase of an adjoint.
    pub(crate) phases: Vec<(Vec<usize>, Vec<usize>)>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Lends the thread's memory. Nothing in `work` may wait for other tasks, or one of them could ask for it as well.
pub(super) fn with_scratch<T>(work: impl FnOnce(&mut Scratch) -> T) -> T {
    let mut scratch = SCRATCH.take();
    let result = work(&mut scratch);
    SCRATCH.set(scratch);
    result
}

/// Parts of planes to be copied: which channels of them, and which columns, possibly beyond the plane.
pub(super) struct Strips<'a> {
    pub source: &'a [f32],
    pub grid: Grid,
    pub channels: Range<usize>,
    pub columns: Range<isize>,
}

impl Strips<'_> {
    pub fn pitch(&self) -> usize {
        pitch(self.channels.len())
    }

    /// Floats between neighbouring rows of a copy.
    pub fn row(&self) -> usize {
        self.columns.len() * self.pitch()
    }

    /// Appends some rows of a sample, zeros where there are none; tells where they begin.
    pub fn append(&self, sample: usize, rows: Range<isize>, values: &mut Vec<f32>) -> usize {
        let begin = values.len();
        let [height, width] = self.grid.size;
        let first = self.columns.start.clamp(0, width as isize) as usize;
        let last = self.columns.end.clamp(0, width as isize) as usize;
        let left = (first as isize - self.columns.start) as usize * self.pitch();
        for row in rows {
            let end = values.len() + self.row();
            if first < last && (0..height as isize).contains(&row) {
                values.resize(values.len() + left, 0.0);
                let at = (sample * height + row as usize) * width * self.grid.channels;
                let source =
                    &self.source[at + first * self.grid.channels..at + last * self.grid.channels];
                self.append_columns(source, values);
            }
            values.resize(end, 0.0);
        }
        begin
    }

    fn append_columns(&self, source: &[f32], values: &mut Vec<f32>) {
        if self.channels.len() == self.grid.channels && self.pitch() == self.grid.channels {
            return values.extend_from_slice(source);
        }
        for column in source.chunks_exact(self.grid.channels) {
            let end = values.len() + self.pitch();
            values.extend_from_slice(&column[self.channels.clone()]);
            values.resize(end, 0.0);
        }
    }
}

/// Position of a sample's plane, counted over a batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Position {
    pub sample: usize,
    pub row: usize,
    pub column: usize,
}

impl Position {
    pub fn of(index: usize, size: [usize; 2]) -> Self {
        let row = index / size[1];
        Self {
            sample: row / size[0],
            row: row % size[0],
            column: index % size[1],
        }
    }

    /// The next one in the order of memory.
    pub fn next(self, size: [usize; 2]) -> Self {
        let mut next = self;
        next.column += 1;
        if next.column == size[1] {
            (next.row, next.column) = (next.row + 1, 0);
        }
        if next.row == size[0] {
            (next.sample, next.row) = (next.sample + 1, 0);
        }
        next
    }
}

/// The samples that a range of positions touches, with the rows of each.
pub(super) fn bands(
    positions: &Range<usize>,
    size: [usize; 2],
) -> impl Iterator<Item = (usize, Range<usize>)> {
    let (first, last) = (
        Position::of(positions.start, size),
        Position::of(positions.end - 1, size),
    );
    (first.sample..=last.sample).map(move |sample| {
        let mut rows = 0..size[0];
        if sample == first.sample {
            rows.start = first.row;
        }
        if sample == last.sample {
            rows.end = last.row + 1;
        }
        (sample, rows)
    })
}

/// Calls `work` with the values under the window at some of its places, counted over the batch: one row of products
/// per place, the stretches of its taps as [`factors`] says.
pub(super) fn with_patches<T>(
    window: &Window2d,
    (source, grid): (&[f32], Grid),
    (map, places): ([usize; 2], Range<usize>),
    channels: Range<usize>,
    work: impl FnOnce(Rows<'_>) -> T,
) -> T {
    with_scratch(|scratch| {
        let Scratch { values, starts, .. } = scratch;
        starts.clear();
        if can_stay(window, grid.channels) {
            let mut position = Position::of(places.start, map);
            for _ in places {
                let row = position.sample * grid.size[0] + position.row * window.stride[0];
                let column = row * grid.size[1] + position.column * window.stride[1];
                starts.push(column * grid.channels + channels.start);
                position = position.next(map);
            }
            return work(Rows::new(source, starts));
        }
        values.clear();
        let [up, left] = window.padding.map(|padding| padding as isize);
        let columns =
            -left..((map[1] - 1) * window.stride[1] + window.reach(1) + 1) as isize - left;
        let strips = Strips {
            source,
            grid,
            channels: channels.clone(),
            columns,
        };
        let mut position = Position::of(places.start, map);
        let mut left_over = places.len();
        for (sample, rows) in bands(&places, map) {
            let top = (rows.start * window.stride[0]) as isize - up;
            let end = ((rows.end - 1) * window.stride[0] + window.reach(0) + 1) as isize - up;
            let base = strips.append(sample, top..end, values);
            let first_row = rows.start;
            while left_over > 0 && position.sample == sample {
                let row = (position.row - first_row) * window.stride[0];
                starts.push(
                    base + row * strips.row() + position.column * window.stride[1] * strips.pitch(),
                );
                position = position.next(map);
                left_over -= 1;
            }
        }
        let taps = taps(window, channels.len(), strips.row());
        work(Rows {
            values,
            starts,
            taps: &taps,
        })
    })
}

/// Stretches under a window and their length: neighbouring columns are one stretch where nothing lies between them.
pub(super) fn factors(window: &Window2d, channels: usize) -> (usize, usize) {
    if window.dilation[1] == 1 && pitch(channels) == channels {
        (window.kernel[0], window.kernel[1] * channels)
    } else {
        (window.taps(), channels)
    }
}

fn taps(window: &Window2d, channels: usize, row: usize) -> Vec<usize> {
    let (count, _) = factors(window, channels);
    let step = window.dilation[1] * pitch(channels);
    let mut taps = Vec::with_capacity(count);
    for down in 0..window.kernel[0] {
        let first = down * window.dilation[0] * row;
        taps.extend(starts(first, step, count / window.kernel[0]));
    }
    taps
}

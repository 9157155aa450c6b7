//! Means, variances and products of many rows of 32-bit data, summed in 64 bits in a fixed order.
//! Rows may overlap, as those of sliding windows do: they are read where they are, a block at a time.

use rayon::prelude::*;

use super::matrix::{Matrix, Sides, add};
use crate::chunks::chunks;

/// Rows that are copied together.
const BLOCK: usize = 256;
/// Rows of a Gram matrix that one thread adds to.
const STRIPE: usize = 64;

/// Many rows of equal width.
pub trait RowSource: Sync {
    fn rows(&self) -> usize;
    fn width(&self) -> usize;
    fn row(&self, index: usize) -> &[f32];
}

/// Rows that start at these places of a row-major series: windows, or single rows.
#[derive(Clone, Debug)]
pub struct Slices<'a> {
    values: &'a [f32],
    starts: Vec<usize>,
    width: usize,
}

impl<'a> Slices<'a> {
    /// `starts` are places in `values`; every one is followed by `width` values.
    pub fn new(values: &'a [f32], starts: Vec<usize>, width: usize) -> Self {
        assert!(starts.iter().all(|start| start + width <= values.len()));
        Self {
            values,
            starts,
            width,
        }
    }

    /// At most `most` of the rows, evenly spread.
    #[must_use]
    pub fn thinned(mut self, most: usize) -> Self {
        let count = self.starts.len();
        if count > most {
            for index in 0..most {
                self.starts[index] = self.starts[index * count / most];
            }
            self.starts.truncate(most);
        }
        self
    }
}

impl RowSource for Slices<'_> {
    fn rows(&self) -> usize {
        self.starts.len()
    }

    fn width(&self) -> usize {
        self.width
    }

    fn row(&self, index: usize) -> &[f32] {
        &self.values[self.starts[index]..self.starts[index] + self.width]
    }
}

/// Mean and standard deviation (divided by the count) of every column.
#[derive(Clone, Debug, PartialEq)]
pub struct Scale {
    pub mean: Vec<f64>,
    pub deviation: Vec<f64>,
}

impl Scale {
    pub fn of(source: &impl RowSource) -> Self {
        let count = source.rows().max(1) as f64;
        let mut mean = column_sums(source, |_, value| value);
        for sum in &mut mean {
            *sum /= count;
        }
        let mut deviation = column_sums(source, |column, value| (value - mean[column]).powi(2));
        for sum in &mut deviation {
            *sum = (*sum / count).sqrt();
        }
        Self { mean, deviation }
    }

    /// Where a column does not vary, its values are taken as they are: a deviation of 1.
    #[must_use]
    pub fn without_zeros(mut self) -> Self {
        for (deviation, mean) in self.deviation.iter_mut().zip(&self.mean) {
            // Below this, what varies is the rounding of 32-bit values.
            if *deviation <= 1e-7 * mean.abs().max(1e-30) {
                *deviation = 1.0;
            }
        }
        self
    }

    /// `(row - mean) / deviation`.
    pub fn apply(&self, row: &[f32], target: &mut [f64]) {
        let units = self.mean.iter().zip(&self.deviation);
        for ((target, value), (mean, deviation)) in target.iter_mut().zip(row).zip(units) {
            *target = (f64::from(*value) - mean) / deviation;
        }
    }
}

fn column_sums(source: &impl RowSource, term: impl Fn(usize, f64) -> f64 + Sync) -> Vec<f64> {
    let parts: Vec<Vec<f64>> = chunks(source.rows())
        .into_par_iter()
        .map(|rows| {
            let mut sums = vec![0.0; source.width()];
            for row in rows {
                let values = source.row(row).iter().enumerate();
                for (sum, (column, value)) in sums.iter_mut().zip(values) {
                    *sum += term(column, f64::from(*value));
                }
            }
            sums
        })
        .collect();
    let mut total = vec![0.0; source.width()];
    for part in &parts {
        add(part, &mut total);
    }
    total
}

/// Σ row · rowᵀ over `count` rows of `width` values that `fill` writes.
pub fn gram(count: usize, width: usize, fill: impl Fn(usize, &mut [f64]) + Sync) -> Matrix {
    let mut total = Matrix::zeros(width, width);
    if width == 0 {
        return total;
    }
    let mut block = vec![0.0; BLOCK.min(count) * width];
    for first in (0..count).step_by(BLOCK) {
        let rows = BLOCK.min(count - first);
        block[..rows * width]
            .par_chunks_exact_mut(width)
            .enumerate()
            .for_each(|(row, values)| fill(first + row, values));
        let block = &block[..rows * width];
        // The upper triangle only: stripe by stripe of the target's rows, from the stripe's own columns on.
        total
            .values_mut()
            .par_chunks_mut(STRIPE * width)
            .enumerate()
            .for_each(|(stripe, target)| {
                let begin = stripe * STRIPE;
                let sides = Sides {
                    left: &block[begin..],
                    left_steps: (1, width),
                    right: &block[begin..],
                    right_steps: (width, 1),
                };
                let own = target.len() / width;
                sides.add_to(&mut target[begin..], own, width - begin, rows, width);
            });
    }
    for row in 0..width {
        for column in 0..row {
            total[(row, column)] = total[(column, row)];
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::matrix::tests::draws;

    #[test]
    fn grams_follow_the_definition_for_any_number_of_threads() {
        for (count, width) in [(1, 1), (5, 3), (300, 70), (513, 129)] {
            let rows = draws(count, width, 3);
            let expected = rows.transposed_product(&rows);
            let found = |threads: usize| {
                let pool = rayon::ThreadPoolBuilder::new()
                    .num_threads(threads)
                    .build()
                    .unwrap();
                pool.install(|| {
                    gram(count, width, |row, target| {
                        target.copy_from_slice(rows.row(row))
                    })
                })
            };
            assert!(found(1).minus(&expected).largest() < 1e-10);
            assert_eq!(found(1), found(3));
            assert_eq!(found(1), found(1).transposed());
        }
    }

    #[test]
    fn scales_of_overlapping_rows() {
        let values = [1_f32, 5.0, 2.0, 5.0, 3.0, 5.0, 6.0, 5.0];
        let source = Slices::new(&values, vec![0, 2, 4], 4);
        let scale = Scale::of(&source);
        assert_eq!(scale.mean, [2.0, 5.0, 11.0 / 3.0, 5.0]);
        assert!((scale.deviation[0] - (2.0_f64 / 3.0).sqrt()).abs() < 1e-12);
        let scale = scale.without_zeros();
        assert_eq!(scale.deviation[1], 1.0);
        let mut row = [0.0; 4];
        scale.apply(source.row(1), &mut row);
        assert_eq!(row[..2], [0.0, 0.0]);
        assert_eq!(
            Slices::new(&values, vec![0, 2, 4, 6], 2).thinned(2).starts,
            [0, 4]
        );
    }
}

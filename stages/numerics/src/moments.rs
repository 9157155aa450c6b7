//! Means and variances per channel, merged from parts without loss (Chan, Golub and LeVeque, 1979).
//! What a normalisation does with them is not decided here.

use super::simd::{Level, vectorised};

/// Count, mean and sum of squared deviations of every channel.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Moments {
    pub count: f64,
    pub mean: Vec<f64>,
    /// Sum of squared deviations from the mean.
    pub(crate) squares: Vec<f64>,
}

impl Moments {
    /// No rows yet.
    pub fn new(channels: usize) -> Self {
        Self {
            count: 0.0,
            mean: vec![0.0; channels],
            squares: vec![0.0; channels],
        }
    }

    pub(crate) fn clear(&mut self) {
        self.count = 0.0;
        self.mean.fill(0.0);
        self.squares.fill(0.0);
    }

    /// Adds a block of rows, `[rows, channels]`: a plain two-pass computation for the block, then a merge.
    pub(crate) fn add_rows(&mut self, level: Level, rows: &[f32]) {
        let channels = self.mean.len();
        let count = (rows.len() / channels.max(1)) as f32;
        if count == 0.0 {
            return;
        }
        let mut mean = vec![0.0_f32; channels];
        let mut squares = vec![0.0_f32; channels];
        block_moments(level, rows, count, &mut mean, &mut squares);
        self.combine(f64::from(count), |channel| {
            (f64::from(mean[channel]), f64::from(squares[channel]))
        });
    }

    /// Adds what another part has seen.
    pub fn merge(&mut self, other: &Self) {
        if other.count > 0.0 {
            self.combine(other.count, |channel| {
                (other.mean[channel], other.squares[channel])
            });
        }
    }

    fn combine(&mut self, count: f64, other: impl Fn(usize) -> (f64, f64)) {
        let total = self.count + count;
        for (channel, (mean, squares)) in self.mean.iter_mut().zip(&mut self.squares).enumerate() {
            let (other_mean, other_squares) = other(channel);
            // The parts deviate from their own means; this adds what those deviate from the common one.
            let difference = other_mean - *mean;
            *squares += other_squares + difference * difference * (self.count * count / total);
            *mean += difference * (count / total);
        }
        self.count = total;
    }

    /// The variance that normalises: divided by the count.
    pub fn variance(&self, channel: usize) -> f64 {
        self.squares[channel] / self.count
    }

    /// The variance that running statistics keep: divided by the count less one.
    pub(crate) fn unbiased_variance(&self, channel: usize) -> f64 {
        self.squares[channel] / (self.count - 1.0)
    }
}

vectorised! {
    fn block_moments(rows: &[f32], count: f32, mean: &mut [f32], squares: &mut [f32]) {
        for row in rows.chunks_exact(mean.len()) {
            for (sum, value) in mean.iter_mut().zip(row) {
                *sum += value;
            }
        }
        for sum in mean.iter_mut() {
            *sum /= count;
        }
        for row in rows.chunks_exact(mean.len()) {
            for ((sum, value), mean) in squares.iter_mut().zip(row).zip(mean.iter()) {
                let deviation = value - mean;
                *sum += deviation * deviation;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn parts_give_what_the_whole_gives(values in prop::collection::vec(-10.0_f32..10.0, 12..60), cut in 1_usize..5) {
            let rows = &values[..values.len() / 3 * 3];
            let level = Level::detect();
            let mut whole = Moments::new(3);
            whole.add_rows(level, rows);
            let mut merged = Moments::new(3);
            for part in rows.chunks(3 * cut) {
                let mut moments = Moments::new(3);
                moments.add_rows(level, part);
                merged.merge(&moments);
            }
            prop_assert_eq!(whole.count, merged.count);
            for channel in 0..3 {
                prop_assert!((whole.mean[channel] - merged.mean[channel]).abs() < 1e-4);
                prop_assert!((whole.squares[channel] - merged.squares[channel]).abs() < 1e-2);
            }
        }
    }
}

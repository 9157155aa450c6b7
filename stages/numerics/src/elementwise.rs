//! Loops that stream through memory, compiled for each level of vector instructions.
//! They compute the same bits at every level: no sum of products is fused, and no order depends on a width.

use std::ops::{Add, Div, Mul, Sub};

use super::simd::vectorised;

/// Channels that are worked on together, whatever the width of a vector.
pub(crate) const LANES: usize = 16;

/// Some neighbouring channels of one row, at most `LANES` of them.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    first: usize,
    count: usize,
}

/// Cuts the channels of a row into spans, of which only the last may be short.
#[inline(always)]
pub fn lanes(channels: usize) -> impl Iterator<Item = Span> {
    (0..channels).step_by(LANES).map(move |first| Span {
        first,
        count: LANES.min(channels - first),
    })
}

/// Values of the channels of a [`Span`]; those beyond a short one are zeros and never stored.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct Lanes([f32; LANES]);

impl Lanes {
    #[inline(always)]
    pub fn splat(value: f32) -> Self {
        Self([value; LANES])
    }

    #[inline(always)]
    pub fn load(row: &[f32], span: Span) -> Self {
        Self::load_or(row, span, 0.0)
    }

    /// As [`Self::load`], but lanes beyond a short span hold `other`.
    #[inline(always)]
    pub(crate) fn load_or(row: &[f32], span: Span, other: f32) -> Self {
        let source = &row[span.first..span.first + span.count];
        if let Ok(full) = <[f32; LANES]>::try_from(source) {
            return Self(full);
        }
        let mut values = [other; LANES];
        values[..source.len()].copy_from_slice(source);
        Self(values)
    }

    /// The sum of all lanes, halves added to each other until one is left.
    #[inline(always)]
    pub fn sum(self) -> f32 {
        let mut values = self.0;
        for half in [8, 4, 2, 1] {
            for lane in 0..half {
                values[lane] += values[lane + half];
            }
        }
        values[0]
    }

    #[inline(always)]
    pub(crate) fn store(self, row: &mut [f32], span: Span) {
        let target = &mut row[span.first..span.first + span.count];
        if let Ok(full) = <&mut [f32; LANES]>::try_from(&mut *target) {
            *full = self.0;
        } else {
            let count = target.len();
            target.copy_from_slice(&self.0[..count]);
        }
    }

    /// The larger of each two lanes.
    #[inline(always)]
    pub(crate) fn larger(self, other: Self) -> Self {
        self.with(other, |left, right| if right > left { right } else { left })
    }

    /// The largest lane.
    #[inline(always)]
    pub fn largest(self) -> f32 {
        self.0.into_iter().fold(
            f32::NEG_INFINITY,
            |most, value| if value > most { value } else { most },
        )
    }

    /// `max(self, 0)`; a NaN stays one.
    #[inline(always)]
    pub(crate) fn positive(self) -> Self {
        self.where_positive(self)
    }

    /// `self`, but 0 where `condition` is at most 0.
    #[inline(always)]
    pub(crate) fn where_positive(self, condition: Self) -> Self {
        self.with(
            condition,
            |value, condition| if condition <= 0.0 { 0.0 } else { value },
        )
    }

    #[inline(always)]
    pub(crate) fn map(self, operation: impl Fn(f32) -> f32) -> Self {
        Self(self.0.map(operation))
    }

    #[inline(always)]
    fn with(self, other: Self, operation: impl Fn(f32, f32) -> f32) -> Self {
        Self(std::array::from_fn(|lane| {
            operation(self.0[lane], other.0[lane])
        }))
    }
}

impl Add for Lanes {
    type Output = Self;

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.with(other, |left, right| left + right)
    }
}

impl Sub for Lanes {
    type Output = Self;

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self.with(other, |left, right| left - right)
    }
}

impl Div for Lanes {
    type Output = Self;

    #[inline(always)]
    fn div(self, other: Self) -> Self {
        self.with(other, |left, right| left / right)
    }
}

impl Mul for Lanes {
    type Output = Self;

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        self.with(other, |left, right| left * right)
    }
}

vectorised! {
    /// Adds every row of `[rows, columns]` to `sums`, `[columns]`.
    pub(crate) fn add_rows(rows: &[f32], sums: &mut [f32]) {
        for row in rows.chunks_exact(sums.len()) {
            for (sum, value) in sums.iter_mut().zip(row) {
                *sum += value;
            }
        }
    }
}

vectorised! {
    /// The means of every `group` rows: `[groups * group, columns]` to `[groups, columns]`.
    pub fn group_means(rows: &[f32], group: usize, columns: usize, means: &mut [f32]) {
        let share = 1.0 / group as f32;
        for (block, mean) in rows.chunks_exact(group * columns).zip(means.chunks_exact_mut(columns)) {
            mean.fill(0.0);
            for row in block.chunks_exact(columns) {
                for (sum, value) in mean.iter_mut().zip(row) {
                    *sum += value;
                }
            }
            for sum in mean.iter_mut() {
                *sum *= share;
            }
        }
    }
}

vectorised! {
    /// `target += source`.
    pub fn add(source: &[f32], target: &mut [f32]) {
        for (target, source) in target.iter_mut().zip(source) {
            *target += source;
        }
    }
}

vectorised! {
    /// Squared differences: puts `scale * (found - wanted)` into `gradient` and gives the sum of squared differences.
    ///
    /// Sixteen partial sums in 64 bits, added in their order.
    pub fn squared_error(found: &[f32], wanted: &[f32], scale: f32, gradient: &mut [f32]) -> f64 {
        let mut sums = [0.0_f64; 16];
        let blocks = found.chunks_exact(16).zip(wanted.chunks_exact(16)).zip(gradient.chunks_exact_mut(16));
        for ((found, wanted), gradient) in blocks {
            for lane in 0..16 {
                let difference = found[lane] - wanted[lane];
                gradient[lane] = scale * difference;
                sums[lane] += f64::from(difference * difference);
            }
        }
        // Values that fill no block go to the first sums, one each.
        let rest = found.len() / 16 * 16;
        for index in rest..found.len() {
            let difference = found[index] - wanted[index];
            gradient[index] = scale * difference;
            sums[index - rest] += f64::from(difference * difference);
        }
        sums.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::Level;

    #[test]
    fn every_level_gives_the_same_bits() {
        let values: Vec<f32> = (0..37 * 6).map(|i| (i as f32 * 0.37).sin()).collect();
        let wanted: Vec<f32> = values.iter().rev().copied().collect();
        let all = |level| {
            let (mut sums, mut means, mut gradient) =
                (vec![0.5; 37], vec![0.0; 37 * 2], vec![0.0; values.len()]);
            add_rows(level, &values, &mut sums);
            group_means(level, &values, 3, 37, &mut means);
            let error = squared_error(level, &values, &wanted, 0.5, &mut gradient);
            add(level, &sums, &mut means[..37]);
            (sums, means, gradient, error)
        };
        let expected = all(Level::PORTABLE);
        assert!(
            Level::available()
                .into_iter()
                .all(|level| all(level) == expected)
        );
        let plain: f64 = values
            .iter()
            .zip(&wanted)
            .map(|(a, b)| f64::from((a - b) * (a - b)))
            .sum();
        assert!((expected.3 - plain).abs() < 1e-9);
        assert_eq!(expected.2[0], 0.5 * (values[0] - wanted[0]));
    }
}

//! Values of 64 bits on their way into a series of 32: the value that 32 bits hold, and the rest that they do not. A
//! channel whose steps are lost in the rest keeps its 64 bits.

use std::collections::BTreeMap;

use rayon::prelude::*;

use contract::artifact::{Segment, StepCount};

/// The rest of a value that stands for six decimals: those of the text `d.dddddd` are found from 32 bits alone.
pub(super) const SIX_DECIMALS: i32 = i32::MIN;

/// Rows that are compared by one task.
const BLOCK: usize = 4096;

/// The nearest value of 32 bits, and how many steps of the last place of 64 bits lie between it and the value.
#[inline]
pub(super) fn narrow(value: f64) -> (f32, i32) {
    let nearest = value as f32;
    let steps = value.to_bits() as i64 - f64::from(nearest).to_bits() as i64;
    // Only what is next to nothing has a larger rest, and counts as nothing.
    (nearest, i32::try_from(steps).unwrap_or(0))
}

/// The value that was narrowed.
#[inline]
pub(super) fn widen(value: f32, rest: i32) -> f64 {
    if rest == SIX_DECIMALS {
        return (f64::from(value) * 1e6).round() / 1e6;
    }
    let bits = f64::from(value).to_bits() as i64 + i64::from(rest);
    f64::from_bits(bits as u64)
}

/// The channels of row-major values whose steps 32 bits lose, in 64 bits. `rests` is as long as `values`, or empty where
/// nothing was rounded.
pub(super) fn wide_channels(
    values: &[f32],
    rests: &[i32],
    width: usize,
    segments: &[Segment],
) -> BTreeMap<usize, Vec<f64>> {
    let mut wide = BTreeMap::new();
    if rests.is_empty() || width == 0 {
        return wide;
    }
    let mut blocks = Vec::new();
    for segment in segments {
        for start in segment.rows.clone().skip(1).step_by(BLOCK) {
            blocks.push(start..segment.rows.end.min(start + BLOCK));
        }
    }
    let at = |place: usize| widen(values[place], rests[place]);
    let mut counts = vec![StepCount::default(); width];
    let of_blocks: Vec<Vec<StepCount>> = blocks
        .into_par_iter()
        .map(|rows| {
            let mut counts = vec![StepCount::default(); width];
            let first = (rows.start - 1) * width;
            let mut before: Vec<f64> = (first..first + width).map(at).collect();
            for row in rows {
                for (channel, count) in counts.iter_mut().enumerate() {
                    let after = at(row * width + channel);
                    count.add(before[channel], after);
                    before[channel] = after;
                }
            }
            counts
        })
        .collect();
    for block in of_blocks {
        for (count, more) in counts.iter_mut().zip(block) {
            count.merge(more);
        }
    }
    for (channel, count) in counts.iter().enumerate() {
        if count.are_lost() {
            let places = (channel..values.len()).step_by(width);
            wide.insert(channel, places.map(at).collect());
        }
    }
    wide
}

/// Row-major values that can be looked at and filled in 64 bits.
pub(super) struct Cells<'a> {
    pub values: &'a mut [f32],
    /// As long as the values, or empty.
    pub rests: &'a mut [i32],
}

impl Cells<'_> {
    pub fn len(&self) -> usize {
        self.values.len()
    }

    pub fn is_missing(&self, place: usize) -> bool {
        self.values[place].is_nan()
    }

    pub fn get(&self, place: usize) -> f64 {
        let rest = self.rests.get(place).copied().unwrap_or(0);
        widen(self.values[place], rest)
    }

    pub fn set(&mut self, place: usize, value: f64) {
        let (nearest, rest) = narrow(value);
        self.values[place] = nearest;
        if let Some(kept) = self.rests.get_mut(place) {
            *kept = rest;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::artifact::Split;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn values_of_64_bits_come_back(value in proptest::num::f64::NORMAL) {
            let (nearest, rest) = narrow(value);
            prop_assert_eq!(nearest.to_bits(), (value as f32).to_bits());
            if (1e-37..1e38).contains(&value.abs()) {
                prop_assert_eq!(widen(nearest, rest).to_bits(), value.to_bits());
            }
        }

        #[test]
        fn six_decimals_are_found_from_32_bits(digits in 0..10_000_000_u32) {
            let value = f64::from(digits) / 1e6;
            prop_assert_eq!(widen(value as f32, SIX_DECIMALS), value);
        }
    }

    #[test]
    fn only_channels_that_lose_steps_are_wide() {
        let rows = 10_000;
        let (mut values, mut rests) = (Vec::new(), Vec::new());
        for row in 0..rows {
            for value in [4e9 + f64::from(row), f64::from(row).sin(), 0.3] {
                let (nearest, rest) = narrow(value);
                values.push(nearest);
                rests.push(rest);
            }
        }
        let rows = rows as usize;
        let halves = [
            Segment::new(Split::Train, "m", 0..rows / 2),
            Segment::new(Split::Test, "m", rows / 2..rows),
        ];
        let wide = wide_channels(&values, &rests, 3, &halves);
        assert_eq!(wide.keys().copied().collect::<Vec<_>>(), [0]);
        assert_eq!(wide[&0][rows - 1], 4e9 + 9999.0);
        assert!(wide_channels(&values, &[], 3, &halves).is_empty());
    }
}

//! Values that are usual, but not where they stand: a crest of a rhythm where a trough should be.

use std::collections::BTreeSet;
use std::f64::consts::TAU;

use super::noise::stationary;
use contract::Random;

/// A rhythm of 5 to 12 periods with noise; one to three half periods are turned upside down.
pub(super) fn draw(rows: usize, random: &mut Random) -> Vec<f64> {
    let noise = random.range(0.1, 0.35);
    let (_, mut values) = broken_rhythm(rows, random);
    for (value, base) in values.iter_mut().zip(stationary(rows, random)) {
        *value += noise * base;
    }
    values
}

/// The period in rows, and the rhythm with some of its half periods turned over.
fn broken_rhythm(rows: usize, random: &mut Random) -> (f64, Vec<f64>) {
    let period = rows as f64 / random.range(5.0, 12.0);
    let phase = random.range(0.01, 1.0);
    let mut rhythm: Vec<f64> = (0..rows)
        .map(|row| libm::sin(TAU * (row as f64 / period + phase)))
        .collect();
    // The rhythm is 0 at these rows. There are at least six of them between the first whole half period and the last.
    let zero =
        |half: usize| (((half as f64 / 2.0 + 1.0 - phase) * period).ceil() as usize).min(rows);
    let halves = (2.0 * rows as f64 / period) as u64;
    let mut turned = BTreeSet::new();
    for _ in 0..=random.below(3) {
        turned.insert(1 + random.below(halves.saturating_sub(4).max(1)) as usize);
    }
    for half in turned {
        for value in &mut rhythm[zero(half)..zero(half + 1)] {
            *value = -*value;
        }
    }
    (period, rhythm)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn somewhere_two_half_periods_follow_each_other_on_the_same_side() {
        for seed in 0..200 {
            let (period, rhythm) = broken_rhythm(256, &mut Random::new(seed, "context"));
            let (mut run, mut longest) = (1, 1);
            for pair in rhythm.windows(2) {
                run = if (pair[0] < 0.0) == (pair[1] < 0.0) {
                    run + 1
                } else {
                    1
                };
                longest = longest.max(run);
            }
            assert!(
                f64::from(longest) > 0.85 * period,
                "seed {seed}: {longest} of {period}"
            );
        }
    }
}

//! Single values far away from all others.

use super::noise::{sign, stationary};
use contract::Random;

/// Stationary noise with one to four single rows, five to ten deviations away.
pub(super) fn draw(rows: usize, random: &mut Random) -> Vec<f64> {
    let mut values = stationary(rows, random);
    for _ in 0..=random.below(4) {
        // The ends of a series are hard to see in a plot.
        let row = 1 + random.below(rows as u64 - 2) as usize;
        values[row] = sign(random) * random.range(5.0, 10.0);
    }
    values
}

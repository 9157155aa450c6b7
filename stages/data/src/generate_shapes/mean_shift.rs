//! The level jumps and stays.

use super::breaks;
use super::noise::{sign, stationary};
use contract::Random;

/// Stationary noise whose mean jumps once to three times by three to eight deviations.
pub(super) fn draw(rows: usize, random: &mut Random) -> Vec<f64> {
    let mut values = stationary(rows, random);
    let count = 1 + random.below(3) as usize;
    for start in breaks::draw(rows, count, random) {
        let shift = sign(random) * random.range(3.0, 8.0);
        for value in &mut values[start..] {
            *value += shift;
        }
    }
    values
}

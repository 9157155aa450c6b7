//! A path that goes where chance leads it: the sum of stationary steps.

use super::noise::{sign, stationary};
use contract::Random;

/// A random walk with steps that may have memory, half of them with a slight drift.
pub(super) fn draw(rows: usize, random: &mut Random) -> Vec<f64> {
    let drift = if random.below(2) == 0 {
        0.0
    } else {
        sign(random) * random.range(0.02, 0.12)
    };
    let mut values = stationary(rows, random);
    let mut level = 0.0;
    for value in &mut values {
        level += *value + drift;
        *value = level;
    }
    values
}

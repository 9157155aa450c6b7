//! A straight trend that takes another direction.

use super::breaks;
use super::noise::{sign, stationary};
use contract::Random;

/// Stationary noise on a broken line: one or two corners, at each of which the slope turns round.
pub(super) fn draw(rows: usize, random: &mut Random) -> Vec<f64> {
    let count = 1 + random.below(2) as usize;
    let breaks = breaks::draw(rows, count, random);
    // Deviations that each stretch would rise by if it were as long as the series.
    let mut rise = sign(random) * random.range(10.0, 30.0);
    let mut slopes = Vec::new();
    for _ in 0..=count {
        slopes.push(rise / rows as f64);
        rise = -rise * random.range(0.5, 1.5);
    }
    let mut values = stationary(rows, random);
    let mut level = 0.0;
    for (row, value) in values.iter_mut().enumerate() {
        level += slopes[breaks::passed(&breaks, row)];
        *value += level;
    }
    values
}

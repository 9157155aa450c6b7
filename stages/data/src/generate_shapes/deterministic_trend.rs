//! Growth or decline along a curve that a formula describes.

use super::noise::{sign, stationary};
use contract::Random;

/// Stationary noise on a straight, quadratic, cubic, exponential or damped rise or fall of 6 to 20 deviations.
pub(super) fn draw(rows: usize, random: &mut Random) -> Vec<f64> {
    let rise = sign(random) * random.range(6.0, 20.0);
    let form = random.below(5);
    let rate = random.range(2.0, 4.0);
    let curve = |x: f64| match form {
        0 => x,
        1 => x * x,
        2 => x * x * x,
        3 => (libm::exp(rate * x) - 1.0) / (libm::exp(rate) - 1.0),
        _ => (1.0 - libm::exp(-rate * x)) / (1.0 - libm::exp(-rate)),
    };
    let mut values = stationary(rows, random);
    for (row, value) in values.iter_mut().enumerate() {
        *value += rise * curve(row as f64 / (rows - 1) as f64);
    }
    values
}

//! Calm and turbulent times that follow from what was just before, as in prices.

use super::noise::{normal, standardised};
use contract::Random;

/// Rows that the process runs before it is looked at.
const WARM_UP: usize = 200;

/// A GARCH(1,1) process (Bollerslev, 1986): persistence 0.9 to 0.99, of which the last shock has 0.15 to 0.4. A third
/// of the series have no memory but of the last shock: ARCH(1) (Engle, 1982) with 0.75 to 0.95.
pub(super) fn draw(rows: usize, random: &mut Random) -> Vec<f64> {
    let (shock_share, persistence) = if random.below(3) == 0 {
        let share = random.range(0.75, 0.95);
        (share, share)
    } else {
        (random.range(0.15, 0.4), random.range(0.9, 0.99))
    };
    let (mut variance, mut square) = (1.0, 1.0);
    let mut values = Vec::with_capacity(WARM_UP + rows);
    for _ in 0..WARM_UP + rows {
        variance =
            (1.0 - persistence) + shock_share * square + (persistence - shock_share) * variance;
        let value = normal(random) * f64::sqrt(variance);
        square = value * value;
        values.push(value);
    }
    standardised(values.split_off(WARM_UP))
}

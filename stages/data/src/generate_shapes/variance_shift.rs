//! The noise becomes stronger or weaker and stays so.

use super::breaks;
use super::noise::stationary;
use contract::Random;

/// Stationary noise that is calm and strong in turn, three to six times as strong, with one or two changes.
pub(super) fn draw(rows: usize, random: &mut Random) -> Vec<f64> {
    let strong = random.range(3.0, 6.0);
    let starts_strong = random.below(2) as usize;
    let count = 1 + random.below(2) as usize;
    let breaks = breaks::draw(rows, count, random);
    let mut values = stationary(rows, random);
    for (row, value) in values.iter_mut().enumerate() {
        if !(breaks::passed(&breaks, row) + starts_strong).is_multiple_of(2) {
            *value *= strong;
        }
    }
    values
}

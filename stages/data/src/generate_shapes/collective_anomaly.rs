//! A stretch of values that are unusual together: the level changes and comes back.

use super::noise::{sign, stationary};
use contract::Random;

/// Stationary noise with one or two stretches, each 4 to 10 % of the rows, three to six deviations away.
pub(super) fn draw(rows: usize, random: &mut Random) -> Vec<f64> {
    let mut values = stationary(rows, random);
    let stretches = 1 + random.below(2) as usize;
    // Each has a part of the series for itself, and stays away from its ends.
    let room = rows / stretches;
    for part in 0..stretches {
        let length = ((rows as f64 * random.range(0.04, 0.1)) as usize).max(3);
        let margin = (room / 10).max(1);
        let free = room.saturating_sub(length + 2 * margin).max(1);
        let start = part * room + margin + random.below(free as u64) as usize;
        let shift = sign(random) * random.range(3.0, 6.0);
        for value in values.iter_mut().skip(start).take(length) {
            *value += shift;
        }
    }
    values
}

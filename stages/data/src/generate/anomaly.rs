//! Faults of several kinds, written into a clean signal, and the rows they cover.

use std::ops::Range;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::numeric::normal;
use super::signal::Signal;
use contract::Random;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// One to four rows far away from normal.
    Spike,
    /// A new level for a while.
    LevelShift,
    /// A slow climb or fall, then back.
    Drift,
    /// A sensor that repeats its last value.
    StuckSensor,
    /// Noise much stronger than usual.
    NoiseBurst,
    /// Normal values at the wrong time of the day: each channel looks right, together they do not.
    BrokenCorrelation,
    /// A fall to nearly nothing.
    Dip,
}

impl Kind {
    pub const ALL: [Self; 7] = [
        Self::Spike,
        Self::LevelShift,
        Self::Drift,
        Self::StuckSensor,
        Self::NoiseBurst,
        Self::BrokenCorrelation,
        Self::Dip,
    ];

    /// Rows that one fault lasts, at a day of 288 rows.
    fn duration(self) -> Range<u64> {
        match self {
            Self::Spike => 1..5,
            Self::LevelShift | Self::StuckSensor => 30..90,
            Self::Drift | Self::BrokenCorrelation => 50..120,
            Self::NoiseBurst => 20..60,
            Self::Dip => 10..40,
        }
    }
}

/// One fault: its rows and channels are disturbed.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Fault {
    pub kind: Kind,
    pub rows: Range<usize>,
    pub channels: Vec<usize>,
}

/// Normal rows between two faults, at the least.
const GAP: usize = 5;

/// Places faults of all `kinds` in turn in `rows`, until `budget` rows are covered. They do not touch each other.
pub(super) fn plan(
    kinds: &[Kind],
    rows: &Range<usize>,
    budget: usize,
    variable: &[usize],
    random: &mut Random,
) -> Vec<Fault> {
    let lengths = lengths(kinds, rows.len(), budget, random);
    let covered: usize = lengths.iter().map(|(_, length)| length).sum();
    let needed = covered + GAP * (lengths.len() + 1);
    let free = rows.len().saturating_sub(needed) as u64;
    // Random cuts of the free rows give the gaps.
    let mut cuts: Vec<u64> = lengths.iter().map(|_| random.below(free + 1)).collect();
    cuts.sort_unstable();
    let mut before = rows.start + GAP;
    let mut faults = Vec::with_capacity(lengths.len());
    for ((kind, length), cut) in lengths.into_iter().zip(cuts) {
        let start = before + cut as usize;
        before += length + GAP;
        let mut channels = variable.to_vec();
        random.shuffle(&mut channels);
        let most = (variable.len() / 2).max(1) as u64;
        channels.truncate(1 + random.below(most) as usize);
        channels.sort_unstable();
        faults.push(Fault {
            kind,
            rows: start..start + length,
            channels,
        });
    }
    faults
}

/// Kinds in random order, again and again, with their lengths, until the budget is spent.
fn lengths(kinds: &[Kind], rows: usize, budget: usize, random: &mut Random) -> Vec<(Kind, usize)> {
    let durations = kinds.iter().map(|kind| kind.duration());
    let usual: u64 = durations.map(|rows| (rows.start + rows.end) / 2).sum();
    // A small budget shortens all faults, so that every kind has its turn.
    let shrink = (budget as f64 / usual.max(1) as f64).min(1.0);
    let (mut found, mut left) = (Vec::new(), budget);
    // Gaps need room too.
    let most = rows / (2 * GAP);
    while left > 0 && found.len() < most && !kinds.is_empty() {
        let mut turn = kinds.to_vec();
        random.shuffle(&mut turn);
        for kind in turn {
            let Range { start, end } = kind.duration();
            let length = (start + random.below(end - start)) as f64 * shrink;
            let length = (length as usize).max(1).min(left);
            if length > 0 && found.len() < most {
                found.push((kind, length));
                left -= length;
            }
        }
    }
    found
}

/// Writes one fault into the signal. `day` is the number of rows of a day.
pub(super) fn disturb(
    fault: &Fault,
    signal: &mut Signal,
    clean: &[Vec<f64>],
    day: usize,
    random: &mut Random,
) {
    for &channel in &fault.channels {
        let column = &clean[channel];
        let (deviation, low) = swing(column);
        let sign = if random.below(2) == 0 { -1.0 } else { 1.0 };
        let size = sign * deviation;
        // Drawn whatever the kind, so that a kind does not move what is drawn after it.
        let spike = random.range(5.0, 9.0);
        let shift = random.range(2.0, 3.5);
        let drift = random.range(3.0, 5.0);
        let length = fault.rows.len() as f64;
        for row in fault.rows.clone() {
            let value = column[row];
            signal.columns[channel][row] = match fault.kind {
                Kind::Spike => value + size * spike,
                Kind::LevelShift => value + size * shift,
                Kind::Drift => {
                    value + size * drift * ((row - fault.rows.start + 1) as f64 / length)
                }
                Kind::StuckSensor => column[fault.rows.start.saturating_sub(1)],
                Kind::NoiseBurst => value + 1.5 * deviation * normal(random),
                Kind::BrokenCorrelation => {
                    let elsewhere = row.checked_sub(day / 2).unwrap_or(row + day / 2);
                    column[elsewhere.min(column.len() - 1)]
                }
                Kind::Dip => low + 0.1 * (value - low) - 0.5 * deviation,
            };
        }
    }
}

/// Standard deviation and minimum of a column.
fn swing(column: &[f64]) -> (f64, f64) {
    let count = column.len() as f64;
    let mean = column.iter().sum::<f64>() / count;
    let squares = column.iter().map(|value| (value - mean) * (value - mean));
    let variance = squares.sum::<f64>() / count;
    let least = column.iter().copied().fold(f64::INFINITY, f64::min);
    (variance.sqrt(), least)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn faults_lie_inside_apart_and_within_the_budget(seed in 0_u64..1000, rows in 200_usize..5000, share in 1_usize..30) {
            let budget = rows * share / 100;
            let range = 100..100 + rows;
            let faults = plan(&Kind::ALL, &range, budget, &[0, 2, 3], &mut Random::new(seed, "test"));
            let mut end = range.start;
            for fault in &faults {
                prop_assert!(fault.rows.start >= end + GAP && fault.rows.end <= range.end);
                prop_assert!(!fault.channels.is_empty() && fault.channels.iter().all(|channel| [0, 2, 3].contains(channel)));
                end = fault.rows.end;
            }
            let covered: usize = faults.iter().map(|fault| fault.rows.len()).sum();
            prop_assert!(covered <= budget && covered + 7 >= budget.min(rows / 20));
        }
    }

    #[test]
    fn every_kind_has_its_turn() {
        let faults = plan(
            &Kind::ALL,
            &(0..3000),
            150,
            &[0],
            &mut Random::new(1, "test"),
        );
        assert!(
            Kind::ALL
                .iter()
                .all(|kind| faults.iter().any(|fault| fault.kind == *kind))
        );
    }
}

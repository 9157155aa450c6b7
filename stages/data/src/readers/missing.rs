//! What to do about values that are not there: refuse, fill by a named rule, or drop the rows.
//! Nothing is ever filled from a later split into an earlier one.

use std::ops::Range;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::precision::Cells;
use contract::Fault;
use contract::artifact::Split;

/// The rule for missing values: empty fields, `NaN`, `NA`, `null`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Missing {
    /// A missing value is an error that names its place.
    #[default]
    Error,
    /// The last value of the channel is repeated; there must be one.
    Ffill,
    /// A straight line over the rows between the neighbours in the same split; at its ends the nearest value.
    Interpolate,
    /// Rows with a missing value are left out; windows do not cross the gap.
    Drop,
}

impl Missing {
    /// Refuses what is not for samples, which are read whole.
    pub(super) fn check_for_samples(self) -> Result<(), Fault> {
        if self == Self::Drop {
            let reason =
                "`drop` would tear samples apart; `ffill` and `interpolate` keep them whole";
            return Err(Fault::new("missing", reason));
        }
        Ok(())
    }
}

/// The first value that could not be filled: its channel and row, counted from the start of the values.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unfilled {
    pub channel: usize,
    pub row: usize,
}

/// Fills row-major `values` of `width` channels in place, each part for itself where the rule looks ahead.
pub(super) fn fill(
    rule: Missing,
    mut values: Cells<'_>,
    width: usize,
    parts: &[(Split, Range<usize>)],
) -> Result<(), Unfilled> {
    match rule {
        Missing::Error => {
            for (_, rows) in parts {
                let mut places = rows.start * width..rows.end * width;
                if let Some(index) = places.find(|place| values.is_missing(*place)) {
                    let (row, channel) = (index / width, index % width);
                    return Err(Unfilled { channel, row });
                }
            }
        }
        Missing::Ffill => {
            for channel in 0..width {
                forward(&mut values, width, channel)?;
            }
        }
        Missing::Interpolate => {
            for (_, rows) in parts {
                for channel in 0..width {
                    interpolate(&mut values, width, channel, rows)?;
                }
            }
        }
        Missing::Drop => {}
    }
    Ok(())
}

fn forward(values: &mut Cells<'_>, width: usize, channel: usize) -> Result<(), Unfilled> {
    let mut last = None;
    for place in (channel..values.len()).step_by(width) {
        if values.is_missing(place) {
            let row = place / width;
            values.set(place, last.ok_or(Unfilled { channel, row })?);
        } else {
            last = Some(values.get(place));
        }
    }
    Ok(())
}

fn interpolate(
    values: &mut Cells<'_>,
    width: usize,
    channel: usize,
    rows: &Range<usize>,
) -> Result<(), Unfilled> {
    let at = |row: usize| row * width + channel;
    let mut known: Option<usize> = None;
    for row in rows.clone() {
        if values.is_missing(at(row)) {
            continue;
        }
        let right = values.get(at(row));
        // Before the first known value, it is repeated.
        let (start, left) = match known {
            Some(known) => (known + 1, values.get(at(known))),
            None => (rows.start, right),
        };
        let steps = (row - start + 1) as f64;
        for (step, between) in (start..row).enumerate() {
            let share = (step + 1) as f64 / steps;
            values.set(at(between), left + (right - left) * share);
        }
        known = Some(row);
    }
    let last = known.ok_or(Unfilled {
        channel,
        row: rows.start,
    })?;
    for row in last + 1..rows.end {
        let nearest = values.get(at(last));
        values.set(at(row), nearest);
    }
    Ok(())
}

/// The stretches of `rows` without a missing value, for [`Missing::Drop`].
pub(super) fn complete_stretches(
    values: &[f32],
    width: usize,
    rows: &Range<usize>,
) -> Vec<Range<usize>> {
    let mut stretches: Vec<Range<usize>> = Vec::new();
    for row in rows.clone() {
        let mut row_values = values[row * width..(row + 1) * width].iter();
        if row_values.any(|value| value.is_nan()) {
            continue;
        }
        match stretches.last_mut() {
            Some(stretch) if stretch.end == row => stretch.end = row + 1,
            _ => stretches.push(row..row + 1),
        }
    }
    stretches
}

#[cfg(test)]
mod tests {
    use super::*;

    const GAP: f32 = f32::NAN;

    fn fill(
        rule: Missing,
        values: &mut [f32],
        width: usize,
        parts: &[(Split, Range<usize>)],
    ) -> Result<(), Unfilled> {
        let rests = &mut [];
        super::fill(rule, Cells { values, rests }, width, parts)
    }

    #[test]
    fn what_is_filled_is_as_exact_as_its_neighbours() {
        let mut values = [4e9, GAP, GAP, 4e9_f32];
        let mut rests = [0, 0, 0, super::super::precision::narrow(4e9 + 3.0).1];
        let parts = [(Split::Train, 0..4)];
        let cells = Cells {
            values: &mut values,
            rests: &mut rests,
        };
        super::fill(Missing::Interpolate, cells, 1, &parts).unwrap();
        let cells = Cells {
            values: &mut values,
            rests: &mut rests,
        };
        let filled: Vec<f64> = (0..4).map(|place| cells.get(place)).collect();
        assert_eq!(filled, [4e9, 4e9 + 1.0, 4e9 + 2.0, 4e9 + 3.0]);
    }

    #[test]
    fn forward_repeats_the_last_value() {
        let mut values = [1.0, 5.0, GAP, GAP, 3.0, 6.0];
        fill(Missing::Ffill, &mut values, 2, &[]).unwrap();
        assert_eq!(values, [1.0, 5.0, 1.0, 5.0, 3.0, 6.0]);
        let found = fill(Missing::Ffill, &mut [1.0, GAP, 2.0, 3.0], 2, &[]);
        assert_eq!(found, Err(Unfilled { channel: 1, row: 0 }));
    }

    #[test]
    fn interpolation_stays_within_its_part() {
        let mut values = [GAP, 1.0, GAP, GAP, 4.0, GAP, 100.0, GAP];
        let parts = [(Split::Train, 0..6), (Split::Test, 6..8)];
        fill(Missing::Interpolate, &mut values, 1, &parts).unwrap();
        assert_eq!(values, [1.0, 1.0, 2.0, 3.0, 4.0, 4.0, 100.0, 100.0]);
        let found = fill(
            Missing::Interpolate,
            &mut [1.0, GAP],
            1,
            &[(Split::Train, 0..1), (Split::Test, 1..2)],
        );
        assert_eq!(found, Err(Unfilled { channel: 0, row: 1 }));
    }

    #[test]
    fn dropping_breaks_the_stretch() {
        let values = [1.0, 2.0, GAP, 4.0, 5.0, GAP];
        assert_eq!(complete_stretches(&values, 1, &(0..6)), [0..2, 3..5]);
        assert_eq!(
            complete_stretches(&values, 1, &(2..3)),
            [] as [Range<usize>; 0]
        );
    }
}

//! Volume under the surface: areas under curves whose labels are widened by 0, 1, … `window` rows, averaged.
//! Instead of a pass over all rows per width and threshold, rows near events are counted once by distance and rank.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Case;
use super::soft_labels::{
    Areas, Curve, PrRule, Steps, by_stretch, default_window, visit_surroundings, weight,
};

/// Parameters of the volumes.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Volume {
    /// The widest extension of labels, in rows; half of it lies on either side of an event.
    #[serde(default = "default_window")]
    #[schemars(range(max = 5000))]
    pub window: usize,
    /// The number of thresholds, at equal steps of rank.
    #[serde(default = "default_thresholds")]
    #[schemars(range(min = 2, max = 10_000))]
    pub thresholds: usize,
}

fn default_thresholds() -> usize {
    250
}

impl Default for Volume {
    fn default() -> Self {
        Self {
            window: default_window(),
            thresholds: default_thresholds(),
        }
    }
}

/// Mean areas over all widths, or `None` without anomalies.
pub fn of(case: &Case, volume: &Volume) -> Option<Areas> {
    if case.events.is_empty() {
        return None;
    }
    let steps = Steps::new(case, volume.thresholds);
    let mut labels = WideningLabels::new(case, &steps, volume.window / 2);
    let mut ranges = WideningRanges::new(case, &steps);
    let (mut roc, mut pr) = (0.0, 0.0);
    for reach in 0..=volume.window / 2 {
        labels.widen(reach);
        ranges.widen(reach);
        let hit = steps.share_hit(ranges.earliest(reach));
        // Two widths reach as far: of an odd one, half a row is lost.
        for width in 2 * reach..=volume.window.min(2 * reach + 1) {
            let areas = areas(case, &steps, &labels.gains(width, reach), &hit);
            roc += areas.roc.unwrap_or(f64::NAN);
            pr += areas.pr;
        }
    }
    let widths = (volume.window + 1) as f64;
    Some(Areas {
        roc: roc.is_finite().then_some(roc / widths),
        pr: pr / widths,
    })
}

/// The areas at one width. `gains` is what each step adds to the labels of rows beside events; `hit` is the share of
/// widened events that hold an alarm.
fn areas(case: &Case, steps: &Steps, gains: &[f64], hit: &[f64]) -> Areas {
    let mut curve = Curve::new(PrRule::Far);
    let anomalous = case.positives() as f64;
    let mut soft = 0.0;
    for (step, gain) in gains.iter().enumerate() {
        soft += gain;
        // Rows beside events count as positive only as far as they have an alarm.
        let positives = anomalous + soft / 2.0;
        let hits = steps.hits[step] as f64 + soft;
        curve.push_counts(steps, step, hits, positives, hit[step]);
    }
    curve.areas()
}

/// Counts of rows beside events, by the step of their first alarm, as the reach of events grows.
struct WideningLabels {
    /// By distance to the nearest event: the steps of the rows.
    nearest: Vec<Vec<u16>>,
    /// By distance to the second nearest event: the steps of the rows and their distance to the nearest one.
    second: Vec<Vec<(u16, u16)>>,
    /// `[steps, reach + 1]`: rows in reach of one event, by their distance to it.
    fading: Vec<u32>,
    /// Per step: rows in reach of two events, whose labels are 1.
    full: Vec<u32>,
    reach: usize,
}

impl WideningLabels {
    fn new(case: &Case, steps: &Steps, reach: usize) -> Self {
        let mut nearest_rows = vec![Vec::new(); reach + 1];
        let mut second_rows = vec![Vec::new(); reach + 1];
        visit_surroundings(case, reach, |row, nearest, second| {
            nearest_rows[nearest].push(steps.first[row]);
            if second <= reach {
                second_rows[second].push((steps.first[row], nearest as u16));
            }
        });
        let fading = vec![0; steps.count() * (reach + 1)];
        Self {
            nearest: nearest_rows,
            second: second_rows,
            fading,
            full: vec![0; steps.count()],
            reach,
        }
    }

    /// Lets events reach one row further. Called with 0, 1, 2, … in turn.
    fn widen(&mut self, reach: usize) {
        let row_length = self.reach + 1;
        for step in &self.nearest[reach] {
            self.fading[usize::from(*step) * row_length + reach] += 1;
        }
        for (step, nearest) in &self.second[reach] {
            self.fading[usize::from(*step) * row_length + usize::from(*nearest)] -= 1;
            self.full[usize::from(*step)] += 1;
        }
    }

    /// The labels beside events that get their first alarm at each step, summed.
    fn gains(&self, width: usize, reach: usize) -> Vec<f64> {
        let weights: Vec<f64> = (0..=reach)
            .map(|distance| weight(distance, width.max(1)))
            .collect();
        let mut gains = Vec::with_capacity(self.full.len());
        let steps = self.fading.chunks_exact(self.reach + 1);
        for (counts, full) in steps.zip(&self.full) {
            let pairs = counts.iter().zip(&weights);
            let faded: f64 = pairs
                .map(|(count, weight)| f64::from(*count) * weight)
                .sum();
            gains.push(f64::from(*full) + faded);
        }
        gains
    }
}

/// The step of the first alarm in each event, as its reach grows.
struct WideningRanges<'a> {
    case: &'a Case,
    steps: &'a Steps,
    earliest: Vec<u16>,
}

impl<'a> WideningRanges<'a> {
    fn new(case: &'a Case, steps: &'a Steps) -> Self {
        let events = case.events.iter();
        Self {
            case,
            steps,
            earliest: events.map(|event| steps.earliest(event.clone())).collect(),
        }
    }

    /// Takes in the two rows at distance `reach`. Called with 0, 1, 2, … in turn.
    fn widen(&mut self, reach: usize) {
        let mut earliest = self.earliest.iter_mut();
        for (stretch, events) in by_stretch(self.case) {
            for (event, earliest) in events.iter().zip(&mut earliest) {
                if event.start >= stretch.start + reach {
                    *earliest = (*earliest).min(self.steps.first[event.start - reach]);
                }
                if event.end - 1 + reach < stretch.end {
                    *earliest = (*earliest).min(self.steps.first[event.end - 1 + reach]);
                }
            }
        }
    }

    /// The same for widened events, those that overlap taken as one.
    fn earliest(&self, reach: usize) -> Vec<u16> {
        let mut merged: Vec<u16> = Vec::new();
        let mut earliest = self.earliest.iter();
        for (_, events) in by_stretch(self.case) {
            for (index, (event, earliest)) in events.iter().zip(&mut earliest).enumerate() {
                let start = event.start.saturating_sub(reach);
                match merged.last_mut() {
                    Some(last) if index > 0 && events[index - 1].end - 1 + reach >= start => {
                        *last = (*last).min(*earliest);
                    }
                    _ => merged.push(*earliest),
                }
            }
        }
        merged
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use proptest::prelude::*;

    use super::*;

    /// The definition, width by width, threshold by threshold and row by row.
    fn by_definition(case: &Case, volume: &Volume) -> (f64, f64) {
        let mut falling = case.scores.clone();
        falling.sort_by(|left, right| right.total_cmp(left));
        let rows = case.rows();
        let (mut roc, mut pr) = (0.0, 0.0);
        for width in 0..=volume.window {
            let reach = width / 2;
            let labels = widened(case, width);
            let ranges = merged(case, reach);
            let mut curve = Curve::new(PrRule::Far);
            for step in 0..volume.thresholds {
                let share = step as f64 / (volume.thresholds - 1) as f64;
                let rank = if step + 1 == volume.thresholds {
                    rows - 1
                } else {
                    (share * (rows - 1) as f64) as usize
                };
                let alarm: Vec<bool> = case
                    .scores
                    .iter()
                    .map(|score| *score >= falling[rank])
                    .collect();
                let alarms = alarm.iter().filter(|alarm| **alarm).count() as f64;
                let hits: f64 = (0..rows)
                    .filter(|row| alarm[*row])
                    .map(|row| labels[row])
                    .sum();
                let seen: f64 = (0..rows)
                    .filter(|row| alarm[*row] || case.labels[*row])
                    .map(|row| labels[row])
                    .sum();
                let positives = (case.positives() as f64 + seen) / 2.0;
                let found = ranges
                    .iter()
                    .filter(|range| alarm[(*range).clone()].contains(&true))
                    .count();
                let recall = (hits / positives).min(1.0) * found as f64 / ranges.len() as f64;
                curve.push(
                    recall,
                    (alarms - hits) / (rows as f64 - positives),
                    hits / alarms,
                );
            }
            let areas = curve.areas();
            roc += areas.roc.unwrap_or(f64::NAN);
            pr += areas.pr;
        }
        (
            roc / (volume.window + 1) as f64,
            pr / (volume.window + 1) as f64,
        )
    }

    fn widened(case: &Case, width: usize) -> Vec<f64> {
        let mut labels: Vec<f64> = case
            .labels
            .iter()
            .map(|label| f64::from(u8::from(*label)))
            .collect();
        for (stretch, events) in by_stretch(case) {
            for (event, row) in events
                .iter()
                .flat_map(|event| stretch.clone().map(move |row| (event, row)))
            {
                let distance = if row < event.start {
                    event.start - row
                } else {
                    (row + 1).saturating_sub(event.end)
                };
                if distance > 0 && distance <= width / 2 {
                    labels[row] += weight(distance, width);
                }
            }
        }
        labels.into_iter().map(|label| label.min(1.0)).collect()
    }

    fn merged(case: &Case, reach: usize) -> Vec<Range<usize>> {
        let mut ranges: Vec<Range<usize>> = Vec::new();
        for (stretch, events) in by_stretch(case) {
            let first = ranges.len();
            for event in events {
                let range = event.start.saturating_sub(reach).max(stretch.start)
                    ..(event.end + reach).min(stretch.end);
                match ranges[first..].last_mut() {
                    Some(last) if range.start < last.end => last.end = range.end,
                    _ => ranges.push(range),
                }
            }
        }
        ranges
    }

    proptest! {
        #[test]
        fn counting_agrees_with_the_definition(
            rows in prop::collection::vec((0..20_u8, prop::bool::weighted(0.3)), 4..50),
            window in 0..14_usize,
            thresholds in 2..9_usize,
            cut in 0..50_usize,
        ) {
            let (scores, labels): (Vec<f64>, Vec<bool>) = rows.into_iter().map(|(s, l)| (f64::from(s), l)).unzip();
            let cut = cut.min(scores.len());
            let stretches = vec![0..cut, cut..scores.len()];
            let case = Case::new(scores, labels, stretches).unwrap();
            prop_assume!(case.positives() > 0 && case.positives() < case.rows());
            let volume = Volume { window, thresholds };
            let areas = of(&case, &volume).unwrap();
            let (roc, pr) = by_definition(&case, &volume);
            prop_assert!((areas.pr - pr).abs() < 1e-9, "pr {} {}", areas.pr, pr);
            prop_assert!(!roc.is_finite() || (areas.roc.unwrap() - roc).abs() < 1e-9, "roc {:?} {}", areas.roc, roc);
        }
    }
}

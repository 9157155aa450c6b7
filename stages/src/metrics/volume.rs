//! Volume under the surface: areas under curves whose labels are widened by 0, 1, … `window` rows, averaged.
//! Instead of a pass over all rows per width and threshold, rows near events are counted once by distance and rank.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Case;
use super::soft_labels::{
    Areas, Curve, PrRule, Steps, by_stretch, default_window, running, visit_surroundings, weight,
};

/// Parameters of the volumes.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Volume {
    /// The widest extension of labels, in rows; half of it lies on either side of an event.
    #[serde(default = "default_window")]
    pub window: usize,
    /// The number of thresholds, at equal steps of rank.
    #[serde(default = "default_thresholds")]
    pub thresholds: usize,
}

fn default_thresholds() -> usize {
    250
}

impl Default for Volume {
    fn default() -> Self {
        Self { window: default_window(), thresholds: default_thresholds() }
    }
}

impl Volume {
    /// # Errors
    /// If a parameter is out of range.
    pub fn check(&self) -> Result<(), String> {
        if self.window > 5000 {
            return Err(format!("window {} is above 5000", self.window));
        }
        if !(2..=10_000).contains(&self.thresholds) {
            return Err(format!("thresholds {} is not between 2 and 10,000", self.thresholds));
        }
        Ok(())
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
        for width in [2 * reach, 2 * reach + 1].into_iter().filter(|width| *width <= volume.window) {
            let areas = areas(case, &steps, &labels.gains(width, reach), &hit);
            roc += areas.roc.unwrap_or(f64::NAN);
            pr += areas.pr;
        }
    }
    let widths = (volume.window + 1) as f64;
    Some(Areas { roc: roc.is_finite().then_some(roc / widths), pr: pr / widths })
}

/// The areas at one width. `gains` is what each step adds to the labels of rows beside events; `hit` is the share of
/// widened events that hold an alarm.
fn areas(case: &Case, steps: &Steps, gains: &[f64], hit: &[f64]) -> Areas {
    let mut curve = Curve::new(PrRule::Far);
    for (step, soft) in running(gains).enumerate() {
        // Rows beside events count as positive only as far as they have an alarm.
        let positives = case.positives() as f64 + soft / 2.0;
        let hits = steps.hits[step] as f64 + soft;
        let alarms = steps.alarms[step] as f64;
        let normals = case.rows() as f64 - positives;
        curve.push((hits / positives).min(1.0) * hit[step], (alarms - hits) / normals, hits / alarms);
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
        Self { nearest: nearest_rows, second: second_rows, fading, full: vec![0; steps.count()], reach }
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
        let weights: Vec<f64> = (0..=reach).map(|distance| weight(distance, width.max(1))).collect();
        let faded =
            |counts: &[u32]| counts.iter().zip(&weights).map(|(count, weight)| f64::from(*count) * weight).sum::<f64>();
        let rows = self.fading.chunks_exact(self.reach + 1);
        rows.zip(&self.full).map(|(counts, full)| f64::from(*full) + faded(counts)).collect()
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
        let earliest = case.events.iter().map(|event| event.clone().map(|row| steps.first[row]).min());
        Self { case, steps, earliest: earliest.map(Option::unwrap_or_default).collect() }
    }

    /// Takes in the two rows at distance `reach`. Called with 0, 1, 2, … in turn.
    fn widen(&mut self, reach: usize) {
        let mut earliest = self.earliest.iter_mut();
        for (stretch, events) in by_stretch(self.case) {
            for (event, earliest) in events.iter().zip(&mut earliest) {
                let before = event.start.checked_sub(reach).filter(|row| *row >= stretch.start);
                let after = Some(event.end - 1 + reach).filter(|row| *row < stretch.end);
                for row in before.into_iter().chain(after) {
                    *earliest = (*earliest).min(self.steps.first[row]);
                }
            }
        }
    }

    /// The same for widened events, those that overlap taken as one.
    fn earliest(&self, reach: usize) -> Vec<u16> {
        let mut merged: Vec<u16> = Vec::new();
        let mut earliest = self.earliest.iter();
        for (_, events) in by_stretch(self.case) {
            let mut last_end = None;
            for (event, earliest) in events.iter().zip(&mut earliest) {
                let overlaps = last_end.is_some_and(|end: usize| end - 1 + reach >= event.start.saturating_sub(reach));
                match merged.last_mut().filter(|_| overlaps) {
                    Some(last) => *last = (*last).min(*earliest),
                    None => merged.push(*earliest),
                }
                last_end = Some(event.end);
            }
        }
        merged
    }
}

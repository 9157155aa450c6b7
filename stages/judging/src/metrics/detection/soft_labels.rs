//! Labels that fade out beside an event, and alarms at evenly spaced ranks: what range-AUC and VUS are made of
//! (Paparrizos et al., Volume Under the Surface, VLDB 2022).

use std::ops::Range;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Case;

/// Areas under the two curves. The ROC area is undefined without normal rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Areas {
    pub roc: Option<f64>,
    pub pr: f64,
}

/// Thresholds at equal steps of rank, as `linspace(0, rows - 1, count)` cut to integers picks them.
pub struct Steps {
    /// Rows whose score is at least the k-th threshold.
    pub alarms: Vec<usize>,
    /// Anomalous rows among them.
    pub hits: Vec<usize>,
    /// Per row, the first threshold at which it has an alarm.
    pub first: Vec<u16>,
}

impl Steps {
    /// `count` is at least 2 and the case has rows.
    pub fn new(case: &Case, count: usize) -> Self {
        let last = case.rows() - 1;
        let spacing = last as f64 / (count - 1) as f64;
        let mut steps = Self {
            alarms: Vec::new(),
            hits: Vec::new(),
            first: vec![u16::MAX; case.rows()],
        };
        let (mut done, mut hits) = (0, 0);
        for step in 0..count {
            let rank = if step + 1 == count {
                last
            } else {
                (step as f64 * spacing) as usize
            };
            let cut = case
                .ranking
                .cuts
                .partition_point(|cut| *cut as usize <= rank);
            let alarms = case.ranking.cuts[cut] as usize;
            for row in &case.ranking.rows[done..alarms.max(done)] {
                steps.first[*row as usize] = step as u16;
                hits += usize::from(case.labels[*row as usize]);
            }
            done = done.max(alarms);
            steps.alarms.push(alarms);
            steps.hits.push(hits);
        }
        steps
    }

    pub fn count(&self) -> usize {
        self.alarms.len()
    }

    /// The first step at which one of these rows, of which there is at least one, has an alarm.
    pub fn earliest(&self, rows: Range<usize>) -> u16 {
        self.first[rows].iter().min().copied().unwrap_or_default()
    }

    /// The share of ranges that hold an alarm, per step; `earliest` is the first step at which each does.
    pub fn share_hit(&self, earliest: impl IntoIterator<Item = u16>) -> Vec<f64> {
        let mut new = vec![0_usize; self.count()];
        let mut ranges = 0_usize;
        for step in earliest {
            new[usize::from(step)] += 1;
            ranges += 1;
        }
        let mut hit = 0;
        let mut shares = Vec::with_capacity(new.len());
        for new in new {
            hit += new;
            shares.push(hit as f64 / ranges as f64);
        }
        shares
    }
}

/// Calls `visit(row, nearest, second)` for all normal rows at most `reach` rows from an event of their stretch, with the
/// distances to the nearest and the second nearest event (`usize::MAX` if there is none).
///
/// Any two events in reach add up to a label above 1, which is cut to 1; so two distances say all there is to know.
pub fn visit_surroundings(case: &Case, reach: usize, mut visit: impl FnMut(usize, usize, usize)) {
    for (stretch, events) in by_stretch(case) {
        for gap in 0..=events.len() {
            let rows = match gap {
                0 => stretch.start..events[0].start,
                _ => events[gap - 1].end..events.get(gap).map_or(stretch.end, |event| event.start),
            };
            // Only the rows near the events on either side of the gap are looked at.
            let after_left = match gap {
                0 => rows.start,
                _ => rows.end.min(rows.start + reach),
            };
            let before_right = if gap == events.len() {
                rows.end
            } else {
                after_left.max(rows.end.saturating_sub(reach))
            };
            let left_events = &events[gap.saturating_sub(2)..gap];
            let right_events = &events[gap..events.len().min(gap + 2)];
            for row in (rows.start..after_left).chain(before_right..rows.end) {
                let left = left_events.iter().map(|event| row + 1 - event.end);
                let right = right_events.iter().map(|event| event.start - row);
                let (mut nearest, mut second) = (usize::MAX, usize::MAX);
                for distance in left.chain(right) {
                    second = second.min(distance.max(nearest));
                    nearest = nearest.min(distance);
                }
                if nearest <= reach {
                    visit(row, nearest, second);
                }
            }
        }
    }
}

/// The stretches that hold events, with these.
pub fn by_stretch(case: &Case) -> impl Iterator<Item = (Range<usize>, &[Range<usize>])> {
    case.stretches.iter().filter_map(|stretch| {
        let before = |row: usize| case.events.partition_point(|event| event.start < row);
        let (first, last) = (before(stretch.start), before(stretch.end));
        (first < last).then(|| (stretch.clone(), &case.events[first..last]))
    })
}

/// The weight of a normal row `distance` rows from an event.
pub fn weight(distance: usize, window: usize) -> f64 {
    (1.0 - distance as f64 / window as f64).sqrt()
}

/// Parameters of range-AUC.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Widened {
    /// Labels fade out over half this many rows on both sides of an event.
    #[serde(default = "default_window")]
    #[schemars(range(max = 1_000_000))]
    pub window: usize,
}

pub fn default_window() -> usize {
    100
}

impl Default for Widened {
    fn default() -> Self {
        Self {
            window: default_window(),
        }
    }
}

/// The number of thresholds that the published programs use.
const STEPS: usize = 250;

impl Widened {
    /// Areas under the curves at this window, or `None` without anomalies.
    pub fn curve(&self, case: &Case) -> Option<Areas> {
        if case.events.is_empty() {
            return None;
        }
        let reach = self.window / 2;
        let steps = Steps::new(case, STEPS);
        let mut soft = vec![0.0; STEPS];
        visit_surroundings(case, reach, |row, nearest, second| {
            let label = if second <= reach {
                1.0
            } else {
                weight(nearest, self.window)
            };
            soft[usize::from(steps.first[row])] += label;
        });
        let positives = case.positives() as f64 + soft.iter().sum::<f64>() / 2.0;
        let earliest = runs(case, reach).into_iter().map(|run| steps.earliest(run));
        let hit = steps.share_hit(earliest);
        let mut curve = Curve::new(PrRule::Mean);
        let mut reached = 0.0;
        for (step, soft) in soft.into_iter().enumerate() {
            reached += soft;
            let hits = steps.hits[step] as f64 + reached;
            curve.push_counts(&steps, step, hits, positives, hit[step]);
        }
        Some(curve.areas())
    }
}

/// Rows with a label above 0, as runs.
fn runs(case: &Case, reach: usize) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for (stretch, events) in by_stretch(case) {
        let earlier = runs.len();
        for event in events {
            let start = event.start.saturating_sub(reach).max(stretch.start);
            let end = (event.end + reach).min(stretch.end);
            match runs[earlier..].last_mut() {
                Some(last) if start <= last.end => last.end = end,
                _ => runs.push(start..end),
            }
        }
    }
    runs
}

/// How a step of recall is weighted with precision.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum PrRule {
    /// The mean of the precisions at both ends (VUS repository, range-AUC).
    Mean,
    /// The precision at the far end (TSB-AD).
    Far,
}

/// Sums up both areas while the threshold falls.
pub struct Curve {
    rule: PrRule,
    recall: f64,
    false_alarms: f64,
    precision: f64,
    roc: f64,
    pr: f64,
}

impl Curve {
    pub fn new(rule: PrRule) -> Self {
        Self {
            rule,
            recall: 0.0,
            false_alarms: 0.0,
            precision: 1.0,
            roc: 0.0,
            pr: 0.0,
        }
    }

    pub fn push(&mut self, recall: f64, false_alarms: f64, precision: f64) {
        self.roc += (false_alarms - self.false_alarms) * (recall + self.recall) / 2.0;
        let height = if self.rule == PrRule::Mean {
            (precision + self.precision) / 2.0
        } else {
            precision
        };
        self.pr += (recall - self.recall) * height;
        (self.recall, self.false_alarms, self.precision) = (recall, false_alarms, precision);
    }

    /// The point of a step with so many hits; `found` is the share of ranges that hold an alarm.
    pub fn push_counts(
        &mut self,
        steps: &Steps,
        step: usize,
        hits: f64,
        positives: f64,
        found: f64,
    ) {
        let alarms = steps.alarms[step] as f64;
        let normals = steps.first.len() as f64 - positives;
        let recall = (hits / positives).min(1.0) * found;
        self.push(recall, (alarms - hits) / normals, hits / alarms);
    }

    /// Closes the ROC curve at (1, 1).
    pub fn areas(mut self) -> Areas {
        self.roc += (1.0 - self.false_alarms) * (1.0 + self.recall) / 2.0;
        Areas {
            roc: self.roc.is_finite().then_some(self.roc),
            pr: self.pr,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Labels widened row by row, as the definition says.
    fn widened(case: &Case, window: usize) -> Vec<f64> {
        let mut labels: Vec<f64> = case
            .labels
            .iter()
            .map(|label| f64::from(u8::from(*label)))
            .collect();
        for (stretch, events) in by_stretch(case) {
            for event in events {
                for distance in 1..=window / 2 {
                    if event.end - 1 + distance < stretch.end {
                        labels[event.end - 1 + distance] += weight(distance, window);
                    }
                    if event.start >= stretch.start + distance {
                        labels[event.start - distance] += weight(distance, window);
                    }
                }
            }
        }
        labels.into_iter().map(|label| label.min(1.0)).collect()
    }

    proptest! {
        #[test]
        fn two_distances_say_all(labels in prop::collection::vec(any::<bool>(), 1..60), window in 0..20_usize, cut in 0..60_usize) {
            let rows = labels.len();
            let cut = cut.min(rows);
            let case = Case::new(vec![0.0; rows], labels, vec![0..cut, cut..rows]).unwrap();
            let mut found: Vec<f64> = case.labels.iter().map(|label| f64::from(u8::from(*label))).collect();
            visit_surroundings(&case, window / 2, |row, nearest, second| {
                assert!(found[row] == 0.0, "row {row} twice");
                found[row] = if second <= window / 2 { 1.0 } else { weight(nearest, window) };
            });
            for (row, (found, wanted)) in found.iter().zip(widened(&case, window)).enumerate() {
                prop_assert!((found - wanted).abs() < 1e-12, "row {} {} {}", row, found, wanted);
            }
        }
    }
}

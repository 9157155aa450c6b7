//! Affiliation (Huet, Navarro and Rossi, Local Evaluation of Time Series Anomaly Detection Algorithms, KDD 2022):
//! distances between events and alarms, as the probability that a uniformly random alarm in the zone is at least as far away.

use std::ops::Range;

use super::Case;
use super::counts::mean;
use super::soft_labels::by_stretch;

/// Means over events; undefined where the mean is over none.
pub struct Affiliation {
    pub precision: Option<f64>,
    pub recall: Option<f64>,
}

/// A stretch of continuous time.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Interval {
    start: f64,
    end: f64,
}

impl Interval {
    fn of(rows: &Range<usize>) -> Self {
        Self {
            start: rows.start as f64,
            end: rows.end as f64,
        }
    }

    fn length(self) -> f64 {
        self.end - self.start
    }

    /// The part inside another interval, unless it is empty.
    fn within(self, other: Self) -> Option<Self> {
        let cut = Self {
            start: self.start.max(other.start),
            end: self.end.min(other.end),
        };
        (cut.start < cut.end).then_some(cut)
    }

    fn distance(self, time: f64) -> f64 {
        (self.start - time).max(time - self.end).max(0.0)
    }
}

/// Judges the alarms of a case. A stretch without events has no zones: its alarms count nowhere.
pub fn judge(case: &Case) -> Affiliation {
    let events = by_event(case);
    let precisions: Vec<f64> = events.iter().filter_map(|(one, _)| *one).collect();
    let recalls: Vec<f64> = events.iter().map(|(_, one)| *one).collect();
    Affiliation {
        precision: mean(&precisions),
        recall: mean(&recalls),
    }
}

/// Precision and recall of each event; there is no precision where its zone holds no alarm.
pub fn by_event(case: &Case) -> Vec<(Option<f64>, f64)> {
    let alarms: Vec<Interval> = case.alarm_events().iter().map(Interval::of).collect();
    let mut judged = Vec::new();
    for (event, zone) in zones(case) {
        let first = alarms.partition_point(|alarm| alarm.end <= zone.start);
        let last = alarms.partition_point(|alarm| alarm.start < zone.end);
        let inside = alarms[first..last].iter();
        let inside: Vec<Interval> = inside.filter_map(|alarm| alarm.within(zone)).collect();
        let precision = precision(&inside, event, zone);
        judged.push((precision, recall(&inside, event, zone)));
    }
    judged
}

/// Each event with its zone: the times of its stretch that are nearer to it than to other events.
fn zones(case: &Case) -> Vec<(Interval, Interval)> {
    let mut zones = Vec::with_capacity(case.events.len());
    for (stretch, events) in by_stretch(case) {
        let mut start = stretch.start as f64;
        for (index, event) in events.iter().enumerate() {
            let end = match events.get(index + 1) {
                Some(next) => (event.end + next.start) as f64 / 2.0,
                None => stretch.end as f64,
            };
            zones.push((Interval::of(event), Interval { start, end }));
            start = end;
        }
    }
    zones
}

/// The mean, over the times of the alarms, of the probability that a random time in the zone is at least as far from
/// the event; `None` without alarms.
fn precision(alarms: &[Interval], event: Interval, zone: Interval) -> Option<f64> {
    let total: f64 = alarms.iter().map(|alarm| alarm.length()).sum();
    let (left, right) = (event.start - zone.start, zone.end - event.end);
    // Beside the event, a share `(length + 2 min(d, margin) …) / zone` of the zone is closer than d.
    let survival = |distance: f64| {
        1.0 - (event.length() + distance.min(left) + distance.min(right)) / zone.length()
    };
    let mut sum = 0.0;
    for alarm in alarms {
        sum += alarm.within(event).map_or(0.0, Interval::length);
        for (start, end) in [(zone.start, event.start), (event.end, zone.end)] {
            let Some(part) = alarm.within(Interval { start, end }) else {
                continue;
            };
            // The survival function bends where the shorter margin ends.
            let ends = [event.distance(part.start), event.distance(part.end)];
            let (near, far) = (ends[0].min(ends[1]), ends[0].max(ends[1]));
            let bend = left.min(right).clamp(near, far);
            sum += integral_of_linear_pieces(&[near, bend, far], survival);
        }
    }
    (total > 0.0).then(|| sum / total)
}

/// The mean, over the times of the event, of the probability that a random time in the zone is at least as far away
/// as the nearest alarm; 0 without alarms.
fn recall(alarms: &[Interval], event: Interval, zone: Interval) -> f64 {
    if alarms.is_empty() {
        return 0.0;
    }
    let mut sum = 0.0;
    for (index, alarm) in alarms.iter().enumerate() {
        // The times of the event that are nearest to this alarm.
        let start = match index {
            0 => f64::NEG_INFINITY,
            _ => (alarms[index - 1].end + alarm.start) / 2.0,
        };
        let end = match alarms.get(index + 1) {
            Some(next) => (alarm.end + next.start) / 2.0,
            None => f64::INFINITY,
        };
        let Some(part) = event.within(Interval { start, end }) else {
            continue;
        };
        let survival = |time: f64| {
            let distance = alarm.distance(time);
            if distance == 0.0 {
                return 1.0;
            }
            1.0 - (distance.min(time - zone.start) + distance.min(zone.end - time)) / zone.length()
        };
        // It bends where the alarm begins and ends, and where the distance equals that to an end of the zone.
        let bends = [
            alarm.start,
            alarm.end,
            (zone.start + alarm.start) / 2.0,
            (zone.end + alarm.end) / 2.0,
        ];
        let mut times = vec![part.start, part.end];
        times.extend(bends);
        times.retain(|time| (part.start..=part.end).contains(time));
        times.sort_by(f64::total_cmp);
        sum += integral_of_linear_pieces(&times, survival);
    }
    sum / event.length()
}

/// The integral of a function that is linear between neighbours of `points`.
fn integral_of_linear_pieces(points: &[f64], function: impl Fn(f64) -> f64) -> f64 {
    points
        .windows(2)
        .map(|pair| (pair[1] - pair[0]) * (function(pair[0]) + function(pair[1])) / 2.0)
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_definition_by_sampling() {
        let zone = Interval {
            start: 0.0,
            end: 100.0,
        };
        let event = Interval {
            start: 30.0,
            end: 45.0,
        };
        let alarms = [
            Interval {
                start: 10.0,
                end: 12.0,
            },
            Interval {
                start: 40.0,
                end: 70.0,
            },
        ];
        let times = |interval: Interval| {
            let count = 1000;
            (0..count).map(move |i| {
                interval.start + interval.length() * (f64::from(i) + 0.5) / f64::from(count)
            })
        };
        let all: Vec<f64> = times(zone).collect();
        let share = |far: &dyn Fn(f64) -> bool| {
            all.iter().filter(|time| far(**time)).count() as f64 / all.len() as f64
        };
        let mut expected = 0.0;
        for alarm in alarms {
            for time in times(alarm) {
                let distance = event.distance(time);
                let weight = alarm.length() / 32.0 / 1000.0;
                expected += weight * share(&|other| event.distance(other) >= distance);
            }
        }
        assert!((precision(&alarms, event, zone).unwrap() - expected).abs() < 2e-3);
        let mut expected = 0.0;
        for time in times(event) {
            let distance = alarms
                .iter()
                .map(|alarm| alarm.distance(time))
                .fold(f64::INFINITY, f64::min);
            expected += share(&|other: f64| (other - time).abs() >= distance) / 1000.0;
        }
        assert!((recall(&alarms, event, zone) - expected).abs() < 2e-3);
        assert_eq!(precision(&[], event, zone), None);
    }
}

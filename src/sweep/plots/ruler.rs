//! The scale of an axis of a plot: where its values stand, and which marks are beside it.

use std::collections::BTreeSet;

use plot::{linear, logarithmic, rounded};
use serde_json::Value;

use crate::sweep::leaderboard::{Row, shown};
use crate::sweep::space::Domain;

/// Numbers of so many values are drawn by their order, more by their size.
const BY_ORDER: usize = 8;

/// Values of one axis from bottom to top.
pub(super) struct Ruler {
    pub name: String,
    /// Texts with their height between 0 and 1.
    pub marks: Vec<(f32, String)>,
    /// Height of each row's value; `None` where the row has none.
    pub heights: Vec<Option<f32>>,
}

/// The scale that the sweep file declares: ranges by their bounds, few values by their order, many numbers by their size.
/// Where it declares none, the values that occur stand for it.
pub(super) fn axis_ruler(axis: &str, domain: Option<&Domain>, rows: &[&Row]) -> Ruler {
    let values: Vec<Option<&Value>> = rows.iter().map(|row| row.point.get(axis)).collect();
    let numbers: Vec<Option<f64>> = values.iter().map(|value| (*value)?.as_f64()).collect();
    let mut all = match domain {
        Some(Domain::Range {
            low,
            high,
            log,
            whole,
            ..
        }) => {
            let ruler = number_ruler(axis, &numbers, Some((*low, *high)), *log);
            return if *whole { ruler.whole() } else { ruler };
        }
        Some(Domain::Values(declared)) => distinct(declared.iter()),
        _ => sorted(distinct(values.iter().copied().flatten())),
    };
    let sizes: Vec<Option<f64>> = all.iter().map(|value| value.as_f64()).collect();
    if all.len() > BY_ORDER && sizes.iter().all(Option::is_some) {
        let bounds = span(&sizes);
        let is_wide = bounds.is_some_and(|(low, high)| low > 0.0 && high / low > 100.0);
        return number_ruler(axis, &numbers, bounds, is_wide);
    }
    if sizes.iter().all(Option::is_some) {
        all = sorted(all);
    }
    let mut marks = Vec::with_capacity(all.len());
    for (index, value) in all.iter().enumerate() {
        let height = match all.len() {
            1 => 0.5,
            count => index as f32 / (count - 1) as f32,
        };
        marks.push((height, shown(value)));
    }
    let mut heights = Vec::with_capacity(values.len());
    for value in values {
        let text = value.map(shown);
        let mark = marks.iter().find(|(_, other)| Some(other) == text.as_ref());
        heights.push(mark.map(|(height, _)| *height));
    }
    Ruler {
        name: axis.to_owned(),
        marks,
        heights,
    }
}

impl Ruler {
    /// Without marks beside what is not a whole number.
    fn whole(mut self) -> Self {
        let mut marks = Vec::with_capacity(self.marks.len());
        for (share, text) in self.marks {
            match text.parse::<f64>() {
                Ok(value) if value.fract() != 0.0 => {}
                Ok(value) if value.abs() < 1e6 => marks.push((share, format!("{value:.0}"))),
                _ => marks.push((share, text)),
            }
        }
        self.marks = marks;
        self
    }
}

/// Each value once, in the order of its first appearance.
fn distinct<'a>(values: impl Iterator<Item = &'a Value>) -> Vec<&'a Value> {
    let mut seen = BTreeSet::new();
    values.filter(|value| seen.insert(shown(value))).collect()
}

/// Numbers by their size, before everything else by its text.
fn sorted(mut values: Vec<&Value>) -> Vec<&Value> {
    let size = |value: &Value| value.as_f64().unwrap_or(f64::INFINITY);
    values.sort_by(|left, right| {
        size(left)
            .total_cmp(&size(right))
            .then_with(|| shown(left).cmp(&shown(right)))
    });
    values
}

/// The least and the greatest of these values, if there is any.
pub(super) fn span(values: &[Option<f64>]) -> Option<(f64, f64)> {
    let mut bounds: Option<(f64, f64)> = None;
    for value in values.iter().flatten().filter(|value| value.is_finite()) {
        let (low, high) = bounds.unwrap_or((*value, *value));
        bounds = Some((low.min(*value), high.max(*value)));
    }
    bounds
}

/// Where numbers lie between two bounds.
struct Scale {
    low: f64,
    high: f64,
    /// Even in the logarithm.
    log: bool,
}

impl Scale {
    fn position(&self, value: f64) -> f64 {
        if self.log { value.ln() } else { value }
    }

    fn width(&self) -> f64 {
        self.position(self.high) - self.position(self.low)
    }

    /// The height of a value between 0 and 1; the middle where there is only one.
    fn share(&self, value: f64) -> f32 {
        let width = self.width();
        if width > 0.0 {
            ((self.position(value) - self.position(self.low)) / width).clamp(0.0, 1.0) as f32
        } else {
            0.5
        }
    }

    /// Round numbers, or the bounds where there are no two of them.
    fn marks(&self) -> Vec<(f32, String)> {
        if self.width() <= 0.0 {
            return vec![(0.5, rounded(self.low))];
        }
        let ticks = if self.log {
            logarithmic(self.low, self.high, 8)
        } else {
            linear(self.low, self.high, 6)
        };
        if ticks.len() < 2 {
            return vec![(0.0, rounded(self.low)), (1.0, rounded(self.high))];
        }
        let marks = ticks.into_iter();
        marks.map(|tick| (self.share(tick.at), tick.text)).collect()
    }
}

/// A scale of numbers between two bounds, with round numbers for marks.
pub(super) fn number_ruler(
    name: &str,
    values: &[Option<f64>],
    bounds: Option<(f64, f64)>,
    log: bool,
) -> Ruler {
    let (low, high) = bounds.unwrap_or((0.0, 0.0));
    let scale = Scale { low, high, log };
    let mut heights = Vec::with_capacity(values.len());
    for value in values {
        let finite = value.filter(|value| value.is_finite());
        heights.push(finite.map(|value| scale.share(value)));
    }
    Ruler {
        name: name.to_owned(),
        marks: bounds.map_or_else(Vec::new, |_| scale.marks()),
        heights,
    }
}

//! Which axes matter: the share of the objective's variance that the value of one axis explains by itself (the
//! correlation ratio, Pearson 1905). It sees no interplay of axes, and with few trials it flatters axes of many values:
//! the number of trials and of groups stands beside it.

use super::leaderboard::{Row, shown};

/// Groups into which the numbers of an axis are put, at most.
const GROUPS: usize = 5;

/// How much one axis matters.
#[derive(Clone, Debug, PartialEq)]
pub struct Influence {
    pub axis: String,
    /// Between 0 and 1.
    pub share: f64,
    /// Trials that have a figure and this axis.
    pub trials: usize,
    pub groups: usize,
}

/// The influence of each axis, the strongest first. Axes of which nothing can be said are left out. Rows come best first:
/// where they ended at different levels, their places stand for figures, which cannot be compared.
pub fn influence(axes: &[String], rows: &[Row]) -> Vec<Influence> {
    let known: Vec<&Row> = rows.iter().filter(|row| row.mean.is_some()).collect();
    let is_mixed = known.windows(2).any(|pair| pair[0].level != pair[1].level);
    let figure = |(place, row): (usize, &&Row)| {
        if is_mixed {
            place as f64
        } else {
            row.mean.unwrap_or_default()
        }
    };
    let figures: Vec<f64> = known.iter().enumerate().map(figure).collect();
    let mut found: Vec<Influence> = axes
        .iter()
        .filter_map(|axis| of_axis(axis, &known, &figures))
        .collect();
    found.sort_by(|left, right| right.share.total_cmp(&left.share));
    found
}

fn of_axis(axis: &str, rows: &[&Row], figures: &[f64]) -> Option<Influence> {
    let known: Vec<(&serde_json::Value, f64)> = rows
        .iter()
        .zip(figures)
        .filter_map(|(row, figure)| Some((row.point.get(axis)?, *figure)))
        .collect();
    let groups = grouped(&known);
    if groups.len() < 2 || known.len() <= groups.len() {
        return None;
    }
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let all: Vec<f64> = known.iter().map(|(_, figure)| *figure).collect();
    let centre = mean(&all);
    let total: f64 = all.iter().map(|value| (value - centre).powi(2)).sum();
    let between: f64 = groups
        .iter()
        .map(|group| group.len() as f64 * (mean(group) - centre).powi(2))
        .sum();
    let share = if total > 0.0 {
        (between / total).clamp(0.0, 1.0)
    } else {
        0.0
    };
    Some(Influence {
        axis: axis.to_owned(),
        share,
        trials: known.len(),
        groups: groups.len(),
    })
}

/// The figures by the value of the axis; numbers of many values in groups of about one size.
fn grouped(known: &[(&serde_json::Value, f64)]) -> Vec<Vec<f64>> {
    let mut by_value: Vec<(String, Vec<f64>)> = Vec::new();
    for (value, figure) in known {
        let name = shown(value);
        match by_value.iter_mut().find(|(other, _)| *other == name) {
            Some((_, figures)) => figures.push(*figure),
            None => by_value.push((name, vec![*figure])),
        }
    }
    let numbers: Option<Vec<f64>> = known.iter().map(|(value, _)| value.as_f64()).collect();
    let Some(numbers) = numbers.filter(|_| by_value.len() > GROUPS) else {
        return by_value.into_iter().map(|(_, figures)| figures).collect();
    };
    let mut sorted: Vec<(f64, f64)> = numbers
        .into_iter()
        .zip(known.iter().map(|(_, figure)| *figure))
        .collect();
    sorted.sort_by(|left, right| left.0.total_cmp(&right.0));
    let size = sorted.len().div_ceil(GROUPS);
    let mut groups: Vec<Vec<f64>> = Vec::new();
    let mut last = f64::NAN;
    for (number, figure) in sorted {
        match groups.last_mut() {
            // Equal numbers are never put apart.
            Some(group) if group.len() < size || number == last => group.push(figure),
            _ => groups.push(vec![figure]),
        }
        last = number;
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sweep::leaderboard::Standing;
    use serde_json::json;

    #[test]
    fn the_axis_that_decides_stands_first() {
        let rows: Vec<Row> = (0..24)
            .map(|trial| Row {
                trial,
                point: [
                    ("a".to_owned(), json!(trial as f64 / 7.0)),
                    ("b".to_owned(), json!(trial % 2)),
                ]
                .into_iter()
                .collect(),
                standing: Standing::Done,
                level: None,
                values: Vec::new(),
                seeds: Vec::new(),
                mean: Some(trial as f64),
                deviation: None,
                seconds: 0.0,
                finished: None,
            })
            .collect();
        let found = influence(&["b".to_owned(), "a".to_owned(), "c".to_owned()], &rows);
        assert_eq!(
            found
                .iter()
                .map(|one| one.axis.as_str())
                .collect::<Vec<_>>(),
            ["a", "b"]
        );
        assert!(found[0].share > 0.9 && found[1].share < 0.05, "{found:?}");
        assert_eq!((found[0].groups, found[1].groups), (5, 2));
    }
}

//! Which axes matter: the share of the objective's variance that the value of one axis explains alone (the
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
    /// Trials that have a value and this axis.
    pub trials: usize,
    pub groups: usize,
}

/// The influence of each axis, the strongest first. Axes of which nothing can be said are left out. Rows come best first:
/// where they ended at different levels, their values cannot be compared, and their places count instead.
pub fn influence(axes: &[String], rows: &[Row]) -> Vec<Influence> {
    let known: Vec<&Row> = rows.iter().filter(|row| row.mean.is_some()).collect();
    let is_mixed = known.windows(2).any(|pair| pair[0].level != pair[1].level);
    let mut values = Vec::with_capacity(known.len());
    for (place, row) in known.iter().enumerate() {
        values.push(if is_mixed {
            place as f64
        } else {
            row.mean.unwrap_or_default()
        });
    }
    let influences = axes
        .iter()
        .filter_map(|axis| of_axis(axis, &known, &values));
    let mut found: Vec<Influence> = influences.collect();
    found.sort_by(|left, right| right.share.total_cmp(&left.share));
    found
}

fn of_axis(axis: &str, rows: &[&Row], values: &[f64]) -> Option<Influence> {
    let mut known = Vec::new();
    for (row, value) in rows.iter().zip(values) {
        if let Some(setting) = row.point.get(axis) {
            known.push((setting, *value));
        }
    }
    let groups = grouped(&known);
    if groups.len() < 2 || known.len() <= groups.len() {
        return None;
    }
    let all: Vec<f64> = known.iter().map(|(_, value)| *value).collect();
    let centre = mean(&all);
    let total: f64 = all.iter().map(|value| (value - centre).powi(2)).sum();
    // The squares between groups, each as often as the group has members.
    let weighted = |group: &Vec<f64>| group.len() as f64 * (mean(group) - centre).powi(2);
    let between: f64 = groups.iter().map(weighted).sum();
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

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The objective's values by the setting of the axis; many different numbers in groups of about one size.
fn grouped(known: &[(&serde_json::Value, f64)]) -> Vec<Vec<f64>> {
    let mut by_value: Vec<(String, Vec<f64>)> = Vec::new();
    let mut numbers = Vec::with_capacity(known.len());
    for (setting, value) in known {
        let name = shown(setting);
        match by_value.iter_mut().find(|(other, _)| *other == name) {
            Some((_, group)) => group.push(*value),
            None => by_value.push((name, vec![*value])),
        }
        numbers.extend(setting.as_f64().map(|number| (number, *value)));
    }
    if by_value.len() <= GROUPS || numbers.len() < known.len() {
        return by_value.into_iter().map(|(_, group)| group).collect();
    }
    let mut sorted = numbers;
    sorted.sort_by(|left, right| left.0.total_cmp(&right.0));
    let size = sorted.len().div_ceil(GROUPS);
    let mut groups: Vec<Vec<f64>> = Vec::new();
    let mut last = f64::NAN;
    for (number, value) in sorted {
        match groups.last_mut() {
            // Equal numbers are never put apart.
            Some(group) if group.len() < size || number == last => group.push(value),
            _ => groups.push(vec![value]),
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

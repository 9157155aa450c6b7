//! Detectors side by side over several series: means with their deviations and counts, and a critical-difference diagram.

use std::collections::{BTreeMap, BTreeSet};

use contract::artifact::{Direction, Metric};
use indexmap::IndexMap;
use serde_json::Value;

use crate::report::History;

/// Metrics by which to rank, where no `collect` says one.
const USUAL: [&str; 6] = [
    "vus_pr",
    "average_precision",
    "f1",
    "mse",
    "accuracy",
    "mae",
];

/// Axes that name what is compared, where no `collect` says one.
const COMPARED: [&str; 4] = ["detector", "model", "method", "forecaster"];

/// Results of one stage of the pipeline over the values of its axes.
pub struct Ranking {
    /// The stage of the pipeline.
    pub stage: String,
    /// The axis whose values are compared.
    pub axis: String,
    /// The metric by which they are ranked.
    pub metric: String,
    pub direction: Direction,
    /// Names of all metrics, in their order.
    pub metrics: Vec<String>,
    /// The best first.
    pub rows: Vec<Row>,
    /// What is compared on: the values of the other axes.
    pub series: Vec<String>,
    /// For those with a value on every series.
    pub difference: Option<CriticalDifference>,
}

/// One value of the axis.
pub struct Row {
    pub name: String,
    /// By metric.
    pub means: IndexMap<String, Mean>,
    /// The metric of the ranking on each series.
    pub values: Vec<Option<f64>>,
}

/// A mean with what it stands on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mean {
    pub mean: f64,
    /// Sample deviation; `None` for a single value.
    pub deviation: Option<f64>,
    /// Values in the mean.
    pub count: usize,
    /// Values that there would be if none were undefined or missing.
    pub of: usize,
}

/// Mean ranks, and how far they must lie apart to differ at the level of 5 % by Nemenyi's test (Demsar 2006, section 3.2.2).
pub struct CriticalDifference {
    /// Mean rank and name, the best first.
    pub ranks: Vec<(f64, String)>,
    pub difference: f64,
    /// Series they stand on.
    pub series: usize,
}

/// Quantiles at 5 % of the studentised range for 2, 3, … 20 groups, divided by the square root of 2 (Demsar 2006, table 5,
/// which ends at 10).
const NEMENYI: [f64; 19] = [
    1.960, 2.344, 2.569, 2.728, 2.850, 2.948, 3.031, 3.102, 3.164, 3.219, 3.268, 3.313, 3.354,
    3.391, 3.426, 3.458, 3.489, 3.517, 3.544,
];

/// A result: where it stands on the axes, and its metrics.
struct Result<'a> {
    axes: &'a IndexMap<String, Value>,
    metrics: &'a [Metric],
}

/// The rankings of a run, one for each stage whose instances differ on an axis that is compared.
pub fn rankings(history: &History<'_>) -> Vec<Ranking> {
    let record = history.record;
    let mut families: IndexMap<&str, Vec<Result<'_>>> = IndexMap::new();
    for (stage, metrics) in &record.metrics {
        if let Some(instance) = record.instances.get(stage) {
            families.entry(&instance.stage).or_default().push(Result {
                axes: &instance.axes,
                metrics,
            });
        }
    }
    let (by, rank) = collected(history);
    let mut rankings = Vec::new();
    for (stage, results) in families {
        let varied = varied(&results);
        let wanted = by.iter().map(String::as_str).chain(COMPARED);
        let Some(axis) = wanted.into_iter().find(|axis| varied.contains(axis)) else {
            continue;
        };
        rankings.extend(ranking(stage, axis, &varied, &results, rank.as_deref()));
    }
    rankings
}

/// By which axes and which metric the pipeline's `collect` orders.
fn collected(history: &History<'_>) -> (Vec<String>, Option<String>) {
    let (mut by, mut rank) = (Vec::new(), None);
    for stage in &history.stages {
        let parameters = &stage.recorded.parameters;
        if stage.recorded.kind != "collect" {
            continue;
        }
        let axes = parameters.get("by").and_then(Value::as_array);
        for axis in axes.into_iter().flatten().filter_map(Value::as_str) {
            by.push(axis.to_owned());
        }
        let metric = parameters.get("rank").and_then(Value::as_str);
        rank = rank.or(metric.map(str::to_owned));
    }
    (by, rank)
}

/// The axes with more than one value.
fn varied<'a>(results: &[Result<'a>]) -> Vec<&'a str> {
    let mut values: IndexMap<&str, BTreeSet<String>> = IndexMap::new();
    for result in results {
        for (axis, value) in result.axes {
            values.entry(axis).or_default().insert(shown(value));
        }
    }
    values.retain(|_, values| values.len() > 1);
    values.into_keys().collect()
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn ranking(
    stage: &str,
    axis: &str,
    varied: &[&str],
    results: &[Result<'_>],
    rank: Option<&str>,
) -> Option<Ranking> {
    let mut metrics: IndexMap<&str, Direction> = IndexMap::new();
    for metric in results.iter().flat_map(|result| result.metrics) {
        metrics.entry(&metric.name).or_insert(metric.direction);
    }
    let wanted = rank.into_iter().chain(USUAL);
    let metric = wanted.into_iter().find(|name| metrics.contains_key(name))?;
    let direction = metrics[metric];
    let varied = independent(axis, varied, results);
    let mut series: Vec<String> = Vec::new();
    let mut cells: IndexMap<String, Vec<(usize, &Result<'_>)>> = IndexMap::new();
    for result in results {
        let Some(value) = result.axes.get(axis) else {
            continue;
        };
        let place = place_of(result, &varied);
        let known = series.iter().position(|other| *other == place);
        let number = known.unwrap_or_else(|| {
            series.push(place);
            series.len() - 1
        });
        cells
            .entry(shown(value))
            .or_default()
            .push((number, result));
    }
    let mut rows = Vec::with_capacity(cells.len());
    for (name, own) in cells {
        let mut values = vec![None; series.len()];
        for (number, result) in &own {
            values[*number] = value_of(result, metric);
        }
        let mut means = IndexMap::new();
        for name in metrics.keys() {
            let known = own.iter().filter_map(|(_, result)| value_of(result, name));
            if let Some(mean) = mean_of(&known.collect::<Vec<f64>>(), series.len()) {
                means.insert((*name).to_owned(), mean);
            }
        }
        rows.push(Row {
            name,
            means,
            values,
        });
    }
    // A mean over fewer series cannot be compared with the others, so it comes after them.
    rows.sort_by(|left, right| {
        let (left, right) = (left.means.get(metric), right.means.get(metric));
        let key = |mean: Option<&Mean>| mean.map_or(0, |mean| mean.count);
        let value = |mean: Option<&Mean>| {
            let value = mean.map_or(f64::NEG_INFINITY, |mean| mean.mean);
            if direction == Direction::Lower {
                -value
            } else {
                value
            }
        };
        let counts = key(right).cmp(&key(left));
        counts.then(value(right).total_cmp(&value(left)))
    });
    // What ranks comes first.
    let mut names: Vec<String> = metrics.keys().map(|name| (*name).to_owned()).collect();
    names.sort_by_key(|name| name != metric);
    Some(Ranking {
        stage: stage.to_owned(),
        axis: axis.to_owned(),
        metric: metric.to_owned(),
        direction,
        metrics: names,
        difference: critical_difference(&rows, series.len(), direction),
        rows,
        series,
    })
}

/// The other axes that do not follow from what is compared: a detector's own settings say nothing about where it is judged.
fn independent<'a>(axis: &str, varied: &[&'a str], results: &[Result<'_>]) -> Vec<&'a str> {
    let mut others = varied.to_vec();
    others.retain(|other| {
        let mut known: BTreeMap<String, String> = BTreeMap::new();
        results.iter().any(|result| {
            let of = |name: &str| result.axes.get(name).map(shown).unwrap_or_default();
            let (compared, value) = (of(axis), of(other));
            known
                .insert(compared, value.clone())
                .is_some_and(|before| before != value)
        })
    });
    others
}

/// The values of axes, by which what is compared on is named.
fn place_of(result: &Result<'_>, axes: &[&str]) -> String {
    let mut parts = Vec::new();
    for name in axes {
        parts.extend(result.axes.get(*name).map(shown));
    }
    parts.join(", ")
}

fn value_of(result: &Result<'_>, name: &str) -> Option<f64> {
    let metric = result.metrics.iter().find(|metric| metric.name == name)?;
    metric.value
}

fn mean_of(values: &[f64], of: usize) -> Option<Mean> {
    if values.is_empty() {
        return None;
    }
    let count = values.len();
    let mean = values.iter().sum::<f64>() / count as f64;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    let deviation = (count > 1).then(|| f64::sqrt(squares / (count - 1) as f64));
    Some(Mean {
        mean,
        deviation,
        count,
        of,
    })
}

/// Ranks over the series on which all of those have a value that have one on every series.
fn critical_difference(
    rows: &[Row],
    series: usize,
    direction: Direction,
) -> Option<CriticalDifference> {
    let complete: Vec<&Row> = rows
        .iter()
        .filter(|row| row.values.iter().all(Option::is_some))
        .collect();
    let count = complete.len();
    if series < 2 || count < 2 {
        return None;
    }
    let quantile = NEMENYI.get(count - 2)?;
    let mut sums: BTreeMap<usize, f64> = BTreeMap::new();
    for place in 0..series {
        let values: Vec<f64> = complete
            .iter()
            .filter_map(|row| row.values[place])
            .map(|value| {
                if direction == Direction::Lower {
                    value
                } else {
                    -value
                }
            })
            .collect();
        for (index, rank) in ranks(&values).into_iter().enumerate() {
            *sums.entry(index).or_default() += rank;
        }
    }
    let mut ranks: Vec<(f64, String)> = sums
        .into_iter()
        .map(|(index, sum)| (sum / series as f64, complete[index].name.clone()))
        .collect();
    ranks.sort_by(|left, right| left.0.total_cmp(&right.0));
    let k = count as f64;
    Some(CriticalDifference {
        ranks,
        difference: quantile * f64::sqrt(k * (k + 1.0) / (6.0 * series as f64)),
        series,
    })
}

/// The rank of each value, the smallest first; equal values share the mean of their ranks.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut ranks = Vec::with_capacity(values.len());
    for value in values {
        let below = values.iter().filter(|other| *other < value).count();
        let equal = values.iter().filter(|other| *other == value).count();
        ranks.push(below as f64 + (equal + 1) as f64 / 2.0);
    }
    ranks
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A detector's own learning rate does not make a series of its own.
    #[test]
    fn settings_that_follow_from_the_detector_are_no_series() {
        let axes = |detector: &str, lr: f64, machine: &str| {
            let pairs = [
                ("detector", json!(detector)),
                ("lr", json!(lr)),
                ("machine", json!(machine)),
            ];
            pairs
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect()
        };
        let all: [IndexMap<String, Value>; 4] = [
            axes("a", 0.1, "1"),
            axes("a", 0.1, "2"),
            axes("b", 0.2, "1"),
            axes("b", 0.2, "2"),
        ];
        let results: Vec<Result<'_>> = all
            .iter()
            .map(|axes| Result { axes, metrics: &[] })
            .collect();
        let varied = varied(&results);
        assert_eq!(varied, ["detector", "lr", "machine"]);
        assert_eq!(independent("detector", &varied, &results), ["machine"]);
    }

    #[test]
    fn equal_values_share_their_ranks() {
        assert_eq!(ranks(&[0.3, 0.1, 0.3, 0.9]), [2.5, 1.0, 2.5, 4.0]);
    }

    /// The example of Demsar 2006, section 3.2.2: four classifiers on fourteen data sets.
    #[test]
    fn the_critical_difference_is_that_of_the_source() {
        let row = |name: &str, value: f64| Row {
            name: name.to_owned(),
            means: IndexMap::new(),
            values: vec![Some(value); 14],
        };
        let rows = [row("a", 0.1), row("b", 0.2), row("c", 0.3), row("d", 0.4)];
        let found = critical_difference(&rows, 14, Direction::Higher).unwrap();
        assert!(
            (found.difference - 1.25).abs() < 0.005,
            "{}",
            found.difference
        );
        assert_eq!(found.ranks[0], (1.0, "d".to_owned()));
        let incomplete = [
            row("a", 0.1),
            Row {
                values: vec![None; 14],
                ..row("b", 0.2)
            },
        ];
        assert!(critical_difference(&incomplete, 14, Direction::Higher).is_none());
    }
}

//! The metrics of runs as one long table: a row per run, stage and metric, with the values of the axes and the parameters that
//! vary in columns, and with what one must know to read a figure. As CSV or Parquet.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use contract::artifact::{Artifact, Column, Metric, Table};
use indexmap::{IndexMap, IndexSet};
use serde_json::Value;

use super::ReportError;
use crate::cache::{RunRecord, utc};

/// What the table is written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableFormat {
    Csv,
    Parquet,
}

/// Columns that every table has, and that of the trial, which those of sweeps have. No parameter has a column of these names.
const OURS: [&str; 14] = [
    "run",
    "pipeline",
    "started",
    "status",
    "seed",
    "stage",
    "instance",
    "trial",
    "metric",
    "value",
    "direction",
    "oracle",
    "inflating",
    "caveat",
];

/// What stands before the names of axes, and of parameters whose own name is taken.
const AXIS: &str = "axis.";
const PARAMETER: &str = "param.";

/// One figure of one stage of one run.
struct Row<'a> {
    run: &'a RunRecord,
    stage: &'a str,
    metric: &'a Metric,
    /// By column.
    values: BTreeMap<String, Value>,
    seed: Option<u64>,
    /// Labels of the trials that stand on the stage.
    trial: Option<String>,
}

/// All figures of some runs.
pub struct MetricsTable<'a> {
    rows: Vec<Row<'a>>,
    /// Columns of parameters and axes in the order in which they first appear.
    varied: IndexSet<String>,
    has_trials: bool,
}

impl<'a> MetricsTable<'a> {
    /// The metrics of these runs in their order.
    pub fn of(runs: &'a [RunRecord]) -> Self {
        let parameters = varied(runs);
        let has_trials = runs.iter().any(|run| !run.trials().is_empty());
        let columns = parameters
            .iter()
            .map(|name| parameter_column(name))
            .collect();
        let mut table = Self {
            rows: Vec::new(),
            varied: columns,
            has_trials,
        };
        for run in runs {
            for (stage, metrics) in &run.metrics {
                let mut values = BTreeMap::new();
                for name in &parameters {
                    values.extend(
                        run.value_at(stage, name)
                            .map(|value| (parameter_column(name), value)),
                    );
                }
                values.extend(
                    run.axes_at(stage)
                        .into_iter()
                        .map(|(axis, value)| (format!("{AXIS}{axis}"), value)),
                );
                table.varied.extend(
                    run.axes_at(stage)
                        .keys()
                        .map(|axis| format!("{AXIS}{axis}")),
                );
                let (seed, trial) = (run.seed_at(stage), trial_of(run, stage));
                let row = |metric| Row {
                    run,
                    stage,
                    metric,
                    values: values.clone(),
                    seed,
                    trial: trial.clone(),
                };
                table.rows.extend(metrics.iter().map(row));
            }
        }
        table
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The bytes of the table's file.
    ///
    /// # Errors
    /// If the Parquet library refuses.
    pub fn to_bytes(&self, format: TableFormat) -> Result<Vec<u8>, ReportError> {
        match format {
            TableFormat::Csv => Ok(self.to_csv().into_bytes()),
            TableFormat::Parquet => {
                let mut bytes = Vec::new();
                Artifact::from(Table::new(self.columns())?).encode_to(&mut bytes)?;
                Ok(bytes)
            }
        }
    }

    fn texts(&self, text: impl Fn(&Row<'a>) -> Option<String>) -> Column {
        Column::Texts(self.rows.iter().map(text).collect())
    }

    fn columns(&self) -> Vec<(&str, Column)> {
        let mut columns = vec![
            ("run", self.texts(|row| Some(row.run.run.to_string()))),
            ("pipeline", self.texts(|row| Some(row.run.pipeline.clone()))),
            ("started", self.texts(|row| Some(utc(row.run.started)))),
            (
                "status",
                self.texts(|row| Some(row.run.status.name().to_owned())),
            ),
            (
                "seed",
                self.texts(|row| row.seed.map(|seed| seed.to_string())),
            ),
            (
                "stage",
                self.texts(|row| Some(row.run.stage_at(row.stage).to_owned())),
            ),
            ("instance", self.texts(|row| Some(row.stage.to_owned()))),
            ("metric", self.texts(|row| Some(row.metric.name.clone()))),
            (
                "value",
                Column::Reals(self.rows.iter().map(|row| row.metric.value).collect()),
            ),
            (
                "direction",
                self.texts(|row| Some(row.metric.direction.name().to_owned())),
            ),
            (
                "oracle",
                Column::Flags(self.rows.iter().map(|row| row.metric.oracle).collect()),
            ),
            (
                "inflating",
                Column::Flags(self.rows.iter().map(|row| row.metric.inflating).collect()),
            ),
            ("caveat", self.texts(|row| Some(row.metric.caveat.clone()))),
        ];
        if self.has_trials {
            columns.push(("trial", self.texts(|row| row.trial.clone())));
        }
        columns.extend(
            self.varied
                .iter()
                .map(|name| (name.as_str(), self.values(name))),
        );
        columns
    }

    /// A column of numbers if all of its values are, or else of texts.
    fn values(&self, name: &str) -> Column {
        let values: Vec<Option<&Value>> =
            self.rows.iter().map(|row| row.values.get(name)).collect();
        let all = |is: fn(&Value) -> bool| values.iter().flatten().all(|value| is(value));
        if all(Value::is_i64) {
            return Column::Integers(values.into_iter().map(|value| value?.as_i64()).collect());
        }
        if all(Value::is_number) {
            return Column::Reals(values.into_iter().map(|value| value?.as_f64()).collect());
        }
        Column::Texts(values.into_iter().map(|value| value.map(text_of)).collect())
    }

    fn to_csv(&self) -> String {
        let columns = self.columns();
        let mut text = columns
            .iter()
            .map(|(name, _)| cell(name))
            .collect::<Vec<_>>()
            .join(",")
            + "\n";
        for row in 0..self.rows.len() {
            let cells: Vec<String> = columns
                .iter()
                .map(|(_, column)| cell_of(column, row))
                .collect();
            let _ = writeln!(text, "{}", cells.join(","));
        }
        text
    }
}

/// Parameters that are not the same everywhere: within a sweep, or between runs of one pipeline.
fn varied(runs: &[RunRecord]) -> Vec<String> {
    let mut names: IndexSet<String> = runs.iter().flat_map(RunRecord::varied).collect();
    let mut known: IndexMap<(&str, &str), &Value> = IndexMap::new();
    for run in runs.iter().filter(|run| run.trials().is_empty()) {
        for (name, value) in &run.params {
            if *known.entry((&run.pipeline, name)).or_insert(value) != value {
                names.insert(name.clone());
            }
        }
    }
    names.into_iter().collect()
}

/// The column of a parameter. Different parameters have different columns, and none that is ours or an axis's.
fn parameter_column(name: &str) -> String {
    let is_taken = OURS.contains(&name) || name.starts_with(AXIS) || name.starts_with(PARAMETER);
    format!("{}{name}", if is_taken { PARAMETER } else { "" })
}

/// The label of the trial that stands on a stage; of none or several, nothing.
fn trial_of(run: &RunRecord, stage: &str) -> Option<String> {
    let labels: BTreeSet<&str> = run
        .trials_of(stage)
        .into_iter()
        .map(|trial| trial.label.as_str())
        .collect();
    labels
        .first()
        .filter(|_| labels.len() == 1)
        .map(|label| (*label).to_owned())
}

fn text_of(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

fn cell_of(column: &Column, row: usize) -> String {
    match column {
        // The shortest digits that come back to the same number.
        Column::Reals(values) => values[row].map_or_else(String::new, |value| format!("{value:?}")),
        Column::Integers(values) => values[row].map_or_else(String::new, |value| value.to_string()),
        Column::Texts(values) => values[row].as_deref().map_or_else(String::new, cell),
        Column::Flags(values) => values[row].to_string(),
    }
}

/// A cell in quotes where it needs them (RFC 4180).
fn cell(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_where_they_must_be() {
        assert_eq!(cell("plain text"), "plain text");
        assert_eq!(cell("a,b"), "\"a,b\"");
        assert_eq!(cell("say \"x\"\n"), "\"say \"\"x\"\"\n\"");
    }

    #[test]
    fn no_parameter_hides_a_column() {
        let names = [
            "x",
            "seed",
            "axis.x",
            "param.x",
            "param.seed",
            "trial",
            "lr",
        ];
        let columns = names.map(parameter_column);
        assert_eq!(columns[0], "x");
        let distinct: BTreeSet<&str> = columns.iter().map(String::as_str).collect();
        assert_eq!(distinct.len(), names.len());
        assert!(OURS.iter().all(|name| !distinct.contains(name)));
    }
}

//! The metrics of runs as one long table: a row per run, stage and metric, with the values of the axes and the parameters that
//! vary in columns, and with what one must know to read a value. As CSV or Parquet.

use std::collections::BTreeMap;

use contract::artifact::{Artifact, Column, Metric, Table};
use indexmap::{IndexMap, IndexSet};
use serde_json::Value;

use super::ReportError;
use super::names::text_of;
use crate::cache::{RunRecord, utc};

/// What the table is written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableFormat {
    Csv,
    Parquet,
}

impl TableFormat {
    /// As on the command line; also the ending of its files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Parquet => "parquet",
        }
    }
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

/// One metric of one stage of one run.
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

/// All metrics of some runs.
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
        let mut table = Self {
            rows: Vec::new(),
            varied: parameters
                .iter()
                .map(|name| parameter_column(name))
                .collect(),
            has_trials: runs.iter().any(|run| !run.trials().is_empty()),
        };
        for run in runs {
            for (stage, metrics) in &run.metrics {
                let mut values = BTreeMap::new();
                for name in &parameters {
                    if let Some(value) = run.value_at(stage, name) {
                        values.insert(parameter_column(name), value);
                    }
                }
                for (axis, value) in run.axes_at(stage) {
                    let column = format!("{AXIS}{axis}");
                    table.varied.insert(column.clone());
                    values.insert(column, value);
                }
                let (seed, trial) = (run.seed_at(stage), trial_of(run, stage));
                for metric in metrics {
                    table.rows.push(Row {
                        run,
                        stage,
                        metric,
                        values: values.clone(),
                        seed,
                        trial: trial.clone(),
                    });
                }
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

    fn texts(&self, text: impl Fn(&Row<'a>) -> String) -> Column {
        Column::Texts(self.rows.iter().map(|row| Some(text(row))).collect())
    }

    fn flags(&self, flag: impl Fn(&Metric) -> bool) -> Column {
        Column::Flags(self.rows.iter().map(|row| flag(row.metric)).collect())
    }

    fn columns(&self) -> Vec<(&str, Column)> {
        let rows = self.rows.iter();
        let seeds = rows.clone().map(|row| Some(row.seed?.to_string()));
        let values = rows.clone().map(|row| row.metric.value);
        let mut columns = vec![
            ("run", self.texts(|row| row.run.run.to_string())),
            ("pipeline", self.texts(|row| row.run.pipeline.clone())),
            ("started", self.texts(|row| utc(row.run.started))),
            ("status", self.texts(|row| row.run.status.name().into())),
            ("seed", Column::Texts(seeds.collect())),
            (
                "stage",
                self.texts(|row| row.run.stage_at(row.stage).into()),
            ),
            ("instance", self.texts(|row| row.stage.to_owned())),
            ("metric", self.texts(|row| row.metric.name.clone())),
            ("value", Column::Reals(values.collect())),
            (
                "direction",
                self.texts(|row| row.metric.direction.name().into()),
            ),
            ("oracle", self.flags(|metric| metric.oracle)),
            ("inflating", self.flags(|metric| metric.inflating)),
            ("caveat", self.texts(|row| row.metric.caveat.clone())),
        ];
        if self.has_trials {
            let trials = rows.map(|row| row.trial.clone());
            columns.push(("trial", Column::Texts(trials.collect())));
        }
        for name in &self.varied {
            columns.push((name, self.values(name)));
        }
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
        let names: Vec<String> = columns.iter().map(|(name, _)| cell(name)).collect();
        let mut text = names.join(",") + "\n";
        for row in 0..self.rows.len() {
            for (place, (_, column)) in columns.iter().enumerate() {
                if place > 0 {
                    text.push(',');
                }
                text += &cell_of(column, row);
            }
            text.push('\n');
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
    let trials = run.trials_of(stage);
    let first = trials.first()?;
    let is_one = trials.iter().all(|trial| trial.label == first.label);
    is_one.then(|| first.label.clone())
}

/// A value as CSV has it; empty where there is none.
fn cell_of(column: &Column, row: usize) -> String {
    let text = match column {
        // The shortest digits that come back to the same number.
        Column::Reals(values) => values[row].map(|value| format!("{value:?}")),
        Column::Integers(values) => values[row].map(|value| value.to_string()),
        Column::Texts(values) => values[row].as_deref().map(cell),
        Column::Flags(values) => Some(values[row].to_string()),
    };
    text.unwrap_or_default()
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
    use std::collections::BTreeSet;

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

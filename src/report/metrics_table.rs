//! The metrics of runs as one long table: a row per run, stage and metric, with the values of the axes in columns, and with
//! what one must know to read a figure. As CSV or Parquet.

use std::fmt::Write;

use stages::artifact::{Artifact, Column, Metric, Table};

use super::ReportError;
use super::names::{axes_of, stage_of};
use crate::cache::{RunRecord, utc};

/// What the table is written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableFormat {
    Csv,
    Parquet,
}

/// One figure of one stage of one run.
struct Row<'a> {
    run: &'a RunRecord,
    stage: &'a str,
    axes: Vec<(String, String)>,
    metric: &'a Metric,
}

/// All figures of some runs.
pub struct MetricsTable<'a> {
    rows: Vec<Row<'a>>,
    /// Names of axes in the order in which they first appear, with a prefix, so that no axis hides a column of ours.
    axes: Vec<String>,
}

impl<'a> MetricsTable<'a> {
    /// The metrics of these runs in their order.
    pub fn of(runs: &'a [RunRecord]) -> Self {
        let mut table = Self { rows: Vec::new(), axes: Vec::new() };
        for run in runs {
            for (stage, metrics) in &run.metrics {
                let axes: Vec<(String, String)> =
                    axes_of(stage).into_iter().map(|(name, value)| (format!("axis.{name}"), value)).collect();
                for (name, _) in &axes {
                    if !table.axes.contains(name) {
                        table.axes.push(name.clone());
                    }
                }
                let row = |metric| Row { run, stage, axes: axes.clone(), metric };
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
            ("status", self.texts(|row| Some(row.run.status.name().to_owned()))),
            ("seed", self.texts(|row| Some(row.run.seed.to_string()))),
            ("stage", self.texts(|row| Some(stage_of(row.stage).to_owned()))),
            ("instance", self.texts(|row| Some(row.stage.to_owned()))),
            ("metric", self.texts(|row| Some(row.metric.name.clone()))),
            ("value", Column::Reals(self.rows.iter().map(|row| row.metric.value).collect())),
            ("direction", self.texts(|row| Some(row.metric.direction.name().to_owned()))),
            ("oracle", Column::Flags(self.rows.iter().map(|row| row.metric.oracle).collect())),
            ("inflating", Column::Flags(self.rows.iter().map(|row| row.metric.inflating).collect())),
            ("caveat", self.texts(|row| Some(row.metric.caveat.clone()))),
        ];
        for axis in &self.axes {
            let value = |row: &Row<'a>| row.axes.iter().find(|(name, _)| name == axis).map(|(_, value)| value.clone());
            columns.push((axis.as_str(), self.texts(value)));
        }
        columns
    }

    fn to_csv(&self) -> String {
        let columns = self.columns();
        let mut text = columns.iter().map(|(name, _)| cell(name)).collect::<Vec<_>>().join(",") + "\n";
        for row in 0..self.rows.len() {
            let cells: Vec<String> = columns.iter().map(|(_, column)| cell_of(column, row)).collect();
            let _ = writeln!(text, "{}", cells.join(","));
        }
        text
    }
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
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
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
}

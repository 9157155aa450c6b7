//! The stage `collect`: gathers the results of the instances of a stage into one table and their means, and ranks them.
//! The instances' names say where each stands on the axes; which instances there are is the engine's business.

mod axes;
mod groups;

use std::collections::BTreeSet;

use axes::axes_of;
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use contract::artifact::{Artifact, ArtifactKind, Column, Direction, Metric, Metrics, Table};
use contract::{Inputs, Numerics, Outputs, Port, Stage, StageContext, Threads, Trouble};

/// The stage kind.
pub struct Collect;

#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Params {
    /// Axes whose values get a row each, with means and standard deviations over all others. If left out, every instance
    /// has its row.
    pub by: Vec<String>,
    /// The figure by which rows are ordered, the best first; adds the column `rank`.
    pub rank: Option<String>,
    /// The figures that the table shows, in this order; all if left out.
    pub figures: Option<Vec<String>>,
}

impl Stage for Collect {
    type Params = Params;

    const NAME: &'static str = "collect";
    const VERSION: u32 = 2;
    const DOC: &'static str = "Gathers metrics or tables of all instances into one table, with means over the instances, ranked if asked for.";
    const NUMERICS: Numerics = Numerics::Exact;
    const THREADS: Threads = Threads::One;
    const SEEDED: bool = false;
    const GATHERS: bool = true;

    fn inputs(_: &Params) -> Vec<Port> {
        vec![Port::any("items", "metrics or tables, one per instance").many()]
    }

    fn outputs(_: &Params) -> Vec<Port> {
        vec![
            Port::new(
                "table",
                ArtifactKind::Table,
                "the axes and the figures, a row per instance (or per row of its table)",
            ),
            Port::new(
                "summary",
                ArtifactKind::Metrics,
                "mean and sample standard deviation of each figure over the rows",
            ),
        ]
    }

    fn run(params: &Params, inputs: &Inputs, _: &StageContext<'_>) -> Result<Outputs, Trouble> {
        let items = inputs.all("items");
        if items.is_empty() {
            return Err(Trouble::new(
                "there is nothing to collect: no instance is connected to input `items`",
            ));
        }
        let mut rows = Vec::new();
        let mut known = IndexMap::new();
        for (name, artifact) in items {
            let axes = axes_of(name);
            match artifact {
                Artifact::Metrics(metrics) => {
                    rows.push((axes, cells_of_metrics(metrics, &mut known)))
                }
                Artifact::Table(table) => rows.extend(
                    cells_of_table(table)?
                        .into_iter()
                        .map(|row| (axes.clone(), row)),
                ),
                other => {
                    let message = format!(
                        "`{name}` is of type {}; only Metrics and Table can be collected",
                        other.kind()
                    );
                    return Err(Trouble::new(message));
                }
            }
        }
        let mut table = GatheredTable::new(rows)?;
        let summary = summary(&table, &known);
        if let Some(figures) = &params.figures {
            table = table.select(figures)?;
        }
        if !params.by.is_empty() {
            table = groups::group(&table, &params.by)?;
        }
        if let Some(figure) = &params.rank {
            table = groups::rank(&table, figure, &known)?;
        }
        Ok(Outputs::default()
            .with("table", table.into_table()?)
            .with("summary", summary))
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Cell {
    Real(f64),
    Integer(i64),
    Text(String),
}

type Row = IndexMap<String, Cell>;

/// The defined figures of one instance. `known` keeps what is said about each.
fn cells_of_metrics(metrics: &Metrics, known: &mut IndexMap<String, Metric>) -> Row {
    for metric in &metrics.entries {
        let common = known
            .entry(metric.name.clone())
            .or_insert_with(|| metric.clone());
        common.oracle |= metric.oracle;
        common.inflating |= metric.inflating;
        if common.caveat != metric.caveat
            && !common
                .caveat
                .split("; ")
                .any(|known| known == metric.caveat)
        {
            common.caveat = [common.caveat.as_str(), &metric.caveat]
                .join("; ")
                .trim_matches([';', ' '])
                .to_owned();
        }
    }
    let defined = |metric: &Metric| Some((metric.name.clone(), Cell::Real(metric.value?)));
    metrics.entries.iter().filter_map(defined).collect()
}

fn cells_of_table(table: &Table) -> Result<Vec<Row>, Trouble> {
    let mut rows = vec![Row::new(); table.rows()];
    for name in table.column_names() {
        let cells = cells_of_column(table, &name).ok_or_else(|| {
            Trouble::new(format!("column `{name}` holds neither numbers nor text"))
        })?;
        for (row, cell) in rows.iter_mut().zip(cells) {
            row.extend(cell.map(|cell| (name.clone(), cell)));
        }
    }
    Ok(rows)
}

fn cells_of_column(table: &Table, name: &str) -> Option<Vec<Option<Cell>>> {
    if let Some(reals) = table.reals(name) {
        return Some(reals.into_iter().map(|real| real.map(Cell::Real)).collect());
    }
    if let Some(integers) = table.integers(name) {
        return Some(
            integers
                .into_iter()
                .map(|integer| integer.map(Cell::Integer))
                .collect(),
        );
    }
    Some(
        table
            .texts(name)?
            .into_iter()
            .map(|text| text.map(Cell::Text))
            .collect(),
    )
}

/// Columns of equal length: axes first, then figures, each in the order of first appearance.
struct GatheredTable {
    columns: IndexMap<String, Vec<Option<Cell>>>,
    axes: BTreeSet<String>,
}

impl GatheredTable {
    fn new(rows: Vec<(Row, Row)>) -> Result<Self, Trouble> {
        let mut columns: IndexMap<String, Vec<Option<Cell>>> = IndexMap::new();
        let mut axes = BTreeSet::new();
        for (axis, _) in rows.iter().flat_map(|(row_axes, _)| row_axes) {
            axes.insert(axis.clone());
            columns
                .entry(axis.clone())
                .or_insert_with(|| vec![None; rows.len()]);
        }
        for (index, (row_axes, figures)) in rows.into_iter().enumerate() {
            for (name, cell) in row_axes {
                columns[&name][index] = Some(cell);
            }
            for (name, cell) in figures {
                if axes.contains(&name) {
                    return Err(Trouble::new(format!(
                        "`{name}` is both an axis and a column of the instances"
                    ))
                    .hint("rename the axis"));
                }
                let length = columns
                    .first()
                    .map_or(index + 1, |(_, column)| column.len())
                    .max(index + 1);
                let column = columns.entry(name).or_default();
                column.resize(length.max(column.len()), None);
                column[index] = Some(cell);
            }
        }
        let length = columns.values().map(Vec::len).max().unwrap_or(0);
        columns
            .values_mut()
            .for_each(|column| column.resize(length, None));
        Ok(Self { columns, axes })
    }

    fn rows(&self) -> usize {
        self.columns.values().map(Vec::len).max().unwrap_or(0)
    }

    /// The columns of numbers that are no axes.
    fn figures(&self) -> impl Iterator<Item = (&String, &Vec<Option<Cell>>)> {
        let number = |cells: &[Option<Cell>]| {
            !cells
                .iter()
                .flatten()
                .any(|cell| matches!(cell, Cell::Text(_)))
        };
        self.columns
            .iter()
            .filter(move |(name, cells)| !self.axes.contains(*name) && number(cells))
    }

    /// The axes, and these columns in this order.
    fn select(mut self, figures: &[String]) -> Result<Self, Trouble> {
        let (axes, mut others): (IndexMap<_, _>, IndexMap<_, _>) =
            std::mem::take(&mut self.columns)
                .into_iter()
                .partition(|(name, _)| self.axes.contains(name));
        self.columns = axes;
        let known = others
            .keys()
            .map(|name| format!("`{name}`"))
            .collect::<Vec<_>>()
            .join(", ");
        for figure in figures {
            let missing = || {
                Trouble::new(format!("`figures` names `{figure}`, which no instance has"))
                    .hint(format!("there are {known}"))
            };
            let cells = others.shift_remove(figure).ok_or_else(missing)?;
            self.columns.insert(figure.clone(), cells);
        }
        Ok(self)
    }

    fn into_table(self) -> Result<Table, Trouble> {
        let columns: Vec<(String, Column)> = self
            .columns
            .into_iter()
            .map(|(name, cells)| (name, column_of(cells)))
            .collect();
        Ok(Table::new(
            columns
                .iter()
                .map(|(name, column)| (name.as_str(), column.clone()))
                .collect(),
        )?)
    }
}

/// Integers if all are, numbers if all are, else text.
fn column_of(cells: Vec<Option<Cell>>) -> Column {
    let all = |fits: fn(&Cell) -> bool| cells.iter().flatten().all(fits);
    if all(|cell| matches!(cell, Cell::Integer(_))) {
        let integer = |cell| {
            if let Cell::Integer(value) = cell {
                Some(value)
            } else {
                None
            }
        };
        return Column::Integers(
            cells
                .into_iter()
                .map(|cell| cell.and_then(integer))
                .collect(),
        );
    }
    if all(|cell| !matches!(cell, Cell::Text(_))) {
        return Column::Reals(
            cells
                .iter()
                .map(|cell| cell.as_ref().and_then(real))
                .collect(),
        );
    }
    let text = |cell| match cell {
        Cell::Real(value) => value.to_string(),
        Cell::Integer(value) => value.to_string(),
        Cell::Text(value) => value,
    };
    Column::Texts(cells.into_iter().map(|cell| cell.map(text)).collect())
}

fn real(cell: &Cell) -> Option<f64> {
    match cell {
        Cell::Real(value) => Some(*value),
        Cell::Integer(value) => Some(*value as f64),
        Cell::Text(_) => None,
    }
}

/// Mean and sample standard deviation of every column of numbers, over the rows where it is defined.
fn summary(table: &GatheredTable, known: &IndexMap<String, Metric>) -> Metrics {
    let mut entries = Vec::new();
    for (name, cells) in table.figures() {
        let values: Vec<f64> = cells.iter().flatten().filter_map(real).collect();
        entries.extend(summary_of(name, &values, cells.len(), known.get(name)));
    }
    let undefined = known
        .values()
        .filter(|metric| !table.columns.contains_key(&metric.name));
    entries.extend(undefined.map(|metric| Metric {
        value: None,
        ..metric.clone()
    }));
    Metrics { entries }
}

/// The mean, if there are any values, and the sample standard deviation, if there are two.
fn mean_and_deviation(values: &[f64]) -> (Option<f64>, Option<f64>) {
    let count = values.len() as f64;
    let mean = (count > 0.0).then(|| values.iter().sum::<f64>() / count);
    let squares = |mean: f64| {
        values
            .iter()
            .map(|value| (value - mean) * (value - mean))
            .sum::<f64>()
    };
    let deviation = mean
        .filter(|_| values.len() > 1)
        .map(|mean| (squares(mean) / (count - 1.0)).sqrt());
    (mean, deviation)
}

fn summary_of(name: &str, values: &[f64], rows: usize, known: Option<&Metric>) -> [Metric; 2] {
    let (mean, deviation) = mean_and_deviation(values);
    let mut caveat = known.map_or_else(String::new, |metric| metric.caveat.clone());
    if values.len() < rows {
        let separator = if caveat.is_empty() { "" } else { "; " };
        caveat = format!(
            "mean of the {} of {rows} instances where it is defined{separator}{caveat}",
            values.len()
        );
    }
    let entry = |name: String, value: Option<f64>, direction| Metric {
        name,
        value,
        direction,
        oracle: known.is_some_and(|metric| metric.oracle),
        inflating: known.is_some_and(|metric| metric.inflating),
        caveat: caveat.clone(),
    };
    let direction = known.map_or(Direction::Neither, |metric| metric.direction);
    [
        entry(name.to_owned(), mean, direction),
        entry(format!("{name}_std"), deviation, Direction::Neither),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::NullHost;

    fn metric(name: &str, value: Option<f64>) -> Metric {
        let (oracle, inflating) = (name == "best_f1", false);
        Metric {
            name: name.into(),
            value,
            direction: Direction::Higher,
            oracle,
            inflating,
            caveat: "c".into(),
        }
    }

    fn collect(items: Vec<(&str, Artifact)>) -> Result<(Table, Metrics), Trouble> {
        collect_with(&Params::default(), items)
    }

    fn collect_with(
        params: &Params,
        items: Vec<(&str, Artifact)>,
    ) -> Result<(Table, Metrics), Trouble> {
        let mut inputs = Inputs::default();
        items
            .into_iter()
            .for_each(|(name, artifact)| inputs.add("items", name, artifact));
        let mut outputs =
            Collect::run(params, &inputs, &NullHost::default().context(0))?.into_map();
        match (
            outputs.swap_remove("table").unwrap(),
            outputs.swap_remove("summary").unwrap(),
        ) {
            (Artifact::Table(table), Artifact::Metrics(metrics)) => {
                Ok((table.as_ref().clone(), metrics.as_ref().clone()))
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn one_row_per_instance_and_means() {
        let instance = |f1, best| {
            Metrics {
                entries: vec![metric("f1", f1), metric("best_f1", best)],
            }
            .into()
        };
        let (table, summary) = collect(vec![
            ("machine=machine-2-1,seed=1", instance(Some(0.5), None)),
            ("machine=machine-2-1,seed=2", instance(Some(0.7), Some(0.9))),
        ])
        .unwrap();
        assert_eq!(table.column_names(), ["machine", "seed", "f1", "best_f1"]);
        assert_eq!(table.integers("seed").unwrap(), [Some(1), Some(2)]);
        assert_eq!(table.reals("best_f1").unwrap(), [None, Some(0.9)]);
        assert_eq!(summary.get("f1"), Some(0.6));
        assert!((summary.get("f1_std").unwrap() - 0.02_f64.sqrt()).abs() < 1e-15);
        let best = summary
            .entries
            .iter()
            .find(|entry| entry.name == "best_f1")
            .unwrap();
        assert!(
            best.oracle && best.caveat.starts_with("mean of the 1 of 2"),
            "{}",
            best.caveat
        );
        assert_eq!(summary.get("best_f1_std"), None);
    }

    #[test]
    fn instances_are_averaged_by_axes_and_ranked() {
        let items = |params: &Params| {
            let figures = [
                ("a", 1, 0.2),
                ("b", 1, 0.5),
                ("a", 2, 0.4),
                ("b", 2, 0.6),
                ("c", 1, 0.3),
            ];
            let items: Vec<(String, Artifact)> = figures
                .map(|(detector, seed, value)| {
                    let value = (detector != "c").then_some(value);
                    let entries = vec![metric("vus_pr", value), metric("f1", Some(0.1))];
                    (
                        format!("detector={detector},seed={seed}"),
                        Metrics { entries }.into(),
                    )
                })
                .into();
            collect_with(
                params,
                items
                    .iter()
                    .map(|(name, item)| (name.as_str(), item.clone()))
                    .collect(),
            )
        };
        let params = Params {
            by: vec!["detector".into()],
            rank: Some("vus_pr".into()),
            ..Params::default()
        };
        let (table, summary) = items(&params).unwrap();
        let expected = [
            "rank",
            "detector",
            "instances",
            "vus_pr",
            "vus_pr_std",
            "f1",
            "f1_std",
        ];
        assert_eq!(table.column_names(), expected);
        let detectors: Vec<String> = table
            .texts("detector")
            .unwrap()
            .into_iter()
            .flatten()
            .collect();
        assert_eq!(detectors, ["b", "a", "c"]);
        assert_eq!(
            table.integers("instances").unwrap(),
            [Some(2), Some(2), Some(1)]
        );
        let means = table.reals("vus_pr").unwrap();
        assert!((means[0].unwrap() - 0.55).abs() < 1e-12 && means[2].is_none());
        assert!((table.reals("vus_pr_std").unwrap()[1].unwrap() - 0.02_f64.sqrt()).abs() < 1e-12);
        assert!((summary.get("vus_pr").unwrap() - 0.425).abs() < 1e-12);

        let params = Params {
            figures: Some(vec!["f1".into()]),
            rank: Some("f1".into()),
            ..Params::default()
        };
        let (table, _) = items(&params).unwrap();
        assert_eq!(table.column_names(), ["rank", "detector", "seed", "f1"]);
        assert_eq!(table.rows(), 5);
        for (params, word) in [
            (
                Params {
                    by: vec!["machine".into()],
                    ..Params::default()
                },
                "`machine`",
            ),
            (
                Params {
                    rank: Some("auc".into()),
                    ..Params::default()
                },
                "`auc`",
            ),
            (
                Params {
                    figures: Some(vec!["auc".into()]),
                    ..Params::default()
                },
                "`auc`",
            ),
        ] {
            assert!(items(&params).unwrap_err().message().contains(word));
        }
    }

    #[test]
    fn tables_are_stacked() {
        let table = |epochs: Vec<i64>| Table::new(vec![("epoch", epochs.into())]).unwrap().into();
        let (table, summary) = collect(vec![
            ("lr=1e-4", table(vec![1, 2])),
            ("lr=0.5", table(vec![3])),
        ])
        .unwrap();
        assert_eq!(
            table.reals("lr").unwrap(),
            [Some(1e-4), Some(1e-4), Some(0.5)]
        );
        assert_eq!(
            table.integers("epoch").unwrap(),
            [Some(1), Some(2), Some(3)]
        );
        assert_eq!(summary.get("epoch"), Some(2.0));
    }

    #[test]
    fn refuses_what_it_cannot_gather() {
        assert!(collect(vec![]).is_err());
        let figures: Artifact = Metrics {
            entries: vec![metric("seed", Some(1.0))],
        }
        .into();
        assert!(
            collect(vec![("seed=1", figures)])
                .unwrap_err()
                .message()
                .contains("`seed`")
        );
        let files = contract::artifact::Files::new(vec![]).unwrap().into();
        assert!(
            collect(vec![("seed=1", files)])
                .unwrap_err()
                .message()
                .contains("Files")
        );
    }
}

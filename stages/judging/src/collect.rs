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
    /// The metric by which rows are ordered, the best first; adds the column `rank`. Where nothing says which way is better,
    /// the highest comes first.
    pub rank: Option<String>,
    /// The metrics that the table shows, in this order; all if left out.
    pub figures: Option<Vec<String>>,
}

impl Stage for Collect {
    type Params = Params;

    const NAME: &'static str = "collect";
    // 4: the type of a column does not depend on its values.
    const VERSION: u32 = 4;
    const DOC: &'static str = "Gathers metrics or tables of all instances into one table, with means over the instances, ranked if asked for.";
    const NUMERICS: Numerics = Numerics::Exact;
    const THREADS: Threads = Threads::One;
    const SEEDED: bool = false;
    const GATHERS: bool = true;

    fn inputs(_: &Params) -> Vec<Port> {
        vec![Port::any("items", "metrics or tables, one per instance").many()]
    }

    fn outputs(_: &Params) -> Vec<Port> {
        let table = "the axes and the metrics, a row per instance (or per row of its table)";
        let summary = "mean and sample standard deviation of each metric over the rows";
        vec![
            Port::new("table", ArtifactKind::Table, table),
            Port::new("summary", ArtifactKind::Metrics, summary),
        ]
    }

    fn run(
        params: &Params,
        inputs: &Inputs,
        context: &StageContext<'_>,
    ) -> Result<Outputs, Trouble> {
        let items = inputs.all("items");
        if items.is_empty() {
            return Err(Trouble::new(
                "there is nothing to collect: no instance is connected to input `items`",
            ));
        }
        let mut rows = Vec::new();
        let mut known = IndexMap::new();
        let mut types = IndexMap::new();
        for (name, artifact) in items {
            let axes = axes_of(name);
            match artifact {
                Artifact::Metrics(metrics) => {
                    rows.push((axes, cells_of_metrics(metrics, &mut known)));
                    for metric in &metrics.entries {
                        widen(&mut types, &metric.name, CellType::Real);
                    }
                }
                Artifact::Table(table) => {
                    for row in cells_of_table(table, &mut types)? {
                        rows.push((axes.clone(), row));
                    }
                }
                other => {
                    let message = format!(
                        "`{name}` is of type {}; only Metrics and Table can be collected",
                        other.kind()
                    );
                    return Err(Trouble::new(message));
                }
            }
        }
        let mut table = GatheredTable::new(rows, &types)?;
        let summary = summary(&table, &known);
        if let Some(metrics) = &params.figures {
            table = table.select(metrics)?;
        }
        if !params.by.is_empty() {
            table = groups::group(&table, &params.by)?;
        }
        if let Some(metric) = &params.rank {
            let direction = known.get(metric).map(|metric| metric.direction);
            table = groups::rank(&table, metric, direction == Some(Direction::Lower))?;
            if let Some(remark) = rank_without_direction(metric, direction) {
                context.host.note(&remark);
            }
        }
        Ok(Outputs::default()
            .with("table", table.table()?)
            .with("summary", summary))
    }
}

/// What to say of a rank by a threshold, a count or a column of a table: no metric says which way is better.
fn rank_without_direction(metric: &str, direction: Option<Direction>) -> Option<String> {
    match direction {
        Some(Direction::Higher | Direction::Lower) => None,
        Some(Direction::Neither) | None => Some(format!(
            "nothing says whether a high or a low `{metric}` is better: the highest is ranked first"
        )),
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Cell {
    Real(f64),
    Integer(i64),
    Text(String),
}

impl Cell {
    fn real(&self) -> Option<f64> {
        match self {
            Self::Real(value) => Some(*value),
            Self::Integer(value) => Some(*value as f64),
            Self::Text(_) => None,
        }
    }

    fn cell_type(&self) -> CellType {
        match self {
            Self::Real(_) => CellType::Real,
            Self::Integer(_) => CellType::Integer,
            Self::Text(_) => CellType::Text,
        }
    }

    fn integer(&self) -> Option<i64> {
        match self {
            Self::Integer(value) => Some(*value),
            _ => None,
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Real(value) => value.to_string(),
            Self::Integer(value) => value.to_string(),
            Self::Text(value) => value.clone(),
        }
    }
}

/// The type of a column, which its values do not decide. A later one can hold what an earlier one holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum CellType {
    Integer,
    Real,
    Text,
}

type Types = IndexMap<String, CellType>;

/// Takes into account that a column of some instance is of this type.
fn widen(types: &mut Types, name: &str, cell_type: CellType) {
    match types.get_mut(name) {
        Some(known) => *known = cell_type.max(*known),
        None => drop(types.insert(name.to_owned(), cell_type)),
    }
}

type Row = IndexMap<String, Cell>;

/// A column.
#[derive(Clone, Debug)]
struct Cells {
    cell_type: CellType,
    values: Vec<Option<Cell>>,
}

impl Cells {
    fn new(cell_type: CellType, values: Vec<Option<Cell>>) -> Self {
        Self { cell_type, values }
    }

    /// These rows, in this order.
    fn in_order(&self, rows: &[usize]) -> Self {
        let values = rows.iter().map(|row| self.values[*row].clone());
        Self::new(self.cell_type, values.collect())
    }

    fn column(&self) -> Column {
        match self.cell_type {
            CellType::Integer => Column::Integers(values_of(&self.values, Cell::integer)),
            CellType::Real => Column::Reals(values_of(&self.values, Cell::real)),
            CellType::Text => Column::Texts(values_of(&self.values, |cell| Some(cell.text()))),
        }
    }
}

/// The defined metrics of one instance. `known` keeps what is said about each.
fn cells_of_metrics(metrics: &Metrics, known: &mut IndexMap<String, Metric>) -> Row {
    let mut row = Row::new();
    for metric in &metrics.entries {
        if let Some(value) = metric.value {
            row.insert(metric.name.clone(), Cell::Real(value));
        }
        let common = known
            .entry(metric.name.clone())
            .or_insert_with(|| metric.clone());
        common.oracle |= metric.oracle;
        common.inflating |= metric.inflating;
        // One instance may have had an oracle threshold and another not: what is said of either is said of the mean.
        if !common
            .caveat
            .split("; ")
            .any(|known| known == metric.caveat)
            && common.caveat != metric.caveat
        {
            let both = format!("{}; {}", common.caveat, metric.caveat);
            both.trim_matches([';', ' ']).clone_into(&mut common.caveat);
        }
    }
    row
}

fn cells_of_table(table: &Table, types: &mut Types) -> Result<Vec<Row>, Trouble> {
    let mut rows = vec![Row::new(); table.rows()];
    for name in table.column_names() {
        let (cell_type, cells) = if let Some(reals) = table.reals(&name) {
            (CellType::Real, cells_of(reals, Cell::Real))
        } else if let Some(integers) = table.integers(&name) {
            (CellType::Integer, cells_of(integers, Cell::Integer))
        } else if let Some(texts) = table.texts(&name) {
            (CellType::Text, cells_of(texts, Cell::Text))
        } else {
            let message = format!("column `{name}` holds neither numbers nor text");
            return Err(Trouble::new(message));
        };
        widen(types, &name, cell_type);
        for (row, cell) in rows.iter_mut().zip(cells) {
            row.extend(cell.map(|cell| (name.clone(), cell)));
        }
    }
    Ok(rows)
}

fn cells_of<T>(values: Vec<Option<T>>, cell: fn(T) -> Cell) -> Vec<Option<Cell>> {
    values.into_iter().map(|value| value.map(cell)).collect()
}

/// Columns of equal length: axes first, then metrics, each in the order of first appearance.
struct GatheredTable {
    columns: IndexMap<String, Cells>,
    axes: BTreeSet<String>,
}

impl GatheredTable {
    /// `types` are those of the columns that are no axes: which there are does not depend on where a metric is defined.
    fn new(mut rows: Vec<(Row, Row)>, types: &Types) -> Result<Self, Trouble> {
        let mut axes = BTreeSet::new();
        for (row_axes, _) in &rows {
            axes.extend(row_axes.keys().cloned());
        }
        // Without axes, empty rows at the end have nothing to show.
        while axes.is_empty() && rows.last().is_some_and(|(_, cells)| cells.is_empty()) {
            rows.pop();
        }
        let length = rows.len();
        let mut all = Types::new();
        for (row_axes, _) in &rows {
            for (axis, cell) in row_axes {
                widen(&mut all, axis, cell.cell_type());
            }
        }
        if let Some(name) = types.keys().find(|name| axes.contains(*name)) {
            let message = format!("`{name}` is both an axis and a column of the instances");
            return Err(Trouble::new(message).hint("rename the axis"));
        }
        all.extend(types.clone());
        let mut columns: IndexMap<String, Cells> = IndexMap::new();
        for (name, cell_type) in all {
            columns.insert(name, Cells::new(cell_type, vec![None; length]));
        }
        for (index, (row_axes, cells)) in rows.into_iter().enumerate() {
            for (name, cell) in row_axes.into_iter().chain(cells) {
                if let Some(column) = columns.get_mut(&name) {
                    column.values[index] = Some(cell);
                }
            }
        }
        Ok(Self { columns, axes })
    }

    fn rows(&self) -> usize {
        self.columns
            .first()
            .map_or(0, |(_, cells)| cells.values.len())
    }

    /// The columns of numbers that are not axes.
    fn metrics(&self) -> Vec<(&String, &Cells)> {
        let mut metrics = Vec::new();
        for (name, cells) in &self.columns {
            if cells.cell_type != CellType::Text && !self.axes.contains(name) {
                metrics.push((name, cells));
            }
        }
        metrics
    }

    /// The axes, and these columns in this order.
    fn select(mut self, metrics: &[String]) -> Result<Self, Trouble> {
        let mut others = self.columns.clone();
        others.retain(|name, _| !self.axes.contains(name));
        self.columns.retain(|name, _| self.axes.contains(name));
        let known = listed(others.keys());
        for metric in metrics {
            let Some(cells) = others.shift_remove(metric) else {
                let message = format!("`figures` names `{metric}`, which no instance has");
                return Err(Trouble::new(message).hint(format!("there are {known}")));
            };
            self.columns.insert(metric.clone(), cells);
        }
        Ok(self)
    }

    fn table(&self) -> Result<Table, Trouble> {
        let mut columns = Vec::with_capacity(self.columns.len());
        for (name, cells) in &self.columns {
            columns.push((name.as_str(), cells.column()));
        }
        Ok(Table::new(columns)?)
    }
}

fn listed<'a>(names: impl Iterator<Item = &'a String>) -> String {
    let quoted: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    quoted.join(", ")
}

fn values_of<T>(cells: &[Option<Cell>], value: fn(&Cell) -> Option<T>) -> Vec<Option<T>> {
    cells.iter().map(|cell| value(cell.as_ref()?)).collect()
}

/// Mean and sample standard deviation of every column of numbers, over the rows where it is defined.
fn summary(table: &GatheredTable, known: &IndexMap<String, Metric>) -> Metrics {
    let mut entries = Vec::new();
    for (name, cells) in table.metrics() {
        let known_cells = cells.values.iter().flatten();
        let values: Vec<f64> = known_cells.filter_map(Cell::real).collect();
        entries.extend(summary_of(
            name,
            &values,
            cells.values.len(),
            known.get(name),
        ));
    }
    Metrics { entries }
}

/// The mean, if there are any values, and the sample standard deviation, if there are two.
fn mean_and_deviation(values: &[f64]) -> (Option<f64>, Option<f64>) {
    if values.is_empty() {
        return (None, None);
    }
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    if values.len() == 1 {
        return (Some(mean), None);
    }
    let squares = values.iter().map(|value| (value - mean) * (value - mean));
    let variance = squares.sum::<f64>() / (count - 1.0);
    (Some(mean), Some(variance.sqrt()))
}

fn summary_of(name: &str, values: &[f64], rows: usize, known: Option<&Metric>) -> [Metric; 2] {
    let (mean, deviation) = mean_and_deviation(values);
    let mut entry = known.cloned().unwrap_or(Metric {
        name: name.to_owned(),
        value: None,
        direction: Direction::Neither,
        oracle: false,
        inflating: false,
        caveat: String::new(),
    });
    if values.len() < rows {
        let separator = if entry.caveat.is_empty() { "" } else { "; " };
        entry.caveat = format!(
            "mean of the {} of {rows} instances where it is defined{separator}{}",
            values.len(),
            entry.caveat
        );
    }
    entry.value = mean;
    let spread = Metric {
        name: format!("{name}_std"),
        value: deviation,
        direction: Direction::Neither,
        ..entry.clone()
    };
    [entry, spread]
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
                ("d", 1, 0.9),
                ("d", 2, f64::NAN),
            ];
            let items: Vec<(String, Artifact)> = figures
                .map(|(detector, seed, value)| {
                    let value = (detector != "c" && !value.is_nan()).then_some(value);
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
            "vus_pr_n",
            "f1",
            "f1_std",
            "f1_n",
        ];
        assert_eq!(table.column_names(), expected);
        let ranks = table.integers("rank").unwrap();
        assert_eq!(ranks, [Some(1), Some(2), None, None]);
        let detectors: Vec<String> = table
            .texts("detector")
            .unwrap()
            .into_iter()
            .flatten()
            .collect();
        // The mean of `d` is over one instance of two, and would be the best.
        assert_eq!(detectors, ["b", "a", "d", "c"]);
        let counts = |name: &str| table.integers(name).unwrap().into_iter().flatten();
        assert!(counts("instances").eq([2, 2, 2, 1]));
        assert!(counts("vus_pr_n").eq([2, 2, 1, 0]));
        let means = table.reals("vus_pr").unwrap();
        assert!((means[0].unwrap() - 0.55).abs() < 1e-12 && means[3].is_none());
        assert!((table.reals("vus_pr_std").unwrap()[1].unwrap() - 0.02_f64.sqrt()).abs() < 1e-12);
        assert!((summary.get("vus_pr").unwrap() - 0.52).abs() < 1e-12);

        let params = Params {
            figures: Some(vec!["f1".into()]),
            rank: Some("f1".into()),
            ..Params::default()
        };
        let (table, _) = items(&params).unwrap();
        assert_eq!(table.column_names(), ["rank", "detector", "seed", "f1"]);
        assert_eq!(table.rows(), 7);
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
    fn a_rank_without_a_direction_is_remarked_on() {
        for (direction, is_odd) in [
            (Some(Direction::Higher), false),
            (Some(Direction::Lower), false),
            (Some(Direction::Neither), true),
            (None, true),
        ] {
            let remark = rank_without_direction("threshold", direction);
            assert_eq!(remark.is_some(), is_odd, "{direction:?}");
        }
    }

    #[test]
    fn types_of_columns_do_not_depend_on_their_values() {
        let undefined = || Metrics {
            entries: vec![metric("f1", None), metric("auc", Some(1.0))],
        };
        let defined = Metrics {
            entries: vec![metric("f1", Some(1.0)), metric("auc", Some(1.0))],
        };
        let params = Params {
            by: vec!["model".into()],
            rank: Some("f1".into()),
            ..Params::default()
        };
        for second in [undefined(), defined] {
            let items: Vec<(&str, Artifact)> = vec![
                ("model=pca,seed=1", undefined().into()),
                ("model=pca,seed=2", second.into()),
            ];
            let (table, _) = collect_with(&params, items).unwrap();
            assert_eq!(table.integers("rank"), Some(vec![None]));
            assert_eq!(table.reals("auc"), Some(vec![Some(1.0)]));
            assert_eq!(table.reals("auc_std"), Some(vec![Some(0.0)]));
            assert!(table.reals("f1").is_some() && table.reals("f1_std").is_some());
            assert!(table.integers("f1_n").is_some());
        }
        let table = |remark: Option<String>, count| -> Artifact {
            let columns = vec![
                ("remark", Column::Texts(vec![remark])),
                ("count", Column::Integers(vec![count])),
                ("share", Column::Reals(vec![None])),
            ];
            Table::new(columns).unwrap().into()
        };
        let (empty, _) = collect(vec![("seed=1", table(None, None))]).unwrap();
        let (filled, _) = collect(vec![("seed=1", table(Some("a".into()), Some(2)))]).unwrap();
        assert_eq!(empty.batch().schema(), filled.batch().schema());
        assert_eq!(empty.texts("remark"), Some(vec![None]));
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

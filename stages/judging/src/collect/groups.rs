//! Rows of a gathered table that share the values of some axes become one row of means; rows are ranked by a metric.

use indexmap::IndexMap;

use super::{Cell, CellType, Cells, GatheredTable, listed, mean_and_deviation};
use contract::Trouble;

/// A row for every combination of the values of these axes, in the order of first appearance: how many instances it has,
/// and of each metric the mean, the sample standard deviation and the number of instances in which it is defined and which
/// these are over.
///
/// # Errors
/// If one of the axes is not there.
pub fn group(table: &GatheredTable, by: &[String]) -> Result<GatheredTable, Trouble> {
    for axis in by {
        if !table.columns.contains_key(axis) {
            let message = format!("`by` names `{axis}`, which the instances do not have");
            let known = listed(table.axes.iter());
            return Err(Trouble::new(message).hint(format!("their axes are {known}")));
        }
    }
    // Of each group, the values of the axes and the rows.
    let mut groups: Vec<(Vec<&Option<Cell>>, Vec<usize>)> = Vec::new();
    for row in 0..table.rows() {
        let key = by
            .iter()
            .map(|axis| &table.columns[axis].values[row])
            .collect();
        match groups.iter_mut().find(|(known, _)| *known == key) {
            Some((_, rows)) => rows.push(row),
            None => groups.push((key, vec![row])),
        }
    }
    let mut columns: IndexMap<String, Cells> = IndexMap::new();
    for (index, axis) in by.iter().enumerate() {
        let values = groups.iter().map(|(key, _)| key[index].clone());
        let cell_type = table.columns[axis].cell_type;
        columns.insert(axis.clone(), Cells::new(cell_type, values.collect()));
    }
    let counts = groups.iter().map(|(_, rows)| rows.len() as i64);
    let counts = counts.map(|count| Some(Cell::Integer(count)));
    let counts = Cells::new(CellType::Integer, counts.collect());
    columns.insert("instances".to_owned(), counts);
    for (name, cells) in table.metrics() {
        if by.contains(name) {
            continue;
        }
        let (mut means, mut deviations, mut counts) = (Vec::new(), Vec::new(), Vec::new());
        for (_, rows) in &groups {
            let known = rows.iter().filter_map(|row| cells.values[*row].as_ref());
            let values: Vec<f64> = known.filter_map(Cell::real).collect();
            let (mean, deviation) = mean_and_deviation(&values);
            means.push(mean.map(Cell::Real));
            deviations.push(deviation.map(Cell::Real));
            counts.push(Some(Cell::Integer(values.len() as i64)));
        }
        columns.insert(name.clone(), Cells::new(CellType::Real, means));
        let deviations = Cells::new(CellType::Real, deviations);
        columns.insert(format!("{name}_std"), deviations);
        let counts = Cells::new(CellType::Integer, counts);
        columns.insert(format!("{name}_n"), counts);
    }
    Ok(GatheredTable {
        columns,
        axes: by.iter().cloned().collect(),
    })
}

/// The same rows, the best first by a metric, with their rank in a first column. A mean over fewer instances than the row
/// has is not comparable with the others: it comes after them, without a rank, and rows without a value come last.
///
/// # Errors
/// If there is no such metric.
pub fn rank(
    table: &GatheredTable,
    metric: &str,
    lower_is_better: bool,
) -> Result<GatheredTable, Trouble> {
    let metrics = table.metrics();
    let Some((_, cells)) = metrics.iter().find(|(name, _)| *name == metric) else {
        let message = format!("`rank` names `{metric}`, which is not a metric of the instances");
        let known = listed(metrics.iter().map(|(name, _)| *name));
        return Err(Trouble::new(message).hint(format!("there are {known}")));
    };
    let integer = |column: &str, row: usize| {
        let cells = table.columns.get(column)?;
        cells.values[row].as_ref().and_then(Cell::integer)
    };
    let value = |row: usize| cells.values[row].as_ref().and_then(Cell::real);
    let is_whole = |row: usize| {
        let instances = integer("instances", row);
        value(row).is_some() && integer(&format!("{metric}_n"), row) == instances
    };
    let mut order: Vec<usize> = (0..table.rows()).collect();
    // Stable: equal rows keep their order.
    order.sort_by(|one, other| {
        let by_value = match (value(*one), value(*other)) {
            (Some(one), Some(other)) if lower_is_better => one.total_cmp(&other),
            (Some(one), Some(other)) => other.total_cmp(&one),
            (one, other) => other.is_some().cmp(&one.is_some()),
        };
        is_whole(*other).cmp(&is_whole(*one)).then(by_value)
    });
    let mut columns: IndexMap<String, Cells> = IndexMap::new();
    let mut ranks = Vec::with_capacity(order.len());
    for (place, row) in order.iter().enumerate() {
        ranks.push(is_whole(*row).then_some(Cell::Integer(place as i64 + 1)));
    }
    columns.insert("rank".to_owned(), Cells::new(CellType::Integer, ranks));
    for (name, cells) in &table.columns {
        columns.insert(name.clone(), cells.in_order(&order));
    }
    let mut axes = table.axes.clone();
    axes.insert("rank".to_owned());
    Ok(GatheredTable { columns, axes })
}

//! Rows of a gathered table that share the values of some axes become one row of means; rows are ranked by a figure.

use indexmap::IndexMap;

use super::{Cell, GatheredTable, mean_and_deviation, real};
use contract::Trouble;
use contract::artifact::{Direction, Metric};

/// A row for every combination of the values of these axes, in the order of first appearance: how many instances it is
/// the mean of, and mean and sample standard deviation of each figure, over the instances where it is defined.
///
/// # Errors
/// If one of the axes is not there.
pub fn group(table: &GatheredTable, by: &[String]) -> Result<GatheredTable, Trouble> {
    for axis in by {
        if !table.columns.contains_key(axis) {
            let known = table
                .axes
                .iter()
                .map(|axis| format!("`{axis}`"))
                .collect::<Vec<_>>()
                .join(", ");
            return Err(Trouble::new(format!(
                "`by` names `{axis}`, which the instances do not have"
            ))
            .hint(format!("their axes are {known}")));
        }
    }
    let keys: Vec<Vec<Option<Cell>>> = (0..table.rows())
        .map(|row| {
            by.iter()
                .map(|axis| table.columns[axis][row].clone())
                .collect()
        })
        .collect();
    let mut groups: Vec<(Vec<Option<Cell>>, Vec<usize>)> = Vec::new();
    for (row, key) in keys.into_iter().enumerate() {
        match groups.iter_mut().find(|(known, _)| *known == key) {
            Some((_, rows)) => rows.push(row),
            None => groups.push((key, vec![row])),
        }
    }
    let mut columns: IndexMap<String, Vec<Option<Cell>>> = IndexMap::new();
    for (index, axis) in by.iter().enumerate() {
        columns.insert(
            axis.clone(),
            groups.iter().map(|(key, _)| key[index].clone()).collect(),
        );
    }
    let counts = groups
        .iter()
        .map(|(_, rows)| Some(Cell::Integer(rows.len() as i64)));
    columns.insert("instances".to_owned(), counts.collect());
    for (name, cells) in table.figures().filter(|(name, _)| !by.contains(name)) {
        let statistics: Vec<(Option<f64>, Option<f64>)> = groups
            .iter()
            .map(|(_, rows)| {
                mean_and_deviation(
                    &rows
                        .iter()
                        .filter_map(|row| real(cells[*row].as_ref()?))
                        .collect::<Vec<_>>(),
                )
            })
            .collect();
        columns.insert(
            name.clone(),
            statistics
                .iter()
                .map(|(mean, _)| mean.map(Cell::Real))
                .collect(),
        );
        let deviations = statistics
            .iter()
            .map(|(_, deviation)| deviation.map(Cell::Real))
            .collect();
        columns.insert(format!("{name}_std"), deviations);
    }
    Ok(GatheredTable {
        columns,
        axes: by.iter().cloned().collect(),
    })
}

/// The same rows, the best first by a figure, with their rank in a first column. Rows without the figure come last.
///
/// # Errors
/// If there is no such figure.
pub fn rank(
    table: &GatheredTable,
    figure: &str,
    known: &IndexMap<String, Metric>,
) -> Result<GatheredTable, Trouble> {
    let Some((_, cells)) = table.figures().find(|(name, _)| *name == figure) else {
        let figures = table
            .figures()
            .map(|(name, _)| format!("`{name}`"))
            .collect::<Vec<_>>()
            .join(", ");
        return Err(Trouble::new(format!(
            "`rank` names `{figure}`, which is not a metric of the instances"
        ))
        .hint(format!("there are {figures}")));
    };
    let lower = known
        .get(figure)
        .is_some_and(|metric| metric.direction == Direction::Lower);
    let value = |row: usize| cells[row].as_ref().and_then(real);
    let mut order: Vec<usize> = (0..table.rows()).collect();
    order.sort_by(|one, other| match (value(*one), value(*other)) {
        (Some(one), Some(other)) if lower => one.total_cmp(&other),
        (Some(one), Some(other)) => other.total_cmp(&one),
        (one, other) => other.is_some().cmp(&one.is_some()),
    });
    let mut columns: IndexMap<String, Vec<Option<Cell>>> = IndexMap::new();
    let ranks = (1..=table.rows()).map(|rank| Some(Cell::Integer(rank as i64)));
    columns.insert("rank".to_owned(), ranks.collect());
    for (name, cells) in &table.columns {
        columns.insert(
            name.clone(),
            order.iter().map(|row| cells[*row].clone()).collect(),
        );
    }
    let mut axes = table.axes.clone();
    axes.insert("rank".to_owned());
    Ok(GatheredTable { columns, axes })
}

//! CSV with a header. A column in which every cell is a number is one of numbers; an empty cell is a missing value.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, StringArray};

use contract::Trouble;

/// The columns with their names.
pub(super) fn read(place: &Path, path: &Path) -> Result<Vec<(String, ArrayRef)>, Trouble> {
    let failed = |error: csv::Error| {
        let line = error.position().map(|position| position.line() as usize);
        let message = format!("`{}` cannot be read as CSV", path.display());
        Trouble::new(message).at(path, line).because(error)
    };
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .from_path(place)
        .map_err(failed)?;
    let mut names = Vec::new();
    for (index, name) in reader.headers().map_err(failed)?.iter().enumerate() {
        // The header of the index that pandas writes has no name.
        names.push(if name.is_empty() && index == 0 {
            INDEX.to_owned()
        } else {
            name.to_owned()
        });
    }
    let mut cells: Vec<Vec<String>> = vec![Vec::new(); names.len()];
    for record in reader.records() {
        let record = record.map_err(failed)?;
        for (column, cell) in cells.iter_mut().zip(&record) {
            column.push(cell.to_owned());
        }
    }
    let columns = names.into_iter().zip(cells);
    let named = columns.map(|(name, cells)| (name, typed(cells)));
    Ok(named.filter(|(name, _)| name != INDEX).collect())
}

/// Stands for the name of a column that has none and is the row's number.
const INDEX: &str = "\0index";

/// The cells as the narrowest type that all of them have.
fn typed(cells: Vec<String>) -> ArrayRef {
    if let Some(integers) = parsed(&cells, |cell| cell.parse::<i64>().ok()) {
        return Arc::new(Int64Array::from(integers));
    }
    if let Some(reals) = parsed(&cells, |cell| cell.parse::<f64>().ok()) {
        return Arc::new(Float64Array::from(reals));
    }
    let flag = |cell: &str| match cell {
        "true" | "True" => Some(true),
        "false" | "False" => Some(false),
        _ => None,
    };
    if let Some(flags) = parsed(&cells, flag) {
        return Arc::new(BooleanArray::from(flags));
    }
    let texts: Vec<Option<String>> = cells
        .into_iter()
        .map(|cell| Some(cell).filter(|cell| !cell.is_empty()))
        .collect();
    Arc::new(StringArray::from(texts))
}

/// The values of all cells, or nothing if one of them is of another type, or all are empty.
fn parsed<T>(cells: &[String], parse: impl Fn(&str) -> Option<T>) -> Option<Vec<Option<T>>> {
    let mut values = Vec::with_capacity(cells.len());
    for cell in cells {
        values.push(if cell.is_empty() {
            None
        } else {
            Some(parse(cell)?)
        });
    }
    let any = values.iter().any(Option::is_some);
    any.then_some(values)
}

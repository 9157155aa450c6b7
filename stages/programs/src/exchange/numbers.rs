//! Columns of numbers by name, or an array in their place, as row-major values of which each is finite.

use arrow::array::{Array, ArrayRef, Float64Array};
use arrow::compute::cast;
use arrow::datatypes::DataType;

use super::frame::{Content, Frame};
use contract::Trouble;
use contract::artifact::Shown;

/// Row-major values.
#[derive(Clone, Debug)]
pub(super) struct Matrix {
    pub rows: usize,
    pub values: Vec<f32>,
}

/// Says where a row lies, for a message.
pub(super) type Describe<'a> = &'a dyn Fn(usize) -> String;

/// The values of these columns, each called by its name with or without the prefix; of an array, its last axis stands for
/// the columns. Of one column alone the last axis may be left out.
///
/// # Errors
/// If a column is missing, is not of numbers, or has a value that is not finite.
pub(super) fn matrix(
    frame: &Frame,
    names: &[String],
    prefix: &str,
    describe: Describe<'_>,
) -> Result<Matrix, Trouble> {
    match &frame.content {
        Content::Columns(_) => {
            let mut columns = Vec::with_capacity(names.len());
            for name in names {
                let (name, column) = named(frame, name, prefix)?;
                columns.push(finite(
                    frame,
                    &name,
                    &reals(frame, &name, column)?,
                    describe,
                )?);
            }
            Ok(interleaved(frame.rows(), &columns))
        }
        Content::Array { shape, values } => {
            let width = match shape.as_slice() {
                [_] if names.len() == 1 => 1,
                [_, .., width] => *width,
                _ => 0,
            };
            if width != names.len() {
                let message = format!(
                    "`{}` is an array of shape {shape:?}; its last axis should have {} places, one for each of {}",
                    frame.path.display(),
                    names.len(),
                    listed(names)
                );
                return Err(frame.wrong(message));
            }
            let rows = values.len() / width.max(1);
            let mut narrow = Vec::with_capacity(values.len());
            for (place, value) in values.iter().enumerate() {
                let name = &names[place % width];
                narrow.push(one(frame, name, place / width, *value, describe)?);
            }
            Ok(Matrix {
                rows,
                values: narrow,
            })
        }
    }
}

fn listed(names: &[String]) -> String {
    const MOST: usize = 8;
    let shown = names.iter().take(MOST);
    let shown: Vec<String> = shown.map(|name| format!("`{}`", Shown(name))).collect();
    let more = if names.len() > MOST { ", …" } else { "" };
    format!("{}{more}", shown.join(", "))
}

fn named<'a>(
    frame: &'a Frame,
    name: &str,
    prefix: &str,
) -> Result<(String, &'a ArrayRef), Trouble> {
    let long = format!("{prefix}{name}");
    for candidate in [&long, name] {
        if let Some(column) = frame.column(candidate) {
            return Ok((candidate.to_owned(), column));
        }
    }
    let message = format!(
        "`{}` has no column `{}`",
        frame.path.display(),
        Shown(&long)
    );
    Err(frame.wrong(message).hint(frame.names()))
}

/// A column as numbers of 64 bits; a missing value becomes NaN.
pub(super) fn reals(frame: &Frame, name: &str, column: &ArrayRef) -> Result<Vec<f64>, Trouble> {
    let kind = column.data_type();
    let is_number = kind.is_numeric() || *kind == DataType::Boolean;
    let numbers = if is_number {
        cast(column, &DataType::Float64).ok()
    } else {
        None
    };
    let numbers = numbers.as_ref();
    let numbers = numbers.and_then(|column| column.as_any().downcast_ref::<Float64Array>());
    let Some(numbers) = numbers else {
        let first = cast(column, &DataType::Utf8).ok();
        let first = first.and_then(|texts| first_that_is_no_number(&texts));
        let message = format!(
            "the column `{}` of `{}` is of type {kind}, not of numbers",
            Shown(name),
            frame.path.display()
        );
        return Err(match first {
            Some((row, text)) => {
                let message = format!("{message}: row {row} is `{}`", Shown(&text));
                frame.wrong_at(row, message)
            }
            None => frame.wrong(message),
        });
    };
    let values = numbers.iter();
    Ok(values.map(|value| value.unwrap_or(f64::NAN)).collect())
}

fn first_that_is_no_number(texts: &ArrayRef) -> Option<(usize, String)> {
    let texts = texts.as_any().downcast_ref::<arrow::array::StringArray>()?;
    for row in 0..texts.len() {
        let text = if texts.is_null(row) {
            ""
        } else {
            texts.value(row)
        };
        if text.parse::<f64>().is_err() {
            return Some((row, text.to_owned()));
        }
    }
    None
}

/// A column in 32 bits, each value of which is finite.
fn finite(
    frame: &Frame,
    name: &str,
    values: &[f64],
    describe: Describe<'_>,
) -> Result<Vec<f32>, Trouble> {
    let mut narrow = Vec::with_capacity(values.len());
    for (row, value) in values.iter().enumerate() {
        narrow.push(one(frame, name, row, *value, describe)?);
    }
    Ok(narrow)
}

fn one(
    frame: &Frame,
    name: &str,
    row: usize,
    value: f64,
    describe: Describe<'_>,
) -> Result<f32, Trouble> {
    let narrow = value as f32;
    if narrow.is_finite() {
        return Ok(narrow);
    }
    let what = if value.is_nan() {
        "is NaN or missing".to_owned()
    } else if value.is_infinite() {
        "is infinite".to_owned()
    } else {
        format!("is {value:e}, too large for 32 bits,")
    };
    let message = format!(
        "`{}` {what} in row {row} of `{}` ({})",
        Shown(name),
        frame.path.display(),
        describe(row)
    );
    let hint = "every value must be a finite number; rows count from 0";
    Err(frame.wrong_at(row, message).hint(hint))
}

/// Columns as rows.
fn interleaved(rows: usize, columns: &[Vec<f32>]) -> Matrix {
    let mut values = vec![0.0; rows * columns.len()];
    for (place, column) in columns.iter().enumerate() {
        for (row, value) in column.iter().enumerate() {
            values[row * columns.len() + place] = *value;
        }
    }
    Matrix { rows, values }
}

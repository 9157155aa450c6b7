//! Any table that a program gives: numbers, integers, text, yes and no.

use arrow::array::{Array, ArrayRef, BooleanArray, Float64Array, Int64Array, StringArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;

use super::frame::{Content, Frame};
use contract::Trouble;
use contract::artifact::{Column, Shown, Table};

/// The columns of a file as a table; those of an array are called by their numbers.
///
/// # Errors
/// If a column is of a type that no table has.
pub(crate) fn table(frame: &Frame) -> Result<Table, Trouble> {
    let mut columns: Vec<(String, Column)> = Vec::new();
    match &frame.content {
        Content::Columns(given) => {
            for (name, array) in given {
                columns.push((name.clone(), column(frame, name, array)?));
            }
        }
        Content::Array { shape, values } => {
            let width = match shape.as_slice() {
                [] | [_] => 1,
                [_, rest @ ..] => rest.iter().product(),
            };
            for place in 0..width {
                let own = values.iter().skip(place).step_by(width.max(1)).copied();
                columns.push((place.to_string(), Column::from(own.collect::<Vec<f64>>())));
            }
        }
    }
    let named = columns
        .iter()
        .map(|(name, column)| (name.as_str(), column.clone()));
    Table::new(named.collect()).map_err(|error| frame.wrong("it is not a table").because(error))
}

fn column(frame: &Frame, name: &str, array: &ArrayRef) -> Result<Column, Trouble> {
    let kind = plain(array.data_type());
    let target = match kind {
        _ if kind.is_integer() => DataType::Int64,
        _ if kind.is_numeric() => DataType::Float64,
        DataType::Boolean => DataType::Boolean,
        // Times become texts that read as times.
        _ => DataType::Utf8,
    };
    let unusable = || {
        let message = format!(
            "the column `{}` of `{}` is of type {}",
            Shown(name),
            frame.path.display(),
            array.data_type()
        );
        let hint = "columns of a table are numbers, text, or yes and no";
        frame.wrong(message).hint(hint)
    };
    let array = cast(array, &target).map_err(|_| unusable())?;
    if let Some(values) = array.as_any().downcast_ref::<Int64Array>() {
        return Ok(Column::Integers(values.iter().collect()));
    }
    if let Some(values) = array.as_any().downcast_ref::<Float64Array>() {
        return Ok(Column::Reals(values.iter().collect()));
    }
    if let Some(values) = array.as_any().downcast_ref::<BooleanArray>() {
        return match values.null_count() {
            0 => Ok(Column::Flags(values.iter().flatten().collect())),
            _ => Err(unusable()),
        };
    }
    let texts = array.as_any().downcast_ref::<StringArray>();
    let texts = texts.ok_or_else(unusable)?.iter();
    Ok(Column::Texts(
        texts.map(|text| text.map(str::to_owned)).collect(),
    ))
}

/// The type of the values, where a column holds each of them once.
fn plain(kind: &DataType) -> &DataType {
    match kind {
        DataType::Dictionary(_, values) => values,
        other => other,
    }
}

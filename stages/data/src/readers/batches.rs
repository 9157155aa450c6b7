//! Arrow columns as rows of a series: what Parquet and Arrow files share once their bytes are decoded.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::{can_cast_types, cast};
use arrow::datatypes::{DataType, Float64Type, Int64Type, Schema, TimeUnit};
use arrow::error::ArrowError;

use super::builder::Builder;
use super::columns::{self, Columns, Role, Selection};
use super::keys::Keys;
use super::precision::narrow;
use contract::artifact::guarded;
use contract::{StageContext, Trouble};

/// Appends all batches of one file; returns its rows.
pub(super) fn append(
    schema: &Schema,
    batches: impl Iterator<Item = Result<RecordBatch, ArrowError>>,
    selection: &Selection<'_>,
    builder: &mut Builder,
    file: &Path,
    context: &StageContext<'_>,
) -> Result<usize, Trouble> {
    let names = names(schema, file)?;
    let roles = selection.roles(&names, file)?;
    let is_long = selection.id.is_some() || selection.variable.is_some();
    // Before anything is decoded: columns of numbers are no larger in memory than their file says.
    let place = Place {
        file,
        names: &names,
        first_row: 0,
        is_long,
    };
    for (column, (field, role)) in schema.fields().iter().zip(&roles).enumerate() {
        place.check_type(column, field.data_type(), *role)?;
    }
    builder.expect_channels(columns::channels(&names, &roles), file)?;
    let mut rows = 0;
    for batch in batches {
        context.check_cancelled()?;
        let batch = batch.map_err(|error| damaged(file, error))?;
        let place = Place {
            file,
            names: &names,
            first_row: rows,
            is_long,
        };
        place.append(&batch, &roles, &mut builder.columns)?;
        rows += batch.num_rows();
    }
    if rows == 0 {
        Err(columns::empty(file))
    } else {
        Ok(rows)
    }
}

/// The names of the columns, which are not too many.
pub(super) fn names(schema: &Schema, file: &Path) -> Result<Vec<String>, Trouble> {
    let fields = schema.fields();
    columns::check_count(fields.len(), file)?;
    Ok(fields.iter().map(|field| field.name().clone()).collect())
}

/// Reads a file with a library that may panic over damaged bytes.
pub(super) fn guard(
    file: &Path,
    read: impl FnOnce() -> Result<usize, Trouble>,
) -> Result<usize, Trouble> {
    guarded(read).unwrap_or_else(|reason| Err(damaged(file, reason)))
}

/// A file whose content cannot be decoded.
pub(super) fn damaged(
    file: &Path,
    error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> Trouble {
    let message =
        "the file is damaged, of another format, or compressed in a way that is not built in";
    let hint = "Parquet may be compressed by Snappy, Zstandard, gzip, Brotli or LZ4, Arrow IPC by LZ4 or Zstandard";
    Trouble::new(message)
        .at(file, None)
        .because(error)
        .hint(hint)
}

/// Whether 32 bits do not hold all values of a type.
fn is_wide(kind: &DataType) -> bool {
    kind.is_numeric()
        && !matches!(
            kind,
            DataType::Float16
                | DataType::Float32
                | DataType::Int8
                | DataType::Int16
                | DataType::UInt8
                | DataType::UInt16
        )
}

/// Where a batch comes from, for messages.
struct Place<'a> {
    file: &'a Path,
    names: &'a [String],
    first_row: usize,
    /// In the long form, the times of one thing follow those of another.
    is_long: bool,
}

impl Place<'_> {
    fn error(&self, message: String, hint: &str) -> Trouble {
        Trouble::new(message).at(self.file, None).hint(hint)
    }

    fn append(
        &self,
        batch: &RecordBatch,
        roles: &[Role],
        into: &mut Columns,
    ) -> Result<(), Trouble> {
        let width = roles.iter().filter(|role| **role == Role::Value).count();
        let base = into.values.len();
        let end = base + batch.num_rows() * width;
        into.values.resize(end, f32::NAN);
        let schema = batch.schema();
        let mut kinds = schema.fields().iter().zip(roles);
        if !into.rests.is_empty()
            || kinds.any(|(field, role)| *role == Role::Value && is_wide(field.data_type()))
        {
            into.rests.resize(end, 0);
        }
        let mut channel = 0;
        for (column, role) in roles.iter().enumerate() {
            let array = batch.column(column);
            match role {
                Role::Value => {
                    self.values(column, array, into, base + channel, width)?;
                    channel += 1;
                }
                Role::Time => self.times(column, array, into)?,
                Role::Label => self.labels(column, array, into)?,
                Role::Id => self.words(column, array, &mut into.ids)?,
                Role::Variable => self.words(column, array, &mut into.variables)?,
                Role::Skip => {}
            }
        }
        Ok(())
    }

    /// Whether a column can have its role.
    fn check_type(&self, column: usize, kind: &DataType, role: Role) -> Result<(), Trouble> {
        let is_number = kind.is_numeric() || *kind == DataType::Boolean;
        let is_time = matches!(
            kind,
            DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 | DataType::Int64
        );
        match role {
            Role::Value | Role::Label if !is_number => Err(self.no_number(column, kind)),
            Role::Time if !is_time => Err(self.no_time(column, kind)),
            Role::Id | Role::Variable if !can_cast_types(kind, &DataType::Utf8) => {
                Err(self.no_word(column, kind))
            }
            _ => Ok(()),
        }
    }

    fn no_number(&self, column: usize, kind: &DataType) -> Trouble {
        let message = format!("column `{}` holds {kind}, not numbers", self.names[column]);
        let hint = "leave it out with `columns`, or name it as `time` or `label`";
        self.error(message, hint)
    }

    fn no_time(&self, column: usize, kind: &DataType) -> Trouble {
        let message = format!("column `{}` holds {kind}, not a time", self.names[column]);
        let hint = "a time is a timestamp, a date, or a 64-bit integer of milliseconds since 1970";
        self.error(message, hint)
    }

    fn no_word(&self, column: usize, kind: &DataType) -> Trouble {
        let message = format!("column `{}` holds {kind}, not words", self.names[column]);
        self.error(message, "it says what each row of the long form belongs to")
    }

    /// Words or whole numbers that say what rows belong to.
    fn words(&self, column: usize, array: &ArrayRef, into: &mut Keys) -> Result<(), Trouble> {
        let words =
            cast(array, &DataType::Utf8).map_err(|_| self.no_word(column, array.data_type()))?;
        for (row, word) in words.as_string::<i32>().iter().enumerate() {
            let Some(word) = word.filter(|word| !word.is_empty()) else {
                let (name, row) = (&self.names[column], self.first_row + row + 1);
                let message = format!("data row {row} has nothing in `{name}`");
                return Err(self.error(message, "it says what the row belongs to"));
            };
            into.push(word);
        }
        Ok(())
    }

    /// A column as 64-bit floats.
    fn floats(&self, column: usize, array: &ArrayRef) -> Result<ArrayRef, Trouble> {
        cast(array, &DataType::Float64).map_err(|_| self.no_number(column, array.data_type()))
    }

    fn values(
        &self,
        column: usize,
        array: &ArrayRef,
        into: &mut Columns,
        first: usize,
        width: usize,
    ) -> Result<(), Trouble> {
        let floats = self.floats(column, array)?;
        let floats = floats.as_primitive::<Float64Type>();
        for (row, value) in floats.iter().enumerate() {
            let (value, rest) = narrow(value.unwrap_or(f64::NAN));
            if value.is_infinite() {
                let (name, row) = (&self.names[column], self.first_row + row + 1);
                let message =
                    format!("the value of `{name}` in data row {row} is infinite in 32 bits");
                let hint = "replace it, or write null and choose a rule with `missing`";
                return Err(self.error(message, hint));
            }
            into.any_missing |= value.is_nan();
            into.values[first + row * width] = value;
            if let Some(kept) = into.rests.get_mut(first + row * width) {
                *kept = rest;
            }
        }
        Ok(())
    }

    fn labels(&self, column: usize, array: &ArrayRef, into: &mut Columns) -> Result<(), Trouble> {
        let floats = self.floats(column, array)?;
        for (row, value) in floats.as_primitive::<Float64Type>().iter().enumerate() {
            into.labels.push(match value {
                Some(0.0) => 0,
                Some(1.0) => 1,
                other => {
                    let found = other.map_or_else(|| "null".to_owned(), |value| value.to_string());
                    let message = format!(
                        "the label in column `{}`, data row {}, is {found}, neither 0 nor 1",
                        self.names[column],
                        self.first_row + row + 1
                    );
                    return Err(self.error(message, "1 marks an anomalous row, 0 a normal one"));
                }
            });
        }
        Ok(())
    }

    fn times(&self, column: usize, array: &ArrayRef, into: &mut Columns) -> Result<(), Trouble> {
        let name = &self.names[column];
        let numbers = match array.data_type() {
            DataType::Date32 => cast(array, &DataType::Date64),
            _ => Ok(Arc::clone(array)),
        };
        let integers = numbers.and_then(|array| cast(&array, &DataType::Int64));
        let integers = integers.map_err(|_| self.no_time(column, array.data_type()))?;
        for (row, time) in integers.as_primitive::<Int64Type>().iter().enumerate() {
            let row = self.first_row + row + 1;
            let Some(time) = time else {
                let message = format!("data row {row} has no time in `{name}`");
                return Err(self.error(message, "fill or remove it"));
            };
            let Some(time) = milliseconds_of(time, array.data_type()) else {
                let message = format!("the time in `{name}`, data row {row}, is out of bounds");
                return Err(self.error(message, "64 bits hold the milliseconds of a time"));
            };
            // The first row of a file may well lie before the last one of the file before.
            let goes_back = into.times.last().is_some_and(|last| *last > time);
            if row > 1 && goes_back && !self.is_long {
                let message = format!("the time in `{name}` goes back in data row {row}");
                let hint = "rows stand in the order of time: sort the file by its time column";
                return Err(self.error(message, hint));
            }
            into.times.push(time);
        }
        Ok(())
    }
}

/// The whole milliseconds of a time of some type, rounded down, before 1970 as after it.
fn milliseconds_of(time: i64, kind: &DataType) -> Option<i64> {
    match kind {
        DataType::Timestamp(TimeUnit::Second, _) => time.checked_mul(1000),
        DataType::Timestamp(TimeUnit::Microsecond, _) => Some(time.div_euclid(1000)),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => Some(time.div_euclid(1_000_000)),
        _ => Some(time),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rounded_down_on_both_sides_of_1970() {
        let of = |unit, time| milliseconds_of(time, &DataType::Timestamp(unit, None));
        assert_eq!(of(TimeUnit::Nanosecond, 1_999_999), Some(1));
        assert_eq!(of(TimeUnit::Nanosecond, -1), Some(-1));
        assert_eq!(of(TimeUnit::Microsecond, -2_001), Some(-3));
        assert_eq!(of(TimeUnit::Second, -2), Some(-2000));
        assert_eq!(of(TimeUnit::Second, i64::MAX), None);
        assert_eq!(milliseconds_of(-7, &DataType::Int64), Some(-7));
    }
}

//! The columns that say where a row lies: `entity`, `split` and `time`, and the labels beside them. Other tools tell rows
//! apart by them. Where the footer says the same of segments, it decides, and a column that contradicts it is refused.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, DictionaryArray, Int32Array, Int64Array, RecordBatch, StringArray,
    StringViewArray, TimestampMicrosecondArray, TimestampMillisecondArray,
    TimestampNanosecondArray, TimestampSecondArray, UInt8Array, new_null_array,
};
use arrow::datatypes::{DataType, Field, Int32Type, TimeUnit};

use super::columns;
use super::{ArtifactError, Segment, Shown};

pub(super) const ENTITY: &str = "entity";
pub(super) const SPLIT: &str = "split";
pub(super) const TIME: &str = "time";

/// Instants in milliseconds since 1970.
pub(super) fn time_type() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()))
}

/// Whether a column holds times: instants of any unit, or integers as they were written once.
pub(super) fn is_time(kind: &DataType) -> bool {
    matches!(kind, DataType::Timestamp(..) | DataType::Int64)
}

/// The columns in the order in which every file has them.
pub(super) fn fields() -> Vec<Field> {
    vec![
        Field::new(ENTITY, DataType::Utf8, false),
        Field::new(SPLIT, DataType::Utf8, false),
        Field::new(TIME, time_type(), true),
    ]
}

/// Entity and split of all rows of these segments, and their times, which may not be known.
pub(super) fn of_segments(segments: &[Segment], times: &[i64], rows: usize) -> Vec<ArrayRef> {
    let entities = segments
        .iter()
        .map(|segment| (segment.entity.as_str(), segment.rows.len()));
    let splits = segments
        .iter()
        .map(|segment| (segment.split.name(), segment.rows.len()));
    vec![
        repeated(entities),
        repeated(splits),
        time_array(times, rows),
    ]
}

/// A column of texts, each of which stands in so many rows. In memory a text is there once.
pub(super) fn repeated<'a>(runs: impl Iterator<Item = (&'a str, usize)>) -> ArrayRef {
    let (mut texts, mut places) = (Vec::new(), Vec::new());
    for (text, rows) in runs {
        if texts.last() != Some(&text) {
            texts.push(text);
        }
        let place = texts.len() as i32 - 1;
        places.extend(std::iter::repeat_n(place, rows));
    }
    let texts = Arc::new(StringArray::from(texts));
    Arc::new(DictionaryArray::<Int32Type>::new(
        Int32Array::from(places),
        texts,
    ))
}

/// Times, or nulls if there are none.
pub(super) fn time_array(times: &[i64], rows: usize) -> ArrayRef {
    if times.is_empty() {
        return new_null_array(&time_type(), rows);
    }
    let times = TimestampMillisecondArray::from(times.to_vec());
    Arc::new(times.with_timezone("UTC"))
}

/// Appends the times of a batch, in milliseconds; none if all are missing.
pub(super) fn append_times(
    batch: &RecordBatch,
    place: usize,
    times: &mut Vec<i64>,
    what: &'static str,
) -> Result<(), ArtifactError> {
    let wrong = |reason: &str| ArtifactError::corrupt(what, reason);
    let Some(array) = batch.columns().get(place) else {
        return Err(wrong("there is no column of times"));
    };
    if array.null_count() == array.len() && is_time(array.data_type()) {
        return Ok(());
    }
    if array.null_count() > 0 {
        return Err(wrong("some rows have a time and others have none"));
    }
    let any = array.as_any();
    if let Some(milliseconds) = any.downcast_ref::<TimestampMillisecondArray>() {
        times.extend_from_slice(milliseconds.values());
    } else if let Some(milliseconds) = any.downcast_ref::<Int64Array>() {
        times.extend_from_slice(milliseconds.values());
    } else if let Some(finer) = any.downcast_ref::<TimestampMicrosecondArray>() {
        times.extend(finer.values().iter().map(|time| time.div_euclid(1_000)));
    } else if let Some(finer) = any.downcast_ref::<TimestampNanosecondArray>() {
        times.extend(finer.values().iter().map(|time| time.div_euclid(1_000_000)));
    } else if let Some(seconds) = any.downcast_ref::<TimestampSecondArray>() {
        for time in seconds.values() {
            let milliseconds = time.checked_mul(1_000);
            times.push(milliseconds.ok_or_else(|| wrong("a time is out of range"))?);
        }
    } else {
        return Err(wrong("the times are not timestamps"));
    }
    Ok(())
}

/// Labels of all rows; null where nobody says whether a row is anomalous.
pub(super) fn label_array(labels: &[u8], segments: &[Segment], rows: usize) -> ArrayRef {
    if labels.is_empty() {
        return new_null_array(&DataType::UInt8, rows);
    }
    let is_labelled = |segment: &Segment| segment.labelled && !segment.rows.is_empty();
    if !segments.iter().any(is_labelled) {
        return Arc::new(UInt8Array::from(labels.to_vec()));
    }
    let mut column = Vec::with_capacity(rows);
    for segment in segments {
        for label in &labels[segment.rows.clone()] {
            column.push((segment.labelled || *label != 0).then_some(*label));
        }
    }
    Arc::new(UInt8Array::from(column))
}

/// Appends the labels of a batch, 0 where there is none. Returns whether there is any.
pub(super) fn append_labels(
    batch: &RecordBatch,
    place: usize,
    labels: &mut Vec<u8>,
    what: &'static str,
) -> Result<bool, ArtifactError> {
    let array = batch.columns().get(place);
    let array = array.and_then(|array| array.as_any().downcast_ref::<UInt8Array>());
    let Some(array) = array else {
        let reason = format!("column {place} is missing or of another type");
        return Err(ArtifactError::corrupt(what, reason));
    };
    labels.extend(array.iter().map(Option::unwrap_or_default));
    Ok(array.null_count() < array.len())
}

/// Checks that two columns of a batch, whose first row is row `first` of the file, name the entity and the split of the
/// segment that each row belongs to.
pub(super) fn check_segments(
    batch: &RecordBatch,
    first: usize,
    segments: &[Segment],
    what: &'static str,
) -> Result<(), ArtifactError> {
    let entities = columns::column::<StringViewArray>(batch, 0, what)?;
    let splits = columns::column::<StringViewArray>(batch, 1, what)?;
    let end = first + batch.num_rows();
    let from = segments.partition_point(|segment| segment.rows.end <= first);
    for segment in &segments[from..] {
        if segment.rows.start >= end {
            break;
        }
        let rows = segment.rows.start.max(first)..segment.rows.end.min(end);
        let rows = rows.start - first..rows.end.max(rows.start) - first;
        for (column, name, expected) in [
            (entities, ENTITY, segment.entity.as_str()),
            (splits, SPLIT, segment.split.name()),
        ] {
            if let Some(row) = other_text(column, rows.clone(), expected) {
                let found = Shown(column.value(row));
                let row = first + row;
                let reason = format!(
                    "row {row} has `{found}` in the column `{name}`, and `{}` in the footer",
                    Shown(expected)
                );
                return Err(ArtifactError::corrupt(what, reason));
            }
        }
    }
    Ok(())
}

/// The first of these rows that does not hold this text.
fn other_text(column: &StringViewArray, rows: Range<usize>, expected: &str) -> Option<usize> {
    let views = column.views();
    // Rows that point at one place hold one text.
    let mut known = None;
    rows.into_iter().find(|row| {
        if known == Some(views[*row]) {
            return false;
        }
        known = Some(views[*row]);
        column.value(*row) != expected
    })
}

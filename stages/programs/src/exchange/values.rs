//! A series that a program gives: new channels for the rows of one that it was given, or rows of its own.

use super::frame::Frame;
use super::numbers::matrix;
use super::rows::{Expected, refuse_truth, texts};
use arrow::array::Array;
use contract::Trouble;
use contract::artifact::{Segment, Series, Shown, Split};

/// Columns that say where a row lies, and are no channels.
const PLACES: [&str; 6] = [
    "entity",
    "split",
    "time",
    "runner.entity",
    "runner.split",
    "runner.time",
];

/// The series of a file. With `expected` its rows are those of another series, which has their times and labels; without,
/// the columns `entity` and `split` say where each segment begins.
///
/// # Errors
/// If a value is not finite, or the rows are others.
pub(crate) fn series(frame: &Frame, expected: Option<&Expected<'_>>) -> Result<Series, Trouble> {
    refuse_truth(frame, &[])?;
    let mut channels = Vec::new();
    for (name, _) in frame.columns() {
        if !PLACES.contains(&name.as_str()) {
            channels.push(name.clone());
        }
    }
    if let super::frame::Content::Array { shape, .. } = &frame.content {
        let width = shape.get(1).copied().unwrap_or(1);
        channels = (0..width).map(|number| number.to_string()).collect();
        // The same number of channels: the same channels.
        if let Some(expected) = expected.filter(|expected| expected.series.width() == width) {
            channels.clone_from(&expected.series.channels);
        }
    }
    if channels.is_empty() {
        let message = format!("`{}` has no channels", frame.path.display());
        return Err(frame.wrong(message).hint(frame.names()));
    }
    let describe = |row: usize| match expected {
        Some(expected) => expected.describe(row),
        None => "rows count from 0".to_owned(),
    };
    if let Some(expected) = expected {
        expected.check_count(frame, frame.rows())?;
    }
    let values = matrix(frame, &channels, "", &describe)?;
    let mut found = Series {
        channels,
        values: values.values,
        ..Series::default()
    };
    match expected {
        Some(expected) => {
            expected.check_places(frame)?;
            attach(&mut found, expected);
        }
        None => found.segments = segments(frame, values.rows)?,
    }
    found.validate().map_err(|reason| frame.wrong(reason))?;
    Ok(found)
}

/// Segments, labels and times of the rows, as the other series has them.
fn attach(found: &mut Series, expected: &Expected<'_>) {
    let mut first = 0;
    for segment in &expected.segments {
        let rows = segment.rows.clone();
        let labels = expected.series.labels.get(rows.clone());
        found.labels.extend_from_slice(labels.unwrap_or_default());
        let times = expected.series.times.get(rows);
        found.times.extend_from_slice(times.unwrap_or_default());
        let mut own = Segment::clone(segment);
        own.rows = first..first + segment.rows.len();
        first = own.rows.end;
        found.segments.push(own);
    }
}

/// Stretches of rows of one entity and split.
fn segments(frame: &Frame, rows: usize) -> Result<Vec<Segment>, Trouble> {
    let entities = texts(frame, &["entity", "runner.entity"])?;
    let splits = texts(frame, &["split", "runner.split"])?;
    let Some(splits) = splits else {
        let message = format!(
            "`{}` does not say which split its rows are of",
            frame.path.display()
        );
        let hint = "write a column `split` with train, validation, calibration or test, or name the input whose rows these are in `of`";
        return Err(frame.wrong(message).hint(hint));
    };
    let mut found: Vec<Segment> = Vec::new();
    for row in 0..rows.min(splits.len()) {
        let split: Split = splits.value(row).parse().map_err(|_| {
            let message = format!(
                "row {row} of `{}` is of split `{}`",
                frame.path.display(),
                Shown(splits.value(row))
            );
            let hint = "there are train, validation, calibration and test";
            frame.wrong_at(row, message).hint(hint)
        })?;
        let entity = entities.as_ref().map_or("", |entities| entities.value(row));
        match found.last_mut() {
            Some(last) if last.split == split && last.entity == entity => last.rows.end += 1,
            _ => found.push(Segment::new(split, entity, row..row + 1)),
        }
    }
    Ok(found)
}

//! Labels in a file of their own, in the forms that people have: a label a row, with a header or without; a table with a
//! column of labels; intervals of rows or of times; NumPy arrays; the windows of the Numenta benchmark in JSON.

use std::path::Path;

use serde_json::Value;

use super::columns::{Columns, Role};
use super::line::shortened;
use super::text::{Dialect, TextFile, whole};
use super::times::TimeFormat;
use super::{line, npy, number};
use contract::{StageContext, Trouble};

/// Names of a column of labels, in small letters.
const LABELS: [&str; 12] = [
    "label",
    "labels",
    "anomaly",
    "is_anomaly",
    "anomalous",
    "ground_truth",
    "alarm",
    "fault",
    "attack",
    "outlier",
    "class",
    "y",
];
/// Names of the first and the last row or moment of an interval, in small letters.
const STARTS: [&str; 5] = ["start", "begin", "from", "start_time", "start_timestamp"];
const ENDS: [&str; 5] = ["end", "stop", "to", "end_time", "end_timestamp"];

/// Whether a column of this name probably holds labels.
pub(super) fn is_name(name: &str) -> bool {
    LABELS.contains(&name.to_lowercase().as_str())
}

/// Appends the labels of the `rows` rows that were read last, from `data`. Their times are the last of `into.times`; `array`
/// names the labels in an archive of NumPy arrays.
///
/// # Errors
/// At the first line that does not fit, or if there is not a label for every row.
pub(super) fn read_labels(
    file: &Path,
    array: Option<&str>,
    data: &Path,
    rows: usize,
    into: &mut Columns,
    context: &StageContext<'_>,
) -> Result<(), Trouble> {
    if npy::is_array(file) {
        return npy_labels(file, array, data, rows, into);
    }
    if file
        .extension()
        .is_some_and(|ending| ending.eq_ignore_ascii_case("json"))
    {
        let intervals = windows_in_json(file, data)?;
        return mark(&intervals, file, rows, into);
    }
    let header = has_header(file)?;
    let mut dialect = Dialect::plain(super::csv::unnamed);
    dialect.header = header;
    let text = TextFile::open(file, dialect)?;
    let place = |names: &[&str]| {
        let known = |name: &String| names.contains(&name.to_lowercase().as_str());
        text.names.iter().position(known)
    };
    if let (Some(start), Some(end)) = (place(&STARTS), place(&ENDS)) {
        let intervals = intervals(file, start, end)?;
        return mark(&intervals, file, rows, into);
    }
    let column = match text.names.len() {
        1 => Some(0),
        _ if header => place(&LABELS),
        _ => None,
    };
    let Some(column) = column else {
        let message = format!("{} columns in a file of labels", text.names.len());
        return Err(Trouble::new(message).at(file, Some(1)).hint(
            "it holds one label a line (0 or 1), a column called `label`, or intervals in columns called `start` and `end`",
        ));
    };
    let mut roles = vec![Role::Skip; text.names.len()];
    roles[column] = Role::Label;
    let found = text.read_roles(&roles, into, context)?;
    same_rows(found, rows, file, data)
}

/// Whether the first line names the columns: no field of it is a number or a word for a label.
fn has_header(file: &Path) -> Result<bool, Trouble> {
    let mut dialect = Dialect::plain(super::csv::unnamed);
    dialect.header = true;
    // A file of one line has no rows below it, and so no header.
    let Ok(text) = TextFile::open(file, dialect) else {
        return Ok(false);
    };
    let is_value = |name: &String| {
        let number = number::parse(name.as_bytes(), 0);
        number.is_some_and(|(_, end)| end == name.len()) || line::label("", name).is_ok()
    };
    Ok(!text.names.iter().any(is_value))
}

/// An interval as it is written: its ends, and the line.
struct Interval {
    start: String,
    end: String,
    line: Option<usize>,
}

fn intervals(file: &Path, start: usize, end: usize) -> Result<Vec<Interval>, Trouble> {
    let text = whole(file)?;
    let mut intervals = Vec::new();
    for (index, line) in text.lines().enumerate().skip(1) {
        if line.trim().is_empty() {
            continue;
        }
        let fields = line::fields(line.as_bytes(), b',');
        let (Some(start), Some(end)) = (fields.get(start), fields.get(end)) else {
            return Err(Trouble::new("an interval without its end").at(file, Some(index + 1)));
        };
        intervals.push(Interval {
            start: start.to_string(),
            end: end.to_string(),
            line: Some(index + 1),
        });
    }
    Ok(intervals)
}

/// The windows of one file: a list of `[start, end]`, or such lists by file, as in `combined_windows.json` of NAB.
fn windows_in_json(file: &Path, data: &Path) -> Result<Vec<Interval>, Trouble> {
    let read: Value = serde_json::from_str(&whole(file)?).map_err(|error| {
        Trouble::new("the file is not JSON")
            .at(file, Some(error.line()))
            .because(error)
    })?;
    let name = data.file_name().unwrap_or_default().to_string_lossy();
    let list = match &read {
        Value::Object(files) => {
            let ours = files
                .iter()
                .find(|(path, _)| path.rsplit('/').next() == Some(&*name));
            let Some((_, windows)) = ours else {
                let message = format!("no windows are listed for `{name}`");
                return Err(Trouble::new(message).at(file, None));
            };
            windows
        }
        other => other,
    };
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let mut intervals = Vec::new();
    let Some(windows) = list.as_array() else {
        let message = "windows are a list of `[start, end]`, or such lists by the name of the file";
        return Err(Trouble::new(message).at(file, None));
    };
    for window in windows {
        let ends = window.as_array().map_or(&[][..], Vec::as_slice);
        let [Some(start), Some(end)] = [ends.first().and_then(text), ends.get(1).and_then(text)]
        else {
            return Err(
                Trouble::new(format!("`{window}` is not a window of `[start, end]`"))
                    .at(file, None),
            );
        };
        intervals.push(Interval {
            start,
            end,
            line: None,
        });
    }
    Ok(intervals)
}

/// Labels the rows from the first to the last of each interval, both included. Whole numbers below the count of rows are
/// rows, counted from 0; all else are times.
fn mark(
    intervals: &[Interval],
    file: &Path,
    rows: usize,
    into: &mut Columns,
) -> Result<(), Trouble> {
    let times = match into.times.len() {
        0 => &[][..],
        all => &into.times[all - rows..],
    };
    let row = |text: &str| {
        let number: f64 = text.parse().ok()?;
        (number >= 0.0 && number.fract() == 0.0 && number < rows as f64).then_some(number as usize)
    };
    let by_rows = intervals
        .iter()
        .all(|interval| row(&interval.start).is_some() && row(&interval.end).is_some());
    let mut labels = vec![0; rows];
    for interval in intervals {
        let wrong = |message: String| Trouble::new(message).at(file, interval.line);
        let (start, end) = (&interval.start, &interval.end);
        let marked = if by_rows {
            let (start, end) = (row(start).unwrap_or(0), row(end).unwrap_or(0));
            start..end + 1
        } else if times.is_empty() {
            let message = format!(
                "`{}` to `{}` are not rows of {rows}, and the data have no times",
                shortened(start),
                shortened(end)
            );
            return Err(wrong(message)
                .hint("name the column of times with `time`; rows are counted from 0"));
        } else {
            let (Some(first), Some(last)) = (moment(start), moment(end)) else {
                let message = format!(
                    "`{}` to `{}` is not an interval",
                    shortened(start),
                    shortened(end)
                );
                return Err(wrong(message)
                    .hint("an end is a row, counted from 0, or a time as in the data"));
            };
            times.partition_point(|time| *time < first)..times.partition_point(|time| *time <= last)
        };
        if marked.is_empty() {
            let message = format!(
                "the interval from `{}` to `{}` holds no row",
                shortened(start),
                shortened(end)
            );
            return Err(wrong(message));
        }
        labels[marked].fill(1);
    }
    into.labels.extend(labels);
    Ok(())
}

/// A moment as it is written in files of intervals: ISO 8601, or seconds since 1970.
fn moment(text: &str) -> Option<i64> {
    TimeFormat::Iso
        .parse(text)
        .or_else(|| TimeFormat::Seconds.parse(text))
}

/// Appends an array of zeros and ones to the labels.
fn npy_labels(
    file: &Path,
    array: Option<&str>,
    data: &Path,
    rows: usize,
    into: &mut Columns,
) -> Result<(), Trouble> {
    let array = npy::NpyFile::open_array(file, array)?;
    if array.width != 1 {
        let message = format!("{} columns in an array of labels", array.width);
        return Err(Trouble::new(message)
            .at(file, None)
            .hint("its shape is [rows]"));
    }
    let mut labels = Columns::default();
    let found = array.read(&mut labels)?;
    let odd = labels
        .values
        .iter()
        .position(|value| *value != 0.0 && *value != 1.0);
    if let Some(row) = odd {
        let value = labels.values[row];
        let message =
            format!("the label in row {row} (counted from 0) is {value}, neither 0 nor 1");
        return Err(Trouble::new(message)
            .at(file, None)
            .hint("1 marks an anomalous row, 0 a normal one"));
    }
    into.labels
        .extend(labels.values.iter().map(|value| *value as u8));
    same_rows(found, rows, file, data)
}

/// Fails unless there is a label for every row.
fn same_rows(labels: usize, rows: usize, file: &Path, data: &Path) -> Result<(), Trouble> {
    if labels == rows {
        return Ok(());
    }
    let hint = format!(
        "the rows are those of {}; both files belong to the same version of the data",
        data.display()
    );
    Err(Trouble::new(format!("{labels} labels for {rows} rows"))
        .at(file, None)
        .hint(hint))
}

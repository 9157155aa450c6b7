//! The rows that a program was asked about, and what is said when it answers for others.

use super::frame::Frame;
use arrow::array::{Array, ArrayRef, Int64Array, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, TimeUnit};
use contract::Trouble;
use contract::artifact::{Segment, Series, Shown, Split};

/// Rows of some segments of a series, in its order.
#[derive(Clone, Debug)]
pub(crate) struct Expected<'a> {
    /// What the input is called.
    pub name: &'a str,
    pub series: &'a Series,
    pub segments: Vec<&'a Segment>,
}

impl<'a> Expected<'a> {
    /// The segments of these splits, or all of them.
    ///
    /// # Errors
    /// If the series has no rows of one of the splits.
    pub fn of(
        name: &'a str,
        series: &'a Series,
        splits: Option<&[Split]>,
    ) -> Result<Self, Trouble> {
        let mut segments = Vec::new();
        for segment in &series.segments {
            if splits.is_none_or(|splits| splits.contains(&segment.split)) {
                segments.push(segment);
            }
        }
        for split in splits.unwrap_or_default() {
            if series.of_split(*split).next().is_none() {
                let message = format!("`{}` has no rows of split `{split}`", Shown(name));
                let mut present = Split::ALL.to_vec();
                present.retain(|split| series.of_split(*split).next().is_some());
                let present: Vec<&str> = present.into_iter().map(Split::name).collect();
                return Err(Trouble::new(message).hint(format!("it has {}", present.join(", "))));
            }
        }
        Ok(Self {
            name,
            series,
            segments,
        })
    }

    pub fn rows(&self) -> usize {
        self.segments.iter().map(|segment| segment.rows.len()).sum()
    }

    /// The segment of a row, and which of its rows it is.
    pub fn place(&self, row: usize) -> Option<(&'a Segment, usize)> {
        let mut left = row;
        for segment in &self.segments {
            if left < segment.rows.len() {
                return Some((segment, left));
            }
            left -= segment.rows.len();
        }
        None
    }

    /// Where a row lies, for people.
    pub fn describe(&self, row: usize) -> String {
        match self.place(row) {
            Some((segment, offset)) => format!(
                "row {offset} of `{}` in {}",
                Shown(&segment.entity),
                segment.split
            ),
            None => "beyond the last row".to_owned(),
        }
    }

    /// How many rows there are of each split: `28 of train and 12 of test`.
    fn counts(&self) -> String {
        let mut counts = Vec::new();
        for split in Split::ALL {
            let of_split = self
                .segments
                .iter()
                .filter(|segment| segment.split == split);
            let rows: usize = of_split.map(|segment| segment.rows.len()).sum();
            if rows > 0 {
                counts.push(format!("{rows} of {split}"));
            }
        }
        counts.join(", ")
    }

    /// Holds the number of rows of a file against these.
    ///
    /// # Errors
    /// If there are more, or fewer.
    pub fn check_count(&self, frame: &Frame, found: usize) -> Result<(), Trouble> {
        let rows = self.rows();
        if found == rows {
            return Ok(());
        }
        let message = format!(
            "`{}` has {found} rows where {rows} are expected, one for each row of `{}`: {}",
            frame.path.display(),
            Shown(self.name),
            self.counts()
        );
        let mut hint = "write a row for each row, in the order in which they were given".to_owned();
        for split in Split::ALL {
            let segments = self.series.of_split(split);
            let of_split: usize = segments.map(|segment| segment.rows.len()).sum();
            if of_split == found && of_split < rows {
                hint = format!("there are as many rows of {split}: say `splits: [{split}]`");
            }
        }
        if let Some((segment, offset)) = self.place(found) {
            hint.push_str(&format!(
                "; the first that is missing is row {offset} of `{}` in {}",
                Shown(&segment.entity),
                segment.split
            ));
        }
        Err(frame.wrong(message).hint(hint))
    }

    /// Holds columns that say where a row lies against where it does: `entity`, `split` and `time`.
    ///
    /// # Errors
    /// The first row that lies elsewhere.
    pub fn check_places(&self, frame: &Frame) -> Result<(), Trouble> {
        let entities = texts(frame, &["entity", "runner.entity"])?;
        let splits = texts(frame, &["split", "runner.split"])?;
        let times = times(frame);
        let mut row = 0;
        for segment in &self.segments {
            for offset in segment.rows.clone() {
                let told = [
                    (&entities, segment.entity.as_str()),
                    (&splits, segment.split.name()),
                ];
                for (column, expected) in told {
                    let found = column.as_ref().map(|column| column.value(row));
                    if let Some(found) = found.filter(|found| *found != expected) {
                        return Err(self.misplaced(frame, row, found, expected));
                    }
                }
                let time = self.series.times.get(offset);
                if let (Some(times), Some(expected)) = (&times, time)
                    && times.value(row) != *expected
                {
                    let found = times.value(row).to_string();
                    return Err(self.misplaced(frame, row, &found, &expected.to_string()));
                }
                row += 1;
            }
        }
        Ok(())
    }

    fn misplaced(&self, frame: &Frame, row: usize, found: &str, expected: &str) -> Trouble {
        let message = format!(
            "row {row} of `{}` is of `{}`, where {} is expected, of `{}`",
            frame.path.display(),
            Shown(found),
            self.describe(row),
            Shown(expected)
        );
        let hint = "write rows in the order in which they were given, or leave out the columns that say where they lie";
        frame.wrong_at(row, message).hint(hint)
    }
}

/// Refuses columns of labels and true values: those are attached from the data.
///
/// # Errors
/// The first such column.
pub(super) fn refuse_truth(frame: &Frame, more: &[&str]) -> Result<(), Trouble> {
    for (name, _) in frame.columns() {
        let is_label = ["label", "runner.label", "labels"].contains(&name.as_str());
        let is_truth = more.iter().any(|truth| match truth.strip_suffix('*') {
            Some(start) => name.starts_with(start),
            None => name == truth,
        });
        if is_label || is_truth {
            let message = format!(
                "`{}` has a column `{}`: labels and true values come from the data, not from a program",
                frame.path.display(),
                Shown(name)
            );
            return Err(frame.wrong(message).hint("leave out the column"));
        }
    }
    Ok(())
}

/// The first of these columns, as texts without gaps.
pub(super) fn texts(frame: &Frame, names: &[&str]) -> Result<Option<StringArray>, Trouble> {
    let Some(name) = names.iter().find(|name| frame.column(name).is_some()) else {
        return Ok(None);
    };
    let Some(column) = frame.column(name) else {
        return Ok(None);
    };
    let as_text = cast(column, &DataType::Utf8).ok();
    let texts = as_text.and_then(|column| column.as_any().downcast_ref::<StringArray>().cloned());
    let Some(texts) = texts else {
        let message = format!("the column `{name}` is not text");
        return Err(frame.wrong(message));
    };
    if let Some(row) = (0..texts.len()).find(|row| texts.is_null(*row)) {
        let message = format!("the column `{name}` has no value in row {row}");
        return Err(frame.wrong_at(row, message));
    }
    Ok(Some(texts))
}

/// A column of Arrow timestamps in milliseconds since 1970.
fn times(frame: &Frame) -> Option<Int64Array> {
    let column: &ArrayRef = frame
        .column("time")
        .or_else(|| frame.column("runner.time"))?;
    let DataType::Timestamp(_, _) = column.data_type() else {
        return None;
    };
    let column = cast(column, &DataType::Timestamp(TimeUnit::Millisecond, None)).ok()?;
    let column = cast(&column, &DataType::Int64).ok()?;
    let times = column.as_any().downcast_ref::<Int64Array>()?;
    (times.null_count() == 0).then(|| times.clone())
}

//! From columns to a series: entity after entity, cut into segments, missing values dealt with.
//! The one place where all readers meet; what a file looks like was settled before.

use std::ops::Range;
use std::path::Path;

use super::columns::{self, Columns};
use super::missing::{self, Missing, Unfilled};
use super::precision::{self, Cells};
use contract::Trouble;
use contract::artifact::{Segment, Series, Split};

/// The rows of one file and what they are for.
pub(super) struct Part<'a> {
    pub entity: &'a str,
    pub file: &'a Path,
    /// How the rows are cut, counted from the first row of the file.
    pub splits: Vec<(Split, Range<usize>)>,
    pub labelled: bool,
    /// Of the sample that the rows are, where samples have classes.
    pub class: Option<&'a str>,
    /// The line that all of the rows stand in, where a sample is a line.
    pub line: Option<usize>,
}

impl<'a> Part<'a> {
    /// Rows without labels and class.
    pub fn new(entity: &'a str, file: &'a Path, splits: Vec<(Split, Range<usize>)>) -> Self {
        Self {
            entity,
            file,
            splits,
            labelled: false,
            class: None,
            line: None,
        }
    }
}

/// A series that is being read.
pub(super) struct Builder {
    pub channels: Vec<String>,
    /// What the reader appends to. Rows that no part covered yet belong to the next part.
    pub columns: Columns,
    missing: Missing,
    segments: Vec<Segment>,
    labelled: bool,
}

impl Builder {
    pub fn new(channels: Vec<String>, missing: Missing) -> Self {
        Self {
            channels,
            columns: Columns::default(),
            missing,
            segments: Vec::new(),
            labelled: false,
        }
    }

    fn rows(&self) -> usize {
        self.segments.last().map_or(0, |segment| segment.rows.end)
    }

    /// Takes the rows that were appended since the last part. Rows beyond the last split are dropped.
    ///
    /// # Errors
    /// If a value is infinite or is missing and the rule cannot fill it.
    pub fn close(&mut self, part: Part<'_>) -> Result<(), Trouble> {
        let (width, base) = (self.channels.len(), self.rows());
        let end = base + part.splits.last().map_or(0, |(_, rows)| rows.end);
        self.columns.truncate(end, width);
        self.labelled |= part.labelled;
        // Rows of a part without labels get 0, so that the columns stay in step.
        if self.labelled || !self.columns.labels.is_empty() {
            self.columns.labels.resize(end, 0);
        }
        if self.columns.any_missing {
            let Columns { values, rests, .. } = &mut self.columns;
            let first = base * width;
            if !rests.is_empty() {
                rests.resize(values.len(), 0);
            }
            let fresh = Cells {
                values: &mut values[first..],
                rests: rests.get_mut(first..).unwrap_or_default(),
            };
            if let Err(place) = missing::fill(self.missing, fresh, width, &part.splits) {
                let channel = &self.channels[place.channel];
                return Err(unfilled(self.missing, &place, channel, &part));
            }
        }
        let kept = if self.columns.any_missing && self.missing == Missing::Drop {
            self.complete(base, &part)?
        } else {
            let splits = part.splits.iter();
            let rows = |rows: &Range<usize>| base + rows.start..base + rows.end;
            splits.map(|(split, part)| (*split, rows(part))).collect()
        };
        self.keep(base, &part, kept);
        self.columns.any_missing = false;
        Ok(())
    }

    /// Takes the channels of the first file and compares those of all others with them.
    pub fn expect_channels(&mut self, channels: Vec<String>, file: &Path) -> Result<(), Trouble> {
        if self.segments.is_empty() && self.channels.is_empty() {
            self.channels = channels;
            return Ok(());
        }
        columns::same_channels(&self.channels, &channels, file)
    }

    /// Labels for the rows appended since the last part are about to follow.
    pub fn pad_labels(&mut self) {
        let rows = self.rows();
        self.columns.labels.resize(rows, 0);
    }

    fn push(&mut self, part: &Part<'_>, split: Split, rows: Range<usize>) {
        let segment = Segment::new(split, part.entity, rows).labelled(part.labelled);
        let class = part.class.map(str::to_owned);
        self.segments.push(segment.of_class(class));
    }

    /// Every stretch of complete rows, by its split.
    fn complete(
        &self,
        base: usize,
        part: &Part<'_>,
    ) -> Result<Vec<(Split, Range<usize>)>, Trouble> {
        let mut kept = Vec::new();
        for (split, rows) in &part.splits {
            let rows = base + rows.start..base + rows.end;
            let width = self.channels.len();
            let stretches = missing::complete_stretches(&self.columns.values, width, &rows);
            if stretches.is_empty() {
                let message = format!(
                    "no row of the split `{split}` is complete, so `missing: drop` leaves none"
                );
                return Err(Trouble::new(message)
                    .at(part.file, None)
                    .hint("see `missing` and `columns`"));
            }
            kept.extend(stretches.into_iter().map(|stretch| (*split, stretch)));
        }
        Ok(kept)
    }

    /// Makes a segment of each stretch. Rows between them are left out: what follows moves together.
    fn keep(&mut self, base: usize, part: &Part<'_>, stretches: Vec<(Split, Range<usize>)>) {
        let mut next = base;
        for (split, stretch) in stretches {
            let end = next + stretch.len();
            self.move_rows(stretch, next);
            self.push(part, split, next..end);
            next = end;
        }
        self.columns.truncate(next, self.channels.len());
    }

    /// Moves rows to an earlier place.
    fn move_rows(&mut self, rows: Range<usize>, to: usize) {
        if rows.start == to {
            return;
        }
        let width = self.channels.len();
        let columns = &mut self.columns;
        let values = rows.start * width..rows.end * width;
        if !columns.rests.is_empty() {
            columns.rests.copy_within(values.clone(), to * width);
        }
        columns.values.copy_within(values, to * width);
        if !columns.times.is_empty() {
            columns.times.copy_within(rows.clone(), to);
        }
        if !columns.labels.is_empty() {
            columns.labels.copy_within(rows, to);
        }
    }

    /// The series of all parts.
    pub fn finish(mut self) -> Result<Series, Trouble> {
        if !self.labelled {
            self.columns.labels.clear();
        }
        let Columns {
            values,
            mut rests,
            times,
            labels,
            ..
        } = self.columns;
        if !rests.is_empty() {
            rests.resize(values.len(), 0);
        }
        let width = self.channels.len();
        let wide = precision::wide_channels(&values, &rests, width, &self.segments);
        let series = Series {
            channels: self.channels,
            values,
            labels,
            times,
            wide,
            segments: self.segments,
        };
        series.validate().map_err(|reason| {
            Trouble::new(format!("the parts of the data do not fit: {reason}"))
        })?;
        Ok(series)
    }
}

fn unfilled(rule: Missing, place: &Unfilled, channel: &str, part: &Part<'_>) -> Trouble {
    let row = place.row + 1;
    let (message, hint) = match rule {
        Missing::Ffill => (
            format!("`{channel}` has no value up to data row {row}, so there is none to repeat"),
            match part.class {
                Some(_) => "use `missing: interpolate`",
                None => "use `missing: interpolate` or `drop`, or cut the head of the file off",
            },
        ),
        Missing::Interpolate => (
            format!("`{channel}` has no value at all in the split that starts at data row {row}"),
            "leave the channel out with `columns`",
        ),
        Missing::Error | Missing::Drop => (
            format!("the value of `{channel}` in data row {row} is missing"),
            match part.class {
                Some(_) => "`missing: ffill` or `interpolate` fills it",
                None => "`missing: ffill`, `interpolate` or `drop` fills or drops such rows",
            },
        ),
    };
    Trouble::new(message).at(part.file, part.line).hint(hint)
}

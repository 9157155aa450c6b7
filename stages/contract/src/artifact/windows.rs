//! Sliding windows as an index over a series: a few numbers per segment, whatever the number of windows.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::columns::{self, Metadata};
use super::series::optional;
use super::{Artifact, ArtifactError, Digest, DigestWriter, Parts, Series, Split};

/// The shape of a window, in rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WindowSpec {
    /// Rows that the model sees.
    pub length: usize,
    /// Rows that follow them and are to be forecast; 0 for detection.
    pub horizon: usize,
}

impl WindowSpec {
    /// Rows that one window covers in all.
    pub fn extent(self) -> usize {
        self.length + self.horizon
    }
}

/// The windows of one stretch of rows: they start at `first`, `first + stride`, … and there are `count` of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowRun {
    pub split: Split,
    /// First row of the first window.
    pub first: usize,
    pub stride: usize,
    pub count: usize,
    /// Rows the windows were cut from, half-open. They lie in one segment unless crossing was asked for.
    pub rows: (usize, usize),
}

impl WindowRun {
    /// The first row of window `index` of this run.
    pub fn start(&self, index: usize) -> usize {
        self.first + index * self.stride
    }
}

/// Sliding windows over a series, never materialised.
#[derive(Clone, Debug)]
pub struct Windows {
    pub series: Arc<Series>,
    pub spec: WindowSpec,
    pub runs: Vec<WindowRun>,
}

impl Windows {
    /// The number of windows in one split.
    pub fn count(&self, split: Split) -> usize {
        self.of_split(split).map(|run| run.count).sum()
    }

    pub fn of_split(&self, split: Split) -> impl Iterator<Item = &WindowRun> {
        self.runs.iter().filter(move |run| run.split == split)
    }

    /// First rows of the windows of one split, in order of time.
    pub fn starts(&self, split: Split) -> Vec<usize> {
        self.of_split(split)
            .flat_map(|run| (0..run.count).map(|index| run.start(index)))
            .collect()
    }

    /// The values the model sees: `[length, channels]`, row-major, borrowed from the series.
    pub fn input(&self, start: usize) -> &[f32] {
        self.values(start..start + self.spec.length)
    }

    /// The values to be forecast: `[horizon, channels]`, row-major, borrowed from the series.
    pub fn target(&self, start: usize) -> &[f32] {
        self.values(start + self.spec.length..start + self.spec.extent())
    }

    fn values(&self, rows: Range<usize>) -> &[f32] {
        let width = self.series.width();
        &self.series.values[rows.start * width..rows.end * width]
    }

    /// Checks that all windows lie within the series, and that there are no more than rows could begin one.
    ///
    /// # Errors
    /// A sentence about the first windows that do not.
    pub fn validate(&self) -> Result<(), String> {
        let rows = self.series.rows();
        let WindowSpec { length, horizon } = self.spec;
        let extent = length.checked_add(horizon).filter(|_| length > 0);
        let extent =
            extent.ok_or_else(|| format!("windows of {length} rows with {horizon} to forecast"))?;
        let mut left = rows;
        for (number, run) in self.runs.iter().enumerate() {
            let WindowRun {
                first,
                stride,
                count,
                rows: (start, end),
                ..
            } = *run;
            let last = count
                .checked_sub(1)
                .and_then(|steps| steps.checked_mul(stride)?.checked_add(first));
            let fits = match last {
                Some(last) => {
                    stride > 0 && last.checked_add(extent).is_some_and(|after| after <= end)
                }
                None => count == 0,
            };
            if !fits || start > first || start > end || end > rows {
                let shape = format!(
                    "{count} windows of {extent} rows, {stride} apart, from row {first} on"
                );
                return Err(format!(
                    "run {number}: {shape} do not fit into rows {start} to {end} of {rows}"
                ));
            }
            left = left
                .checked_sub(count)
                .ok_or_else(|| format!("more windows than the {rows} rows"))?;
        }
        Ok(())
    }

    pub fn digest(&self) -> Digest {
        let mut writer = DigestWriter::new("windows");
        writer.digest(&self.series.digest());
        writer.number(self.spec.length as u64);
        writer.number(self.spec.horizon as u64);
        writer.number(self.runs.len() as u64);
        for run in &self.runs {
            writer.text(run.split.name());
            for number in [run.first, run.stride, run.count, run.rows.0, run.rows.1] {
                writer.number(number as u64);
            }
        }
        writer.finish()
    }

    pub(super) fn encode(&self) -> Result<Vec<u8>, ArtifactError> {
        let number = |name: &str| Field::new(name, DataType::UInt64, false);
        let mut fields = vec![Field::new("split", DataType::Utf8, false)];
        fields.extend(["first", "stride", "count", "rows_start", "rows_end"].map(number));
        let column = |get: fn(&WindowRun) -> usize| -> ArrayRef {
            Arc::new(
                self.runs
                    .iter()
                    .map(|run| get(run) as u64)
                    .collect::<UInt64Array>(),
            )
        };
        let arrays: Vec<ArrayRef> = vec![
            Arc::new(
                self.runs
                    .iter()
                    .map(|run| Some(run.split.name()))
                    .collect::<StringArray>(),
            ),
            column(|run| run.first),
            column(|run| run.stride),
            column(|run| run.count),
            column(|run| run.rows.0),
            column(|run| run.rows.1),
        ];
        let metadata = Metadata::new("windows")
            .with("spec", &self.spec)
            .with("series", &self.series.digest());
        columns::write(Schema::new(fields), arrays, self.runs.len(), metadata)
    }

    pub(super) fn decode(bytes: Vec<u8>, parts: &dyn Parts) -> Result<Self, ArtifactError> {
        let (batch, metadata) = columns::read(bytes, "windows")?;
        let corrupt = || ArtifactError::corrupt("windows", "a column is missing");
        let splits = optional::<StringArray>(&batch, "split").ok_or_else(corrupt)?;
        let number = |name: &str| optional::<UInt64Array>(&batch, name).ok_or_else(corrupt);
        let (first, stride, count) = (number("first")?, number("stride")?, number("count")?);
        let (rows_start, rows_end) = (number("rows_start")?, number("rows_end")?);
        let run = |row: usize| {
            let split = splits
                .value(row)
                .parse()
                .map_err(|reason: String| ArtifactError::corrupt("windows", reason))?;
            Ok(WindowRun {
                split,
                first: first.value(row) as usize,
                stride: stride.value(row) as usize,
                count: count.value(row) as usize,
                rows: (rows_start.value(row) as usize, rows_end.value(row) as usize),
            })
        };
        let runs = (0..batch.num_rows())
            .map(run)
            .collect::<Result<_, ArtifactError>>()?;
        let digest: Digest = metadata.get("series")?;
        let Artifact::Series(series) = parts.artifact(&digest)? else {
            return Err(ArtifactError::corrupt(
                "windows",
                "the part below the windows is not a series",
            ));
        };
        let windows = Self {
            series,
            spec: metadata.get("spec")?,
            runs,
        };
        windows
            .validate()
            .map_err(|reason| ArtifactError::corrupt("windows", reason))?;
        Ok(windows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    struct One(Arc<Series>);

    impl Parts for One {
        fn artifact(&self, digest: &Digest) -> Result<Artifact, ArtifactError> {
            assert_eq!(*digest, self.0.digest());
            Ok(Artifact::Series(Arc::clone(&self.0)))
        }

        fn blob(&self, digest: &Digest) -> Result<PathBuf, ArtifactError> {
            Err(ArtifactError::MissingPart(digest.to_string()))
        }
    }

    #[test]
    fn survives_its_file_and_borrows_from_the_series() {
        let series = Arc::new(super::super::series::tests::sample());
        let run = WindowRun {
            split: Split::Train,
            first: 0,
            stride: 1,
            count: 2,
            rows: (0, 4),
        };
        let windows = Windows {
            series: Arc::clone(&series),
            spec: WindowSpec {
                length: 2,
                horizon: 1,
            },
            runs: vec![run],
        };
        let again = Windows::decode(windows.encode().unwrap(), &One(series)).unwrap();
        assert_eq!(windows.digest(), again.digest());
        assert_eq!(again.starts(Split::Train), [0, 1]);
        assert_eq!(again.input(1), [1.0, 1.5, 2.0, 2.5]);
        assert_eq!(again.target(1), [3.0, 3.5]);
    }
}

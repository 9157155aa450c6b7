//! Multivariate time series in memory (row-major) and in Parquet (a column per channel).

use std::collections::BTreeSet;
use std::io::Write;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch, UInt8Array};
use arrow::datatypes::{DataType, Field, Schema};

use super::columns::{self, Metadata};
use super::{ArtifactError, Digest, DigestWriter, Shown, Source, Split};

/// A stretch of consecutive rows of one entity in one split. Windows never cross its ends.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Segment {
    pub split: Split,
    /// Which machine, channel or file the rows come from.
    pub entity: String,
    /// Rows in the series, half-open.
    pub rows: Range<usize>,
    /// Whether `Series::labels` says anything about these rows.
    pub labelled: bool,
    /// The class of the sample that the segment is, where samples have classes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
}

impl Segment {
    /// A segment without labels and class.
    pub fn new(split: Split, entity: impl Into<String>, rows: Range<usize>) -> Self {
        Self {
            split,
            entity: entity.into(),
            rows,
            labelled: false,
            class: None,
        }
    }

    #[must_use]
    pub fn labelled(mut self, labelled: bool) -> Self {
        self.labelled = labelled;
        self
    }

    #[must_use]
    pub fn of_class(mut self, class: Option<String>) -> Self {
        self.class = class;
        self
    }
}

/// Multivariate time series: `values` is `[rows, channels]`, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    pub channels: Vec<String>,
    /// `[rows, channels]`, row-major. Finite: readers refuse or fill missing values.
    pub values: Vec<f32>,
    /// 1 where a row is anomalous, for the rows of labelled segments; 0 elsewhere. Empty if no segment is labelled.
    pub labels: Vec<u8>,
    /// Milliseconds since 1970-01-01 UTC per row, or empty if the source has no time column.
    pub times: Vec<i64>,
    /// Cover all rows, in order, without gaps.
    pub segments: Vec<Segment>,
}

impl Series {
    pub fn rows(&self) -> usize {
        self.segments.last().map_or(0, |segment| segment.rows.end)
    }

    pub fn width(&self) -> usize {
        self.channels.len()
    }

    /// One row: a value per channel.
    pub fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.width()..(row + 1) * self.width()]
    }

    /// The segments of one split.
    pub fn of_split(&self, split: Split) -> impl Iterator<Item = &Segment> {
        self.segments
            .iter()
            .filter(move |segment| segment.split == split)
    }

    /// The names of all classes, sorted.
    pub fn classes(&self) -> Vec<String> {
        let names: BTreeSet<&String> = self
            .segments
            .iter()
            .filter_map(|segment| segment.class.as_ref())
            .collect();
        names.into_iter().cloned().collect()
    }

    /// The segment that a row belongs to.
    pub fn segment_at(&self, row: usize) -> Option<&Segment> {
        self.segments.get(
            self.segments
                .partition_point(|segment| segment.rows.end <= row),
        )
    }

    /// The class of the sample that a row belongs to.
    pub fn class_at(&self, row: usize) -> Option<&str> {
        self.segment_at(row)?.class.as_deref()
    }

    /// Checks that the parts fit each other; readers call it before they hand a series on.
    ///
    /// # Errors
    /// A sentence about the first part that does not.
    pub fn validate(&self) -> Result<(), String> {
        let rows = self.rows();
        let mut next = 0;
        for segment in &self.segments {
            if segment.rows.start != next || segment.rows.end < segment.rows.start {
                return Err(format!(
                    "segment {} does not start at row {next}",
                    Shown(&segment.entity)
                ));
            }
            next = segment.rows.end;
        }
        if rows.checked_mul(self.width()) != Some(self.values.len()) {
            return Err(format!(
                "{} values for {rows} rows of {} channels",
                self.values.len(),
                self.width()
            ));
        }
        if !self.labels.is_empty() && self.labels.len() != rows {
            return Err(format!("{} labels for {rows} rows", self.labels.len()));
        }
        if !self.times.is_empty() && self.times.len() != rows {
            return Err(format!("{} times for {rows} rows", self.times.len()));
        }
        Ok(())
    }

    pub fn digest(&self) -> Digest {
        let mut writer = DigestWriter::new("series");
        writer.number(self.channels.len() as u64);
        self.channels
            .iter()
            .for_each(|channel| writer.text(channel));
        digest_segments(&mut writer, &self.segments);
        writer.floats(&self.values);
        writer.bytes(&self.labels);
        writer.integers(&self.times);
        writer.finish()
    }

    pub(super) fn encode_to(&self, sink: &mut (dyn Write + Send)) -> Result<(), ArtifactError> {
        let mut fields = Vec::with_capacity(self.width() + 2);
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(self.width() + 2);
        if !self.times.is_empty() {
            fields.push(Field::new("runner.time", DataType::Int64, false));
            arrays.push(Arc::new(Int64Array::from(self.times.clone())));
        }
        if !self.labels.is_empty() {
            fields.push(Field::new("runner.label", DataType::UInt8, false));
            arrays.push(Arc::new(UInt8Array::from(self.labels.clone())));
        }
        fields.extend(
            self.channels
                .iter()
                .map(|name| Field::new(name, DataType::Float32, false)),
        );
        let metadata = Metadata::new("series").with("segments", &self.segments);
        columns::write_rows(Schema::new(fields), arrays, &[&self.values], metadata, sink)
    }

    pub(super) fn decode(source: Source) -> Result<Self, ArtifactError> {
        let file = columns::open(source, "series")?;
        // Times and labels stand before the channels. They are told apart by place and type: a channel may have any name.
        let is_own = |name: &str, kind: &DataType, place: usize| {
            file.fields()
                .get(place)
                .is_some_and(|field| field.name() == name && field.data_type() == kind)
        };
        let times = is_own("runner.time", &DataType::Int64, 0);
        let labels = is_own("runner.label", &DataType::UInt8, usize::from(times));
        let first = usize::from(times) + usize::from(labels);
        let channels: Vec<String> = file.fields()[first..]
            .iter()
            .map(|field| field.name().clone())
            .collect();
        let segments = file.metadata().get("segments")?;
        let mut series = Self {
            channels,
            values: Vec::new(),
            labels: Vec::new(),
            times: Vec::new(),
            segments,
        };
        series.values.reserve_exact(file.rows() * series.width());
        file.read_rows(|batch| {
            columns::append_rows(
                batch,
                first..batch.num_columns(),
                &mut series.values,
                "series",
            )?;
            if times {
                series
                    .times
                    .extend_from_slice(columns::column::<Int64Array>(batch, 0, "series")?.values());
            }
            if labels {
                series.labels.extend_from_slice(
                    columns::column::<UInt8Array>(batch, first - 1, "series")?.values(),
                );
            }
            Ok(())
        })?;
        series
            .validate()
            .map_err(|reason| ArtifactError::corrupt("series", reason))?;
        Ok(series)
    }
}

pub(super) fn digest_segments(writer: &mut DigestWriter, segments: &[Segment]) {
    writer.number(segments.len() as u64);
    for segment in segments {
        writer.text(segment.split.name());
        writer.text(&segment.entity);
        writer.number(segment.rows.start as u64);
        writer.number(segment.rows.end as u64);
        writer.flag(segment.labelled);
    }
    // Without classes the digest is that of times when there were none.
    if segments.iter().any(|segment| segment.class.is_some()) {
        writer.text("classes");
        for segment in segments {
            writer.flag(segment.class.is_some());
            writer.text(segment.class.as_deref().unwrap_or_default());
        }
    }
}

pub(super) fn optional<'a, T: Array + 'static>(
    batch: &'a RecordBatch,
    name: &str,
) -> Option<&'a T> {
    batch.column_by_name(name)?.as_any().downcast_ref()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn sample() -> Series {
        Series {
            channels: vec!["cpu".into(), "memory".into()],
            values: (0..14).map(|i| i as f32 * 0.5).collect(),
            labels: vec![0, 0, 0, 0, 1, 1, 0],
            times: vec![],
            segments: vec![
                Segment::new(Split::Train, "m", 0..4),
                Segment::new(Split::Test, "m", 4..7).labelled(true),
            ],
        }
    }

    fn encoded(series: &Series) -> Vec<u8> {
        let mut bytes = Vec::new();
        series.encode_to(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn survives_its_file() {
        let series = sample();
        series.validate().unwrap();
        let again = Series::decode(encoded(&series).into()).unwrap();
        assert_eq!(series, again);
        assert_eq!(series.digest(), again.digest());
    }

    #[test]
    fn survives_its_file_at_any_width_and_the_bytes_do_not_depend_on_threads() {
        for (rows, width) in [(0, 3), (3, 0), (1, 1), (300, 17), (1000, 40), (20_000, 3)] {
            let rows_at = 0..rows;
            let series = Series {
                channels: (0..width).map(|channel| format!("c{channel}")).collect(),
                values: (0..rows * width).map(|value| value as f32).collect(),
                labels: vec![1; rows],
                times: (0..rows as i64).collect(),
                segments: vec![Segment::new(Split::Test, "m", rows_at).labelled(true)],
            };
            let pool = |threads| {
                rayon::ThreadPoolBuilder::new()
                    .num_threads(threads)
                    .build()
                    .unwrap()
            };
            let bytes = pool(1).install(|| encoded(&series));
            assert_eq!(bytes, pool(3).install(|| encoded(&series)));
            assert_eq!(
                Series::decode(bytes.into()).unwrap(),
                series,
                "{rows} x {width}"
            );
        }
    }

    #[test]
    fn digest_sees_every_part() {
        let base = sample().digest();
        let mut values = sample();
        values.values[3] += 1.0;
        let mut labels = sample();
        labels.labels[0] = 1;
        let mut names = sample();
        names.channels[0] = "c".into();
        let mut split = sample();
        split.segments[0].split = Split::Validation;
        let mut class = sample();
        class.segments[0].class = Some("a".into());
        let mut other_class = sample();
        other_class.segments[1].class = Some("a".into());
        assert_ne!(class.digest(), other_class.digest());
        for changed in [values, labels, names, split, class] {
            assert_ne!(base, changed.digest());
        }
    }
}

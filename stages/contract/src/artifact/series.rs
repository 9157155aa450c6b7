//! Multivariate time series in memory (row-major) and in Parquet (a column per channel).

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Float64Array, RecordBatch, UInt8Array};
use arrow::datatypes::{DataType, Field, Schema};

use super::columns::{self, Metadata, Rows};
use super::places;
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
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    pub channels: Vec<String>,
    /// `[rows, channels]`, row-major. Finite: readers refuse or fill missing values.
    pub values: Vec<f32>,
    /// The values in 64 bits of channels whose steps 32 bits do not tell apart, by the index of the channel: a counter far
    /// from zero is one. `values` has them rounded.
    pub wide: BTreeMap<usize, Vec<f64>>,
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

    /// One value, as exactly as it is known.
    pub fn value(&self, row: usize, channel: usize) -> f64 {
        match self.wide.get(&channel) {
            Some(values) => values[row],
            None => f64::from(self.values[row * self.width() + channel]),
        }
    }

    /// The values of one channel from row to row, as exactly as they are known.
    pub fn channel(&self, channel: usize) -> Cow<'_, [f64]> {
        if let Some(values) = self.wide.get(&channel) {
            return Cow::Borrowed(values);
        }
        let values = self.values.iter().skip(channel).step_by(self.width());
        Cow::Owned(values.map(|value| f64::from(*value)).collect())
    }

    /// The segments of one split.
    pub fn of_split(&self, split: Split) -> impl Iterator<Item = &Segment> {
        self.segments
            .iter()
            .filter(move |segment| segment.split == split)
    }

    /// The rows of these segments, which are some of the series' own in its order but stand in rows of their own; `None` if
    /// they are not.
    pub fn only(&self, segments: &[Segment]) -> Option<Self> {
        let mut own = self.segments.iter();
        let mut places = Vec::with_capacity(segments.len());
        for segment in segments {
            let is_it = |known: &&Segment| {
                let rows = segment.rows.clone();
                known.rows.len() == rows.len()
                    && **known
                        == Segment {
                            rows: known.rows.clone(),
                            ..segment.clone()
                        }
            };
            places.push(own.find(is_it)?.rows.clone());
        }
        let mut some = Self {
            channels: self.channels.clone(),
            segments: segments.to_vec(),
            ..Self::default()
        };
        for channel in self.wide.keys() {
            some.wide.insert(*channel, Vec::new());
        }
        for rows in places {
            let width = self.width();
            some.values
                .extend_from_slice(&self.values[rows.start * width..rows.end * width]);
            for (channel, values) in &mut some.wide {
                values.extend_from_slice(&self.wide[channel][rows.clone()]);
            }
            some.labels
                .extend(self.labels.get(rows.clone()).unwrap_or_default());
            some.times.extend(self.times.get(rows).unwrap_or_default());
        }
        Some(some)
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
        let rows = covered_rows(&self.segments)?;
        if rows.checked_mul(self.width()) != Some(self.values.len()) {
            return Err(format!(
                "{} values for {rows} rows of {} channels",
                self.values.len(),
                self.width()
            ));
        }
        for (channel, values) in &self.wide {
            if *channel >= self.width() || values.len() != rows {
                let found = values.len();
                return Err(format!(
                    "{found} values in 64 bits of channel {channel} for {rows} rows of {} channels",
                    self.width()
                ));
            }
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
        // Without such channels the digest is that of times when there were none.
        for (channel, values) in &self.wide {
            writer.text("64 bits");
            writer.number(*channel as u64);
            writer.reals(values);
        }
        writer.finish()
    }

    pub(super) fn encode_to(&self, sink: &mut (dyn Write + Send)) -> Result<(), ArtifactError> {
        let mut fields = Vec::with_capacity(self.width() + 2);
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(self.width() + 2);
        if !self.times.is_empty() {
            fields.push(Field::new("runner.time", places::time_type(), false));
            arrays.push(places::time_array(&self.times, self.times.len()));
        }
        if !self.labels.is_empty() {
            fields.push(Field::new("runner.label", DataType::UInt8, false));
            arrays.push(Arc::new(UInt8Array::from(self.labels.clone())));
        }
        for (channel, name) in self.channels.iter().enumerate() {
            let kind = match self.wide.contains_key(&channel) {
                true => DataType::Float64,
                false => DataType::Float32,
            };
            fields.push(Field::new(name, kind, false));
        }
        let metadata = Metadata::new("series").with("segments", &self.segments);
        let rows = Rows {
            blocks: &[&self.values],
            wide: &self.wide,
        };
        columns::write_rows(Schema::new(fields), arrays, rows, metadata, sink)
    }

    pub(super) fn decode(source: Source) -> Result<Self, ArtifactError> {
        let file = columns::open(source, "series")?;
        // Times and labels stand before the channels. They are told apart by place and type: a channel may have any name.
        let is_own = |name: &str, place: usize, is: fn(&DataType) -> bool| {
            let field = file.fields().get(place);
            field.is_some_and(|field| field.name() == name && is(field.data_type()))
        };
        let times = is_own("runner.time", 0, places::is_time);
        let labels = is_own("runner.label", usize::from(times), |kind| {
            *kind == DataType::UInt8
        });
        let first = usize::from(times) + usize::from(labels);
        let channels: Vec<String> = file.fields()[first..]
            .iter()
            .map(|field| field.name().clone())
            .collect();
        let mut wide: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
        for (channel, field) in file.fields()[first..].iter().enumerate() {
            if field.data_type() == &DataType::Float64 {
                wide.insert(channel, Vec::new());
            }
        }
        let segments = file.metadata().get("segments")?;
        let mut series = Self {
            channels,
            wide,
            segments,
            ..Self::default()
        };
        series.values.reserve_exact(file.rows() * series.width());
        file.read_rows(|batch| {
            columns::append_rows(
                batch,
                first..batch.num_columns(),
                &mut series.values,
                "series",
            )?;
            for (channel, values) in &mut series.wide {
                let column = columns::column::<Float64Array>(batch, first + channel, "series")?;
                values.extend_from_slice(column.values());
            }
            if times {
                places::append_times(batch, 0, &mut series.times, "series")?;
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

/// Whether 32 bits lose the steps of these values from row to row: of those that 64 bits tell from 0, more than one in a
/// hundred would come out a tenth too large or too small.
pub fn needs_64_bits(values: &[f64], segments: &[Segment]) -> bool {
    let mut steps = StepCount::default();
    for segment in segments {
        for pair in values[segment.rows.clone()].windows(2) {
            steps.add(pair[0], pair[1]);
        }
    }
    steps.are_lost()
}

/// Counts the steps of a channel, and those that 32 bits lose.
#[derive(Clone, Copy, Debug, Default)]
pub struct StepCount {
    steps: usize,
    lost: usize,
}

impl StepCount {
    /// Steps smaller than this share of the value are what 64 bits round away themselves; none counts that is next to nothing.
    const SMALLEST: f64 = 1.0 / (1_u64 << 44) as f64;

    /// Takes the step between two rows.
    #[inline]
    pub fn add(&mut self, before: f64, after: f64) {
        let step = after - before;
        let rounded = f64::from(after as f32) - f64::from(before as f32);
        let least = (Self::SMALLEST * after.abs()).max(f64::from(f32::MIN_POSITIVE));
        let counts = step.abs() > least;
        self.steps += usize::from(counts);
        self.lost += usize::from(counts && (rounded - step).abs() > 0.1 * step.abs());
    }

    /// Takes what another part of the rows counted.
    pub fn merge(&mut self, other: Self) {
        self.steps += other.steps;
        self.lost += other.lost;
    }

    /// Whether 32 bits do not do.
    pub fn are_lost(&self) -> bool {
        self.lost * 100 > self.steps
    }
}

/// The rows that segments cover, one after the other and without gaps.
///
/// # Errors
/// A sentence about the first segment that does not begin where the one before it ends.
pub(super) fn covered_rows(segments: &[Segment]) -> Result<usize, String> {
    let mut next = 0;
    for segment in segments {
        if segment.rows.start != next || segment.rows.end < segment.rows.start {
            return Err(format!(
                "segment {} does not start at row {next}",
                Shown(&segment.entity)
            ));
        }
        next = segment.rows.end;
    }
    Ok(next)
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
            ..Series::default()
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
                ..Series::default()
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
    fn a_counter_far_from_zero_needs_64_bits() {
        let whole = [Segment::new(Split::Train, "m", 0..1000)];
        let column = |value: fn(f64) -> f64| (0..1000).map(|row| value(row as f64)).collect();
        let needs = |values: Vec<f64>| needs_64_bits(&values, &whole);
        assert!(needs(column(|row| 4e9 + row)));
        assert!(needs(column(|row| 123_456_789.0 + row % 3.0)));
        assert!(needs(column(|row| if row < 500.0 {
            4e9
        } else {
            4e9 + 90.0
        })));
        // A reset makes the steps before it no larger.
        assert!(needs(column(|row| (4e9 + row) * f64::from(row < 900.0))));
        // What is measured, what stands still, and what 64 bits round themselves.
        assert!(!needs(column(|row| 20.123_456_789 + (row * 0.1).sin())));
        assert!(!needs(column(|row| row)));
        assert!(!needs(column(|_| 0.1)));
        assert!(!needs(column(|row| 0.1 + row % 2.0 * f64::EPSILON)));
        assert!(!needs(column(|row| 1e-45 * row)));
    }

    #[test]
    fn channels_of_64_bits_survive_the_file() {
        let mut series = sample();
        let counter: Vec<f64> = (0..7).map(|row| 4e9 + f64::from(row)).collect();
        for (row, value) in counter.iter().enumerate() {
            series.values[2 * row] = *value as f32;
        }
        let narrow = series.digest();
        series.wide.insert(0, counter.clone());
        series.validate().unwrap();
        assert_ne!(series.digest(), narrow);
        let again = Series::decode(encoded(&series).into()).unwrap();
        assert_eq!(series, again);
        assert_eq!(*again.channel(0), counter);
        assert_eq!(again.channel(1)[2], f64::from(again.row(2)[1]));
        series.wide.insert(2, counter);
        assert!(series.validate().is_err());
    }

    #[test]
    fn some_segments_are_found_again() {
        let mut series = sample();
        series.times = (0..7).collect();
        series.wide.insert(1, (0..7).map(f64::from).collect());
        let mut wanted = vec![series.segments[1].clone()];
        wanted[0].rows = 0..3;
        let some = series.only(&wanted).unwrap();
        some.validate().unwrap();
        assert_eq!(some.values, series.values[8..]);
        assert_eq!(some.labels, [1, 1, 0]);
        assert_eq!(some.times, [4, 5, 6]);
        assert_eq!(some.wide[&1], [4.0, 5.0, 6.0]);
        assert_eq!(series.only(&series.segments).unwrap(), series);
        wanted[0].rows = 0..2;
        assert_eq!(series.only(&wanted), None);
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

//! Anomaly scores per time point, with where each row lies and its label beside them and, on request, each channel's share.

use std::io::Write;
use std::sync::Arc;

use arrow::array::{Float32Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};

use super::columns::{self, ColumnFile, Metadata, Rows};
use super::places;
use super::series::{covered_rows, digest_segments};
use super::{ArtifactError, Digest, DigestWriter, Segment, Source, Split};

const WHAT: &str = "scores";

/// Anomaly scores, high meaning anomalous; rows and segments are those of the scored series.
#[derive(Clone, Debug, PartialEq)]
pub struct Scores {
    /// One finite score per row.
    pub scores: Vec<f32>,
    /// As in [`super::Series::labels`].
    pub labels: Vec<u8>,
    /// As in [`super::Series::times`].
    pub times: Vec<i64>,
    pub segments: Vec<Segment>,
    /// Names of the columns of `contributions`; empty if none were asked for.
    pub channels: Vec<String>,
    /// `[rows, channels]`, row-major: each channel's part of the score of its row.
    pub contributions: Vec<f32>,
}

impl Scores {
    pub fn rows(&self) -> usize {
        self.scores.len()
    }

    pub fn of_split(&self, split: Split) -> impl Iterator<Item = &Segment> {
        self.segments
            .iter()
            .filter(move |segment| segment.split == split)
    }

    /// All scores of one split, segment after segment.
    pub fn values(&self, split: Split) -> Vec<f32> {
        self.of_split(split)
            .flat_map(|segment| &self.scores[segment.rows.clone()])
            .copied()
            .collect()
    }

    /// Checks that the parts fit each other.
    ///
    /// # Errors
    /// A sentence about the first part that does not.
    pub fn validate(&self) -> Result<(), String> {
        let (rows, covered) = (self.rows(), covered_rows(&self.segments)?);
        if covered != rows {
            return Err(format!("{rows} scores for {covered} rows"));
        }
        if !self.labels.is_empty() && self.labels.len() != rows {
            return Err(format!("{} labels for {rows} rows", self.labels.len()));
        }
        if !self.times.is_empty() && self.times.len() != rows {
            return Err(format!("{} times for {rows} rows", self.times.len()));
        }
        let (width, contributions) = (self.channels.len(), self.contributions.len());
        if rows.checked_mul(width) != Some(contributions) {
            return Err(format!(
                "{contributions} contributions for {rows} rows of {width} channels"
            ));
        }
        Ok(())
    }

    pub fn digest(&self) -> Digest {
        let mut writer = DigestWriter::new(WHAT);
        digest_segments(&mut writer, &self.segments);
        writer.floats(&self.scores);
        writer.bytes(&self.labels);
        writer.number(self.channels.len() as u64);
        self.channels
            .iter()
            .for_each(|channel| writer.text(channel));
        writer.floats(&self.contributions);
        // Without times the digest is that of days when scores had none.
        if !self.times.is_empty() {
            writer.text("times");
            writer.integers(&self.times);
        }
        writer.finish()
    }

    /// A row per time point: where it lies, `score`, `label`, and `contribution.CHANNEL` if they were asked for.
    pub(super) fn encode_to(&self, sink: &mut (dyn Write + Send)) -> Result<(), ArtifactError> {
        self.validate()
            .map_err(|reason| ArtifactError::corrupt(WHAT, reason))?;
        let rows = self.rows();
        let mut fields = places::fields();
        let mut arrays = places::of_segments(&self.segments, &self.times, rows);
        fields.push(Field::new("score", DataType::Float32, false));
        arrays.push(Arc::new(Float32Array::from(self.scores.clone())));
        fields.push(Field::new("label", DataType::UInt8, true));
        arrays.push(places::label_array(&self.labels, &self.segments, rows));
        let contribution =
            |name: &String| Field::new(format!("contribution.{name}"), DataType::Float32, false);
        fields.extend(self.channels.iter().map(contribution));
        let metadata = Metadata::new(WHAT)
            .with("segments", &self.segments)
            .with("channels", &self.channels);
        columns::write_rows(
            Schema::new(fields),
            arrays,
            Rows::narrow(&[&self.contributions]),
            metadata,
            sink,
        )
    }

    pub(super) fn decode(source: Source) -> Result<Self, ArtifactError> {
        let file = columns::open(source, WHAT)?;
        let corrupt = |reason| ArtifactError::corrupt(WHAT, reason);
        let mut scores = Self {
            scores: Vec::new(),
            labels: Vec::new(),
            times: Vec::new(),
            segments: file.metadata().get("segments")?,
            channels: file.metadata().get("channels")?,
            contributions: Vec::new(),
        };
        let width = scores.channels.len();
        let leading = Leading::of(&file);
        if file.fields().len() != leading.count() + width {
            let reason = "it has other columns than its footer announces";
            return Err(corrupt(reason.to_owned()));
        }
        let covered = covered_rows(&scores.segments).map_err(corrupt)?;
        if covered != file.rows() {
            return Err(corrupt(format!(
                "{} scores for {covered} rows",
                file.rows()
            )));
        }
        scores.contributions.reserve_exact(file.rows() * width);
        let mut has_labels = false;
        file.read_rows(|batch| {
            has_labels |= scores.append(batch, leading)?;
            let columns = leading.count()..batch.num_columns();
            columns::append_rows(batch, columns, &mut scores.contributions, WHAT)
        })?;
        if !has_labels {
            scores.labels.clear();
        }
        scores.validate().map_err(corrupt)?;
        Ok(scores)
    }

    /// Takes what stands before the contributions in a batch. Returns whether there are labels.
    fn append(&mut self, batch: &RecordBatch, leading: Leading) -> Result<bool, ArtifactError> {
        let (score, label) = match leading {
            Leading::Places => (3, Some(4)),
            Leading::Score => (0, None),
            Leading::ScoreAndLabel => (0, Some(1)),
        };
        if leading == Leading::Places {
            places::check_segments(batch, self.scores.len(), &self.segments, WHAT)?;
            places::append_times(batch, 2, &mut self.times, WHAT)?;
        }
        let column = columns::column::<Float32Array>(batch, score, WHAT)?;
        self.scores.extend_from_slice(column.values());
        match label {
            Some(place) => places::append_labels(batch, place, &mut self.labels, WHAT),
            None => Ok(false),
        }
    }
}

/// The columns before the contributions.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Leading {
    /// Entity, split, time, score and label.
    Places,
    /// As it was written once, of rows without labels.
    Score,
    /// As it was written once.
    ScoreAndLabel,
}

impl Leading {
    fn of(file: &ColumnFile) -> Self {
        if !file.metadata().is_before(2) {
            return Self::Places;
        }
        // Only the second column can be the labels: contributions have other names and another type.
        match file.fields().get(1).map(|field| field.data_type()) {
            Some(DataType::UInt8) => Self::ScoreAndLabel,
            _ => Self::Score,
        }
    }

    fn count(self) -> usize {
        match self {
            Self::Places => 5,
            Self::Score => 1,
            Self::ScoreAndLabel => 2,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn survives_its_file() {
        let series = super::super::series::tests::sample();
        let scores = Scores {
            scores: (0..7).map(|row| row as f32).collect(),
            labels: series.labels.clone(),
            times: vec![-1, 0, 1, 2, 3, 4, 1_600_000_000_000],
            segments: series.segments.clone(),
            channels: series.channels.clone(),
            contributions: series.values.clone(),
        };
        let mut bytes = Vec::new();
        scores.encode_to(&mut bytes).unwrap();
        let again = Scores::decode(bytes.into()).unwrap();
        assert_eq!(scores, again);
        assert_eq!(scores.digest(), again.digest());
        assert_eq!(again.values(Split::Test), [4.0, 5.0, 6.0]);
    }
}

//! Anomaly scores per time point, with the labels beside them and, on request, each channel's share.

use std::io::Write;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float32Array, UInt8Array};
use arrow::datatypes::{DataType, Field, Schema};

use super::columns::{self, Metadata, Rows};
use super::series::digest_segments;
use super::{ArtifactError, Digest, DigestWriter, Segment, Shown, Source, Split};

/// Anomaly scores, high meaning anomalous; rows and segments are those of the scored series.
#[derive(Clone, Debug, PartialEq)]
pub struct Scores {
    /// One finite score per row.
    pub scores: Vec<f32>,
    /// As in [`super::Series::labels`].
    pub labels: Vec<u8>,
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
        if next != rows {
            return Err(format!("{rows} scores for {next} rows"));
        }
        if !self.labels.is_empty() && self.labels.len() != rows {
            return Err(format!("{} labels for {rows} rows", self.labels.len()));
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
        let mut writer = DigestWriter::new("scores");
        digest_segments(&mut writer, &self.segments);
        writer.floats(&self.scores);
        writer.bytes(&self.labels);
        writer.number(self.channels.len() as u64);
        self.channels
            .iter()
            .for_each(|channel| writer.text(channel));
        writer.floats(&self.contributions);
        writer.finish()
    }

    pub(super) fn encode_to(&self, sink: &mut (dyn Write + Send)) -> Result<(), ArtifactError> {
        let mut fields = vec![Field::new("score", DataType::Float32, false)];
        let mut arrays: Vec<ArrayRef> = vec![Arc::new(Float32Array::from(self.scores.clone()))];
        if !self.labels.is_empty() {
            fields.push(Field::new("label", DataType::UInt8, false));
            arrays.push(Arc::new(UInt8Array::from(self.labels.clone())));
        }
        let contribution =
            |name: &String| Field::new(format!("contribution.{name}"), DataType::Float32, false);
        fields.extend(self.channels.iter().map(contribution));
        let metadata = Metadata::new("scores")
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
        let file = columns::open(source, "scores")?;
        let channels: Vec<String> = file.metadata().get("channels")?;
        let segments = file.metadata().get("segments")?;
        let width = channels.len();
        // Only the second column can be the labels: contributions have other names and another type.
        let labels = file
            .fields()
            .get(1)
            .is_some_and(|field| field.data_type() == &DataType::UInt8);
        if file.fields().len() != 1 + usize::from(labels) + width {
            return Err(ArtifactError::corrupt(
                "scores",
                "it has other columns than its footer announces",
            ));
        }
        let mut scores = Self {
            scores: Vec::new(),
            labels: Vec::new(),
            segments,
            channels,
            contributions: Vec::new(),
        };
        scores.contributions.reserve_exact(file.rows() * width);
        file.read_rows(|batch| {
            scores
                .scores
                .extend_from_slice(columns::column::<Float32Array>(batch, 0, "scores")?.values());
            if labels {
                scores
                    .labels
                    .extend_from_slice(columns::column::<UInt8Array>(batch, 1, "scores")?.values());
            }
            let columns = batch.num_columns() - width..batch.num_columns();
            columns::append_rows(batch, columns, &mut scores.contributions, "scores")
        })?;
        scores
            .validate()
            .map_err(|reason| ArtifactError::corrupt("scores", reason))?;
        Ok(scores)
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

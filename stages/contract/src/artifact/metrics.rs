//! Named figures with what one must know to read them: direction, and whether they flatter.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, Float64Array, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use serde::{Deserialize, Serialize};

use super::columns::{self, Metadata};
use super::series::optional;
use super::{ArtifactError, Digest, DigestWriter};

/// Which way is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    Higher,
    Lower,
    /// A description, such as a threshold or a count.
    Neither,
}

impl Direction {
    pub fn name(self) -> &'static str {
        match self {
            Self::Higher => "higher",
            Self::Lower => "lower",
            Self::Neither => "neither",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Higher, Self::Lower, Self::Neither]
            .into_iter()
            .find(|direction| direction.name() == text)
    }
}

/// One figure. `value` is `None` where the metric is undefined for this input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    pub name: String,
    pub value: Option<f64>,
    pub direction: Direction,
    /// Computed with knowledge of the test labels: an upper bound, not a result.
    pub oracle: bool,
    /// Known to flatter detectors, as point adjustment does.
    pub inflating: bool,
    /// One sentence on how to read it; may be empty.
    pub caveat: String,
}

/// The figures of one evaluation, in the order in which they were asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    pub entries: Vec<Metric>,
}

impl Metrics {
    pub fn get(&self, name: &str) -> Option<f64> {
        self.entries
            .iter()
            .find(|metric| metric.name == name)?
            .value
    }

    pub fn digest(&self) -> Digest {
        let mut writer = DigestWriter::new("metrics");
        writer.number(self.entries.len() as u64);
        for metric in &self.entries {
            writer.text(&metric.name);
            writer.flag(metric.value.is_some());
            writer.real(metric.value.unwrap_or_default());
            writer.text(metric.direction.name());
            writer.flag(metric.oracle);
            writer.flag(metric.inflating);
            writer.text(&metric.caveat);
        }
        writer.finish()
    }

    pub(super) fn encode(&self) -> Result<Vec<u8>, ArtifactError> {
        let fields = vec![
            Field::new("name", DataType::Utf8, false),
            Field::new("value", DataType::Float64, true),
            Field::new("direction", DataType::Utf8, false),
            Field::new("oracle", DataType::Boolean, false),
            Field::new("inflating", DataType::Boolean, false),
            Field::new("caveat", DataType::Utf8, false),
        ];
        let text = |get: fn(&Metric) -> &str| -> ArrayRef {
            Arc::new(
                self.entries
                    .iter()
                    .map(|metric| Some(get(metric)))
                    .collect::<StringArray>(),
            )
        };
        let flag = |get: fn(&Metric) -> bool| -> ArrayRef {
            Arc::new(
                self.entries
                    .iter()
                    .map(|metric| Some(get(metric)))
                    .collect::<BooleanArray>(),
            )
        };
        let arrays: Vec<ArrayRef> = vec![
            text(|metric| &metric.name),
            Arc::new(
                self.entries
                    .iter()
                    .map(|metric| metric.value)
                    .collect::<Float64Array>(),
            ),
            text(|metric| metric.direction.name()),
            flag(|metric| metric.oracle),
            flag(|metric| metric.inflating),
            text(|metric| &metric.caveat),
        ];
        columns::write(
            Schema::new(fields),
            arrays,
            self.entries.len(),
            Metadata::new("metrics"),
        )
    }

    pub(super) fn decode(bytes: Vec<u8>) -> Result<Self, ArtifactError> {
        let (batch, _) = columns::read(bytes, "metrics")?;
        let corrupt =
            || ArtifactError::corrupt("metrics", "a column is missing or of another type");
        let text = |name: &str| optional::<StringArray>(&batch, name).ok_or_else(corrupt);
        let flag = |name: &str| optional::<BooleanArray>(&batch, name).ok_or_else(corrupt);
        let (names, directions, caveats) = (text("name")?, text("direction")?, text("caveat")?);
        let (oracles, inflating) = (flag("oracle")?, flag("inflating")?);
        let values = optional::<Float64Array>(&batch, "value").ok_or_else(corrupt)?;
        let entry = |row: usize| {
            Ok(Metric {
                name: names.value(row).to_owned(),
                value: values.is_valid(row).then(|| values.value(row)),
                direction: Direction::parse(directions.value(row)).ok_or_else(corrupt)?,
                oracle: oracles.value(row),
                inflating: inflating.value(row),
                caveat: caveats.value(row).to_owned(),
            })
        };
        Ok(Self {
            entries: (0..batch.num_rows())
                .map(entry)
                .collect::<Result<_, ArtifactError>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn survives_its_file_with_undefined_values() {
        let metric = |name: &str, value| Metric {
            name: name.to_owned(),
            value,
            direction: Direction::Higher,
            oracle: false,
            inflating: true,
            caveat: "point adjustment".to_owned(),
        };
        let metrics = Metrics {
            entries: vec![metric("f1", Some(0.5)), metric("roc_auc", None)],
        };
        let again = Metrics::decode(metrics.encode().unwrap()).unwrap();
        assert_eq!(metrics, again);
        assert_eq!(metrics.digest(), again.digest());
    }
}

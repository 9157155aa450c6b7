//! What a classifier says of each sample: a probability per class, with the true class beside it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, StringArray, new_null_array};
use arrow::datatypes::{DataType, Field, Schema};

use super::columns::{self, Metadata, Rows};
use super::places;
use super::{ArtifactError, Digest, DigestWriter, Shown, Split};

const WHAT: &str = "predictions";

/// Probabilities of the classes for a number of samples.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Predictions {
    /// Names of the classes, in the order of their numbers; no two are equal.
    pub classes: Vec<String>,
    /// Names of the samples.
    pub samples: Vec<String>,
    /// One per sample.
    pub splits: Vec<Split>,
    /// Which machine, channel or file each sample comes from; empty if samples come from no series.
    pub entities: Vec<String>,
    /// The time of each sample's first row, as in [`super::Series::times`]; empty if it is not known.
    pub times: Vec<i64>,
    /// The number of the true class, one per sample; empty if the samples have no labels.
    pub truth: Vec<u32>,
    /// `[samples, classes]`, row-major: a softmax, so each row sums to 1.
    pub probabilities: Vec<f32>,
}

impl Predictions {
    /// The probabilities of one sample, a value per class.
    pub fn row(&self, sample: usize) -> &[f32] {
        &self.probabilities[sample * self.classes.len()..(sample + 1) * self.classes.len()]
    }

    /// The number of the most probable class; of several, the first.
    pub fn predicted(&self, sample: usize) -> usize {
        let row = self.row(sample);
        (1..row.len()).fold(
            0,
            |best, class| if row[class] > row[best] { class } else { best },
        )
    }

    /// Numbers of the samples of one split.
    pub fn of_split(&self, split: Split) -> impl Iterator<Item = usize> {
        self.splits
            .iter()
            .enumerate()
            .filter(move |(_, other)| **other == split)
            .map(|(sample, _)| sample)
    }

    /// Checks that the parts fit each other; stages call it before they hand predictions on.
    ///
    /// # Errors
    /// A sentence about the first part that does not.
    pub fn validate(&self) -> Result<(), String> {
        let (samples, classes) = (self.samples.len(), self.classes.len());
        if classes == 0 {
            return Err("predictions of no class".to_owned());
        }
        let mut seen = BTreeSet::new();
        if let Some(class) = self.classes.iter().find(|class| !seen.insert(*class)) {
            return Err(format!("two classes are called `{}`", Shown(class)));
        }
        if self.splits.len() != samples {
            return Err(format!(
                "{} splits for {samples} samples",
                self.splits.len()
            ));
        }
        for (what, length) in [
            ("entities", self.entities.len()),
            ("times", self.times.len()),
        ] {
            if length != 0 && length != samples {
                return Err(format!("{length} {what} for {samples} samples"));
            }
        }
        if !self.truth.is_empty() && self.truth.len() != samples {
            return Err(format!(
                "{} true classes for {samples} samples",
                self.truth.len()
            ));
        }
        if let Some(class) = self.truth.iter().find(|class| **class as usize >= classes) {
            return Err(format!(
                "true class {class}, but there are {classes} classes"
            ));
        }
        if samples.checked_mul(classes) != Some(self.probabilities.len()) {
            return Err(format!(
                "{} probabilities for {samples} samples of {classes} classes",
                self.probabilities.len()
            ));
        }
        Ok(())
    }

    pub fn digest(&self) -> Digest {
        let mut writer = DigestWriter::new(WHAT);
        writer.number(self.classes.len() as u64);
        self.classes.iter().for_each(|class| writer.text(class));
        writer.number(self.samples.len() as u64);
        self.samples.iter().for_each(|sample| writer.text(sample));
        self.splits
            .iter()
            .for_each(|split| writer.text(split.name()));
        writer.number(self.truth.len() as u64);
        self.truth
            .iter()
            .for_each(|class| writer.number(u64::from(*class)));
        writer.floats(&self.probabilities);
        // Without them the digest is that of days when predictions had none.
        if !self.entities.is_empty() || !self.times.is_empty() {
            writer.text("places");
            writer.number(self.entities.len() as u64);
            self.entities.iter().for_each(|entity| writer.text(entity));
            writer.integers(&self.times);
        }
        writer.finish()
    }

    /// A row per sample: where it comes from, `sample`, `class`, `predicted`, and `probability.CLASS` for each class.
    pub(super) fn encode_to(&self, sink: &mut (dyn Write + Send)) -> Result<(), ArtifactError> {
        self.validate()
            .map_err(|reason| ArtifactError::corrupt(WHAT, reason))?;
        let samples = self.samples.len();
        let text = |name: &str, is_nullable: bool| Field::new(name, DataType::Utf8, is_nullable);
        let mut fields = places::fields();
        fields[0] = text(places::ENTITY, true);
        fields.extend([
            text("sample", false),
            text("class", true),
            text("predicted", false),
        ]);
        let class = |class: &u32| (self.classes[*class as usize].as_str(), 1);
        let predicted = |sample| (self.classes[self.predicted(sample)].as_str(), 1);
        let leading: Vec<ArrayRef> = vec![
            if self.entities.is_empty() {
                new_null_array(&DataType::Utf8, samples)
            } else {
                places::repeated(self.entities.iter().map(|entity| (entity.as_str(), 1)))
            },
            places::repeated(self.splits.iter().map(|split| (split.name(), 1))),
            places::time_array(&self.times, samples),
            Arc::new(self.samples.iter().map(Some).collect::<StringArray>()),
            if self.truth.is_empty() {
                new_null_array(&DataType::Utf8, samples)
            } else {
                places::repeated(self.truth.iter().map(class))
            },
            places::repeated((0..samples).map(predicted)),
        ];
        let probability =
            |name: &String| Field::new(format!("probability.{name}"), DataType::Float32, false);
        fields.extend(self.classes.iter().map(probability));
        let metadata = Metadata::new(WHAT).with("classes", &self.classes);
        columns::write_rows(
            Schema::new(fields),
            leading,
            Rows::narrow(&[&self.probabilities]),
            metadata,
            sink,
        )
    }

    pub(super) fn decode(bytes: Vec<u8>) -> Result<Self, ArtifactError> {
        let (batch, metadata) = columns::read(bytes, WHAT)?;
        let corrupt = |reason: &str| ArtifactError::corrupt(WHAT, reason);
        let classes: Vec<String> = metadata.get("classes")?;
        let places = Places::of(&metadata, batch.num_columns(), classes.len());
        let places =
            places.ok_or_else(|| corrupt("it has other columns than its footer announces"))?;
        let numbers: BTreeMap<&str, u32> = classes
            .iter()
            .zip(0..)
            .map(|(class, number)| (class.as_str(), number))
            .collect();
        let number = |name: &str| {
            numbers
                .get(name)
                .copied()
                .ok_or_else(|| corrupt(&format!("there is no class `{}`", Shown(name))))
        };
        let split = |name: &str| name.parse().map_err(|reason: String| corrupt(&reason));
        let owned = |texts: Vec<&str>| texts.into_iter().map(str::to_owned).collect();
        let truth = optional_texts(&batch, places.class)?;
        let splits = texts(&batch, places.split)?;
        let mut times = Vec::new();
        if let Some(place) = places.time {
            places::append_times(&batch, place, &mut times, WHAT)?;
        }
        let predictions = Self {
            samples: owned(texts(&batch, places.sample)?),
            splits: splits.into_iter().map(split).collect::<Result<_, _>>()?,
            entities: owned(optional_texts(&batch, places.entity)?),
            times,
            truth: truth.into_iter().map(number).collect::<Result<_, _>>()?,
            probabilities: columns::to_rows(&batch, places.predicted + 1, WHAT)?,
            classes: classes.clone(),
        };
        predictions.validate().map_err(|reason| corrupt(&reason))?;
        for (sample, name) in texts(&batch, places.predicted)?.into_iter().enumerate() {
            if *name != predictions.classes[predictions.predicted(sample)] {
                let reason = format!(
                    "sample {sample} has `{}` in the column `predicted`, which is not its most probable class",
                    Shown(name)
                );
                return Err(corrupt(&reason));
            }
        }
        Ok(predictions)
    }
}

/// In which columns of a file what stands; the probabilities follow what is predicted.
struct Places {
    entity: Option<usize>,
    split: usize,
    time: Option<usize>,
    sample: usize,
    class: Option<usize>,
    predicted: usize,
}

impl Places {
    /// The columns of a file with so many columns and classes, or `None` if there are too few or too many.
    fn of(metadata: &Metadata, columns: usize, classes: usize) -> Option<Self> {
        let predicted = columns.checked_sub(classes)?.checked_sub(1)?;
        if metadata.is_before(2) {
            // The class stood there only if it was known.
            return matches!(predicted, 2 | 3).then_some(Self {
                entity: None,
                split: 1,
                time: None,
                sample: 0,
                class: (predicted == 3).then_some(2),
                predicted,
            });
        }
        (predicted == 5).then_some(Self {
            entity: Some(0),
            split: 1,
            time: Some(2),
            sample: 3,
            class: Some(4),
            predicted,
        })
    }
}

/// The texts of a column without nulls.
fn texts(batch: &RecordBatch, place: usize) -> Result<Vec<&str>, ArtifactError> {
    let column = columns::column::<StringArray>(batch, place, WHAT)?;
    Ok((0..batch.num_rows()).map(|row| column.value(row)).collect())
}

/// The texts of a column, or none if there is no such column or all of it is null.
fn optional_texts(batch: &RecordBatch, place: Option<usize>) -> Result<Vec<&str>, ArtifactError> {
    let Some(place) = place else {
        return Ok(Vec::new());
    };
    let is_empty = |column: &ArrayRef| column.null_count() == column.len();
    if batch.columns().get(place).is_some_and(is_empty) {
        return Ok(Vec::new());
    }
    texts(batch, place)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Predictions {
        Predictions {
            classes: vec!["trend".into(), "mean shift".into(), "point".into()],
            samples: vec!["a".into(), "b".into()],
            splits: vec![Split::Train, Split::Test],
            entities: vec!["m".into(), "m".into()],
            times: vec![-5, 3_600_000],
            truth: vec![2, 0],
            probabilities: vec![0.25, 0.25, 0.5, 0.4, 0.4, 0.2],
        }
    }

    #[test]
    fn survives_its_file() {
        let mut unlabelled = sample();
        unlabelled.truth.clear();
        unlabelled.entities.clear();
        unlabelled.times.clear();
        let none = Predictions {
            classes: vec!["a".into()],
            ..Predictions::default()
        };
        for predictions in [sample(), unlabelled, none] {
            let mut bytes = Vec::new();
            predictions.encode_to(&mut bytes).unwrap();
            let again = Predictions::decode(bytes).unwrap();
            assert_eq!(predictions, again);
            assert_eq!(predictions.digest(), again.digest());
        }
        assert_eq!(sample().predicted(0), 2);
        assert_eq!(sample().predicted(1), 0, "of several, the first");
        assert_eq!(sample().of_split(Split::Test).collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn refuses_parts_that_do_not_fit() {
        let changes: [fn(&mut Predictions); 7] = [
            |predictions| predictions.entities.truncate(1),
            |predictions| predictions.times.push(1),
            |predictions| predictions.truth[0] = 3,
            |predictions| predictions.truth.truncate(1),
            |predictions| predictions.splits.truncate(1),
            |predictions| predictions.probabilities.truncate(5),
            |predictions| predictions.classes[1] = "trend".into(),
        ];
        for change in changes {
            let mut wrong = sample();
            change(&mut wrong);
            assert!(wrong.validate().is_err());
            assert!(wrong.encode_to(&mut std::io::sink()).is_err());
        }
    }

    #[test]
    fn digest_sees_every_part() {
        let base = sample().digest();
        let changes: [fn(&mut Predictions); 7] = [
            |predictions| predictions.entities[1].push('x'),
            |predictions| predictions.times[1] = 0,
            |predictions| predictions.classes[0].push('x'),
            |predictions| predictions.samples[0].push('x'),
            |predictions| predictions.splits[0] = Split::Validation,
            |predictions| predictions.truth[0] = 1,
            |predictions| predictions.probabilities[0] = 0.5,
        ];
        for change in changes {
            let mut changed = sample();
            change(&mut changed);
            assert_ne!(base, changed.digest());
        }
    }
}

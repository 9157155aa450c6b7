//! What a classifier says of each sample: a probability per class, with the true class beside it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray};
use arrow::datatypes::{DataType, Field, Schema};

use super::columns::{self, Metadata, Rows};
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
        writer.finish()
    }

    /// A row per sample: `sample`, `split`, `class` if it is known, `predicted`, and `probability.CLASS` for each class.
    pub(super) fn encode_to(&self, sink: &mut (dyn Write + Send)) -> Result<(), ArtifactError> {
        self.validate()
            .map_err(|reason| ArtifactError::corrupt(WHAT, reason))?;
        let mut leading: Vec<ArrayRef> = vec![
            Arc::new(self.samples.iter().map(Some).collect::<StringArray>()),
            Arc::new(
                self.splits
                    .iter()
                    .map(|split| Some(split.name()))
                    .collect::<StringArray>(),
            ),
        ];
        let mut names = vec!["sample", "split"];
        if !self.truth.is_empty() {
            names.push("class");
            let class = |class: &u32| Some(self.classes[*class as usize].as_str());
            leading.push(Arc::new(
                self.truth.iter().map(class).collect::<StringArray>(),
            ));
        }
        names.push("predicted");
        let predicted = |sample| Some(self.classes[self.predicted(sample)].as_str());
        leading.push(Arc::new(
            (0..self.samples.len())
                .map(predicted)
                .collect::<StringArray>(),
        ));
        let mut fields: Vec<Field> = names
            .into_iter()
            .map(|name| Field::new(name, DataType::Utf8, false))
            .collect();
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
        let first = batch.num_columns().checked_sub(classes.len());
        let first =
            first.ok_or_else(|| corrupt("it has other columns than its footer announces"))?;
        let texts = |place: usize| {
            let column = columns::column::<StringArray>(&batch, place, WHAT)?;
            Ok::<_, ArtifactError>(
                (0..batch.num_rows())
                    .map(|row| column.value(row))
                    .collect::<Vec<_>>(),
            )
        };
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
        // Sample, split, the class if it is known, and what is predicted.
        let truth = match first {
            3 => Vec::new(),
            4 => texts(2)?,
            _ => return Err(corrupt("it has other columns than its footer announces")),
        };
        let predictions = Self {
            samples: texts(0)?.into_iter().map(str::to_owned).collect(),
            splits: texts(1)?.into_iter().map(split).collect::<Result<_, _>>()?,
            truth: truth.into_iter().map(number).collect::<Result<_, _>>()?,
            probabilities: columns::to_rows(&batch, first, WHAT)?,
            classes,
        };
        predictions.validate().map_err(|reason| corrupt(&reason))?;
        Ok(predictions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Predictions {
        Predictions {
            classes: vec!["trend".into(), "mean shift".into(), "point".into()],
            samples: vec!["a".into(), "b".into()],
            splits: vec![Split::Train, Split::Test],
            truth: vec![2, 0],
            probabilities: vec![0.25, 0.25, 0.5, 0.4, 0.4, 0.2],
        }
    }

    #[test]
    fn survives_its_file() {
        let mut unlabelled = sample();
        unlabelled.truth.clear();
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
        let changes: [fn(&mut Predictions); 5] = [
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
        let changes: [fn(&mut Predictions); 5] = [
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

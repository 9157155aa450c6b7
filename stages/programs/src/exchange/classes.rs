//! What a program's classifier says: for each sample, a probability for each class.

use super::frame::Frame;
use super::numbers::matrix;
use super::rows::{Expected, refuse_truth, texts};
use contract::Trouble;
use contract::artifact::{Predictions, Segment, Shown};

/// How far the probabilities of a sample may be from 1 in all.
const SLACK: f32 = 1e-3;

/// The predictions for samples, each of which is a segment of the series; an array has the classes sorted by name.
///
/// # Errors
/// If there is not one probability for each sample and class.
pub(crate) fn predictions(frame: &Frame, expected: &Expected<'_>) -> Result<Predictions, Trouble> {
    let classes = expected.series.classes();
    if classes.is_empty() {
        let message = format!("the samples of `{}` have no classes", Shown(expected.name));
        return Err(Trouble::new(message));
    }
    refuse_truth(frame, &["class"])?;
    let samples = &expected.segments;
    let describe = |row: usize| match samples.get(row) {
        Some(sample) => format!("sample `{}` in {}", Shown(&sample.entity), sample.split),
        None => "beyond the last sample".to_owned(),
    };
    let values = matrix(frame, &classes, "probability.", &describe)?;
    if values.rows != samples.len() {
        let message = format!(
            "`{}` has {} rows where {} are expected, one for each sample of `{}`",
            frame.path.display(),
            values.rows,
            samples.len(),
            Shown(expected.name)
        );
        return Err(frame.wrong(message));
    }
    if let Some(names) = texts(frame, &["sample"])? {
        for (row, sample) in samples.iter().enumerate() {
            if names.value(row) != sample.entity {
                let message = format!(
                    "row {row} of `{}` is of sample `{}`, where `{}` is expected",
                    frame.path.display(),
                    Shown(names.value(row)),
                    Shown(&sample.entity)
                );
                return Err(frame.wrong_at(row, message));
            }
        }
    }
    for (row, probabilities) in values.values.chunks_exact(classes.len()).enumerate() {
        let sum: f32 = probabilities.iter().sum();
        let is_one = probabilities.iter().all(|value| *value >= 0.0) && (sum - 1.0).abs() <= SLACK;
        if !is_one {
            let message = format!(
                "the probabilities of {} are {probabilities:?}, which add up to {sum}, not to 1",
                describe(row)
            );
            return Err(frame.wrong_at(row, message));
        }
    }
    let truth = truth(samples, &classes);
    let found = Predictions {
        samples: samples.iter().map(|sample| sample.entity.clone()).collect(),
        splits: samples.iter().map(|sample| sample.split).collect(),
        entities: samples.iter().map(|sample| sample.entity.clone()).collect(),
        times: samples
            .iter()
            .filter_map(|sample| expected.series.times.get(sample.rows.start).copied())
            .collect(),
        truth,
        probabilities: values.values,
        classes,
    };
    found.validate().map_err(Trouble::new)?;
    Ok(found)
}

/// The numbers of the true classes; empty if one of them is not known.
fn truth(samples: &[&Segment], classes: &[String]) -> Vec<u32> {
    let mut truth = Vec::with_capacity(samples.len());
    for sample in samples {
        let number = classes
            .iter()
            .zip(0..)
            .find(|(class, _)| sample.class.as_ref() == Some(class));
        match number {
            Some((_, number)) => truth.push(number),
            None => return Vec::new(),
        }
    }
    truth
}

//! Class predictions: how often each class was taken for each other, with examples of every cell.

use contract::artifact::{Artifact, ArtifactKind, Image, Images, Predictions, Series, Split};

use super::gathering::{Gathering, name_of};

/// Examples of a cell.
const EXAMPLES: usize = 3;

/// Examples of a matrix.
const MOST_EXAMPLES: usize = 300;

/// Points of a sketch of a series.
const POINTS: usize = 120;

/// The predictions of one stage over the judged samples that have a class.
pub struct Confusion {
    pub stage: String,
    pub split: Split,
    pub classes: Vec<String>,
    /// By true class, then by predicted class.
    pub counts: Vec<Vec<usize>>,
    pub examples: Vec<Example>,
}

/// A sample of a cell.
pub struct Example {
    pub truth: usize,
    pub predicted: usize,
    pub name: String,
    /// Of the predicted class.
    pub probability: f32,
    pub look: Look,
}

/// What a sample looks like.
pub enum Look {
    Unknown,
    /// The bytes of a PNG file.
    Picture(Vec<u8>),
    /// A line per channel.
    Lines(Vec<Vec<f32>>),
}

/// The predictions of a run.
pub fn confusions(gathering: &Gathering<'_>) -> Vec<Confusion> {
    let mut found = Vec::new();
    for (index, stage, output) in gathering.outputs(ArtifactKind::Predictions) {
        let Some(Artifact::Predictions(predictions)) = gathering.load(stage, output) else {
            continue;
        };
        let has_samples = |split: &Split| predictions.of_split(*split).next().is_some();
        let split = Split::ALL.into_iter().rev().find(has_samples);
        let (Some(split), false) = (split, predictions.truth.is_empty()) else {
            continue;
        };
        let sources = Sources::of(gathering, index);
        found.push(confusion(
            name_of(stage, output),
            &predictions,
            split,
            &sources,
        ));
    }
    found
}

/// Where samples come from.
#[derive(Default)]
struct Sources {
    series: Option<std::sync::Arc<Series>>,
    images: Option<std::sync::Arc<Images>>,
}

impl Sources {
    fn of(gathering: &Gathering<'_>, stage: usize) -> Self {
        let mut sources = Self::default();
        for kind in [ArtifactKind::Images, ArtifactKind::Series] {
            let Some((maker, output)) = gathering.above(stage, kind).first().copied() else {
                continue;
            };
            match gathering.load(maker, output) {
                Some(Artifact::Images(images)) => sources.images = Some(images),
                Some(Artifact::Series(series)) => sources.series = Some(series),
                _ => {}
            }
        }
        sources
    }

    fn look(&self, predictions: &Predictions, sample: usize) -> Look {
        let name = &predictions.samples[sample];
        if let Some(images) = &self.images {
            let named = |image: &&Image| image.name == *name;
            if let Some(image) = images.images.iter().find(named) {
                return Look::Picture(image.file().to_vec());
            }
        }
        let (Some(series), Some(entity)) = (&self.series, predictions.entities.get(sample)) else {
            return Look::Unknown;
        };
        let split = predictions.splits[sample];
        let mut segments = series
            .of_split(split)
            .filter(|segment| segment.entity == *entity);
        match (segments.next(), segments.next()) {
            // Of several segments nothing says which one the sample is.
            (Some(segment), None) => {
                let line = |channel| sketch(series, segment.rows.clone(), channel);
                Look::Lines((0..series.width().min(3)).map(line).collect())
            }
            _ => Look::Unknown,
        }
    }
}

/// A channel in few points: of a long one, the smallest and the largest value of every stretch.
fn sketch(series: &Series, rows: std::ops::Range<usize>, channel: usize) -> Vec<f32> {
    let values: Vec<f32> = rows.map(|row| series.value(row, channel) as f32).collect();
    if values.len() <= POINTS {
        return values;
    }
    let mut ends = Vec::with_capacity(POINTS);
    for stretch in values.chunks(values.len().div_ceil(POINTS / 2)) {
        ends.push(stretch.iter().copied().fold(f32::NAN, f32::min));
        ends.push(stretch.iter().copied().fold(f32::NAN, f32::max));
    }
    ends
}

fn confusion(
    stage: String,
    predictions: &Predictions,
    split: Split,
    sources: &Sources,
) -> Confusion {
    let count = predictions.classes.len();
    let mut counts = vec![vec![0; count]; count];
    let mut examples = Vec::new();
    for sample in predictions.of_split(split) {
        let truth = predictions.truth[sample] as usize;
        let predicted = predictions.predicted(sample);
        counts[truth][predicted] += 1;
        if counts[truth][predicted] <= EXAMPLES && examples.len() < MOST_EXAMPLES {
            examples.push(Example {
                truth,
                predicted,
                name: predictions.samples[sample].clone(),
                probability: predictions.row(sample)[predicted],
                look: sources.look(predictions, sample),
            });
        }
    }
    examples.sort_by_key(|example| (example.truth, example.predicted));
    Confusion {
        stage,
        split,
        classes: predictions.classes.clone(),
        counts,
        examples,
    }
}

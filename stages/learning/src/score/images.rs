//! Scores of images: the mean over pixels and colours of the model's error. Every image is a series of a single row, so
//! that nothing which looks at neighbouring rows, such as point adjustment, takes one image for the neighbour of another.

use super::Params;
use crate::models::Task;
use crate::training::{Inference, Samples, class_numbers};
use contract::artifact::{Images, Model, Scores, Segment, Split};
use contract::{Fault, StageContext, Trouble};

/// What the parts of an image's score belong to.
const COLOURS: [&str; 3] = ["red", "green", "blue"];

/// A score per image, split after split.
pub(super) fn score(
    params: &Params,
    images: &Images,
    model: &Model,
    context: &StageContext<'_>,
) -> Result<Scores, Trouble> {
    let inference = Inference::new(model, Task::Detect, images, context)?;
    let splits = params.splits.clone().unwrap_or(Split::ALL.to_vec());
    let mut samples = Vec::new();
    // In the order of the splits, however they are listed.
    for split in Split::ALL {
        if splits.contains(&split) {
            samples.extend(images.of_split(split));
        }
    }
    if samples.is_empty() {
        let error = Trouble::new("the splits to score have no images");
        return Err(error.hint("name others in `splits`"));
    }
    let anomalous = numbers("anomalous", params.anomalous.as_deref(), images)?;
    let samples = judged(samples, params, anomalous.as_deref(), images)?;
    let mut scores = super::empty(params, COLOURS.map(str::to_owned).to_vec());
    let plane = images.height * images.width;
    for part in samples.chunks(params.batch) {
        context.check_cancelled()?;
        let batch = images.gather(part, Task::Detect, &inference.device)?;
        let errors = inference.errors(&batch)?;
        let errors: Vec<f32> = errors.flatten_all()?.to_vec1()?;
        for (sample, errors) in part.iter().zip(errors.chunks_exact(plane * COLOURS.len())) {
            let image = &images.images[*sample];
            let mut parts = [0.0_f64; COLOURS.len()];
            for (part, errors) in parts.iter_mut().zip(errors.chunks_exact(plane)) {
                let sum: f64 = errors.iter().map(|error| f64::from(*error)).sum();
                *part = sum / plane as f64 / COLOURS.len() as f64;
            }
            let score: f64 = parts.iter().sum();
            if !score.is_finite() {
                let message = format!("the score of the image `{}` is {score}", image.name);
                return Err(Trouble::new(message).hint("are the model's weights finite?"));
            }
            let row = scores.scores.len();
            scores.scores.push(score as f32);
            if params.contributions {
                scores.contributions.extend(parts.map(|part| part as f32));
            }
            if let Some(anomalous) = &anomalous {
                let is_anomalous = image.label.is_some_and(|label| anomalous.contains(&label));
                scores.labels.push(u8::from(is_anomalous));
            }
            let segment = Segment::new(image.split, image.name.clone(), row..row + 1);
            scores.segments.push(segment.labelled(anomalous.is_some()));
        }
        inference.progress("image", scores.scores.len(), samples.len(), String::new());
    }
    Ok(scores)
}

/// What the schema cannot say about `normal`.
pub(super) fn check_normal(params: &Params) -> Result<(), Fault> {
    let Some(normal) = &params.normal else {
        return Ok(());
    };
    let Some(anomalous) = &params.anomalous else {
        return Err(Fault::new("normal", "needs `anomalous` beside it"));
    };
    match normal.iter().find(|name| anomalous.contains(name)) {
        Some(both) => {
            let reason = format!("names `{both}`, which is among the anomalous classes too");
            Err(Fault::new("normal", reason))
        }
        None => Ok(()),
    }
}

/// The samples that `normal` leaves: normal ones, and of the split `test` anomalous ones.
fn judged(
    mut samples: Vec<usize>,
    params: &Params,
    anomalous: Option<&[u32]>,
    images: &Images,
) -> Result<Vec<usize>, Trouble> {
    let normal = numbers("normal", params.normal.as_deref(), images)?;
    let (Some(normal), Some(anomalous)) = (normal, anomalous) else {
        return Ok(samples);
    };
    samples.retain(|sample| {
        let image = &images.images[*sample];
        image.label.is_some_and(|label| {
            normal.contains(&label) || image.split == Split::Test && anomalous.contains(&label)
        })
    });
    if samples.is_empty() {
        let message = "no image that is to be scored is of a class in `normal` or `anomalous`";
        return Err(Trouble::new(message));
    }
    Ok(samples)
}

/// The numbers of the classes that a parameter names, if it does. Images without any classes, such as new ones that a
/// trained model is asked about, are scored without labels.
fn numbers(
    parameter: &str,
    names: Option<&[String]>,
    images: &Images,
) -> Result<Option<Vec<u32>>, Trouble> {
    match names {
        Some(names) if !images.classes.is_empty() => {
            class_numbers(parameter, names, &images.classes).map(Some)
        }
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Of, Score};
    use super::*;
    use crate::training::{Recipe, train};
    use contract::artifact::{Artifact, Image};
    use contract::testing::fault_of;
    use contract::{Inputs, NullHost, Stage};
    use serde_json::json;
    use std::sync::Arc;

    /// White images with a thin dark bar, and some with a thick one.
    fn bars() -> Images {
        let (height, width) = (12, 10);
        let image = |index: usize| {
            let thick = index % 4 == 3;
            let split = [Split::Train, Split::Validation, Split::Test][index / 4 % 3];
            let mut rgb = vec![255; height * width * 3];
            let (top, rows) = (index * 5 % 6, if thick { 6 } else { 1 });
            rgb[top * width * 3..(top + rows) * width * 3].fill(0);
            Image::from_rgb(
                format!("p{index}"),
                split,
                Some(u32::from(thick)),
                (height, width),
                &rgb,
            )
            .unwrap()
        };
        let classes = vec!["thin".to_owned(), "thick".to_owned()];
        Images {
            height,
            width,
            classes,
            images: (0..48).map(image).collect(),
        }
    }

    fn run(params: &Params, images: &Images, model: &Model) -> Result<Arc<Scores>, Trouble> {
        let mut inputs = Inputs::default();
        inputs.add("model", "model", model.clone().into());
        inputs.add(
            "images",
            "images",
            Artifact::Images(Arc::new(images.clone())),
        );
        let outputs = Score::run(params, &inputs, &NullHost::default().context(1))?.into_map();
        let Artifact::Scores(scores) = &outputs["scores"] else {
            panic!("not scores")
        };
        Ok(Arc::clone(scores))
    }

    fn recipe() -> Recipe {
        serde_json::from_value(json!({
            "model": {"kind": "vae", "of": "images", "latent": 4, "hidden": [6, 8], "deviation": 0.1, "beta": 0.01},
            "epochs": 60, "batch": 4, "optimizer": {"kind": "adam", "lr": 0.01}, "normal": ["thin"],
        }))
        .unwrap()
    }

    #[test]
    fn images_of_classes_that_were_not_learned_stand_out() {
        let images = bars();
        let model = train(&recipe(), &images, &NullHost::default().context(3))
            .unwrap()
            .model;
        let anomalous = Some(vec!["thick".to_owned()]);
        let splits = Some(vec![Split::Test, Split::Validation]);
        let params = Params {
            of: Of::Images,
            batch: 5,
            splits,
            anomalous,
            ..Params::default()
        };
        let scores = run(&params, &images, &model).unwrap();
        assert_eq!(
            (scores.rows(), scores.segments.len(), scores.channels.len()),
            (32, 32, 3)
        );
        assert_eq!(
            (scores.segments[0].split, scores.segments[31].split),
            (Split::Validation, Split::Test)
        );
        let of = |label: u8| {
            let rows = scores
                .scores
                .iter()
                .zip(&scores.labels)
                .filter(move |(_, own)| **own == label);
            rows.map(|(score, _)| *score)
        };
        assert_eq!((of(0).count(), of(1).count()), (24, 8));
        assert!(
            scores.segments.iter().all(|segment| segment.labelled),
            "they can be judged"
        );
        assert!(
            of(1).fold(f32::INFINITY, f32::min) > of(0).fold(0.0, f32::max),
            "{:?}",
            scores.scores
        );
        for (score, parts) in scores
            .scores
            .iter()
            .zip(scores.contributions.chunks_exact(3))
        {
            assert!((score - parts.iter().sum::<f32>()).abs() < 1e-5 * score.abs());
        }
        // Batches decide nothing.
        let whole = run(
            &Params {
                batch: 64,
                ..params
            },
            &images,
            &model,
        )
        .unwrap();
        assert!(
            whole
                .scores
                .iter()
                .zip(&scores.scores)
                .all(|(one, other)| (one - other).abs() <= 1e-6 * other)
        );
    }

    #[test]
    fn images_that_are_neither_normal_nor_anomalous_are_left_out() {
        let mut images = bars();
        images.classes.push("other".to_owned());
        for image in images.images.iter_mut().step_by(4) {
            image.label = Some(2);
        }
        let short = Recipe {
            epochs: 1,
            ..recipe()
        };
        let model = train(&short, &images, &NullHost::default().context(3))
            .unwrap()
            .model;
        let list = |name: &str| Some(vec![name.to_owned()]);
        let all = Params {
            of: Of::Images,
            anomalous: list("thick"),
            ..Params::default()
        };
        let some = Params {
            normal: list("thin"),
            ..all.clone()
        };
        let (all, some) = (
            run(&all, &images, &model).unwrap(),
            run(&some, &images, &model).unwrap(),
        );
        let anomalies = |scores: &Scores| scores.labels.iter().filter(|label| **label == 1).count();
        assert_eq!((all.rows(), anomalies(&all)), (48, 12));
        // Of the twelve anomalous images four are for testing.
        assert_eq!((some.rows(), anomalies(&some)), (28, 4));
        let labelled = some.segments.iter().zip(&some.labels);
        assert!(
            labelled
                .filter(|(_, label)| **label == 1)
                .all(|(segment, _)| segment.split == Split::Test)
        );
        assert!(some.segments.iter().all(|segment| {
            all.segments
                .iter()
                .any(|other| other.entity == segment.entity)
        }));
        let unknown = Images {
            classes: Vec::new(),
            ..images.clone()
        };
        let params = Params {
            of: Of::Images,
            normal: list("thin"),
            anomalous: list("thick"),
            ..Params::default()
        };
        let unknown = run(&params, &unknown, &model).unwrap();
        assert_eq!((unknown.rows(), unknown.labels.len()), (48, 0));
        for (normal, anomalous) in [
            (list("thin"), None),
            (list("thick"), list("thick")),
            (Some(vec![]), list("thick")),
        ] {
            let params = Params {
                of: Of::Images,
                normal,
                anomalous,
                ..Params::default()
            };
            let fault = fault_of::<Score>(serde_json::to_value(params).unwrap());
            assert_eq!(fault.unwrap().parameter, "normal");
        }
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let images = bars();
        let mut short = recipe();
        short.epochs = 1;
        let model = train(&short, &images, &NullHost::default().context(3))
            .unwrap()
            .model;
        let params = Params {
            of: Of::Images,
            ..Params::default()
        };
        let unknown = Params {
            anomalous: Some(vec!["round".to_owned()]),
            ..params.clone()
        };
        assert!(
            run(&unknown, &images, &model)
                .unwrap_err()
                .message()
                .contains("`round`")
        );
        let unlabelled = run(&params, &images, &model).unwrap();
        assert!(
            unlabelled.labels.is_empty()
                && unlabelled.segments.iter().all(|segment| !segment.labelled)
        );
        let other = Images {
            images: Vec::new(),
            height: 11,
            ..images.clone()
        };
        assert!(
            run(&params, &other, &model)
                .unwrap_err()
                .message()
                .contains("10 x 12 pixels")
        );
        short.normal = Some(vec!["round".to_owned()]);
        let error = train(&short, &images, &NullHost::default().context(3)).unwrap_err();
        assert!(error.message().contains("`round`"), "{error}");
    }
}

//! The stage kind `classify`: the probabilities that a trained model gives to the classes of each sample.
//! The stage kind `evaluate` judges how often it is right.

use std::sync::Arc;

use crate::models::{Of, Task};
use crate::training::{Inference, Samples, check_splits};
use contract::artifact::{ArtifactKind, Images, Model, Predictions, Split, Windows};
use contract::{Fault, Inputs, Numerics, Outputs, Port, Stage, StageContext, Threads, Trouble};

/// See the module.
#[derive(Debug)]
pub struct Classify;

contract::parameters! {
    /// Parameters of `classify`.
    pub struct Params {
        /// What is classified: windows of a series, or images.
        pub of: Of = Of::Windows,
        /// The splits whose samples are classified.
        #[schemars(length(min = 1))]
        pub splits: Vec<Split> = vec![Split::Test],
        /// Samples that are worked on together.
        #[schemars(range(min = 1))]
        pub batch: usize = 128,
    }
}

impl Stage for Classify {
    type Params = Params;

    const NAME: &'static str = "classify";
    // 2: entity and time of every sample.
    const VERSION: u32 = 2;
    const DOC: &'static str = "Gives every sample a probability per class by a trained model";
    const NUMERICS: Numerics = Numerics::Device;
    const THREADS: Threads = Threads::All;
    const SEEDED: bool = false;

    fn inputs(params: &Params) -> Vec<Port> {
        let (name, kind, doc) = match params.of {
            Of::Windows => (
                "windows",
                ArtifactKind::Windows,
                "windows of the length of the training",
            ),
            Of::Images => (
                "images",
                ArtifactKind::Images,
                "images of the size of the training",
            ),
        };
        vec![
            Port::new(
                "model",
                ArtifactKind::Model,
                "a model that was trained to classify",
            ),
            Port::new(name, kind, doc),
        ]
    }

    fn outputs(_: &Params) -> Vec<Port> {
        let predictions = "probabilities, and true classes where they are known";
        vec![Port::new(
            "predictions",
            ArtifactKind::Predictions,
            predictions,
        )]
    }

    fn check(params: &Params) -> Result<(), Fault> {
        check_splits(&params.splits)
    }

    fn run(
        params: &Params,
        inputs: &Inputs,
        context: &StageContext<'_>,
    ) -> Result<Outputs, Trouble> {
        let model = inputs.get::<Model>("model")?;
        let samples: Arc<dyn Samples> = match params.of {
            Of::Windows => inputs.get::<Windows>("windows")?,
            Of::Images => inputs.get::<Images>("images")?,
        };
        let predictions = classify(params, &model, &*samples, context)?;
        Ok(Outputs::one("predictions", predictions))
    }
}

/// Samples from anywhere. Those that have classes are compared by the classes' names.
fn classify(
    params: &Params,
    model: &Model,
    samples: &dyn Samples,
    context: &StageContext<'_>,
) -> Result<Predictions, Trouble> {
    let inference = Inference::new(model, Task::Classify, samples, context)?;
    let classes = inference.loaded.classes.clone();
    let numbers = numbers(&classes, &samples.classes())?;
    // Unless all have classes, samples are gathered as for a task that needs to know nothing about them.
    let mut task = Task::Classify;
    for split in &params.splits {
        let all = samples.of_split(*split, Task::Detect).len();
        if numbers.is_empty() || samples.of_split(*split, Task::Classify).len() < all {
            task = Task::Detect;
        }
    }
    let mut predictions = Predictions {
        classes,
        ..Predictions::default()
    };
    let selection = (params.splits.as_slice(), params.batch);
    inference.run(selection, task, Ok, |answer| {
        for sample in answer.samples {
            predictions.samples.push(samples.name(*sample));
            predictions.entities.extend(samples.entity(*sample));
            predictions.times.extend(samples.time(*sample));
            predictions.splits.push(answer.split);
        }
        if let Some(own) = &answer.batch.classes {
            for class in own.to_vec1::<u32>()? {
                predictions.truth.push(numbers[class as usize]);
            }
        }
        for logits in answer.output.chunks_exact(predictions.classes.len()) {
            predictions.probabilities.extend(softmax(logits));
        }
        Ok(())
    })?;
    predictions.validate().map_err(Trouble::new)?;
    Ok(predictions)
}

/// The model's number of each class of the samples.
fn numbers(known: &[String], own: &[String]) -> Result<Vec<u32>, Trouble> {
    let mut numbers = Vec::with_capacity(own.len());
    for name in own {
        let Some(number) = known.iter().position(|class| class == name) else {
            let message = format!("the model does not know the class `{name}`");
            let hint = format!("it tells apart {}", known.join(", "));
            return Err(Trouble::new(message).hint(hint));
        };
        numbers.push(number as u32);
    }
    Ok(numbers)
}

fn softmax(logits: &[f32]) -> Vec<f32> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    // Of differences, so that no power overflows.
    let mut powers = Vec::with_capacity(logits.len());
    for logit in logits {
        powers.push(libm::exp(f64::from(logit - largest)));
    }
    let sum: f64 = powers.iter().sum();
    powers
        .into_iter()
        .map(|power| (power / sum) as f32)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::training::tests::recipe;
    use crate::training::train;
    use contract::NullHost;
    use contract::artifact::{Artifact, Segment, Series, Split, WindowRun, WindowSpec};
    use serde_json::json;
    use std::sync::Arc;

    /// Samples of 12 rows, rising or falling, one window each; the classes of the test split may be left out.
    fn samples(labelled: bool) -> Windows {
        let mut series = Series {
            channels: vec!["a".into()],
            values: Vec::new(),
            labels: Vec::new(),
            times: Vec::new(),
            segments: Vec::new(),
            ..Series::default()
        };
        let mut runs = Vec::new();
        for index in 0..48 {
            let split = [Split::Train, Split::Validation, Split::Test, Split::Train][index % 4];
            let rising = index % 3 == 0;
            let first = series.values.len();
            let wave = |row: usize| (row as f32 - 5.5) * 0.2 + 0.1 * ((row * index) as f32).sin();
            series
                .values
                .extend((0..12).map(|row| if rising { wave(row) } else { -wave(row) }));
            let class = labelled.then(|| {
                if rising {
                    "rising".to_owned()
                } else {
                    "falling".to_owned()
                }
            });
            series
                .segments
                .push(Segment::new(split, format!("s{index}"), first..first + 12).of_class(class));
            runs.push(WindowRun {
                split,
                first,
                stride: 1,
                count: 1,
                rows: (first, first + 12),
            });
        }
        Windows {
            series: series.into(),
            spec: WindowSpec {
                length: 12,
                horizon: 0,
            },
            runs,
        }
    }

    fn run(model: &Model, windows: &Windows) -> Result<Arc<Predictions>, Trouble> {
        let mut inputs = Inputs::default();
        inputs.add("model", "model", model.clone().into());
        inputs.add("windows", "windows", windows.clone().into());
        let outputs =
            Classify::run(&Params::default(), &inputs, &NullHost::default().context(1))?.into_map();
        let Artifact::Predictions(predictions) = &outputs["predictions"] else {
            panic!("not predictions")
        };
        Ok(Arc::clone(predictions))
    }

    #[test]
    fn classes_are_told_apart_with_and_without_labels() {
        let windows = samples(true);
        let changes = json!({
            "model": {"kind": "tvnet", "patch": 4, "blocks": 1, "cm": 8}, "task": "classify", "epochs": 30,
        });
        let model = train(&recipe(changes), &windows, &NullHost::default().context(3))
            .unwrap()
            .model;
        let found = run(&model, &windows).unwrap();
        assert_eq!(found.classes, ["falling", "rising"]);
        assert_eq!(found.samples[..2], ["s2", "s6"]);
        assert_eq!(found.entities, found.samples);
        assert!(found.times.is_empty());
        let mut timed = Series::clone(&windows.series);
        timed.times = (0..48 * 12).collect();
        let timed = Windows {
            series: timed.into(),
            ..windows.clone()
        };
        assert_eq!(run(&model, &timed).unwrap().times[..2], [2 * 12, 6 * 12]);
        let right = (0..found.samples.len())
            .filter(|sample| found.predicted(*sample) as u32 == found.truth[*sample]);
        assert!(right.count() >= 11);
        let unlabelled = run(&model, &samples(false)).unwrap();
        assert_eq!(unlabelled.probabilities, found.probabilities);
        assert!(unlabelled.truth.is_empty());

        let mut strange = Series::clone(&windows.series);
        strange.segments[2].class = Some("level".into());
        let error = run(
            &model,
            &Windows {
                series: strange.into(),
                ..windows
            },
        )
        .unwrap_err();
        assert!(error.message().contains("`level`"), "{error}");
    }

    #[test]
    fn probabilities_sum_to_one_for_any_logits() {
        for logits in [vec![0.0, 0.0], vec![1000.0, -1000.0, 3.0], vec![-5.0]] {
            let sum: f32 = softmax(&logits).iter().sum();
            assert!((sum - 1.0).abs() < 1e-6);
        }
    }
}

//! The stage kind `classify`: the probabilities that a trained model gives to the classes of each sample.
//! How often it is right is said by `evaluate`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::models::Task;
use crate::training::{Inference, Samples, Selection};
use contract::artifact::{ArtifactKind, Images, Model, Predictions, Split, Windows};
use contract::{Fault, Inputs, Numerics, Outputs, Port, Stage, StageContext, Threads, Trouble};

/// See the module.
#[derive(Debug)]
pub struct Classify;

/// What is classified.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Of {
    /// Windows of a series.
    #[default]
    Windows,
    /// Images.
    Images,
}

/// Parameters of `classify`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Params {
    /// What is classified: windows of a series, or images.
    pub of: Of,
    /// The splits whose samples are classified.
    #[schemars(length(min = 1))]
    pub splits: Vec<Split>,
    /// Samples that are worked on together.
    #[schemars(range(min = 1))]
    pub batch: usize,
}

impl Default for Params {
    fn default() -> Self {
        let Selection { splits, batch } = Selection::default();
        Self {
            of: Of::Windows,
            splits,
            batch,
        }
    }
}

impl Params {
    fn selection(&self) -> Selection {
        Selection {
            splits: self.splits.clone(),
            batch: self.batch,
        }
    }
}

impl Stage for Classify {
    type Params = Params;

    const NAME: &'static str = "classify";
    const VERSION: u32 = 1;
    const DOC: &'static str = "Gives every sample a probability per class by a trained model";
    const NUMERICS: Numerics = Numerics::Device;
    const THREADS: Threads = Threads::All;
    const SEEDED: bool = false;

    fn inputs(params: &Params) -> Vec<Port> {
        let samples = match params.of {
            Of::Windows => Port::new(
                "windows",
                ArtifactKind::Windows,
                "windows of the length of the training",
            ),
            Of::Images => Port::new(
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
            samples,
        ]
    }

    fn outputs(_: &Params) -> Vec<Port> {
        vec![Port::new(
            "predictions",
            ArtifactKind::Predictions,
            "probabilities, and true classes where they are known",
        )]
    }

    fn check(params: &Params) -> Result<(), Fault> {
        params.selection().check()
    }

    fn run(
        params: &Params,
        inputs: &Inputs,
        context: &StageContext<'_>,
    ) -> Result<Outputs, Trouble> {
        let (model, selection) = (inputs.get::<Model>("model")?, params.selection());
        let predictions = match params.of {
            Of::Windows => classify(
                &model,
                &*inputs.get::<Windows>("windows")?,
                &selection,
                context,
            )?,
            Of::Images => classify(
                &model,
                &*inputs.get::<Images>("images")?,
                &selection,
                context,
            )?,
        };
        Ok(Outputs::one("predictions", predictions))
    }
}

/// Samples from anywhere. Those that have classes are compared by the classes' names.
fn classify(
    model: &Model,
    samples: &dyn Samples,
    selection: &Selection,
    context: &StageContext<'_>,
) -> Result<Predictions, Trouble> {
    let inference = Inference::new(model, Task::Classify, samples, context)?;
    let classes = inference.loaded.classes.clone();
    let numbers = numbers(&classes, &samples.classes())?;
    // Unless all have classes, samples are gathered as for a task that needs to know nothing about them.
    let count = |split: &Split, task| samples.of_split(*split, task).len();
    let labelled = selection
        .splits
        .iter()
        .all(|split| count(split, Task::Classify) == count(split, Task::Detect));
    let task = if labelled && !numbers.is_empty() {
        Task::Classify
    } else {
        Task::Detect
    };
    let mut predictions = Predictions {
        classes,
        ..Predictions::default()
    };
    inference.run(selection, task, Ok, |answer| {
        for sample in answer.samples {
            predictions.samples.push(samples.name(*sample));
            predictions.splits.push(answer.split);
        }
        if let Some(own) = &answer.batch.classes {
            predictions.truth.extend(
                own.to_vec1::<u32>()?
                    .into_iter()
                    .map(|class| numbers[class as usize]),
            );
        }
        answer
            .output
            .chunks_exact(predictions.classes.len())
            .for_each(|logits| {
                predictions.probabilities.extend(softmax(logits));
            });
        Ok(())
    })?;
    predictions.validate().map_err(Trouble::new)?;
    Ok(predictions)
}

/// The model's number of each class of the samples.
fn numbers(known: &[String], own: &[String]) -> Result<Vec<u32>, Trouble> {
    let number = |name: &String| {
        let number = known.iter().position(|class| class == name);
        number.map(|number| number as u32).ok_or_else(|| {
            Trouble::new(format!("the model does not know the class `{name}`"))
                .hint(format!("it tells apart {}", known.join(", ")))
        })
    };
    own.iter().map(number).collect()
}

fn softmax(logits: &[f32]) -> Vec<f32> {
    let largest = logits
        .iter()
        .fold(f32::NEG_INFINITY, |largest, logit| largest.max(*logit));
    let powers: Vec<f64> = logits
        .iter()
        .map(|logit| libm::exp(f64::from(logit - largest)))
        .collect();
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

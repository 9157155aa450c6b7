//! A trained model over the samples of some splits, batch after batch.
//! What becomes of the outputs is up to the stage; where samples come from is behind [`Samples`].

use candle_core::Device;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Samples;
use crate::models::{self, Batch, DataShape, Loaded, Network, Task};
use contract::artifact::{Model, Split};
use contract::{Fault, Progress, StageContext, Trouble};

/// Which samples a model is put to, and how many at a time.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Selection {
    /// The splits whose samples are worked on.
    #[schemars(length(min = 1))]
    pub splits: Vec<Split>,
    /// Samples that are worked on together.
    #[schemars(range(min = 1))]
    pub batch: usize,
}

impl Default for Selection {
    fn default() -> Self {
        Self {
            splits: vec![Split::Test],
            batch: 128,
        }
    }
}

impl Selection {
    /// What the schema cannot say.
    ///
    /// # Errors
    /// The parameter at fault.
    pub fn check(&self) -> Result<(), Fault> {
        for (index, split) in self.splits.iter().enumerate() {
            if self.splits[..index].contains(split) {
                return Err(Fault::new("splits", format!("names `{split}` twice")));
            }
        }
        Ok(())
    }
}

/// A model at work on samples.
pub struct Inference<'a> {
    pub loaded: Loaded,
    samples: &'a dyn Samples,
    device: Device,
    context: &'a StageContext<'a>,
}

/// One batch of samples and what the model says of it.
pub struct Answer<'b> {
    pub split: Split,
    /// Numbers of the samples.
    pub samples: &'b [usize],
    pub batch: &'b Batch,
    /// The model's output, row-major.
    pub output: Vec<f32>,
}

impl<'a> Inference<'a> {
    /// # Errors
    /// If the model file does not load, was trained for another task, or does not fit the samples.
    pub fn new(
        model: &Model,
        task: Task,
        samples: &'a dyn Samples,
        context: &'a StageContext<'a>,
    ) -> Result<Self, Trouble> {
        let device = numerics::device(context.device)?;
        let loaded = models::load(model, &device, |shape| check_shape(shape, task, samples))?;
        Ok(Self {
            loaded,
            samples,
            device,
            context,
        })
    }

    pub fn network(&self) -> &dyn Network {
        self.loaded.network.as_ref()
    }

    /// Hands every batch of the selected samples to `prepare`, and the model's output to `take`. `task` says what is
    /// gathered with the samples.
    ///
    /// # Errors
    /// If there are no samples, an output is not finite, or the run was asked to stop.
    pub fn run(
        &self,
        selection: &Selection,
        task: Task,
        mut prepare: impl FnMut(Batch) -> Result<Batch, Trouble>,
        mut take: impl FnMut(&Answer<'_>) -> Result<(), Trouble>,
    ) -> Result<(), Trouble> {
        let chosen: Vec<(Split, Vec<usize>)> = selection
            .splits
            .iter()
            .map(|split| (*split, self.samples.of_split(*split, task)))
            .collect();
        let total: usize = chosen.iter().map(|(_, samples)| samples.len()).sum();
        if total == 0 {
            let names = selection
                .splits
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(", ");
            return Err(
                Trouble::new(format!("there are no samples in the splits {names}"))
                    .hint("name others in `splits`, or make windows of them"),
            );
        }
        let mut done = 0;
        for (split, samples) in &chosen {
            for samples in samples.chunks(selection.batch) {
                self.context.check_cancelled()?;
                let batch = prepare(self.samples.gather(samples, task, &self.device)?)?;
                let output = self
                    .network()
                    .predict(&batch)?
                    .flatten_all()?
                    .to_vec1::<f32>()?;
                if let Some(value) = output.iter().find(|value| !value.is_finite()) {
                    return Err(Trouble::new(format!("the model answers {value}"))
                        .hint("are the model's weights and the samples finite?"));
                }
                take(&Answer {
                    split: *split,
                    samples,
                    batch: &batch,
                    output,
                })?;
                done += samples.len();
                let phase = format!("split {split}");
                let (done, total) = (done as u64, total as u64);
                self.context.host.progress(Progress {
                    unit: "sample",
                    done,
                    total,
                    phase,
                    figures: Vec::new(),
                });
            }
        }
        Ok(())
    }
}

fn check_shape(shape: DataShape, task: Task, samples: &dyn Samples) -> Result<(), Trouble> {
    if shape.task != task {
        return Err(Trouble::new(format!(
            "the model was trained to {}, not to {task}",
            shape.task
        ))
        .hint(format!(
            "use the stage kind for that, or train with `task: {task}`"
        )));
    }
    let found = samples.shape(task);
    // Which classes there are is for the stage to compare: by name, not by number.
    if (DataShape {
        classes: shape.classes,
        ..found
    }) == shape
    {
        return Ok(());
    }
    Err(Trouble::new(format!(
        "the model was trained on {}, these are {}",
        describe(shape),
        describe(found)
    ))
    .hint("use samples that were made in the same way as those of the training"))
}

fn describe(shape: DataShape) -> String {
    let DataShape {
        length,
        channels,
        horizon,
        width,
        ..
    } = shape;
    match (width, horizon) {
        (0, 0) => format!("windows of {length} rows and {channels} channels"),
        (0, _) => format!(
            "windows of {length} rows and {channels} channels with {horizon} rows to forecast"
        ),
        _ => format!("images of {width} x {length} pixels and {channels} channels"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selections_that_make_no_sense_are_refused() {
        let selection = |splits: &[Split]| Selection {
            splits: splits.to_vec(),
            batch: 1,
        };
        assert_eq!(Selection::default().check(), Ok(()));
        let twice = selection(&[Split::Test, Split::Train, Split::Test]);
        let fault = twice.check().unwrap_err();
        assert!(fault.reason.contains("`test` twice"), "{fault}");
    }
}

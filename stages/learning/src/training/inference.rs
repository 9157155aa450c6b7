//! A trained model over the samples of some splits, batch after batch.
//! What becomes of the outputs is up to the stage; where samples come from is behind [`Samples`].

use candle_core::{Device, Tensor};
use numerics::Constants;

use super::Samples;
use crate::models::{self, Batch, DataShape, Loaded, Network, Task};
use contract::artifact::{Forecasts, Model, Origin, Split, Windows};
use contract::{Fault, Progress, StageContext, Trouble};

/// What the schema cannot say about the splits whose samples a model is put to.
///
/// # Errors
/// If one is named twice.
pub fn check_splits(splits: &[Split]) -> Result<(), Fault> {
    for (index, split) in splits.iter().enumerate() {
        if splits[..index].contains(split) {
            return Err(Fault::new("splits", format!("names `{split}` twice")));
        }
    }
    Ok(())
}

/// A model at work on samples.
pub struct Inference<'a> {
    pub loaded: Loaded,
    pub device: Device,
    pub context: &'a StageContext<'a>,
    samples: &'a dyn Samples,
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
            device,
            context,
            samples,
        })
    }

    pub fn network(&self) -> &dyn Network {
        self.loaded.network.as_ref()
    }

    /// What the network's [`Network::errors`] are.
    ///
    /// # Errors
    /// As there.
    pub fn errors(&self, batch: &Batch) -> candle_core::Result<Tensor> {
        let _constants = Constants::keep(&self.device);
        self.network().errors(batch)
    }

    fn predict(&self, batch: &Batch) -> candle_core::Result<Tensor> {
        let _constants = Constants::keep(&self.device);
        self.network().predict(batch)
    }

    /// Reports that `done` of so many are done.
    pub fn progress(&self, unit: &'static str, done: usize, total: usize, phase: String) {
        self.context.host.progress(Progress {
            unit: unit.into(),
            done: done as u64,
            total: total as u64,
            phase,
            figures: Vec::new(),
        });
    }

    /// Hands every batch of the samples of some splits to `prepare`, and the model's output to `take`. `task` says what
    /// is gathered with the samples.
    ///
    /// # Errors
    /// If there are no samples, an output is not finite, or the run was asked to stop.
    pub fn run(
        &self,
        (splits, batch): (&[Split], usize),
        task: Task,
        mut prepare: impl FnMut(Batch) -> Result<Batch, Trouble>,
        mut take: impl FnMut(&Answer<'_>) -> Result<(), Trouble>,
    ) -> Result<(), Trouble> {
        let (mut chosen, mut total) = (Vec::new(), 0);
        for split in splits {
            let samples = self.samples.of_split(*split, task);
            total += samples.len();
            chosen.push((*split, samples));
        }
        if total == 0 {
            let names: Vec<String> = splits.iter().map(ToString::to_string).collect();
            let message = format!("there are no samples in the splits {}", names.join(", "));
            let hint = "name others in `splits`, or make windows of them";
            return Err(Trouble::new(message).hint(hint));
        }
        let mut done = 0;
        for (split, samples) in &chosen {
            for samples in samples.chunks(batch) {
                self.context.check_cancelled()?;
                let batch = prepare(self.samples.gather(samples, task, &self.device)?)?;
                let output = self.predict(&batch)?;
                let output: Vec<f32> = output.flatten_all()?.to_vec1()?;
                if let Some(value) = output.iter().find(|value| !value.is_finite()) {
                    return Err(Trouble::new(format!("the model predicts {value}"))
                        .hint("are the model's weights and the samples finite?"));
                }
                take(&Answer {
                    split: *split,
                    samples,
                    batch: &batch,
                    output,
                })?;
                done += samples.len();
                self.progress("sample", done, total, format!("split {split}"));
            }
        }
        Ok(())
    }
}

/// Notes where the values of one more window lie, the first of which stands for a row of the series.
pub fn push_origin(forecasts: &mut Forecasts, windows: &Windows, split: Split, row: usize) {
    let series = &windows.series;
    let entity = match series.segment_at(row) {
        Some(segment) => segment.entity.clone(),
        None => String::new(),
    };
    forecasts.origins.push(Origin { split, entity, row });
    let times = series.times.get(row..row + forecasts.horizon);
    forecasts.times.extend_from_slice(times.unwrap_or_default());
}

fn check_shape(shape: DataShape, task: Task, samples: &dyn Samples) -> Result<(), Trouble> {
    if shape.task != task {
        let message = format!("the model was trained to {}, not to {task}", shape.task);
        let hint = format!("use the stage kind for that, or train with `task: {task}`");
        return Err(Trouble::new(message).hint(hint));
    }
    let mut found = samples.shape(task);
    // Which classes there are is for the stage to compare: by name, not by number.
    found.classes = shape.classes;
    // What follows a window may be there for another model; a detector does not look at it.
    if task == Task::Detect {
        found.horizon = shape.horizon;
    }
    if found == shape {
        return Ok(());
    }
    let hint = match (shape.width, found.width) {
        (0, 1..) => "set `of: windows`",
        (1.., 0) => "set `of: images`",
        _ => "use samples that were made in the same way as those of the training",
    };
    let message = format!("the model was trained on {shape}, these are {found}");
    Err(Trouble::new(message).hint(hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selections_that_make_no_sense_are_refused() {
        assert_eq!(check_splits(&[Split::Test, Split::Train]), Ok(()));
        let twice = [Split::Test, Split::Train, Split::Test];
        let fault = check_splits(&twice).unwrap_err();
        assert!(fault.reason.contains("`test` twice"), "{fault}");
    }
}

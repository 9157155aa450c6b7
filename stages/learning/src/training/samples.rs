//! Where training and inference get their samples from, gathered into the tensors of a batch.
//! Their order is up to the caller; what is hidden or altered in a batch is said in the recipe.

use candle_core::{Device, Tensor};
use rayon::prelude::*;

use crate::models::{Batch, DataShape, Task};
use contract::Trouble;
use contract::artifact::{Split, Windows};

/// Samples that a model can be trained on.
pub trait Samples: Sync {
    /// The shape that they offer for a task.
    fn shape(&self, task: Task) -> DataShape;

    /// Names of the classes, in the order of their numbers; empty if the samples have none.
    fn classes(&self) -> Vec<String>;

    /// The number of a sample's class, if it has one.
    fn class_of(&self, sample: usize) -> Option<u32>;

    /// The samples of a split that can serve a task, by number.
    fn of_split(&self, split: Split, task: Task) -> Vec<usize>;

    /// These samples, in this order, with what the task asks to be told about them.
    ///
    /// # Errors
    /// If a tensor cannot be made on the device.
    fn gather(&self, samples: &[usize], task: Task, device: &Device) -> Result<Batch, Trouble>;

    /// What a sample is called where it is listed.
    fn name(&self, sample: usize) -> String {
        sample.to_string()
    }

    /// The windows themselves, for models that are fitted in closed form.
    fn windows(&self) -> Option<&Windows> {
        None
    }
}

/// A window's number is its first row.
impl Samples for Windows {
    fn shape(&self, task: Task) -> DataShape {
        let shape = DataShape::detect(self.spec.length, self.series.width());
        let classes = if task == Task::Classify {
            self.series.classes().len()
        } else {
            0
        };
        DataShape {
            task,
            horizon: self.spec.horizon,
            classes,
            ..shape
        }
    }

    fn classes(&self) -> Vec<String> {
        self.series.classes()
    }

    fn class_of(&self, sample: usize) -> Option<u32> {
        let class = self.series.class_at(sample)?;
        self.series
            .classes()
            .iter()
            .position(|name| name == class)?
            .try_into()
            .ok()
    }

    fn of_split(&self, split: Split, task: Task) -> Vec<usize> {
        let mut starts = self.starts(split);
        if task == Task::Classify {
            starts.retain(|start| self.series.class_at(*start).is_some());
        }
        starts
    }

    fn gather(&self, samples: &[usize], task: Task, device: &Device) -> Result<Batch, Trouble> {
        let (length, horizon, channels) =
            (self.spec.length, self.spec.horizon, self.series.width());
        let inputs = copy(samples, length * channels, |start| self.input(start));
        let mut batch = Batch::of(Tensor::from_vec(
            inputs,
            (samples.len(), length, channels),
            device,
        )?);
        match task {
            Task::Detect => {}
            Task::Forecast => {
                let targets = copy(samples, horizon * channels, |start| self.target(start));
                batch.targets = Some(Tensor::from_vec(
                    targets,
                    (samples.len(), horizon, channels),
                    device,
                )?);
            }
            Task::Impute => batch.targets = Some(batch.inputs.clone()),
            Task::Classify => {
                let names = self.series.classes();
                let class = |start: &usize| {
                    let class = self.series.class_at(*start)?;
                    names.iter().position(|name| name == class)?.try_into().ok()
                };
                let classes: Option<Vec<u32>> = samples.iter().map(class).collect();
                let classes =
                    classes.ok_or_else(|| Trouble::new("a window belongs to no class"))?;
                batch.classes = Some(Tensor::from_vec(classes, samples.len(), device)?);
            }
        }
        Ok(batch)
    }

    /// The entity, and how many rows behind its segment's start the window starts if it does not start there.
    fn name(&self, sample: usize) -> String {
        let Some(segment) = self.series.segment_at(sample) else {
            return sample.to_string();
        };
        match sample - segment.rows.start {
            0 => segment.entity.clone(),
            offset => format!("{}+{offset}", segment.entity),
        }
    }

    fn windows(&self) -> Option<&Windows> {
        Some(self)
    }
}

fn copy<'a>(starts: &[usize], size: usize, window: impl Fn(usize) -> &'a [f32] + Sync) -> Vec<f32> {
    let mut values = vec![0.0; starts.len() * size];
    if size > 0 {
        // A few windows per task are worth waking a thread for.
        values
            .par_chunks_exact_mut(size)
            .zip(starts)
            .with_min_len(16)
            .for_each(|(target, start)| {
                target.copy_from_slice(window(*start));
            });
    }
    values
}

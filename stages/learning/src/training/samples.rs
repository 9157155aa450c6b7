//! Where training and inference get their samples from, gathered into the tensors of a batch.
//! Their order is up to the caller; the recipe decides what is hidden or altered in a batch.

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

    /// These samples, in this order, with what the task needs to know about them.
    ///
    /// # Errors
    /// If a tensor cannot be made on the device.
    fn gather(&self, samples: &[usize], task: Task, device: &Device) -> Result<Batch, Trouble>;

    /// What a sample is called where it is listed.
    fn name(&self, sample: usize) -> String {
        sample.to_string()
    }

    /// Which machine, channel or file a sample comes from, if it comes from a series.
    fn entity(&self, _: usize) -> Option<String> {
        None
    }

    /// The time of a sample's first row, if it has any.
    fn time(&self, _: usize) -> Option<i64> {
        None
    }

    /// The windows themselves, for models that are fitted in closed form.
    fn windows(&self) -> Option<&Windows> {
        None
    }
}

/// A window's number is its first row.
impl Samples for Windows {
    fn shape(&self, task: Task) -> DataShape {
        let mut shape = DataShape::detect(self.spec.length, self.series.width());
        shape.task = task;
        shape.horizon = self.spec.horizon;
        if task == Task::Classify {
            shape.classes = self.series.classes().len();
        }
        shape
    }

    fn classes(&self) -> Vec<String> {
        self.series.classes()
    }

    fn class_of(&self, sample: usize) -> Option<u32> {
        number_of(self.series.class_at(sample)?, &self.series.classes())
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
        let shape = (samples.len(), length, channels);
        let mut batch = Batch::of(Tensor::from_vec(inputs, shape, device)?);
        match task {
            Task::Detect => {}
            Task::Forecast => {
                let targets = copy(samples, horizon * channels, |start| self.target(start));
                let shape = (samples.len(), horizon, channels);
                batch.targets = Some(Tensor::from_vec(targets, shape, device)?);
            }
            Task::Impute => batch.targets = Some(batch.inputs.clone()),
            Task::Classify => {
                let known = self.series.classes();
                let class = |start: &usize| number_of(self.series.class_at(*start)?, &known);
                batch.classes = Some(class_tensor(samples.iter().map(class), device)?);
            }
        }
        Ok(batch)
    }

    /// The entity, and how many rows after its segment's start the window starts if it does not start there.
    fn name(&self, sample: usize) -> String {
        let Some(segment) = self.series.segment_at(sample) else {
            return sample.to_string();
        };
        match sample - segment.rows.start {
            0 => segment.entity.clone(),
            offset => format!("{}+{offset}", segment.entity),
        }
    }

    fn entity(&self, sample: usize) -> Option<String> {
        let segment = self.series.segment_at(sample)?;
        Some(segment.entity.clone())
    }

    fn time(&self, sample: usize) -> Option<i64> {
        self.series.times.get(sample).copied()
    }

    fn windows(&self) -> Option<&Windows> {
        Some(self)
    }
}

/// The place of a class among those that are known.
fn number_of(name: &str, known: &[String]) -> Option<u32> {
    let place = known.iter().position(|class| class == name)?;
    u32::try_from(place).ok()
}

/// The numbers of the classes that a parameter names.
///
/// # Errors
/// If the samples do not have one of them.
pub fn class_numbers(
    parameter: &str,
    names: &[String],
    known: &[String],
) -> Result<Vec<u32>, Trouble> {
    let mut numbers = Vec::with_capacity(names.len());
    for name in names {
        let Some(number) = number_of(name, known) else {
            let message =
                format!("`{parameter}` names the class `{name}`, which the samples do not have");
            let hint = if known.is_empty() {
                "they have no classes".to_owned()
            } else {
                format!("they have {}", known.join(", "))
            };
            return Err(Trouble::new(message).hint(hint));
        };
        numbers.push(number);
    }
    Ok(numbers)
}

/// The classes of a batch as its network wants them.
pub(super) fn class_tensor(
    classes: impl Iterator<Item = Option<u32>>,
    device: &Device,
) -> Result<Tensor, Trouble> {
    match classes.collect::<Option<Vec<u32>>>() {
        Some(classes) => Ok(Tensor::new(classes, device)?),
        None => Err(Trouble::new("a sample belongs to no class")),
    }
}

fn copy<'a>(starts: &[usize], size: usize, window: impl Fn(usize) -> &'a [f32] + Sync) -> Vec<f32> {
    let mut values = vec![0.0; starts.len() * size];
    if size > 0 {
        // A few windows per task are worth waking a thread for.
        let targets = values
            .par_chunks_exact_mut(size)
            .zip(starts)
            .with_min_len(16);
        targets.for_each(|(target, start)| target.copy_from_slice(window(*start)));
    }
    values
}

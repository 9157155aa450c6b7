//! Images as samples, decoded when a batch is made.
//! `augment` alters them while training.

use candle_core::{Device, Tensor};
use rayon::prelude::*;

use super::Samples;
use super::samples::class_tensor;
use crate::models::{Batch, DataShape, Task};
use contract::Trouble;
use contract::artifact::{COLOURS, Images, Split};

/// An image's number is its place in the set.
impl Samples for Images {
    fn shape(&self, task: Task) -> DataShape {
        let mut shape = DataShape::images(self.height, self.width, COLOURS, 0);
        shape.task = task;
        if task == Task::Classify {
            shape.classes = self.classes.len();
        }
        shape
    }

    fn classes(&self) -> Vec<String> {
        self.classes.clone()
    }

    fn class_of(&self, sample: usize) -> Option<u32> {
        self.images[sample].label
    }

    fn of_split(&self, split: Split, task: Task) -> Vec<usize> {
        let mut samples = Images::of_split(self, split);
        if task == Task::Classify {
            samples.retain(|sample| self.images[*sample].label.is_some());
        }
        samples
    }

    fn name(&self, sample: usize) -> String {
        self.images[sample].name.clone()
    }

    fn gather(&self, samples: &[usize], task: Task, device: &Device) -> Result<Batch, Trouble> {
        let pixels = self.pixels(samples)?;
        let plane = self.height * self.width;
        let mut values = vec![0.0; pixels.len()];
        let size = (plane * COLOURS).max(1);
        let targets = values.par_chunks_exact_mut(size);
        targets
            .zip(pixels.par_chunks_exact(size))
            .for_each(|(target, pixels)| {
                for (colour, target) in target.chunks_exact_mut(plane).enumerate() {
                    let own = pixels.iter().skip(colour).step_by(COLOURS);
                    for (target, value) in target.iter_mut().zip(own) {
                        *target = f32::from(*value) / 255.0;
                    }
                }
            });
        let shape = (samples.len(), COLOURS, self.height, self.width);
        let mut batch = Batch::of(Tensor::from_vec(values, shape, device)?);
        if task == Task::Classify {
            let classes = samples.iter().map(|sample| self.class_of(*sample));
            batch.classes = Some(class_tensor(classes, device)?);
        }
        Ok(batch)
    }
}

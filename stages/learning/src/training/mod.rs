//! Training: a recipe, batches, the loop over epochs, and checkpoints that continue it to the bit.
//! It knows networks only through their trait, and the outside only through the stage's context.

mod augment;
mod checkpoint;
mod images;
mod inference;
mod mask;
mod monitor;
mod progress;
mod recipe;
mod samples;
mod stopping;
mod trainer;

pub use inference::{Inference, check_splits, push_origin};
pub use mask::Masking;
pub use monitor::{Metric, Monitor};
pub use recipe::{EarlyStopping, Keep, Recipe};
pub use samples::{Samples, class_numbers};
pub use trainer::train;

#[cfg(test)]
pub(crate) mod tests;

//! The parameters of the stage `train`.
//! The trainer carries them out.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Monitor;
use super::augment::AugmentationChoice;
use super::mask::Masking;
use crate::models::{self, ModelChoice, Task};
use crate::schedules::ScheduleChoice;
use contract::artifact::{Digest, DigestWriter};
use contract::{Fault, FileRequest};
use numerics::Precision;
use numerics::optimizer::OptimizerChoice;

/// Which weights a training hands on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Keep {
    /// Those of the epoch whose monitored metric is best, by default the lowest validation loss.
    #[default]
    Best,
    /// Those of the last epoch.
    Last,
}

/// Ends a training whose monitored metric no longer gets better.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EarlyStopping {
    /// Epochs in a row without progress after which training ends.
    #[schemars(range(min = 1))]
    pub patience: u64,
    /// Progress is a value better than the best one by more than this.
    #[serde(default)]
    #[schemars(range(min = 0.0))]
    pub min_delta: f64,
}

/// The parameters of a training.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// The model and its configuration. Window length and number of channels come from the data.
    pub model: ModelChoice,
    /// What the model is trained to do; if left out, the first of its tasks.
    #[serde(default)]
    pub task: Option<Task>,
    /// What is hidden from a model that imputes, redrawn for every training batch and always the same in validation.
    #[serde(default)]
    pub mask: Option<Masking>,
    /// Passes over the training windows.
    #[serde(default = "default_epochs")]
    #[schemars(range(min = 1))]
    pub epochs: u64,
    /// Windows per step; the last step of an epoch takes what is left.
    #[serde(default = "default_batch")]
    #[schemars(range(min = 1))]
    pub batch: usize,
    /// The rule that moves the weights.
    #[serde(default = "default_optimizer")]
    pub optimizer: OptimizerChoice,
    /// How the learning rate changes from epoch to epoch.
    #[serde(default = "default_schedule")]
    pub schedule: ScheduleChoice,
    /// Batches whose gradients are added up for one step: a larger batch in the memory of a smaller one.
    #[serde(default = "default_accumulate")]
    #[schemars(range(min = 1))]
    pub accumulate: usize,
    /// Scales gradients down to at most this global norm.
    #[serde(default)]
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub clip: Option<f64>,
    /// Scales every parameter's gradient down to at most this norm, each separately; comes before `clip`.
    #[serde(default)]
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub clip_per_tensor: Option<f64>,
    /// Ends the training when the monitored metric no longer gets better; never if left out.
    #[serde(default)]
    pub early_stopping: Option<EarlyStopping>,
    /// The metric by which epochs are compared, for the best weights, early stopping and schedules that watch it.
    #[serde(default)]
    pub monitor: Monitor,
    /// Which weights are handed on.
    #[serde(default)]
    pub keep: Keep,
    /// Whether every epoch sees the training windows in a new random order.
    #[serde(default = "default_shuffle")]
    pub shuffle: bool,
    /// The format of the operands of products in a training step; everything else is done in 32 bits.
    #[serde(default)]
    pub precision: Precision,
    /// To classify: how much each class counts in the loss; all alike if left out.
    #[serde(default)]
    pub class_weights: Option<ClassWeights>,
    /// To classify: the share of the target that is spread over all classes.
    #[serde(default)]
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
    pub label_smoothing: f64,
    /// Of images: ways in which they are altered at random while training, one after another.
    #[serde(default)]
    pub augment: Vec<AugmentationChoice>,
    /// To detect: the classes that count as normal. Samples of others are neither trained on nor watched. All if left
    /// out.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub normal: Option<Vec<String>>,
}

/// How much each class counts in the loss.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum ClassWeights {
    /// The same for all classes together, however many samples each has.
    Balanced(Balanced),
    /// One weight per class, in the order of the classes' names.
    Given(#[schemars(inner(range(min = 0.0)))] Vec<f32>),
}

/// The word for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Balanced {
    Balanced,
}

fn default_accumulate() -> usize {
    1
}

fn default_epochs() -> u64 {
    10
}

fn default_batch() -> usize {
    128
}

fn default_optimizer() -> OptimizerChoice {
    OptimizerChoice::plain("adam").expect("the table has adam, with defaults for everything")
}

fn default_schedule() -> ScheduleChoice {
    ScheduleChoice::plain("constant").expect("the table has constant, which takes no parameters")
}

fn default_shuffle() -> bool {
    true
}

impl Recipe {
    /// What the schema cannot say.
    ///
    /// # Errors
    /// The parameter at fault.
    pub fn check(&self) -> Result<(), Fault> {
        // The model comes first: its task decides what the other parameters mean.
        self.model.check().map_err(|fault| fault.below("model"))?;
        if let Some(task) = self.task {
            models::check_task(&self.model, task).map_err(|reason| Fault::new("task", reason))?;
        }
        self.optimizer
            .check()
            .map_err(|fault| fault.below("optimizer"))?;
        self.schedule
            .check()
            .map_err(|fault| fault.below("schedule"))?;
        if self.mask.is_some() && self.task() != Task::Impute {
            return Err(Fault::new("mask", "is for `task: impute`; leave it out"));
        }
        if self.precision == Precision::Bf16 && self.closed_form() {
            let reason = "is for models that are trained step by step";
            return Err(Fault::new("precision", reason));
        }
        self.monitor
            .check(self.task())
            .map_err(|fault| fault.below("monitor"))?;
        self.check_classes()?;
        self.check_images()
    }

    /// Files from which the model starts.
    pub fn files(&self) -> Vec<FileRequest> {
        self.model.files()
    }

    /// What the model is trained to do.
    pub fn task(&self) -> Task {
        let first = self.model.tasks().first();
        self.task.or(first.copied()).unwrap_or(Task::Detect)
    }

    /// Whether the model is fitted at once instead of step by step.
    pub fn closed_form(&self) -> bool {
        self.model.closed_form()
    }

    fn check_classes(&self) -> Result<(), Fault> {
        if let Some(ClassWeights::Given(weights)) = &self.class_weights
            && weights.iter().all(|weight| *weight == 0.0)
        {
            let reason = "must be numbers of at least 0, one of them above 0";
            return Err(Fault::new("class_weights", reason));
        }
        if self.task() == Task::Classify {
            return Ok(());
        }
        let reason = "is for the task `classify` alone";
        if self.class_weights.is_some() {
            return Err(Fault::new("class_weights", reason));
        }
        if self.label_smoothing != 0.0 {
            return Err(Fault::new("label_smoothing", reason));
        }
        Ok(())
    }

    /// Whether the model sees images instead of windows.
    pub fn reads_images(&self) -> bool {
        self.model.reads_images()
    }

    fn check_images(&self) -> Result<(), Fault> {
        for (index, way) in self.augment.iter().enumerate() {
            way.check()
                .map_err(|fault| fault.below(index).below("augment"))?;
        }
        if !self.augment.is_empty() && !self.reads_images() {
            return Err(Fault::new("augment", "is for models that see images"));
        }
        if self.normal.is_some() && self.task() != Task::Detect {
            return Err(Fault::new("normal", "is for the task `detect` alone"));
        }
        Ok(())
    }

    /// The first parameter that compares epochs, if any does.
    fn compares_epochs(&self) -> Option<&'static str> {
        if self.closed_form() {
            None
        } else if self.early_stopping.is_some() {
            Some("early_stopping")
        } else if self.keep == Keep::Best {
            Some("keep: best")
        } else {
            self.schedule.watches().then_some("schedule")
        }
    }

    /// Whether a part of the model is trained on the monitored samples.
    pub fn is_bi_level(&self) -> bool {
        self.model.bi_level()
    }

    /// The first parameter that cannot do without monitored samples.
    pub fn needs_validation(&self) -> Option<&'static str> {
        self.compares_epochs()
            .filter(|_| self.monitor.needs_samples())
    }

    /// What the monitored samples decide, if they decide anything.
    pub fn chooses(&self) -> Option<&'static str> {
        self.needs_validation()?;
        let epoch = self.early_stopping.is_some() || self.keep == Keep::Best;
        Some(match (epoch, self.schedule.watches()) {
            (true, true) => "choice of the epoch and its learning rate",
            (false, true) => "learning rate",
            _ => "choice of the epoch",
        })
    }

    /// Names the chain of checkpoints: everything that the course of the training depends on.
    ///
    /// The number of epochs does not belong to it unless the schedule looks at it, so that trainings which differ in
    /// nothing else share their epochs.
    pub fn chain(&self, lineage: &Digest) -> Digest {
        let mut writer = DigestWriter::new("training");
        writer.digest(lineage);
        let mut recipe = serde_json::to_value(self).unwrap_or_default();
        if let Some(recipe) = recipe.as_object_mut()
            && !self.schedule.depends_on_epochs()
        {
            recipe.shift_remove("epochs");
        }
        writer.text(&recipe.to_string());
        writer.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::Train;
    use contract::testing::fault_of;
    use serde_json::{Value, json};

    fn recipe(changes: Value) -> Result<Recipe, String> {
        let mut value = json!({"model": {"kind": "tvnet-recon"}});
        for (name, change) in changes.as_object().unwrap() {
            value[name] = change.clone();
        }
        serde_json::from_value(value).map_err(|error| error.to_string())
    }

    fn fault(changes: Value) -> Fault {
        let mut value = json!({"model": {"kind": "tvnet-recon"}});
        for (name, change) in changes.as_object().unwrap() {
            value[name] = change.clone();
        }
        fault_of::<Train>(value).unwrap()
    }

    #[test]
    fn defaults_and_faults() {
        let plain = recipe(json!({})).unwrap();
        assert_eq!(plain.check(), Ok(()));
        assert_eq!(
            (plain.epochs, plain.batch, plain.keep, plain.shuffle),
            (10, 128, Keep::Best, true)
        );
        for (changes, parameter) in [
            (json!({"epochs": 0}), "epochs"),
            (json!({"batch": 0}), "batch"),
            (json!({"clip": 0.0}), "clip"),
            (json!({"clip_per_tensor": -1.0}), "clip_per_tensor"),
            (
                json!({"early_stopping": {"patience": 0}}),
                "early_stopping.patience",
            ),
            (json!({"mask": {"ratio": 0.5}}), "mask"),
            (
                json!({"model": {"kind": "tvnet"}, "task": "impute", "mask": {"ratio": 1.0}}),
                "mask.ratio",
            ),
            (
                json!({"optimizer": {"kind": "sgd", "nesterov": true}}),
                "optimizer.nesterov",
            ),
            (
                json!({"model": {"kind": "tvnet", "patch": 5}}),
                "model.patch",
            ),
            (
                json!({"model": {"kind": "tvnet"}, "task": "classify", "class_weights": [1, -1]}),
                "class_weights.1",
            ),
            (
                json!({"model": {"kind": "tvnet"}, "task": "classify", "class_weights": [0, 0]}),
                "class_weights",
            ),
            (json!({"task": "forecast"}), "task"),
            (json!({"accumulate": 0}), "accumulate"),
            (
                json!({"model": {"kind": "pca"}, "precision": "bf16"}),
                "precision",
            ),
            (json!({"monitor": {"metric": "accuracy"}}), "monitor.metric"),
            (json!({"class_weights": "balanced"}), "class_weights"),
            (json!({"label_smoothing": 1.0}), "label_smoothing"),
            (json!({"augment": ["flip"]}), "augment"),
            (json!({"normal": []}), "normal"),
            (
                json!({"model": {"kind": "resnet50-plot"}, "augment": [{"kind": "resize", "from": 2.0}]}),
                "augment.0.to",
            ),
            (
                json!({"model": {"kind": "resnet50-plot"}, "normal": ["trend"]}),
                "normal",
            ),
        ] {
            assert_eq!(fault(changes).parameter, parameter);
        }
        for (changes, word) in [
            (json!({"epoch": 3}), "epoch"),
            (json!({"model": {"kind": "tvnet-reco"}}), "tvnet-recon"),
            (
                json!({"model": {"kind": "tvnet-recon", "depth": 3}}),
                "depth",
            ),
            (
                json!({"early_stopping": {"patience": 1, "delta": 2}}),
                "delta",
            ),
            (
                json!({"optimizer": {"kind": "adam", "lr": -1.0}}),
                "`lr` must be at least 0",
            ),
            (
                json!({"schedule": {"kind": "step", "every": 0}}),
                "`every` must be at least 1",
            ),
        ] {
            assert!(fault(changes).reason.contains(word));
        }
    }

    #[test]
    fn chains_are_shared_by_what_runs_alike() {
        let lineage = Digest([7; 32]);
        let chain = |changes| recipe(changes).unwrap().chain(&lineage);
        assert_eq!(chain(json!({"epochs": 3})), chain(json!({"epochs": 9})));
        assert_ne!(chain(json!({})), chain(json!({"batch": 64})));
        assert_ne!(
            chain(json!({})),
            recipe(json!({})).unwrap().chain(&Digest([8; 32]))
        );
        let cosine = |epochs| chain(json!({"epochs": epochs, "schedule": "cosine"}));
        assert_ne!(cosine(3), cosine(9));
    }
}

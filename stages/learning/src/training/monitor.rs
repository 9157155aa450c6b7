//! The metric by which epochs are compared: for the best weights, for early stopping, and for schedules that watch it.
//! What follows from a comparison is decided elsewhere.

use candle_core::{D, DType};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::models::{Batch, Network, Task, exact_mean};
use contract::artifact::Split;
use contract::{Fault, Trouble};

/// What is measured after every epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// The model's loss, in evaluation mode.
    #[default]
    Loss,
    /// The mean squared error of what the model predicts.
    Mse,
    /// The mean absolute error of what the model predicts.
    Mae,
    /// The share of samples whose class is predicted correctly.
    Accuracy,
    /// The loss of the training samples, as the epoch's steps found it.
    TrainLoss,
}

impl Metric {
    /// Whether the training finds it anyway, without a look at predictions.
    pub fn is_loss(self) -> bool {
        matches!(self, Self::Loss | Self::TrainLoss)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Loss => "loss",
            Self::Mse => "mse",
            Self::Mae => "mae",
            Self::Accuracy => "accuracy",
            Self::TrainLoss => "train_loss",
        }
    }
}

/// Which way a metric is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    Min,
    Max,
}

contract::parameters! {
    /// The metric by which epochs are compared.
    #[derive(PartialEq)]
    pub struct Monitor {
        /// What is measured.
        pub metric: Metric = Metric::Loss,
        /// Whether a lower or a higher value is better; if left out, higher for accuracy and lower for the others.
        pub mode: Option<Better> = None,
        /// The samples it is measured on.
        pub on: Split = Split::Validation,
    }
}

impl Monitor {
    /// What the types cannot say.
    ///
    /// # Errors
    /// The parameter at fault and a sentence about it.
    pub fn check(&self, task: Task) -> Result<(), Fault> {
        let classifies = task == Task::Classify;
        let fits = match self.metric {
            Metric::Loss | Metric::TrainLoss => true,
            Metric::Mse | Metric::Mae => !classifies,
            Metric::Accuracy => classifies,
        };
        if fits {
            return Ok(());
        }
        let reason = format!(
            "`{}` is not a metric of the task `{task}`",
            self.metric.name()
        );
        Err(Fault::new("metric", reason))
    }

    /// Whether it is measured on samples besides those that are trained on.
    pub fn needs_samples(&self) -> bool {
        self.metric != Metric::TrainLoss
    }

    /// The value with its sign changed if need be, so that lower is better.
    pub fn lower_is_better(&self, value: f64) -> f64 {
        match (self.mode, self.metric) {
            (Some(Better::Max), _) | (None, Metric::Accuracy) => -value,
            _ => value,
        }
    }
}

/// A mean over samples, gathered batch after batch.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mean {
    sum: f64,
    samples: usize,
}

impl Mean {
    pub fn add(&mut self, mean: f64, samples: usize) {
        self.sum += mean * samples as f64;
        self.samples += samples;
    }

    /// The mean, if there were samples.
    pub fn value(self) -> Option<f64> {
        (self.samples > 0).then(|| self.sum / self.samples as f64)
    }
}

/// The mean of a metric over a batch, for metrics other than losses.
///
/// # Errors
/// If the network fails or the batch lacks what is compared.
pub fn measure(
    metric: Metric,
    task: Task,
    network: &dyn Network,
    batch: &Batch,
) -> Result<Option<f64>, Trouble> {
    let lacking = || {
        Trouble::new(format!(
            "a batch to {task} lacks what predictions are compared with"
        ))
    };
    let predicted = network.predict(batch)?;
    Ok(match metric {
        Metric::Loss | Metric::TrainLoss => None,
        Metric::Accuracy => {
            let classes = batch.classes.as_ref().ok_or_else(lacking)?;
            let right = predicted.argmax(D::Minus1)?.eq(classes)?;
            Some(exact_mean(&right.to_dtype(DType::F32)?)?)
        }
        Metric::Mse | Metric::Mae => {
            let target = match task {
                Task::Detect => &batch.inputs,
                _ => batch.targets.as_ref().ok_or_else(lacking)?,
            };
            let apart = (predicted - target)?;
            let apart = match metric {
                Metric::Mse => apart.sqr()?,
                _ => apart.abs()?,
            };
            match &batch.mask {
                // Only hidden values count; a batch in which nothing is hidden says nothing.
                Some(mask) => {
                    let hidden = (1.0 - mask)?;
                    let count = exact_mean(&hidden)?;
                    if count == 0.0 {
                        None
                    } else {
                        Some(exact_mean(&(apart * hidden)?)? / count)
                    }
                }
                None => Some(exact_mean(&apart)?),
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_fit_tasks_and_have_directions() {
        let monitor = |metric, mode| Monitor {
            metric,
            mode,
            ..Monitor::default()
        };
        assert_eq!(monitor(Metric::Accuracy, None).lower_is_better(0.7), -0.7);
        assert_eq!(
            monitor(Metric::Accuracy, Some(Better::Min)).lower_is_better(0.7),
            0.7
        );
        assert_eq!(monitor(Metric::Mse, None).lower_is_better(0.7), 0.7);
        assert_eq!(
            monitor(Metric::Accuracy, None)
                .check(Task::Forecast)
                .unwrap_err()
                .parameter,
            "metric"
        );
        assert!(monitor(Metric::Mae, None).check(Task::Classify).is_err());
        assert!(monitor(Metric::Mae, None).check(Task::Impute).is_ok());
        assert!(!monitor(Metric::TrainLoss, None).needs_samples());
    }
}

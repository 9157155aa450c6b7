//! The figure by which epochs are compared: for the best weights, for early stopping, and for schedules that watch it.
//! What follows from a comparison is said elsewhere.

use candle_core::{D, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::models::{Batch, Network, Task};
use contract::artifact::Split;
use contract::{Fault, Trouble};
use numerics::host::with_slice;

/// What is measured after every epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Figure {
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

impl Figure {
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

/// Which way a figure is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    Min,
    Max,
}

/// The figure by which epochs are compared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Monitor {
    /// What is measured.
    pub metric: Figure,
    /// Whether a lower or a higher figure is better; if left out, higher for accuracy and lower for the others.
    pub mode: Option<Better>,
    /// The samples it is measured on.
    pub on: Split,
}

impl Default for Monitor {
    fn default() -> Self {
        Self {
            metric: Figure::Loss,
            mode: None,
            on: Split::Validation,
        }
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
            Figure::Loss | Figure::TrainLoss => true,
            Figure::Mse | Figure::Mae => !classifies,
            Figure::Accuracy => classifies,
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
        self.metric != Figure::TrainLoss
    }

    /// The figure turned round if need be, so that lower is better.
    pub fn lower_is_better(&self, figure: f64) -> f64 {
        let highest = self.metric == Figure::Accuracy;
        match self
            .mode
            .unwrap_or(if highest { Better::Max } else { Better::Min })
        {
            Better::Min => figure,
            Better::Max => -figure,
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

/// The mean of a figure over a batch, for figures other than losses.
///
/// # Errors
/// If the network fails or the batch lacks what is compared.
pub fn measure(
    figure: Figure,
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
    Ok(match figure {
        Figure::Loss | Figure::TrainLoss => None,
        Figure::Accuracy => {
            let classes = batch.classes.as_ref().ok_or_else(lacking)?;
            let right = predicted
                .argmax(D::Minus1)?
                .eq(classes)?
                .to_dtype(candle_core::DType::F32)?;
            Some(mean(&right)?)
        }
        Figure::Mse | Figure::Mae => {
            let target = match task {
                Task::Detect => &batch.inputs,
                _ => batch.targets.as_ref().ok_or_else(lacking)?,
            };
            let apart = (predicted - target)?;
            let apart = if figure == Figure::Mse {
                apart.sqr()?
            } else {
                apart.abs()?
            };
            match &batch.mask {
                // Only hidden values count; a batch in which nothing is hidden says nothing.
                Some(mask) => {
                    let hidden = (1.0 - mask)?;
                    let count = mean(&hidden)?;
                    if count == 0.0 {
                        None
                    } else {
                        Some(mean(&(apart * hidden)?)? / count)
                    }
                }
                None => Some(mean(&apart)?),
            }
        }
    })
}

/// Summed in 64 bits and in one order, as Candle's reductions may look at the number of threads.
fn mean(values: &Tensor) -> candle_core::Result<f64> {
    let values = values.to_device(&candle_core::Device::Cpu)?.contiguous()?;
    with_slice(&values, |values| {
        values.iter().map(|value| f64::from(*value)).sum::<f64>() / values.len() as f64
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_fit_tasks_and_have_directions() {
        let monitor = |metric, mode| Monitor {
            metric,
            mode,
            ..Monitor::default()
        };
        assert_eq!(monitor(Figure::Accuracy, None).lower_is_better(0.7), -0.7);
        assert_eq!(
            monitor(Figure::Accuracy, Some(Better::Min)).lower_is_better(0.7),
            0.7
        );
        assert_eq!(monitor(Figure::Mse, None).lower_is_better(0.7), 0.7);
        assert_eq!(
            monitor(Figure::Accuracy, None)
                .check(Task::Forecast)
                .unwrap_err()
                .parameter,
            "metric"
        );
        assert!(monitor(Figure::Mae, None).check(Task::Classify).is_err());
        assert!(monitor(Figure::Mae, None).check(Task::Impute).is_ok());
        assert!(!monitor(Figure::TrainLoss, None).needs_samples());
    }
}

//! The state of a training between two steps, as bytes: a safetensors file like a model's, with everything that is not
//! a tensor in its header. Where checkpoints are kept is the host's business.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::stopping::Stopping;
use crate::schedules::ScheduleState;
use contract::Trouble;
use contract::artifact::{Model, TensorData};

/// One row of the training log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogRow {
    /// From 1.
    pub epoch: u64,
    pub train_loss: f64,
    /// The loss of the monitored samples.
    pub validation_loss: Option<f64>,
    /// The monitored metric.
    pub monitored: Option<f64>,
    pub learning_rate: f64,
}

/// Everything of a training that is not a tensor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Course {
    /// Epochs that are done.
    pub epochs: u64,
    /// Steps that the optimiser has made.
    pub steps: u64,
    /// States of the generators that shuffle windows and that the model draws from.
    pub shuffle: [u64; 4],
    pub noise: [u64; 4],
    /// Validation batches that training itself has taken, for models whose steps ask for them.
    pub validation_batches: u64,
    pub schedule: ScheduleState,
    pub stopping: Stopping,
    pub log: Vec<LogRow>,
    /// How far the epoch is that was interrupted; `None` between two epochs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inside: Option<Inside>,
}

/// A place inside an epoch. The order of the samples follows from `shuffle` as it was at the start of the epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Inside {
    /// Samples that were learned from.
    pub done: u64,
    /// Sum of their losses.
    pub loss: f64,
    /// State of the generator that the model draws from.
    pub noise: [u64; 4],
}

/// A training between two steps.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    pub course: Course,
    pub weights: BTreeMap<String, TensorData>,
    pub optimizer: BTreeMap<String, TensorData>,
    /// The weights of the best epoch, where they are kept and are not the latest.
    pub best: BTreeMap<String, TensorData>,
}

const FORMAT: &str = "training/1";
const PARTS: [&str; 3] = ["weights/", "optimizer/", "best/"];

impl Checkpoint {
    /// # Errors
    /// If the safetensors library refuses.
    pub fn encode(&self) -> Result<Vec<u8>, Trouble> {
        let mut tensors = BTreeMap::new();
        let parts = [&self.weights, &self.optimizer, &self.best];
        for (prefix, part) in PARTS.iter().zip(parts) {
            for (name, tensor) in part {
                tensors.insert(format!("{prefix}{name}"), tensor.clone());
            }
        }
        let training = serde_json::to_value(&self.course).map_err(|error| {
            Trouble::new("the state of the training cannot be written").because(error)
        })?;
        Ok(Model {
            config: json!({"format": FORMAT}),
            training,
            tensors,
        }
        .encode()?)
    }

    /// # Errors
    /// If the bytes are not those of a checkpoint.
    pub fn decode(bytes: &[u8]) -> Result<Self, Trouble> {
        let file = Model::decode(bytes)?;
        if file.config["format"] != FORMAT {
            return Err(Trouble::new("this is not a checkpoint of a training"));
        }
        let course = serde_json::from_value(file.training).map_err(|error| {
            Trouble::new("the checkpoint's header does not parse").because(error)
        })?;
        let mut parts: [BTreeMap<String, TensorData>; 3] = Default::default();
        for (name, tensor) in file.tensors {
            let Some(place) = PARTS.iter().position(|prefix| name.starts_with(prefix)) else {
                let message = format!("the checkpoint holds an unknown tensor `{name}`");
                return Err(Trouble::new(message));
            };
            parts[place].insert(name[PARTS[place].len()..].to_owned(), tensor);
        }
        let [weights, optimizer, best] = parts;
        Ok(Self {
            course,
            weights,
            optimizer,
            best,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn survives_its_bytes_and_refuses_others() {
        let tensor =
            |value: f32| BTreeMap::from([("w".to_owned(), TensorData::from_f32(&[1], &[value]))]);
        let mut stopping = Stopping::default();
        stopping.observe(1, 0.1 + 0.2, None);
        let row = LogRow {
            epoch: 1,
            train_loss: 0.1 + 0.2,
            validation_loss: None,
            monitored: None,
            learning_rate: 1e-4,
        };
        let checkpoint = Checkpoint {
            course: Course {
                epochs: 1,
                steps: 9,
                shuffle: [u64::MAX, 1, 2, 3],
                noise: [4, 5, 6, u64::MAX - 1],
                validation_batches: 3,
                schedule: ScheduleState::default(),
                stopping,
                log: vec![row],
                inside: Some(Inside {
                    done: 32,
                    loss: 0.1 + 0.7,
                    noise: [u64::MAX, 7, 8, 9],
                }),
            },
            weights: tensor(1.0),
            optimizer: tensor(2.0),
            best: BTreeMap::new(),
        };
        let bytes = checkpoint.encode().unwrap();
        assert_eq!(Checkpoint::decode(&bytes).unwrap(), checkpoint);
        assert!(Checkpoint::decode(&bytes[..bytes.len() - 1]).is_err());
        assert!(Checkpoint::decode(b"").is_err());
    }
}

//! How far a training is, reported to the host in samples over all epochs.
//! There is no clock here: rates and remaining time are the host's to compute.

use contract::{Host, Progress};

/// Counts samples and remembers the values worth watching.
pub struct Counter<'a> {
    host: &'a dyn Host,
    epochs: u64,
    samples: u64,
    validation: Option<f64>,
}

impl<'a> Counter<'a> {
    /// For `epochs` epochs of `samples` samples each.
    pub fn new(host: &'a dyn Host, epochs: u64, samples: u64) -> Self {
        Self {
            host,
            epochs,
            samples,
            validation: None,
        }
    }

    /// The validation loss to show from now on.
    pub fn set_validation(&mut self, loss: Option<f64>) {
        self.validation = loss;
    }

    /// `epoch` counts from 1; `done` samples of it have been seen, at this mean loss.
    pub fn report(&self, epoch: u64, done: u64, loss: f64) {
        let mut figures = vec![("loss".into(), loss)];
        figures.extend(self.validation.map(|loss| ("val_loss".into(), loss)));
        self.host.progress(Progress {
            unit: "sample".into(),
            done: (epoch - 1) * self.samples + done,
            total: self.epochs * self.samples,
            phase: format!("epoch {epoch}/{}", self.epochs),
            figures,
        });
    }
}

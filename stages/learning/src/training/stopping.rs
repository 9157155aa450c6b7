//! Which epoch was the best, and when to stop looking for a better one.
//! The weights that belong to it are kept by the trainer.

use serde::{Deserialize, Serialize};

use super::EarlyStopping;

/// What the validation losses have shown so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stopping {
    /// Number of the best epoch, from 1, and its loss.
    pub best: Option<(u64, f64)>,
    /// The loss that the next progress is measured against.
    reference: Option<f64>,
    /// Epochs since then.
    idle: u64,
    pub stopped: bool,
}

impl Stopping {
    /// Takes note of an epoch's loss; true if it is the best one so far.
    pub fn observe(&mut self, epoch: u64, loss: f64, rule: Option<&EarlyStopping>) -> bool {
        let better = self.best.is_none_or(|(_, best)| loss < best);
        if better {
            self.best = Some((epoch, loss));
        }
        let Some(rule) = rule else { return better };
        let progress = match self.reference {
            Some(reference) => loss < reference - rule.min_delta,
            None => true,
        };
        if progress {
            self.reference = Some(loss);
            self.idle = 0;
        } else {
            self.idle += 1;
        }
        self.stopped = self.idle >= rule.patience;
        better
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stops_after_patience_and_keeps_the_lowest() {
        let rule = EarlyStopping {
            patience: 2,
            min_delta: 0.1,
        };
        let mut stopping = Stopping::default();
        let mut seen = Vec::new();
        for (epoch, loss) in [1.0, 0.8, 0.75, 0.79].into_iter().enumerate() {
            let better = stopping.observe(epoch as u64 + 1, loss, Some(&rule));
            seen.push((better, stopping.stopped));
        }
        // The third epoch is the best one, though its progress is too small to count.
        assert_eq!(
            seen,
            [(true, false), (true, false), (true, false), (false, true)]
        );
        assert_eq!(stopping.best, Some((3, 0.75)));
    }
}

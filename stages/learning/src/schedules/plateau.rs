//! The rate falls when the monitored figure no longer gets better.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Point, Rule, ScheduleState};
use contract::Named;

/// The rate is multiplied by `factor` when the monitored figure has not got better for more than `patience` epochs, as
/// `torch.optim.lr_scheduler.ReduceLROnPlateau` does it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Plateau {
    /// What the rate is multiplied by at each reduction.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub factor: f64,
    /// Epochs without progress that are borne.
    pub patience: u64,
    /// Progress is a figure better than the best one by more than this share of it.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub threshold: f64,
    /// The rate never falls below this.
    #[schemars(range(min = 0.0))]
    pub minimum: f64,
}

impl Default for Plateau {
    fn default() -> Self {
        Self {
            factor: 0.1,
            patience: 10,
            threshold: 1e-4,
            minimum: 0.0,
        }
    }
}

impl Named for Plateau {
    const NAME: &'static str = "plateau";
    const DOC: &'static str = "The rate is reduced when the monitored figure, by default the validation loss, stops getting better";
}

impl Rule for Plateau {
    fn watches(&self) -> bool {
        true
    }

    fn rate(&self, base: f64, _: Point, state: &ScheduleState) -> f64 {
        let reduced = base * self.factor.powi(state.reductions as i32);
        reduced.max(self.minimum.min(base))
    }

    fn observe(&self, figure: f64, state: &mut ScheduleState) {
        // A figure to be maximised comes negated: its threshold is a share of its magnitude all the same.
        if state
            .best
            .is_none_or(|best| figure < best - best.abs() * self.threshold)
        {
            state.best = Some(figure);
            state.idle = 0;
            return;
        }
        state.idle += 1;
        if state.idle > self.patience {
            state.idle = 0;
            state.reductions += 1;
        }
    }
}

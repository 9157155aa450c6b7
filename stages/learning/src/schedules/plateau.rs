//! The rate falls when the monitored metric no longer gets better.

use super::{Point, Rule, ScheduleState};
use contract::Named;

contract::parameters! {
    /// The rate is multiplied by `factor` when the monitored metric has not got better for more than `patience` epochs, as
    /// `torch.optim.lr_scheduler.ReduceLROnPlateau` does it.
    pub struct Plateau {
        /// What the rate is multiplied by at each reduction.
        #[schemars(range(min = 0.0, max = 1.0))]
        pub factor: f64 = 0.1,
        /// Epochs without progress before the rate is reduced.
        pub patience: u64 = 10,
        /// Progress is a value better than the best one by more than this share of it.
        #[schemars(range(min = 0.0, max = 1.0))]
        pub threshold: f64 = 1e-4,
        /// The rate never falls below this.
        #[schemars(range(min = 0.0))]
        pub minimum: f64 = 0.0,
    }
}

impl Named for Plateau {
    const NAME: &'static str = "plateau";
    const DOC: &'static str = "The rate is reduced when the monitored metric, by default the validation loss, stops getting better";
}

impl Rule for Plateau {
    fn watches(&self) -> bool {
        true
    }

    fn rate(&self, base: f64, _: Point, state: &ScheduleState) -> f64 {
        let reduced = base * self.factor.powi(state.reductions as i32);
        reduced.max(self.minimum.min(base))
    }

    fn observe(&self, value: f64, state: &mut ScheduleState) {
        // A metric to be maximised comes negated: its threshold is a share of its magnitude all the same.
        if state
            .best
            .is_none_or(|best| value < best - best.abs() * self.threshold)
        {
            state.best = Some(value);
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

//! The rate falls by a factor every few epochs.

use super::{Point, Rule, ScheduleState};
use contract::Named;

contract::parameters! {
    /// The rate is multiplied by `factor` every `every` epochs.
    pub struct Step {
        /// Epochs between two changes.
        #[schemars(range(min = 1))]
        pub every: u64 = 10,
        /// What the rate is multiplied by at each change.
        #[schemars(range(min = 0.0, max = 1.0))]
        pub factor: f64 = 0.1,
        /// Epochs at the start that do not count.
        pub after: u64 = 0,
    }
}

impl Named for Step {
    const NAME: &'static str = "step";
    const DOC: &'static str = "The rate is multiplied by a factor every few epochs";
}

impl Rule for Step {
    fn rate(&self, base: f64, point: Point, _: &ScheduleState) -> f64 {
        base * self
            .factor
            .powf((point.epoch.saturating_sub(self.after) / self.every) as f64)
    }
}

//! The rate rises and falls once over the whole training, from step to step.

use super::{Point, Rule, ScheduleState, along_cosine};
use contract::Named;

contract::parameters! {
    /// The rate rises to the optimiser's and falls far below where it started, along cosines, as
    /// `torch.optim.lr_scheduler.OneCycleLR` does it.
    pub struct OneCycle {
        /// The share of the training that the rise takes.
        #[schemars(extend("exclusiveMinimum" = 0.0, "exclusiveMaximum" = 1.0))]
        pub rise: f64 = 0.3,
        /// The first rate is the optimiser's divided by this.
        #[schemars(range(min = 1.0))]
        pub start_divisor: f64 = 25.0,
        /// The last rate is the first divided by this.
        #[schemars(range(min = 1.0))]
        pub end_divisor: f64 = 1e4,
    }
}

impl Named for OneCycle {
    const NAME: &'static str = "one_cycle";
    const DOC: &'static str = "The rate rises to the optimizer's and falls to almost nothing, from step to step (Smith and Topin, 2019)";
}

impl Rule for OneCycle {
    fn depends_on_epochs(&self) -> bool {
        true
    }

    fn rate(&self, base: f64, point: Point, _: &ScheduleState) -> f64 {
        let share = (point.passed() / point.epochs as f64).min(1.0);
        let first = base / self.start_divisor;
        if share < self.rise {
            along_cosine(first, base, share / self.rise)
        } else {
            along_cosine(
                base,
                first / self.end_divisor,
                (share - self.rise) / (1.0 - self.rise),
            )
        }
    }
}

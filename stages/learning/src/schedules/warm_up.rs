//! The rate rises at first, from step to step, and then stays or falls.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Point, Rule, ScheduleState, along_cosine};
use contract::Named;

/// What the rate does once it has risen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Then {
    /// It stays.
    #[default]
    Constant,
    /// It falls to `minimum` in a straight line until the end of the training.
    Linear,
    /// It falls to `minimum` along half a cosine until the end of the training.
    Cosine,
}

contract::parameters! {
    /// The rate rises in a straight line over the first epochs, and then stays or falls.
    pub struct WarmUp {
        /// Epochs that the rise takes; a part of one is allowed.
        #[schemars(range(min = 0.0))]
        pub epochs: f64 = 1.0,
        /// The share of the optimiser's rate to start from.
        #[schemars(range(min = 0.0, max = 1.0))]
        pub from: f64 = 0.0,
        /// What comes after the rise.
        pub then: Then = Then::Constant,
        /// The rate at the end of a fall.
        #[schemars(range(min = 0.0))]
        pub minimum: f64 = 0.0,
    }
}

impl Named for WarmUp {
    const NAME: &'static str = "warm_up";
    const DOC: &'static str =
        "The rate rises in a straight line over the first epochs, then stays or falls";
}

impl Rule for WarmUp {
    fn depends_on_epochs(&self) -> bool {
        self.then != Then::Constant
    }

    fn rate(&self, base: f64, point: Point, _: &ScheduleState) -> f64 {
        let passed = point.passed();
        if passed < self.epochs {
            return base * (self.from + (1.0 - self.from) * passed / self.epochs);
        }
        let left = point.epochs as f64 - self.epochs;
        let share = if left > 0.0 {
            ((passed - self.epochs) / left).min(1.0)
        } else {
            0.0
        };
        match self.then {
            Then::Constant => base,
            Then::Linear => base + (self.minimum - base) * share,
            Then::Cosine => along_cosine(base, self.minimum, share),
        }
    }
}

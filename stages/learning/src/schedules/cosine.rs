//! The rate falls along half a cosine, from epoch to epoch.

use super::{Point, Rule, ScheduleState, along_cosine};
use contract::Named;

contract::parameters! {
    /// The rate falls from the optimiser's to `minimum` along half a cosine.
    pub struct Cosine {
        /// The rate at the end.
        #[schemars(range(min = 0.0))]
        pub minimum: f64 = 0.0,
        /// Epochs that the fall takes; all epochs of the training if left out.
        #[schemars(range(min = 1))]
        pub epochs: Option<u64> = None,
    }
}

impl Named for Cosine {
    const NAME: &'static str = "cosine";
    const DOC: &'static str = "The rate falls along half a cosine (Loshchilov and Hutter, 2017)";
}

impl Rule for Cosine {
    fn depends_on_epochs(&self) -> bool {
        self.epochs.is_none()
    }

    fn rate(&self, base: f64, point: Point, _: &ScheduleState) -> f64 {
        let total = self.epochs.unwrap_or(point.epochs);
        along_cosine(
            base,
            self.minimum,
            point.epoch.min(total) as f64 / total as f64,
        )
    }
}

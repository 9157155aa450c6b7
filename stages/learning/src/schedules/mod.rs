//! How the learning rate changes in the course of a training, one file a rule, and the table that names them.
//! The rate to start from belongs to the optimiser.

contract::entries! {
    /// All schedules.
    const ENTRIES: Entry<dyn Rule>;
    mod constant: Constant;
    mod step: Step;
    mod cosine: Cosine;
    mod plateau: Plateau;
    mod one_cycle: OneCycle;
    mod warm_up: WarmUp;
}

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use contract::{Choice, Fault, Table};

/// The table of schedules.
static SCHEDULES: Table<dyn Rule> = Table::new("schedule", &[ENTRIES]).or_bare();

contract::tabled!(dyn Rule in SCHEDULES);

/// A schedule with its parameters, as a pipeline names it.
pub type ScheduleChoice = Choice<dyn Rule>;

/// Where a training is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Epochs that are done.
    pub epoch: u64,
    /// The share of the current epoch that is done, below 1.
    pub within: f64,
    /// Epochs of the training in all.
    pub epochs: u64,
}

impl Point {
    /// Epochs that are done, the current one in part.
    fn passed(self) -> f64 {
        self.epoch as f64 + self.within
    }
}

/// One rule.
pub trait Rule: Send + Sync {
    /// What the schema of the parameters cannot say.
    ///
    /// # Errors
    /// The parameter at fault.
    fn check(&self) -> Result<(), Fault> {
        Ok(())
    }

    /// Whether rates depend on the monitored metric.
    fn watches(&self) -> bool {
        false
    }

    /// Whether rates depend on how many epochs the training has in all.
    fn depends_on_epochs(&self) -> bool {
        false
    }

    /// The rate of a step, from the optimiser's.
    fn rate(&self, base: f64, point: Point, state: &ScheduleState) -> f64;

    /// Takes note of the monitored metric at the end of an epoch; lower is better.
    fn observe(&self, _value: f64, _state: &mut ScheduleState) {}
}

/// What a schedule has seen so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ScheduleState {
    best: Option<f64>,
    idle: u64,
    reductions: u32,
}

/// From `start` to `end` along half a cosine (Loshchilov and Hutter, 2017), `share` of the way.
fn along_cosine(start: f64, end: f64, share: f64) -> f64 {
    end + (start - end) * 0.5 * (1.0 + (std::f64::consts::PI * share).cos())
}

/// A schedule at work.
pub struct Schedule {
    rule: Arc<dyn Rule>,
    base: f64,
    epochs: u64,
    pub state: ScheduleState,
}

impl Schedule {
    /// A schedule from the rate `base`, for a training of `epochs` epochs.
    pub fn new(choice: &ScheduleChoice, base: f64, epochs: u64) -> Self {
        Self {
            rule: choice.shared(),
            base,
            epochs,
            state: ScheduleState::default(),
        }
    }

    /// The rate of a step, after `epoch` epochs and the share `within` of the next.
    pub fn rate(&self, epoch: u64, within: f64) -> f64 {
        self.rule.rate(
            self.base,
            Point {
                epoch,
                within,
                epochs: self.epochs,
            },
            &self.state,
        )
    }

    /// Takes note of the monitored metric at the end of an epoch; lower is better.
    pub fn observe(&mut self, value: f64) {
        self.rule.observe(value, &mut self.state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn schedule(name: &str, parameters: serde_json::Value) -> Schedule {
        Schedule::new(&Choice::new(name, parameters).unwrap(), 1.0, 10)
    }

    #[test]
    fn rates_follow_their_formulas() {
        assert_eq!(schedule("constant", json!({})).rate(7, 0.5), 1.0);
        let step = schedule("step", json!({"every": 3, "factor": 0.5}));
        assert_eq!(
            [0, 2, 3, 6].map(|epoch| step.rate(epoch, 0.9)),
            [1.0, 1.0, 0.5, 0.25]
        );
        let late = schedule("step", json!({"every": 1, "factor": 0.5, "after": 1}));
        assert_eq!(
            [0, 1, 2, 3].map(|epoch| late.rate(epoch, 0.0)),
            [1.0, 1.0, 0.5, 0.25]
        );
        let cosine = schedule("cosine", json!({"minimum": 0.2}));
        assert_eq!(cosine.rate(0, 0.7), 1.0);
        assert!(
            (cosine.rate(5, 0.0) - 0.6).abs() < 1e-12 && (cosine.rate(10, 0.0) - 0.2).abs() < 1e-12
        );
        let mut plateau = schedule("plateau", json!({"factor": 0.5, "patience": 1}));
        let rates: Vec<f64> = [3.0, 2.0, 2.0, 2.0, 2.0, 2.0, 1.0]
            .into_iter()
            .map(|loss| {
                plateau.observe(loss);
                plateau.rate(0, 0.0)
            })
            .collect();
        assert_eq!(rates, [1.0, 1.0, 1.0, 0.5, 0.5, 0.25, 0.25]);
    }

    #[test]
    fn rates_within_an_epoch_follow_their_formulas() {
        // Values of torch.optim.lr_scheduler.OneCycleLR at the ends and the peak: max_lr 1, div_factor 25, final 1e4.
        let cycle = schedule("one_cycle", json!({}));
        assert!((cycle.rate(0, 0.0) - 0.04).abs() < 1e-12);
        assert!((cycle.rate(3, 0.0) - 1.0).abs() < 1e-12);
        assert!((cycle.rate(1, 0.5) - 0.52).abs() < 1e-12);
        assert!((cycle.rate(10, 0.0) - 0.04 / 1e4).abs() < 1e-12);
        let warm = schedule(
            "warm_up",
            json!({"epochs": 2, "from": 0.1, "then": "cosine"}),
        );
        assert!(
            (warm.rate(0, 0.0) - 0.1).abs() < 1e-12 && (warm.rate(1, 0.0) - 0.55).abs() < 1e-12
        );
        assert!((warm.rate(2, 0.0) - 1.0).abs() < 1e-12 && (warm.rate(6, 0.0) - 0.5).abs() < 1e-12);
        assert!(warm.rate(10, 0.0).abs() < 1e-12);
        assert_eq!(schedule("warm_up", json!({"epochs": 2})).rate(5, 0.3), 1.0);
        let linear = schedule("warm_up", json!({"epochs": 2, "then": "linear"}));
        assert!((linear.rate(6, 0.0) - 0.5).abs() < 1e-12);
    }

    #[test]
    fn unusable_parameters_are_named() {
        for (name, parameters, parameter) in [
            ("step", json!({"every": 0}), "every"),
            ("cosine", json!({"minimum": -1.0}), "minimum"),
            ("cosine", json!({"epochs": 0}), "epochs"),
            ("plateau", json!({"factor": 2.0}), "factor"),
            ("one_cycle", json!({"rise": 0.0}), "rise"),
            ("one_cycle", json!({"rise": 1.0}), "rise"),
            ("warm_up", json!({"epochs": -1.0}), "epochs"),
        ] {
            let fault = ScheduleChoice::new(name, parameters).unwrap_err();
            assert_eq!(fault.parameter, parameter);
        }
        for schedule in SCHEDULES.examples() {
            assert_eq!(schedule.check(), Ok(()), "{schedule:?}");
        }
    }

    #[test]
    fn what_rates_depend_on_is_known() {
        let choice = |name, parameters| ScheduleChoice::new(name, parameters).unwrap();
        let depends = |name, parameters| choice(name, parameters).depends_on_epochs();
        assert!(depends("cosine", json!({})) && !depends("cosine", json!({"epochs": 5})));
        assert!(depends("one_cycle", json!({})));
        assert!(depends("warm_up", json!({"then": "linear"})) && !depends("warm_up", json!({})));
        assert!(choice("plateau", json!({})).watches());
        assert!(!choice("step", json!({})).watches());
    }

    #[test]
    fn every_file_has_its_line_in_the_table() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/schedules");
        contract::testing::assert_listed(&SCHEDULES, folder);
    }
}

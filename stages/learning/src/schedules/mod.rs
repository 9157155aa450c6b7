//! How the learning rate changes in the course of a training, one file a rule, and the table that names them.
//! The rate to start from belongs to the optimiser.

mod constant;
mod cosine;
mod one_cycle;
mod plateau;
mod step;
mod warm_up;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use contract::{Choice, Entry, Registry};

/// The table of schedules.
const SCHEDULES: &[Declaration] = &[
    Declaration::of::<constant::Constant>(),
    Declaration::of::<step::Step>(),
    Declaration::of::<cosine::Cosine>(),
    Declaration::of::<plateau::Plateau>(),
    Declaration::of::<one_cycle::OneCycle>(),
    Declaration::of::<warm_up::WarmUp>(),
];

/// Where a training is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Epochs that are done.
    pub epoch: u64,
    /// The share of the epoch at hand that is done, below 1.
    pub within: f64,
    /// Epochs of the training in all.
    pub epochs: u64,
}

impl Point {
    /// Epochs that are done, the one at hand in part.
    fn passed(self) -> f64 {
        self.epoch as f64 + self.within
    }
}

/// One rule: a struct of parameters with a default for every field.
trait Rule: DeserializeOwned + Serialize + JsonSchema + Send + Sync + 'static {
    /// The name in YAML.
    const NAME: &'static str;
    /// One sentence for the catalogue.
    const DOC: &'static str;
    /// Whether the rule looks at the monitored figure.
    const WATCHES: bool = false;

    /// A parameter that is no usable value, and why.
    fn check(&self) -> Result<(), (&'static str, &'static str)>;

    /// Whether rates depend on how many epochs the training has in all.
    fn depends_on_epochs(&self) -> bool {
        false
    }

    /// The rate of a step, from the optimiser's.
    fn rate(&self, base: f64, point: Point, state: &ScheduleState) -> f64;

    /// Takes note of the monitored figure at the end of an epoch; lower is better.
    fn observe(&self, _figure: f64, _state: &mut ScheduleState) {}
}

/// What a schedule has seen so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ScheduleState {
    best: Option<f64>,
    idle: u64,
    reductions: u32,
}

/// A rule with its type erased.
struct Declaration {
    name: &'static str,
    watches: bool,
    entry: fn() -> Entry,
    rule: ReadRule,
}

/// Reads the parameters of a rule.
type ReadRule = fn(&Choice<Schedules>) -> Result<Box<dyn AnyRule>, String>;

impl Declaration {
    const fn of<R: Rule>() -> Self {
        Self {
            name: R::NAME,
            watches: R::WATCHES,
            entry: || Entry::new::<R>(R::NAME, R::DOC),
            rule: |choice| Ok(Box::new(choice.parameters::<R>()?)),
        }
    }

    fn find(choice: &Choice<Schedules>) -> Result<&'static Self, String> {
        let found = SCHEDULES
            .iter()
            .find(|schedule| schedule.name == choice.name());
        found.ok_or_else(|| format!("unknown schedule `{}`", choice.name()))
    }
}

/// What can be asked of a rule without knowing its type.
trait AnyRule: Send + Sync {
    fn check(&self) -> Result<(), (&'static str, &'static str)>;
    fn depends_on_epochs(&self) -> bool;
    fn rate(&self, base: f64, point: Point, state: &ScheduleState) -> f64;
    fn observe(&self, figure: f64, state: &mut ScheduleState);
}

impl<R: Rule> AnyRule for R {
    fn check(&self) -> Result<(), (&'static str, &'static str)> {
        Rule::check(self)
    }

    fn depends_on_epochs(&self) -> bool {
        Rule::depends_on_epochs(self)
    }

    fn rate(&self, base: f64, point: Point, state: &ScheduleState) -> f64 {
        Rule::rate(self, base, point, state)
    }

    fn observe(&self, figure: f64, state: &mut ScheduleState) {
        Rule::observe(self, figure, state);
    }
}

/// The table of schedules as pipelines see it.
#[derive(Debug)]
pub struct Schedules;

impl Registry for Schedules {
    const TAG: &'static str = "kind";
    const WHAT: &'static str = "schedule";
    const BARE: bool = true;

    fn entries() -> Vec<Entry> {
        SCHEDULES
            .iter()
            .map(|schedule| (schedule.entry)())
            .collect()
    }
}

fn rule(choice: &Choice<Schedules>) -> Result<Box<dyn AnyRule>, String> {
    (Declaration::find(choice)?.rule)(choice)
}

/// What the schema of the parameters says only to editors.
///
/// # Errors
/// The parameter at fault and a sentence about it.
pub fn check(choice: &Choice<Schedules>) -> Result<(), (String, String)> {
    let rule = rule(choice).map_err(|error| (String::new(), error))?;
    rule.check()
        .map_err(|(name, reason)| (name.to_owned(), reason.to_owned()))
}

/// Whether rates depend on how many epochs the training has in all.
pub fn depends_on_epochs(choice: &Choice<Schedules>) -> bool {
    rule(choice).is_ok_and(|rule| rule.depends_on_epochs())
}

/// Whether rates depend on the monitored figure.
pub fn watches(choice: &Choice<Schedules>) -> bool {
    Declaration::find(choice).is_ok_and(|schedule| schedule.watches)
}

/// A share of something: from 0 to 1.
fn is_share(value: f64) -> bool {
    (0.0..=1.0).contains(&value)
}

/// A usable learning rate, 0 included.
fn is_rate(value: f64) -> bool {
    value.is_finite() && value >= 0.0
}

/// From `start` to `end` along half a cosine (Loshchilov and Hutter, 2017), `share` of the way.
fn along_cosine(start: f64, end: f64, share: f64) -> f64 {
    end + (start - end) * 0.5 * (1.0 + (std::f64::consts::PI * share).cos())
}

/// A schedule at work.
pub struct Schedule {
    rule: Box<dyn AnyRule>,
    base: f64,
    epochs: u64,
    pub state: ScheduleState,
}

impl Schedule {
    /// A schedule from the rate `base`, for a training of `epochs` epochs.
    ///
    /// # Errors
    /// If the choice does not parse.
    pub fn new(choice: &Choice<Schedules>, base: f64, epochs: u64) -> Result<Self, String> {
        Ok(Self {
            rule: rule(choice)?,
            base,
            epochs,
            state: ScheduleState::default(),
        })
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

    /// Takes note of the monitored figure at the end of an epoch; lower is better.
    pub fn observe(&mut self, figure: Option<f64>) {
        if let Some(figure) = figure {
            self.rule.observe(figure, &mut self.state);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn schedule(name: &str, parameters: serde_json::Value) -> Schedule {
        Schedule::new(&Choice::new(name, parameters).unwrap(), 1.0, 10).unwrap()
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
                plateau.observe(Some(loss));
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
        let check = |name, parameters| check(&Choice::new(name, parameters).unwrap());
        assert_eq!(check("step", json!({"every": 0})).unwrap_err().0, "every");
        assert_eq!(
            check("cosine", json!({"minimum": -1.0})).unwrap_err().0,
            "minimum"
        );
        assert_eq!(
            check("plateau", json!({"factor": 2.0})).unwrap_err().0,
            "factor"
        );
        assert_eq!(
            check("one_cycle", json!({"rise": 0.0})).unwrap_err().0,
            "rise"
        );
        assert_eq!(
            check("warm_up", json!({"epochs": -1.0})).unwrap_err().0,
            "epochs"
        );
        for schedule in SCHEDULES {
            assert!(check(schedule.name, json!({})).is_ok(), "{}", schedule.name);
        }
    }

    #[test]
    fn what_rates_depend_on_is_known() {
        let depends = |name, parameters| depends_on_epochs(&Choice::new(name, parameters).unwrap());
        assert!(depends("cosine", json!({})) && !depends("cosine", json!({"epochs": 5})));
        assert!(depends("one_cycle", json!({})));
        assert!(depends("warm_up", json!({"then": "linear"})) && !depends("warm_up", json!({})));
        assert!(watches(&Choice::new("plateau", json!({})).unwrap()));
        assert!(!watches(&Choice::new("step", json!({})).unwrap()));
    }
}

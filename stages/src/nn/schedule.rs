//! How the learning rate changes from epoch to epoch. Within an epoch it is constant.
//! The rate to start from belongs to the optimiser.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::contract::{Choice, Entry, Registry};

/// The table of schedules.
#[derive(Debug)]
pub struct Schedules;

impl Registry for Schedules {
    const TAG: &'static str = "kind";
    const WHAT: &'static str = "schedule";
    const BARE: bool = true;

    fn entries() -> Vec<Entry> {
        vec![
            Entry::new::<Constant>("constant", "The optimizer's rate throughout"),
            Entry::new::<Step>("step", "The rate is multiplied by a factor every few epochs"),
            Entry::new::<Cosine>("cosine", "The rate falls along half a cosine (Loshchilov and Hutter, 2017)"),
            Entry::new::<Plateau>("plateau", "The rate is reduced when the validation loss stops falling"),
        ]
    }
}

/// The optimiser's rate throughout.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Constant {}

/// The rate is multiplied by `factor` every `every` epochs.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Step {
    /// Epochs between two changes.
    #[schemars(range(min = 1))]
    pub every: u64,
    #[schemars(range(min = 0.0, max = 1.0))]
    pub factor: f64,
}

impl Default for Step {
    fn default() -> Self {
        Self { every: 10, factor: 0.1 }
    }
}

/// The rate falls from the optimiser's to `minimum` along half a cosine.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Cosine {
    /// The rate at the end.
    #[schemars(range(min = 0.0))]
    pub minimum: f64,
    /// Epochs that the fall takes; all epochs of the training if left out.
    #[schemars(range(min = 1))]
    pub epochs: Option<u64>,
}

/// The rate is multiplied by `factor` when the validation loss has not fallen for more than `patience` epochs.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Plateau {
    #[schemars(range(min = 0.0, max = 1.0))]
    pub factor: f64,
    /// Epochs without progress that are borne.
    pub patience: u64,
    /// Progress is a loss below the best one by more than this share of it.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub threshold: f64,
    /// The rate never falls below this.
    #[schemars(range(min = 0.0))]
    pub minimum: f64,
}

impl Default for Plateau {
    fn default() -> Self {
        Self { factor: 0.1, patience: 10, threshold: 1e-4, minimum: 0.0 }
    }
}

enum Rule {
    Constant,
    Step(Step),
    Cosine(Cosine),
    Plateau(Plateau),
}

fn rule(choice: &Choice<Schedules>) -> Result<Rule, String> {
    Ok(match choice.name() {
        "step" => Rule::Step(choice.parameters()?),
        "cosine" => Rule::Cosine(choice.parameters()?),
        "plateau" => Rule::Plateau(choice.parameters()?),
        _ => Rule::Constant,
    })
}

/// What the schema of the parameters says only to editors.
///
/// # Errors
/// The parameter at fault and a sentence about it.
pub fn check(choice: &Choice<Schedules>) -> Result<(), (String, String)> {
    let fault = |name: &str, reason: &str| Err((name.to_owned(), reason.to_owned()));
    let share = |value: f64| (0.0..=1.0).contains(&value);
    let rate = |value: f64| value.is_finite() && value >= 0.0;
    match rule(choice).map_err(|error| (String::new(), error))? {
        Rule::Step(step) if step.every == 0 => fault("every", "must be at least 1"),
        Rule::Step(step) if !share(step.factor) => fault("factor", "must lie between 0 and 1"),
        Rule::Cosine(cosine) if cosine.epochs == Some(0) => fault("epochs", "must be at least 1"),
        Rule::Cosine(cosine) if !rate(cosine.minimum) => fault("minimum", "must be at least 0"),
        Rule::Plateau(plateau) if !share(plateau.factor) => fault("factor", "must lie between 0 and 1"),
        Rule::Plateau(plateau) if !share(plateau.threshold) => fault("threshold", "must lie between 0 and 1"),
        Rule::Plateau(plateau) if !rate(plateau.minimum) => fault("minimum", "must be at least 0"),
        _ => Ok(()),
    }
}

/// Whether rates depend on how many epochs the training has in all.
pub fn depends_on_epochs(choice: &Choice<Schedules>) -> bool {
    matches!(rule(choice), Ok(Rule::Cosine(Cosine { epochs: None, .. })))
}

/// Whether rates depend on the validation loss.
pub fn needs_validation(choice: &Choice<Schedules>) -> bool {
    choice.name() == "plateau"
}

/// What a schedule has seen so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ScheduleState {
    best: Option<f64>,
    idle: u64,
    reductions: u32,
}

/// A schedule at work.
pub struct Schedule {
    rule: Rule,
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
        Ok(Self { rule: rule(choice)?, base, epochs, state: ScheduleState::default() })
    }

    /// The rate of an epoch; the first is 0.
    pub fn rate(&self, epoch: u64) -> f64 {
        match &self.rule {
            Rule::Constant => self.base,
            Rule::Step(step) => self.base * step.factor.powf((epoch / step.every) as f64),
            Rule::Cosine(cosine) => {
                let total = cosine.epochs.unwrap_or(self.epochs);
                let phase = std::f64::consts::PI * epoch.min(total) as f64 / total as f64;
                cosine.minimum + (self.base - cosine.minimum) * 0.5 * (1.0 + phase.cos())
            }
            Rule::Plateau(plateau) => {
                let reduced = self.base * plateau.factor.powi(self.state.reductions as i32);
                reduced.max(plateau.minimum.min(self.base))
            }
        }
    }

    /// Takes note of the validation loss at the end of an epoch.
    pub fn observe(&mut self, validation: Option<f64>) {
        let (Rule::Plateau(plateau), Some(loss)) = (&self.rule, validation) else { return };
        if self.state.best.is_none_or(|best| loss < best * (1.0 - plateau.threshold)) {
            self.state.best = Some(loss);
            self.state.idle = 0;
            return;
        }
        self.state.idle += 1;
        if self.state.idle > plateau.patience {
            self.state.idle = 0;
            self.state.reductions += 1;
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
        assert_eq!(schedule("constant", json!({})).rate(7), 1.0);
        let step = schedule("step", json!({"every": 3, "factor": 0.5}));
        assert_eq!([0, 2, 3, 6].map(|epoch| step.rate(epoch)), [1.0, 1.0, 0.5, 0.25]);
        let cosine = schedule("cosine", json!({"minimum": 0.2}));
        assert_eq!(cosine.rate(0), 1.0);
        assert!((cosine.rate(5) - 0.6).abs() < 1e-12 && (cosine.rate(10) - 0.2).abs() < 1e-12);
        let mut plateau = schedule("plateau", json!({"factor": 0.5, "patience": 1}));
        let rates: Vec<f64> = [3.0, 2.0, 2.0, 2.0, 2.0, 2.0, 1.0]
            .into_iter()
            .map(|loss| {
                plateau.observe(Some(loss));
                plateau.rate(0)
            })
            .collect();
        assert_eq!(rates, [1.0, 1.0, 1.0, 0.5, 0.5, 0.25, 0.25]);
    }

    #[test]
    fn unusable_parameters_are_named() {
        let check = |name, parameters| check(&Choice::new(name, parameters).unwrap());
        assert_eq!(check("step", json!({"every": 0})).unwrap_err().0, "every");
        assert_eq!(check("cosine", json!({"minimum": -1.0})).unwrap_err().0, "minimum");
        assert_eq!(check("plateau", json!({"factor": 2.0})).unwrap_err().0, "factor");
        assert!(check("plateau", json!({})).is_ok());
        assert!(depends_on_epochs(&Choice::new("cosine", json!({})).unwrap()));
        assert!(!depends_on_epochs(&Choice::new("cosine", json!({"epochs": 5})).unwrap()));
    }
}

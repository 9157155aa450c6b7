//! Ways to choose the score above which a row raises an alarm, one file each, and the table that names them.
//! A way says which rows it looks at and whether at labels; whether that is fair is for the leakage check to judge.

mod peaks;
mod tail;

contract::entries! {
    /// All thresholds, in the order of the documentation.
    const ENTRIES: Entry<dyn Threshold>;
    mod quantile: Quantile;
    mod k_sigma: KSigma;
    mod pot: Pot;
    mod ewma: Ewma;
    mod spot: Spot;
    mod dspot: Dspot;
    mod fixed: Fixed;
    mod best_f1: BestF1;
}

use std::ops::Range;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::metrics::Case;
use contract::artifact::Split;
use contract::{Choice, Fault, Table, Trouble};

/// What a threshold is learned from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Basis {
    /// It is given.
    Nothing,
    /// The scores of these splits; if empty, of calibration, or of train where there is no calibration.
    Scores(Vec<Split>),
    /// Scores and labels of the judged rows: an oracle.
    JudgedLabels,
}

/// What a threshold can be learned from, gathered by the stage.
pub struct Source<'a> {
    /// The finite scores of the splits that the basis names, in order; never empty if it names any.
    pub scores: &'a [f64],
    /// Which of them are of consecutive time, half-open; they cover all.
    pub stretches: &'a [Range<usize>],
    /// The judged rows.
    pub case: &'a Case,
}

/// A threshold.
#[derive(Clone, Debug, PartialEq)]
pub struct Chosen {
    /// Scores above it are alarms. Of a threshold that adapts, where it starts.
    pub value: f64,
    /// The threshold of each judged row, if it adapts.
    pub by_row: Option<Vec<f64>>,
    /// How it was chosen, in a few words.
    pub how: String,
}

impl Chosen {
    fn constant(value: f64, how: String) -> Self {
        Self {
            value,
            by_row: None,
            how,
        }
    }
}

/// One way to choose a threshold.
pub trait Threshold: Send + Sync {
    /// What the schema of the parameters cannot say.
    ///
    /// # Errors
    /// The parameter at fault.
    fn check(&self) -> Result<(), Fault> {
        Ok(())
    }

    /// Whether the threshold of a judged row depends on the scores of judged rows before it.
    fn adapts(&self) -> bool {
        false
    }

    /// What the threshold is learned from.
    fn basis(&self) -> Basis;

    /// Chooses the threshold.
    ///
    /// # Errors
    /// If the scores do not determine one.
    fn choose(&self, source: &Source<'_>) -> Result<Chosen, Trouble>;
}

/// The table of thresholds for a pipeline: `threshold: {kind: quantile, anomaly_ratio: 0.5}`.
static THRESHOLDS: Table<dyn Threshold> = Table::new("threshold", &[ENTRIES]);

contract::tabled!(dyn Threshold in THRESHOLDS);

/// A threshold with its parameters, as a pipeline names it.
pub type ThresholdChoice = Choice<dyn Threshold>;

/// The part of the parameters that thresholds learned from scores have in common.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
struct Over(Vec<Split>);

impl Over {
    fn basis(&self) -> Basis {
        Basis::Scores(self.0.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_entry_works_with_its_example() {
        for threshold in THRESHOLDS.examples() {
            assert_eq!(threshold.check(), Ok(()), "{threshold:?}");
        }
    }

    #[test]
    fn unusable_parameters_are_named() {
        for (kind, parameters, parameter) in [
            ("quantile", json!({"anomaly_ratio": 100}), "anomaly_ratio"),
            ("ewma", json!({"smoothing": 0}), "smoothing"),
            ("pot", json!({"level": 1}), "level"),
            ("spot", json!({"risk": 0}), "risk"),
            ("dspot", json!({"depth": 0}), "depth"),
        ] {
            let fault = ThresholdChoice::new(kind, parameters).unwrap_err();
            assert_eq!(fault.parameter, parameter);
        }
        let risk = ThresholdChoice::new("pot", json!({"risk": 0.5})).unwrap();
        assert_eq!(risk.check().unwrap_err().parameter, "risk");
    }

    #[test]
    fn every_file_has_its_line_in_the_table() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/thresholds");
        contract::testing::assert_listed(&THRESHOLDS, folder);
    }
}
